"""Prepare a data set: columns, folds and the steps of a recipe, each kept, into one file that says how it was made."""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from product_relevance.data import folds, loading
from product_relevance.data.grades import add_grades
from product_relevance.data.leakage import require_no_leak
from product_relevance.data.provenance import ORIGINAL, with_provenance, write_rows
from product_relevance.data.records import read_records
from product_relevance.preparation.arguments import TRANSLATE, PreparationArguments, Step
from product_relevance.preparation.step_cache import StepCache
from product_relevance.preparation.steps.contents import fingerprint_option, fingerprint_step
from product_relevance.preparation.steps.recipe import read_steps
from product_relevance.preparation.steps.translate import Translate
from product_relevance.text.path_format import ATTRIBUTE, form_of, use_form
from product_relevance.text.taxonomy import Taxonomy
from product_relevance.utils.options import Parser, read_options
from product_relevance.utils.recipes import load_recipe, split_recipe

# The columns depend on these.
COLUMN_OPTIONS = (
    *("file", "split", "data_revision", "task", "role"),
    *("on_bad_rows", "lowercase", "language_fix", "translation"),
    *("columns", "label_map", "on_duplicates", "encoding", "delimiter"),
)
FOLD_OPTIONS = ("num_folds", "group_by", "prefix_levels", "fold_seed", "path_separator", "level_names")


@dataclass(frozen=True)
class StageInputs:
    """What determines the rows of a stage beside the rows before it.

    Attributes:
        options: By name, with files by their names alone.
        contents: Option to the sha256 or commit of the file or model that it names.
    """

    options: dict[str, object]
    contents: dict[str, str]


class Stage(NamedTuple):
    """One step of a preparation.

    Attributes:
        name: Of the step.
        inputs: What determines its rows beside the rows before it.
        run: From the rows so far (no rows for the first) to its rows.
    """

    name: str
    inputs: StageInputs
    run: Callable[[pd.DataFrame], pd.DataFrame]


def read_arguments(argv: list[str], parser: Parser) -> PreparationArguments:
    """Parse `[RECIPE.yaml] [FILE] [--flag value ...]`; a flag wins over the recipe.

    Args:
        argv: Command line without the program's name.
        parser: With the flags of `PreparationArguments` and the positional `file`.

    Raises:
        ValueError: An unknown key, step or option (with the nearest known one), a value out of its range, or a
            needed one missing. SystemExit for a malformed flag.
    """
    recipe, words = split_recipe(argv, "recipes/data", files_first=True)
    settings = load_recipe(recipe) if recipe else {}
    listed = read_steps(settings.pop("steps", None) or [], str(recipe))
    given = read_options((PreparationArguments,), settings, str(recipe), "key") | vars(parser.parse_args(words))
    (arguments,) = parser.parse_dict(given | {"steps": listed})
    return arguments


def prepare(arguments: PreparationArguments) -> pd.DataFrame:
    """Run the stages that are not finished, check the folds, write the file and its card.

    Raises:
        ValueError: Bad records, something that a step reads is missing, or a leak between folds.
    """
    from product_relevance.hub.dataset_card import prepared_card
    from product_relevance.utils.files import atomic_write

    stages = _stages(arguments)
    # Without steps nothing takes long, and nothing is kept.
    cache = _step_cache(arguments, stages) if arguments.steps else None
    frame, facts = _run(arguments, stages, cache)
    if arguments.role == "train":
        print(_fold_reports(frame, arguments))
    write_rows(frame, arguments.output, facts)
    with atomic_write(card_path(arguments.output)) as file:
        file.write(prepared_card(arguments.output))
    print(f"{arguments.output}: {len(frame):,} rows; its card: {card_path(arguments.output)}")
    return frame


def _step_cache(arguments: PreparationArguments, stages: list[Stage]) -> StepCache:
    return StepCache(Path(f"{arguments.output}.parts"), [(stage.name, asdict(stage.inputs)) for stage in stages])


def card_path(output: str | os.PathLike) -> Path:
    """Return where the card of a prepared file lies."""
    path = Path(output)
    return path.with_suffix(".md") if path.suffix == ".parquet" else path.with_name(f"{path.name}.md")


def _run(arguments: PreparationArguments, stages: list[Stage], cache: StepCache | None) -> tuple[pd.DataFrame, dict]:
    done = cache.finished() if cache else 0
    frame, facts = cache.read(done - 1) if cache and done else (pd.DataFrame(), _facts(arguments, stages[0]))
    form = None
    for number, stage in enumerate(stages):
        if number < done:
            print(f"{number + 1} {stage.name}: kept from the run before")
            continue
        if number and arguments.role == "train":
            form = _note_form(frame, arguments, form)
        frame = stage.run(frame)
        made = [item for found in frame.attrs.get("made", {}).values() for item in found.items()]
        counts = {"new" if name == "rows" else name: n for name, n in made}
        entry = {"step": stage.name, "rows": len(frame), "counts": counts} | asdict(stage.inputs)
        facts = facts | {"steps": [*facts["steps"], entry]}
        described = ", ".join([f"{len(frame):,} rows", *(f"{n:,} {name}" for name, n in counts.items())])
        print(f"{number + 1} {stage.name}: {described}")
        if cache:
            cache.keep(number, frame, facts)
            frame, facts = cache.read(number)  # so that a later run, which reads it too, goes on with the same
    if cache:
        cache.clear()
    if arguments.role == "train":
        _note_form(frame, arguments, form)
    return frame, facts


