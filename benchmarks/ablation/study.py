"""A study: rows of recipe changes, each trained with the same seeds and judged on the same labelled file."""

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml

ROOT = Path(__file__).parents[2]
KEYS = {"title", "recipe", "arguments", "evaluate", "rows_at_most", "held_out_languages", "seeds", "baseline", "rows"}
ROW_KEYS = {"train", "prepare", "evaluate", "same_as"}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: as it stands in the table.
        train: arguments of train_relevance.py that differ from the study's; `train_file`, of the data folder.
        prepare: options of dataset_scripts/prepare.py for the training file; None where it is taken as it is.
        evaluate: options of `relevance predict`; `threshold`: a number in place of the thresholds chosen out of fold.
        trained: name of the row whose runs it judges; its own, or that of `same_as`.
    """

    name: str
    train: dict = field(default_factory=dict)
    prepare: dict | None = None
    evaluate: dict = field(default_factory=dict)
    trained: str = ""

    @property
    def files(self) -> list[str]:
        """Record files and tables of translations that this row alone reads.

        Raises:
            ValueError: one of them is not there.
        """
        tables = [options.get("translation", "none") for options in (self.train, self.evaluate)]
        named = [*self.train.get("train_file", "").split(","), *(t for t in tables if t not in ("none", "column"))]
        for name in filter(None, named):
            _require(self.name, Path(name).is_file(), "file", f"no {name}", "one there, see the study's remarks")
        return [name for name in named if name]


@dataclass(frozen=True)
class Study:
    """What is compared, on what, and against which row."""

    title: str
    recipe: Path
    arguments: dict
    evaluate: Path
    seeds: list[int]
    baseline: str
    rows: list[Row]
    rows_at_most: dict[str, int] = field(default_factory=dict)
    held_out_languages: list[str] = field(default_factory=list)

    def held_out(self, row: Row) -> bool:
        """Whether a row is trained a second time without some languages; what continues or copies a run has none."""
        settings = self.arguments | row.train
        bound = {"init_adapter", "teacher"} & set(settings) or settings.get("fold") == "full"
        return bool(self.held_out_languages) and row.trained == row.name and not bound

    def shortened(self, folder: Path) -> "Study":
        """Write at most so many rows of the study's files, whole queries by hash, and return the study of those.

        Raises:
            ValueError: a file that is no JSON lines.
        """
        files = {"train_file": self.arguments["train_file"], "evaluate": self.evaluate}
        for name, limit in self.rows_at_most.items():
            files[name] = _first_queries(Path(files[name]), limit, folder / f"{name}_{limit}.txt")
        arguments = self.arguments | {"train_file": str(files["train_file"])}
        return replace(self, arguments=arguments, evaluate=Path(files["evaluate"]))

    def flags(self, row: Row, seed: int, train_file: str | Path, output: Path, held_out=False) -> list[str]:
        """Return the command line of one training, or of the one without the held-out languages."""
        from product_relevance.utils.options import as_flag

        settings = self.arguments | row.train
        settings |= {"seed": seed, "output_dir": str(output)}
        settings["train_file"] = row.train.get("train_file", str(train_file))
        if held_out:
            settings |= {"held_out_languages": self.held_out_languages, "fold": "all"}
        return [str(self.recipe), *(word for item in settings.items() for word in as_flag(*item))]

    def key(self, row: Row, seed: int, files: dict[str, str], held_out=False) -> str:
        """Return what a finished job is known by: everything that decides its result, and the files' sha256."""
        from product_relevance.utils.files import sha256_of

        of = next(other for other in self.rows if other.name == row.trained)
        content = [self.recipe.read_text(encoding="utf-8"), self.arguments, of.train, of.prepare, row.evaluate]
        content += [sha256_of(name) for name in dict.fromkeys([*of.files, *row.files])]
        content += [self.held_out_languages] if held_out else []
        return hashlib.sha256(json.dumps([*content, seed, files], sort_keys=True).encode()).hexdigest()


def folder_name(row: str) -> str:
    """Return the name of a row's folder."""
    return "".join(c if c.isalnum() or c in "-._" else "-" for c in row)


