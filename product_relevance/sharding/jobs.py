"""Process one shard by its name and options alone (its columns or its scores), and join all into a submission."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Protocol

import pandas as pd

from product_relevance.data import loading
from product_relevance.data.arguments import ColumnArguments
from product_relevance.data.provenance import as_source
from product_relevance.data.reading_arguments import ReadingArguments
from product_relevance.data.records import read_records
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.tables import Source
from product_relevance.ensemble import outputs
from product_relevance.ensemble import stack as stacking
from product_relevance.ensemble.files import predict_file
from product_relevance.ensemble.locate import read_run
from product_relevance.ensemble.scoring_arguments import ScoringArguments
from product_relevance.preparation.arguments import PreparationArguments
from product_relevance.preparation.steps.contents import fingerprint_step
from product_relevance.preparation.steps.translate import Translate
from product_relevance.sharding import plan as shards
from product_relevance.sharding.array_task import ArrayTask, run_array_task
from product_relevance.sharding.join import describe_request, join_shards
from product_relevance.sharding.ray_workers import run_ray
from product_relevance.utils.extras import how_to_install
from product_relevance.utils.files import sha256_of
from product_relevance.utils.run_folder import finished_folds, read_json

# They are not what the scores depend on
NO_KEY = ("model", "device", "max_missing_translations", "on_bad_rows", "with_texts")


class ShardJob(Protocol):
    """What is done to each shard."""

    def __call__(self, source: Path) -> pd.DataFrame:
        """Return a table with one row per record of the shard, in their order."""

    def key(self) -> dict:
        """Return what determines the tables beside the source, as JSON."""


class Score(ScoringArguments):
    """Scores a shard of records, as `relevance predict` scores a file; each worker loads the model once.

    Where there are several GPUs each worker takes its own.
    """

    def __call__(self, source: Path) -> pd.DataFrame:
        """Return the table that `prediction.predict_frame` makes of the shard's records."""
        records = Source(str(source), reading=ReadingOptions(number_rows=False))
        scorer, frame = predict_file.read_records_for(_loaded(self), records, "test", self.on_bad_rows)
        loading.require_translations(frame, scorer.run.columns, self.translation, self.max_missing_translations)
        frame.attrs["read_once"] = True
        return predict_file.predict_frame(scorer, frame, self)

    def key(self) -> dict:
        """Return what determines the scores, as JSON: the options, and the content of what they name."""
        stack = stacking.is_stack(self.model)
        run = read_json(Path(self.model) / stacking.NAME) if stack else read_run(self.model, self.revision).to_json()
        if stack and "group" in run.get("features", {}):
            raise ValueError(
                f"{self.model}: found a stack that compares the pairs of a query, expected one of scores alone, as a "
                "shard may hold a part of a query only; score the file in one process"
            )
        named = json.dumps([run, finished_folds(Path(self.model))], sort_keys=True, default=str)
        options = {name: value for name, value in asdict(self).items() if name not in NO_KEY}
        for name, usual in (("compile", False), ("compile_layers", False), ("attention", "padded")):
            if options[name] == usual:
                del options[name]  # what was scored before there was such an option stays valid
        return {"job": "score", "run": hashlib.sha256(named.encode()).hexdigest(), "options": _with_content(options)}


@cache
def _loaded(job: Score):
    return replace(job, device=job.device or _own_gpu()).load()


def _own_gpu() -> str | None:
    import torch

    number = torch.cuda.device_count()
    if number < 2:
        return None
    import multiprocess

    identity = multiprocess.current_process()._identity or (0,)  # workers of one run follow one another
    return f"cuda:{identity[0] % number}"


@dataclass(kw_only=True)
class Columns(ColumnArguments):
    """Adds the columns of `prepare.py` to a shard of test records: clean texts, translations, languages.

    Attributes:
        task: Of the records.
        translate: Options of `Translate` as JSON; None takes `translation`.
    """

    task: str
    translate: str | None = None

    def __call__(self, source: Path) -> pd.DataFrame:
        """Return the shard's records as a source of records, as `provenance.write_rows` writes them."""
        # Numbers of rows would begin anew in each shard.
        records = Source(str(source), reading=replace(self.reading(), number_rows=False))
        frame = read_records(records, task=self.task, role="test", on_bad_rows=self.on_bad_rows)
        frame.attrs["read_once"] = True
        translations = _translator(self.translate) if self.translate else self.translation
        options = self.lowercase, self.language_fix, translations, self.max_missing_translations
        return as_source(loading.add_all_columns(frame, *options))

    def key(self) -> dict:
        """Return what determines the columns, as JSON: the options, and the content of what they name."""
        unread = {field.name for field in fields(ReadingArguments)}
        options = {name: value for name, value in asdict(self).items() if name not in NO_KEY and name not in unread}
        key = {"job": "prepare", "options": _with_content(options)}
        if reading := self.reading().to_json():
            key["reading"] = reading
        if self.translate:
            key["contents"] = fingerprint_step(Translate(**json.loads(self.translate)), self.task)
        return key