def _note_form(frame: pd.DataFrame, arguments: PreparationArguments, form: dict | None) -> dict | None:
    """Note how the paths are written; a file holds no attributes, so that each stage needs it anew."""
    if form is None:
        use_form(frame, arguments.path_separator, arguments.level_names)
    else:
        frame.attrs[ATTRIBUTE] = form
    return frame.attrs.get(ATTRIBUTE)


def _stages(arguments: PreparationArguments) -> list[Stage]:
    """List the stages; whatever they read is fingerprinted now, so that what is missing is known before any runs."""
    stages = [Stage("columns", _column_inputs(arguments), lambda _: _columns(arguments))]
    if arguments.role == "train":
        stages.append(Stage("folds", _fold_inputs(arguments), lambda frame: _folds(frame, arguments)))
    for name, step in arguments.steps:
        if not isinstance(step, Translate):
            inputs = StageInputs(_options_of(step), fingerprint_step(step, arguments.task))
            stages.append(Stage(name, inputs, partial(step, arguments=arguments)))
    return stages


def _column_inputs(arguments: PreparationArguments) -> StageInputs:
    options = {name: _file_name(getattr(arguments, name)) for name in COLUMN_OPTIONS}
    if arguments.grades > 2:
        options["grades"] = arguments.grades
    contents = {"file": fingerprint_option("file", arguments.source)}
    if arguments.translation not in ("none", "column"):
        contents["translation"] = fingerprint_option("translation", arguments.translation)
    if arguments.translate:
        options[TRANSLATE] = _options_of(arguments.translate)
        contents |= fingerprint_step(arguments.translate, arguments.task)
    return StageInputs(options, contents)


def _fold_inputs(arguments: PreparationArguments) -> StageInputs:
    options = {name: _file_name(getattr(arguments, name)) for name in FOLD_OPTIONS}
    names = arguments.level_names or "none"
    contents = {} if names == "none" else {"level_names": fingerprint_option("level_names", names)}
    return StageInputs(options, contents)


def _options_of(step: Step | Translate) -> dict[str, object]:
    """Return a step's options, with files by their names alone: where they lie on one machine is nobody's business."""
    return {name: _file_name(value, name == "output") for name, value in asdict(step).items()}


def _file_name(value: object, is_file: bool = False) -> object:
    if isinstance(value, str) and value and (is_file or os.path.exists(value)):
        return Path(value).resolve().name
    return value


def _facts(arguments: PreparationArguments, columns: Stage) -> dict:
    from importlib.metadata import version

    facts = {"format": 1, "task": arguments.task, "role": arguments.role, "source": _file_name(arguments.file)}
    sha256 = columns.inputs.contents["file"]
    return facts | {"steps": [], "sha256": sha256, "version": version("product-relevance")}


def _columns(arguments: PreparationArguments) -> pd.DataFrame:
    role, on_bad_rows = arguments.role, arguments.on_bad_rows
    frame = read_records(arguments.source, task=arguments.task, role=role, on_bad_rows=on_bad_rows)
    translations = arguments.translate.load() if arguments.translate else arguments.translation
    columns = arguments.lowercase, arguments.language_fix, translations, arguments.max_missing_translations
    frame = loading.add_all_columns(frame, *columns)
    if arguments.taxonomy_of:
        print(_known_paths(arguments.taxonomy_of, frame))
    return with_provenance(frame) if arguments.steps else frame


def _folds(frame: pd.DataFrame, arguments: PreparationArguments) -> pd.DataFrame:
    if "method" in frame and (frame["method"] != ORIGINAL).any():
        raise ValueError(
            f"{arguments.file}: found made rows (field 'method'), expected originals: new folds would part made rows "
            "from their sources; prepare the file that they were made of, with their methods as steps"
        )
    by = (arguments.group_by, arguments.prefix_levels, arguments.fold_seed)
    return frame.assign(fold=folds.assign_folds(frame, arguments.num_folds, *by))


def _fold_reports(frame: pd.DataFrame, arguments: PreparationArguments) -> str:
    """Check that no fold leaks, with all made rows, and report how the rows are spread."""
    frame = add_grades(frame, arguments.grades, None)  # shares of relevant rows
    assigned, lines = frame["fold"].to_numpy(), []
    for k in np.unique(assigned):
        train, purged = folds.training_rows(frame, assigned, k, arguments.group_by)
        report = require_no_leak(frame, train, assigned == k, arguments.group_by, arguments.prefix_levels)
        lines.append(f"fold {k}, {purged} training rows purged\n{report.to_text()}\n")
    return "\n".join(lines)


def _known_paths(training_file: str, frame: pd.DataFrame) -> str:
    known = read_records(training_file, task="QC", role="any")
    tree = Taxonomy.from_paths(known["target"], form_of(known))
    found = tree.report(frame["target"])
    counts = found.groupby("match").agg(paths=("path", "size"), rows=("rows", "sum"))
    return f"known paths {len(tree.paths)}, by depth {tree.depths}\n{counts.to_string()}\n"
