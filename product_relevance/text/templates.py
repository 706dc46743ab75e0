"""Render records as the text pairs that the model reads, in the same way for training and for prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from product_relevance.text.cleaning import clean_target, clean_text
from product_relevance.text.languages import FIX_METHODS, fix_language
from product_relevance.text.prompt import Prompt
from product_relevance.text.taxonomy import PATH_STYLES, PLAIN, PathForm, Taxonomy, join_path, render_path, split_path
from product_relevance.utils.tasks import CHOICES, TARGET_NAMES, task_names

Columns = Mapping[str, Sequence[Any]]  # names of columns to as many values each
INPUT_STYLES = ("original", "translation", "both")


def first_text(
    batch: Columns, input_style: str = "original", language_tag: bool = False, joiner: str = " - "
) -> dict[str, list[str]]:
    """Map function: render the query side of the pair.

    Args:
        batch: Lists `query` (clean), `translated_query` (for "translation" and "both"; without it, or where it is
            empty, the query stands in) and `language` (for the tag).
        input_style: "original", "translation", or "both" = `query - translation` (1st team, arXiv 2510.25428).
        language_tag: Put `[de] ` in front.
        joiner: Between query and translation.

    Returns:
        {"text": list of str}

    Raises:
        ValueError: Unknown style, or a tag without languages.
    """
    _check("input style", input_style, INPUT_STYLES)
    queries = batch["query"]
    english = batch.get("translated_query", queries)
    pairs = zip(queries, english, strict=True)
    texts = [_query_text(query or "", translated or query or "", input_style, joiner) for query, translated in pairs]
    if language_tag:
        if "language" not in batch:
            raise ValueError("language tag: found no languages, expected a code for each query")
        texts = [f"[{code or 'unk'}] {text}" for code, text in zip(batch["language"], texts, strict=True)]
    return {"text": texts}


def second_text(
    batch: Columns, path_style: str = "raw", task_tag: bool = False, form: PathForm | None = None
) -> dict[str, list[str]]:
    """Map function: render the target side of the pair.

    Args:
        batch: Lists `clean_target` and `task`; item titles (QI) stay as they are.
        path_style: How a category path is written, see `taxonomy.render_path`.
        task_tag: Put the kind of the target in front, as `item title: `.
        form: How the paths are written.

    Returns:
        {"text_pair": list of str}

    Raises:
        ValueError: Unknown style.
    """
    _check("path style", path_style, PATH_STYLES)
    rows = list(zip(batch["clean_target"], batch["task"], strict=True))
    texts = [render_path(target, path_style, form=form) if task == "QC" else target for target, task in rows]
    if task_tag:
        texts = [f"{TARGET_NAMES[task]}: {text}" for text, (_, task) in zip(texts, rows, strict=True)]
    return {"text_pair": texts}


@dataclass(frozen=True)
class PairFacts:
    """What is known of n pairs besides their texts.

    Attributes:
        languages: n codes; needed with `language_tag`.
        translations: n English translations; the query stands in for all (None) or for one (None in the list).
        tasks: n times QC or QI; needed by a template of both.
    """

    languages: Sequence[str] | None = None
    translations: Sequence[str | None] | None = None
    tasks: Sequence[str] | None = None


@dataclass(frozen=True)
class Template:
    """How raw (query, target) pairs become the model's text pairs; stored with a run for its ensemble.

    Attributes:
        task: "QC", "QI", or "QC,QI" for both.
        input_style: "original", "translation" or "both".
        language_tag: Put the language in front of the query, as `[de] `.
        language_fix: How rows given as `en` are corrected before they are tagged; used with `language_tag` only.
        path_style: Rendering of a category path.
        lowercase: Lower-case both texts.
        prompt: Of yes/no scoring; it also says how query and translation are joined.
        task_tag: Put the kind of the target in front of it, as `category path: ` or `item title: `.
        paths: How category paths are written, as found in training; None in runs before this was kept.
    """

    task: str = "QC"
    input_style: str = "original"
    language_tag: bool = False
    language_fix: str = "none"
    path_style: str = "raw"
    lowercase: bool = False
    prompt: Prompt | None = None
    task_tag: bool = False
    paths: PathForm | None = None

    def __post_init__(self) -> None:
        _check("task", self.task, CHOICES)
        _check("input style", self.input_style, INPUT_STYLES)
        _check("path style", self.path_style, PATH_STYLES)
        _check("language fix", self.language_fix, FIX_METHODS)

    def render(
        self,
        queries: Sequence[str | None],
        targets: Sequence[str | None],
        facts: PairFacts | None = None,
        known: Taxonomy | None = None,
    ) -> tuple[list[str], list[str]]:
        """Clean and render n pairs; texts that are clean already come out the same.

        Args:
            queries: n raw queries.
            targets: n raw category paths or item titles; None gives "".
            facts: their languages, translations and tasks.
            known: tree of the training paths; a path in the other rendering (", " between all levels) that it knows
                is read as its own.

        Returns:
            (texts, text_pairs): n strings each.

        Raises:
            ValueError: Lengths differ, the tag has no languages, or rows are of no task of the template.
        """
        facts = facts or PairFacts()
        tasks = self._tasks(facts.tasks, len(targets))
        targets = self._known_forms(targets, tasks, known)
        return self._rendered(self._batch(queries, targets, replace(facts, tasks=tasks)))

    def render_clean(self, columns: Columns, known: Taxonomy | None = None) -> tuple[list[str], list[str]]:
        """Render n pairs of which the queries and targets were cleaned, and the languages corrected, before.

        Args:
            columns: n values each: `query`, `target`, `clean_target` (made from it; cleaned here if left out),
                `language`, `translated_query`, `task`; cleaned with the template's `lowercase`.
            known: as in `render`; a path that it changes is cleaned again.

        Returns:
            As `render`.

        Raises:
            ValueError: Rows are of no task of the template.
        """
        raw = list(columns["target"])
        clean, tasks = columns.get("clean_target", [None] * len(raw)), self._tasks(columns["task"], len(raw))
        rows = zip(raw, self._known_forms(raw, tasks, known), clean, tasks, strict=True)
        targets = [
            text if form == path and text is not None else clean_target(form or "", task, self.lowercase)
            for path, form, text, task in rows
        ]
        translations = [clean_text(text or "", self.lowercase) for text in columns["translated_query"]]
        batch = {"query": list(columns["query"]), "clean_target": targets, "task": tasks}
        return self._rendered(batch | {"translated_query": translations, "language": list(columns["language"])})

    def _known_forms(
        self, targets: Sequence[str | None], tasks: Sequence[str], known: Taxonomy | None
    ) -> Sequence[str | None]:
        """Write paths in the other rendering as the tree knows them."""
        if known is None:
            return targets

        def same(path: str) -> str:
            return join_path(split_path(path, known, self.paths), self.paths or PLAIN)

        rows = zip(targets, tasks, strict=True)
        return [same(path) if path and task == "QC" else path for path, task in rows]

    def _rendered(self, batch: Columns) -> tuple[list[str], list[str]]:
        joiner = self.prompt.joiner if self.prompt else " - "
        texts = first_text(batch, self.input_style, self.language_tag, joiner)["text"]
        pairs = second_text(batch, self.path_style, self.task_tag, self.paths)["text_pair"]
        if self.prompt is None:
            return texts, pairs
        sides = [self.prompt.sides(text, pair) for text, pair in zip(texts, pairs, strict=True)]
        return [text for text, _ in sides], [pair for _, pair in sides]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dict for JSON; a prompt, a tag and a form of paths are named where there are any."""
        optional = ("prompt", "task_tag", "paths")
        fields = asdict(self) | {"paths": self.paths and self.paths.to_dict()}
        return {name: value for name, value in fields.items() if name not in optional or value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Template":
        """Restore a template. Unknown keys raise ValueError, because they would change the texts without notice.

        Raises:
            ValueError: Unknown key or value.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ValueError(f"template: found unknown keys {', '.join(unknown)}; was it written by a newer version?")
        prompt, paths = values.get("prompt"), values.get("paths")
        read = {"prompt": prompt if prompt is None else Prompt.from_dict(prompt)}
        return cls(**{**values} | read | {"paths": paths if paths is None else PathForm.from_dict(paths)})

    def _tasks(self, tasks: Sequence[str] | None, rows: int) -> list[str]:
        if tasks is None and len(task_names(self.task)) > 1:
            raise ValueError(f"tasks: found none, expected the task of each pair: this run was trained on {self.task}")
        tasks = [self.task] * rows if tasks is None else list(tasks)
        unknown = sorted(set(tasks) - set(task_names(self.task)))
        if unknown or len(tasks) != rows:
            found = ", ".join(unknown) or f"{len(tasks)} for {rows} pairs"
            raise ValueError(f"tasks: found {found}, expected one of {self.task} for each pair, as trained")
        return tasks

    def _batch(
        self, queries: Sequence[str | None], targets: Sequence[str | None], facts: PairFacts
    ) -> dict[str, list[str]]:
        languages, translations, tasks = facts.languages, facts.translations, list(facts.tasks or ())
        columns = {"targets": targets, "languages": languages, "translations": translations}
        for name, values in columns.items():
            if values is not None and len(values) != len(queries):
                raise ValueError(f"{name}: found {len(values)}, expected {len(queries)}: one for each query")
        rows = zip(targets, tasks, strict=True)
        batch = {
            "query": [clean_text(query or "", self.lowercase) for query in queries],
            "clean_target": [clean_target(target or "", task, self.lowercase) for target, task in rows],
            "task": tasks,
        }
        if translations is not None:
            batch["translated_query"] = [clean_text(text or "", self.lowercase) for text in translations]
        if languages is not None and self.language_tag:
            batch["language"] = fix_language(batch | {"language": list(languages)}, self.language_fix)["language"]
        return batch


def _query_text(query: str, english: str, input_style: str, joiner: str) -> str:
    if input_style == "original":
        return query
    # The 1st team writes `q - q` for English queries as well. That doubles their tokens and says nothing, and
    # without a translator every query would be doubled; so "both" joins only what differs.
    if english.casefold() == query.casefold():
        return query
    if input_style == "translation" or not query:
        return english
    return f"{query}{joiner}{english}"


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: found {value!r}, expected one of {', '.join(allowed)}")
