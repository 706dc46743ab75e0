"""One task taken out of a run of both: a run folder of its own, which can be decided, stacked, exported, published."""

import shutil
from pathlib import Path

import pandas as pd

from product_relevance.evaluation import out_of_fold
from product_relevance.utils import run_folder
from product_relevance.utils.run_record import RunRecord
from product_relevance.utils.tasks import select_task

RESULTS = ("finished", "folds", "seconds", "thresholds", "thresholds_from", "metrics", "taxonomy_sha256")


def take_task(folder: str, task: str, output: str, overwrite: bool = False) -> str:
    """Write the part of a run of both tasks that belongs to one of them.

    The adapters are copied as they are, and texts are rendered as before, with their tag: the scores stay the same.

    Args:
        folder: of the run.
        task: QC or QI.
        output: folder of the new run; it appears when it is whole.
        overwrite: replace an output that is there.

    Returns:
        A table for the terminal.

    Raises:
        ValueError: a run of one task, or without it; an output that is there already.
    """
    whole, home, origin = run_folder.load_record(folder), Path(output), Path(folder)
    alone = select_task(whole, task)
    if alone is whole:
        raise ValueError(f"{folder}: trained on {task} only, so there is nothing to take out of it")
    if home.exists() and not overwrite:
        raise ValueError(f"{output} is there already; add --overwrite to replace it")
    source = Path(folder).resolve()
    if home.resolve() in (source, *source.parents) or (home.exists() and not (home / "run.json").is_file()):
        raise ValueError(f"{output}: found {folder} in it, or no run, expected a folder of its own; name another one")
    part = home.with_name(f".{home.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    record = RunRecord.from_json({key: value for key, value in alone.to_json().items() if key not in RESULTS})
    for name in run_folder.finished_folds(origin):
        _copy_fold(run_folder.fold_folder(origin, name), part / name, task, record)
    if task == "QC":
        shutil.copy2(origin / "taxonomy.json", part)
    table = out_of_fold.finish_run(part, record)[1]
    shutil.rmtree(home, ignore_errors=True)
    part.rename(home)
    return f"{table}\n\n{output}: {task} of {folder}"


def _copy_fold(source: Path, target: Path, task: str, record: RunRecord) -> None:
    shutil.copytree(source, target)
    fold = run_folder.read_json(source / "fold.json") | {"shared": run_folder.shared_part(record)}
    fold["train_rows"] = fold.pop("tasks")[task]["rows"]
    if (source / "oof.parquet").is_file():
        part = out_of_fold.task_rows(pd.read_parquet(source / "oof.parquet"), task)
        (target / "oof.parquet").unlink()
        fold["valid_rows"] = 0 if part is None else len(part)
        if part is not None:
            part.to_parquet(target / "oof.parquet", index=False)
            fold["metrics"] = fold["metrics"][task]
    run_folder.write_json(target / "fold.json", fold)