@cache
def _translator(options: str):
    return Translate(**json.loads(options)).load()


def _with_content(options: dict) -> dict:
    """Put the sha256 of a table of translations in place of its name."""
    table = options["translation"]
    found = table is not None and Path(table).is_file()
    return options | {"translation": sha256_of(table)} if found else options


@dataclass(frozen=True)
class Sharding:
    """How a large source is divided, and what processes it.

    Attributes:
        file: JSON lines, a Parquet file, or a folder of Parquet files.
        shards: how many.
        workers: processes at a time.
        overwrite: replace the shards of another source or job.
        cluster: "ray"; None for this machine.
        array_task: process the shards of one task alone; the source must have been split.
        plan_only: split the source, and process nothing.
    """

    file: str
    shards: int
    workers: int = 1
    overwrite: bool = False
    cluster: str | None = None
    array_task: ArrayTask | None = None
    plan_only: bool = False


def prepare_shards(arguments: PreparationArguments) -> str:
    """Prepare a large source of test records shard by shard, into a folder that `predict_shards` takes as its source.

    Args:
        arguments: With role test, shards, and no step but translate.

    Returns:
        A line that says what was written.

    Raises:
        ValueError: See `make_plan` and `run_local`.
    """
    shared = {field.name: getattr(arguments, field.name) for field in fields(ColumnArguments)}
    options = json.dumps(asdict(arguments.translate), sort_keys=True) if arguments.translate else None
    job = Columns(task=arguments.task, **shared, translate=options)
    return _process_shards(job, Sharding(arguments.file, arguments.shards, arguments.workers), Path(arguments.output))


def _process_shards(job: ShardJob, sharding: Sharding, folder: Path) -> str:
    plan = shards.make_plan(sharding.file, folder, sharding.shards, job.key(), sharding.overwrite)
    return _processed(plan, folder, _run_local(str(folder), job, sharding.workers))


def _processed(plan: dict, folder: Path, done: int) -> str:
    return f"{folder / 'output'}: {len(plan['shards'])} shards, {done} of them made now, {plan['rows']:,} rows"


def _run_local(folder: str, job: ShardJob, workers: int) -> int:
    try:
        from product_relevance.sharding.executor import Step, run_local
    except ModuleNotFoundError as error:
        raise ValueError(f"--shards needs {error.name}: {how_to_install('scale')}") from None
    return run_local(Step(folder, job), workers)


def _score_shards(job: Score, sharding: Sharding, folder: Path) -> str:
    if task := sharding.array_task:
        shards.require_plan(sharding.file, folder, sharding.shards, job.key())
        return f"{folder / 'output'}: the {run_array_task(str(folder), job, task)} shards of task {task} are finished"
    if not sharding.cluster and not sharding.plan_only:
        return _process_shards(job, sharding, folder)
    plan = shards.make_plan(sharding.file, folder, sharding.shards, job.key(), sharding.overwrite)
    if sharding.plan_only:
        return f"{folder / 'input'}: {sharding.shards} shards, {plan['rows']:,} rows"
    return _processed(plan, folder, run_ray(str(folder), job, sharding.workers))


def predict_shards(job: Score, sharding: Sharding, output: str) -> str:
    """Score a large source shard by shard; after a kill the same call goes on.

    Args:
        job: How to score.
        sharding: The source and its shards.
        output: A folder for scored shards; or, ending in .txt or .jsonl, one submission with its scores beside it.

    Returns:
        A line that says what was written.

    Raises:
        ValueError: See `make_plan` and `run_local`; a submission of other inputs; an id in two shards.
    """
    target = Path(output)
    joined = target.suffix in outputs.LINES
    if target.suffix.lower() in (*outputs.FORMATS, ".json") and not joined:
        raise ValueError(
            f"--output {output}: shards are joined into JSON lines only; name a file ending in .txt or .jsonl, or a "
            "folder for Parquet of each shard"
        )
    folder = Path(f"{output}.shards") if joined else target
    if joined and target.exists() and not sharding.overwrite:
        outputs.require_same(target, describe_request(sha256_of(sharding.file), job.key()))
        shutil.rmtree(folder, ignore_errors=True)
        return f"{target}: complete, nothing to do"
    line = _score_shards(job, replace(sharding, overwrite=sharding.overwrite or joined), folder)
    if not joined or sharding.array_task or sharding.plan_only:
        return line
    rows = join_shards(folder, target)
    shutil.rmtree(folder)
    scores = outputs.scores_path(target).name
    return f"{target}: {rows:,} predictions of {sharding.shards} shards; probabilities in {scores}"
