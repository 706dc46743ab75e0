"""Prepare a data set: columns, folds and the steps of a recipe, each kept, into one file that says how it was made."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from product_relevance.data import folds, loading
from product_relevance.data.arguments import ColumnArguments, FoldArguments
from product_relevance.data.leakage import require_no_leak
from product_relevance.data.provenance import ORIGINAL, with_provenance, write_rows
from product_relevance.data.records import read_records
from product_relevance.data.sources.tables import Source
from product_relevance.preparation import steps
from product_relevance.preparation.step_cache import Parts
from product_relevance.text.path_format import ATTRIBUTE, form_of, use_form
from product_relevance.text.taxonomy import Taxonomy
from product_relevance.utils.options import option, read_options, required
from product_relevance.utils.recipes import load_recipe, split_recipe

TRANSLATE = "translate"


@dataclass(kw_only=True)
class Preparation(ColumnArguments, FoldArguments):
    """What is prepared, how, and into which file."""

    file: str = required("records: .txt .jsonl .csv .tsv .parquet, folder or Hub id")
    task: str = required("QC (category path) or QI (item title)", ["QC", "QI"])
    output: str = required("Parquet to write; its card is written beside it")
    split: str | None = option(
        None, "split of FILE to read, if there are several (saved data sets, or those of the Hub)"
    )
    data_revision: str | None = option(None, "commit, tag or branch of FILE on the Hub")
    role: str = option(
        "train", "what the rows are for; test rows are never dropped and get no folds", ["train", "test"]
    )
    taxonomy_of: str | None = option(None, "QC: training records; report which paths of FILE they know")
    shards: int = option(0, "role test: split FILE into so many shards and prepare them into the folder OUTPUT")
    workers: int = option(1, "shards to prepare at the same time")
    steps: list = field(default_factory=list)  # (name, options) as steps.read_steps gives them

    def __post_init__(self):
        names = [name for name, _ in self.steps]
        super().__post_init__()
        self.check_folds(self.task)
        if TRANSLATE in names[1:]:
            raise ValueError("steps: translate comes first and once: folds keep equal translations together")
        if TRANSLATE in names and self.translation != "none":
            raise ValueError(f"found the step translate and translation {self.translation}, expected one of them")
        if self.role == "test" and set(names) - {TRANSLATE}:
            raise ValueError(f"--role test: found the steps {', '.join(names)}, expected translate only, or none")
        if self.shards and self.role != "test":
            raise ValueError("--shards: folds and most steps look at all rows at once; give --role test")
        if self.shards and (self.split or self.data_revision):
            raise ValueError("--shards: only files are split; leave --split and --data_revision out")
        if self.shards and self.taxonomy_of:
            raise ValueError("--taxonomy_of counts over all rows: leave it out with --shards")
        if no_deed := [step for name, step in self.steps if name == "filter" and not step.apply]:
            raise ValueError(f"step filter of {no_deed[0].run}: expected apply: drop, flip, down_weight, or a file")


class Stage(NamedTuple):
    """One step of a preparation.

    Attributes:
        name: Of the step.
        asked: Its options, with files and models by name and by content.
        run: From the rows so far (None for the first) to its rows.
    """

    name: str
    asked: dict
    run: Callable[[pd.DataFrame | None], pd.DataFrame]


def read_arguments(argv: list[str], parser) -> Preparation:
    """Parse `[RECIPE.yaml] [FILE] [--flag value ...]`; a flag wins over the recipe.

    Args:
        argv: Command line without the program's name.
        parser: With the flags of `Preparation` and the positional `file`.

    Raises:
        ValueError: An unknown key, step or option (with the nearest known one), a value out of its range, or a
            needed one missing. SystemExit for a malformed flag.
    """
    recipe, words = split_recipe(argv, "recipes/data", files_first=True)
    settings = load_recipe(recipe) if recipe else {}
    listed = steps.read_steps(settings.pop("steps", None) or [], str(recipe))
    given = read_options((Preparation,), settings, str(recipe), "key") | vars(parser.parse_args(words))
    (asked,) = parser.parse_dict(given | {"steps": listed})
    return asked


def prepare(asked: Preparation) -> pd.DataFrame:
    """Run the stages that are not finished, check the folds, write the file and its card.

    Raises:
        ValueError: Bad records, something that a step reads is missing, or a leak between folds.
    """
    from product_relevance.hub.dataset_card import prepared_card
    from product_relevance.utils.files import atomic_write

    stages = _stages(asked)
    # Without steps nothing takes long, and nothing is kept.
    parts = Parts(Path(f"{asked.output}.parts"), [stage[:2] for stage in stages]) if asked.steps else None
    frame, facts = _run(asked, stages, parts)
    if asked.role == "train":
        print(_fold_reports(frame, asked))
    write_rows(frame, asked.output, facts)
    with atomic_write(card_path(asked.output)) as file:
        file.write(prepared_card(asked.output))
    print(f"{asked.output}: {len(frame):,} rows; its card: {card_path(asked.output)}")
    return frame


def card_path(output: str | os.PathLike) -> Path:
    """Return where the card of a prepared file lies."""
    path = Path(output)
    return path.with_suffix(".md") if path.suffix == ".parquet" else path.with_name(f"{path.name}.md")


def _run(asked: Preparation, stages: list[Stage], parts: Parts | None) -> tuple[pd.DataFrame, dict]:
    done = parts.finished() if parts else 0
    frame, facts = parts.read(done - 1) if done else (None, _facts(asked, stages[0]))
    form = None
    for number, stage in enumerate(stages):
        if number < done:
            print(f"{number + 1} {stage.name}: kept from the run before")
            continue
        if frame is not None and asked.role == "train":
            form = _note_form(frame, asked, form)
        frame = stage.run(frame)
        made = [item for found in frame.attrs.get("made", {}).values() for item in found.items()]
        counts = {"new" if name == "rows" else name: n for name, n in made}
        entry = {"step": stage.name, "rows": len(frame), "counts": counts} | stage.asked
        facts = facts | {"steps": [*facts["steps"], entry]}
        described = ", ".join([f"{len(frame):,} rows", *(f"{n:,} {name}" for name, n in counts.items())])
        print(f"{number + 1} {stage.name}: {described}")
        if parts:
            parts.keep(number, frame, facts)
            frame, facts = parts.read(number)  # so that a later run, which reads it too, goes on with the same
    if parts:
        parts.clear()
    if asked.role == "train":
        _note_form(frame, asked, form)
    return frame, facts


def _note_form(frame: pd.DataFrame, asked: Preparation, form: dict | None) -> dict | None:
    """Note how the paths are written; a file holds no attributes, so that each stage needs it anew."""
    if form is None:
        use_form(frame, asked.path_separator, asked.level_names)
    else:
        frame.attrs[ATTRIBUTE] = form
    return frame.attrs.get(ATTRIBUTE)


def _stages(asked: Preparation) -> list[Stage]:
    """List the stages; whatever they read is fingerprinted now, so that what is missing is known before any runs."""
    translate = dict(asked.steps).get(TRANSLATE)
    stages = [Stage("columns", _asked_of_columns(asked, translate), lambda _: _columns(asked, translate))]
    if asked.role == "train":
        names = ("num_folds", "group_by", "prefix_levels", "fold_seed", "path_separator", "level_names")
        chosen = {name: _file_name(getattr(asked, name)) for name in names}
        listed = asked.level_names not in (None, "none")
        contents = {"level_names": steps.content_of("level_names", asked.level_names)} if listed else {}
        stages.append(Stage("folds", {"options": chosen, "contents": contents}, lambda frame: _folds(frame, asked)))
    for name, step in asked.steps:
        if name != TRANSLATE:
            options = {"options": _named(step), "contents": steps.contents(step, asked.task)}
            stages.append(Stage(name, options, lambda frame, step=step: step(frame, asked)))
    return stages


def _asked_of_columns(asked: Preparation, translate) -> dict:
    names = (
        "file",
        "split",
        "data_revision",
        "task",
        "role",
        "on_bad_rows",
        "lowercase",
        "language_fix",
        "translation",
    )
    options = {name: _file_name(getattr(asked, name)) for name in names}
    contents = {"file": steps.content_of("file", _source(asked))}
    if asked.translation not in ("none", "column"):
        contents["translation"] = steps.content_of("translation", asked.translation)
    if translate:
        options[TRANSLATE] = _named(translate)
        contents |= steps.contents(translate, asked.task)
    return {"options": options, "contents": contents}


def _named(step: object) -> dict:
    """Return a step's options, with files by their names alone: where they lie on one machine is nobody's business."""
    return {name: _file_name(value, name == "output") for name, value in asdict(step).items()}


def _file_name(value: object, is_file: bool = False) -> object:
    named = isinstance(value, str) and value and (is_file or os.path.exists(value))
    return Path(value).resolve().name if named else value


def _facts(asked: Preparation, columns: Stage) -> dict:
    from importlib.metadata import version

    facts = {"format": 1, "task": asked.task, "role": asked.role, "source": _file_name(asked.file), "steps": []}
    return facts | {"sha256": columns.asked["contents"]["file"], "version": version("product-relevance")}


def _source(asked: Preparation) -> Source:
    return Source(asked.file, asked.split, asked.data_revision)


def _columns(asked: Preparation, translate) -> pd.DataFrame:
    frame = read_records(_source(asked), task=asked.task, role=asked.role, on_bad_rows=asked.on_bad_rows)
    source = translate.load() if translate else asked.translation
    frame = loading.add_all_columns(frame, asked.lowercase, asked.language_fix, source, asked.max_missing_translations)
    if asked.taxonomy_of:
        print(_known_paths(asked.taxonomy_of, frame))
    return with_provenance(frame) if asked.steps else frame


def _folds(frame: pd.DataFrame, asked: Preparation) -> pd.DataFrame:
    if "method" in frame and (frame["method"] != ORIGINAL).any():
        raise ValueError(
            f"{asked.file}: found made rows (field 'method'), expected originals: new folds would part made rows "
            "from their sources; prepare the file that they were made of, with their methods as steps"
        )
    by = (asked.group_by, asked.prefix_levels, asked.fold_seed)
    return frame.assign(fold=folds.assign_folds(frame, asked.num_folds, *by))


def _fold_reports(frame: pd.DataFrame, asked: Preparation) -> str:
    """Check that no fold leaks, with all made rows, and report how the rows are spread."""
    assigned, lines = frame["fold"].to_numpy(), []
    for k in np.unique(assigned):
        train, purged = folds.training_rows(frame, assigned, k, asked.group_by)
        report = require_no_leak(frame, train, assigned == k, asked.group_by, asked.prefix_levels)
        lines.append(f"fold {k}, {purged} training rows purged\n{report.to_text()}\n")
    return "\n".join(lines)


def _known_paths(training_file: str, frame: pd.DataFrame) -> str:
    known = read_records(training_file, task="QC", role="any")
    tree = Taxonomy.from_paths(known["target"], form_of(known))
    found = tree.report(frame["target"])
    counts = found.groupby("match").agg(paths=("path", "size"), rows=("rows", "sum"))
    return f"known paths {len(tree.paths)}, by depth {tree.depths}\n{counts.to_string()}\n"
