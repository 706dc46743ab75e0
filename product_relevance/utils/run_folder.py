"""Read and write a run folder: fold adapters, out-of-fold scores, run.json, report. Only here its layout is known."""

import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from product_relevance.utils import run_settings
from product_relevance.utils.files import atomic_write, write_table
from product_relevance.utils.json_files import MAX_BYTES
from product_relevance.utils.json_files import read_json as read_checked
from product_relevance.utils.run_record import FinishedRunRecord, FoldRecord, RunRecord

# What transformers itself has: any other name is that of code on the Hub, which no published run may name.
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")

logger = logging.getLogger(__name__)
FORMAT = 1
MAX_HISTORY = 200_000_000  # bytes: fold.json holds a line for each logged step
QUERIES = "queries.parquet"
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "deepspeed",
    "datasets",
    "tokenizers",
    "huggingface_hub",
)
# Of fold.json alone.
PRIVATE = ("history", "shared", "settings", "attn_implementation")
# What folds of one run must share: otherwise their mean would be of unlike things.
SHARED = (
    "task",
    "base",
    "adapter",
    "template",
    "columns",
    "folds_by",
    "pooling",
    "max_length",
    "data",
    "first_stage",
    "teacher",
)


def fold_folder(run: Path, name: str) -> Path:
    """Return the folder of a finished fold: adapter, fold.json, oof.parquet."""
    return Path(run) / name


def work_folder(run: Path, name: str) -> Path:
    """Return the folder of a fold in training: the Trainer's checkpoints."""
    return Path(run) / "checkpoints" / name


def log_file(run: Path, name: str) -> Path:
    """Return what a fold printed that was trained by a process of its own."""
    return Path(run) / "logs" / f"{name}.log"


def is_finished(run: Path, name: str) -> bool:
    """Return whether a fold was trained to its end."""
    return (fold_folder(run, name) / "fold.json").is_file()


def finished_folds(run: Path) -> list[str]:
    """Return the names of the finished folds in order."""
    names = [p.parent.name for p in Path(run).glob("*/fold.json") if not p.parent.name.startswith(".")]
    return sorted(names, key=lambda n: (len(n), n))


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON under a temporary name, then rename."""
    with atomic_write(path) as file:
        json.dump(content, file, ensure_ascii=False, indent=2, allow_nan=False)
        file.write("\n")


def read_json(path: Path, limit: int = MAX_HISTORY) -> dict[str, Any]:
    """Read a file of a run folder.

    Raises:
        ValueError: the file is missing, or from `json_files.read_json`.
    """
    if not Path(path).exists():
        raise ValueError(f"{path}: not found; expected the folder of a finished run")
    content: dict[str, Any] = read_checked(path, limit=limit)
    return content


def load_run(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the content of run.json as it stands; `load_record` gives it as a record.

    Raises:
        ValueError: no run there, or a run of a newer format.
    """
    run = read_json(Path(folder) / "run.json", MAX_BYTES)
    if run.get("format") != FORMAT:
        raise ValueError(f"{folder}/run.json: format {run.get('format')!r}, this version reads {FORMAT}")
    return run


def load_record(folder: str | os.PathLike[str]) -> FinishedRunRecord:
    """Read what run.json says.

    Raises:
        ValueError: as `load_run`; a key that every version has is missing.
    """
    content = load_run(folder)
    try:
        return FinishedRunRecord.from_json(content)
    except ValueError as error:
        raise ValueError(f"{folder}/run.json: {error}") from None