def read_study(path: str, data: str) -> Study:
    """Read a study.

    Args:
        path: of the YAML.
        data: folder that the names of record files are relative to.

    Raises:
        ValueError: a malformed study; names the key, what was found and what was expected.
    """
    found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    _require(path, isinstance(found, dict), "the study", type(found).__name__, "a mapping")
    _known(path, found, KEYS)
    for key in ("recipe", "evaluate", "rows", "arguments"):
        _require(path, key in found, key, "nothing", "a value")
    for key in ("train_file", "task"):
        _require(path, key in found["arguments"], f"arguments.{key}", "nothing", "a value")
    rows = [_row(path, data, name, content or {}) for name, content in found["rows"].items()]
    names = [row.name for row in rows]
    baseline = found.get("baseline", names[0])
    _require(path, baseline in names, "baseline", baseline, f"one of {', '.join(names)}")
    folders = [folder_name(name) for name in names]
    twice = [name for name, folder in zip(names, folders, strict=True) if folders.count(folder) > 1]
    _require(path, not twice, "rows", f"one folder for {', '.join(twice)}", "names that differ in letters and digits")
    for row in rows:
        _require(path, row.trained in names, f"rows.{row.name}.same_as", row.trained, f"one of {', '.join(names)}")
    arguments = found["arguments"] | {"train_file": str(_file(data, found["arguments"]["train_file"]))}
    seeds = found.get("seeds", [1, 2, 3])
    recipe = ROOT / found["recipe"]
    _require(path, recipe.is_file(), "recipe", recipe, "a recipe of this repository")
    limits = found.get("rows_at_most", {})
    _require(path, set(limits) <= {"train_file", "evaluate"}, "rows_at_most", limits, "train_file, evaluate or both")
    title, evaluate = found.get("title", Path(path).stem), _file(data, found["evaluate"])
    held_out = found.get("held_out_languages", [])
    codes = isinstance(held_out, list) and all(isinstance(code, str) for code in held_out)  # `no` unquoted is False
    _require(path, codes, "held_out_languages", held_out, "a list of codes, 'no' in quotes")
    return Study(title, recipe, arguments, evaluate, seeds, baseline, rows, limits, held_out)


def _first_queries(source: Path, limit: int, output: Path) -> Path:
    """Write the rows of the queries with the least hashes, in their order, until `limit` rows are reached."""
    from product_relevance.text.cleaning import normalise_text
    from product_relevance.training.run_data import sample_evaluation_rows
    from product_relevance.utils.files import atomic_write

    if source.suffix not in (".txt", ".jsonl"):
        raise ValueError(f"{source}: rows_at_most needs JSON lines, .txt or .jsonl")
    lines = source.read_bytes().splitlines(keepends=True)
    queries = [normalise_text(json.loads(line)["origin_query"]) for line in lines]
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output, "wb") as file:
        file.writelines(lines[i] for i in sample_evaluation_rows(queries, np.arange(len(lines)), limit))
    return output


def _row(path: str, data: str, name: str, content: dict) -> Row:
    _known(path, content, ROW_KEYS)
    train, evaluate = content.get("train", {}), content.get("evaluate", {})
    if "train_file" in train:
        train = train | {"train_file": ",".join(str(_file(data, one)) for one in train["train_file"].split(","))}
    threshold = evaluate.get("threshold", 0.5)
    _require(
        path,
        isinstance(threshold, float) and 0 < threshold < 1,
        f"rows.{name}.evaluate.threshold",
        threshold,
        "0 < number < 1",
    )
    return Row(name, train, content.get("prepare"), evaluate, content.get("same_as", name))


def _file(data: str, name: str) -> Path:
    file = Path(data) / name
    if not file.is_file():
        raise ValueError(f"{file}: not found; --data FOLDER names the folder of the study's files")
    return file


def _known(path: str, found: dict, keys: set[str]) -> None:
    unknown = sorted(set(found) - keys)
    _require(path, not unknown, "keys", ", ".join(unknown), ", ".join(sorted(keys)))


def _require(path: str, holds: bool, what: str, found, expected) -> None:
    if not holds:
        raise ValueError(f"{path}: {what}: found {found}, expected {expected}")