def publish_fold(run: Path, name: str, build: Callable[[Path], None]) -> None:
    """Let `build(folder)` fill a temporary folder and put it in place of the fold at once."""
    target = fold_folder(run, name)
    temporary = target.with_name(f".{name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    build(temporary)
    if target.exists():
        old = target.with_name(f".{name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old)
    else:
        temporary.rename(target)


def read_oof(run: Path, names: list[str]) -> pd.DataFrame | None:
    """Join the out-of-fold scores of finished folds; None where no fold validated."""
    files = [fold_folder(run, n) / "oof.parquet" for n in names]
    parts = [pd.read_parquet(f) for f in files if f.is_file()]
    return pd.concat(parts, ignore_index=True) if parts else None


def save_queries(run: Path, digests: np.ndarray) -> None:
    """Keep the queries that a run is trained and chosen on, as digests of shape (n,), without their texts."""
    write_table(pd.DataFrame({"digest": np.unique(digests)}), Path(run) / QUERIES)


def read_queries(run: Path) -> np.ndarray | None:
    """Read the digests of a run's queries; None of an older run and of a published one, which does not hold them."""
    file = Path(run) / QUERIES
    return pd.read_parquet(file)["digest"].to_numpy() if file.is_file() else None


def read_folds(run: Path, names: list[str]) -> list[FoldRecord]:
    """Read the `fold.json` of these finished folds."""
    return [FoldRecord.from_json(read_json(fold_folder(run, name) / "fold.json")) for name in names]


def join_folds(record: RunRecord, folds: list[FoldRecord]) -> FinishedRunRecord:
    """Add to the record of a run what its finished folds say together: end, folds, base, seconds."""
    mixed = run_settings.compare_folds({fold.name: fold.settings or {} for fold in folds})
    attention = folds[0].attn_implementation
    summaries = [{key: value for key, value in fold.to_json().items() if key not in PRIVATE} for fold in folds]
    joined = FinishedRunRecord.from_json(record.to_json())
    return replace(
        joined,
        base=folds[0].base,
        finished=current_time(),
        folds=summaries,
        seconds=round(sum(fold.seconds or 0.0 for fold in folds), 1),
        attn_implementation=attention if attention in ATTENTION else None,
        mixed_folds=mixed or None,
    )


def shared_part(record: RunRecord) -> dict[str, Any]:
    """Return what all folds of a run must have in common, as fold.json keeps it."""
    part = {key: getattr(record, key) for key in SHARED}
    part["base"] = {key: record.base[key] for key in ("name", "revision")}
    part["adapter"] = record.adapter is not None
    for key in ("first_stage", "teacher"):  # where it lies does not matter, nor which of its folds was taken
        part[key] = part[key] and {name: part[key][name] for name in ("task", "data")}
    return part


def check_shared(run: Path, record: RunRecord, replaced: Collection[str] = ()) -> None:
    """Raise ValueError if folds were made in different ways: their mean would have no meaning.

    Args:
        run: run folder.
        record: of the folds to come.
        replaced: folds that will be trained anew and need not fit.

    Raises:
        ValueError: a finished fold differs in task, base, template, columns, folds or data.
    """
    wanted = shared_part(record)
    names = [name for name in finished_folds(run) if name not in replaced]
    for name, fold in zip(names, read_folds(run, names), strict=True):
        before = fold.shared or {}
        for key, value in wanted.items():
            if not _alike(before.get(key), value):
                raise ValueError(
                    f"{run}: {name} was trained with {key} {before.get(key)}, this run has {value}; folds of one run "
                    "must share it: choose another --output_dir, or delete that folder"
                )


def check_settings(run: Path, record: RunRecord, names: list[str], replaced: Collection[str]) -> None:
    """Raise ValueError if folds were trained with different settings, such as another learning rate.

    Args:
        run: run folder.
        record: of the folds to come.
        names: of these folds.
        replaced: folds that will be trained anew and need not fit.

    Raises:
        ValueError: a finished fold differs; it says in what, with both values.
    """
    kept = [name for name in finished_folds(run) if name not in replaced]
    known = {fold.name: fold.settings for fold in read_folds(run, kept)}
    if older := [name for name, found in known.items() if found is None]:
        message = (
            "%s: trained by an older version, which does not say with what: make sure that it was with these settings"
        )
        logger.warning(message, ", ".join(older))
    folds = {name: found for name, found in known.items() if found is not None}
    planned = {"this run": run_settings.list_settings(record, names[0])} if names else {}
    if found := run_settings.compare_folds(folds | planned):
        values = "; ".join(
            f"{name} {', '.join(f'{value} in {fold}' for fold, value in by.items())}" for name, by in found.items()
        )
        raise ValueError(
            f"{run}: its folds were trained with other settings: {values}; give the same ones, choose another "
            "--output_dir, train all of them anew with --overwrite true, or join them as they are with --mixed_folds "
            "true, which run.json and report.md then say"
        )


def _alike(before: Any, here: Any) -> bool:
    """Compare one thing that folds share; runs of an older version have no digests of their folds."""
    if isinstance(before, dict) and isinstance(here, dict) and ("valid_sha256" in before) != ("valid_sha256" in here):
        before, here = ({k: v for k, v in each.items() if k != "valid_sha256"} for each in (before, here))
    return bool(before == here)


def package_versions() -> dict[str, str]:
    """Return the versions of Python and the packages that shape a result."""
    found = {"python": platform.python_version(), "product_relevance": version("product-relevance")}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def current_time() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
