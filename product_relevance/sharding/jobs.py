"""What is done with one shard, by its name and options alone: its columns or its scores; and a submission of all."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from product_relevance.data import loading
from product_relevance.data.arguments import MAX_MISSING, ColumnArguments
from product_relevance.data.provenance import as_source
from product_relevance.data.records import read_records
from product_relevance.data.submission import write_submission
from product_relevance.ensemble import outputs, predict_file
from product_relevance.ensemble import stack as stacking
from product_relevance.ensemble.locate import read_run
from product_relevance.models.checkpoints import asked_dtype
from product_relevance.preparation import steps
from product_relevance.sharding import plan as shards
from product_relevance.utils.extras import how_to_install
from product_relevance.utils.files import atomic_write, sha256_of
from product_relevance.utils.run_folder import finished_folds, read_json

NO_KEY = ("model", "device", "max_missing_translations", "on_bad_rows")  # they are not what the scores depend on


@dataclass(frozen=True, kw_only=True)
class Score:
    """Scores a shard of records, as `relevance predict` scores a file.

    Attributes:
        model: Run folder, stack, downloaded folder or Hub id; each worker loads it once.
        revision: Of a Hub id.
        merge, dtype, max_disagreement, reasoning_tokens: See `RelevanceEnsemble.from_pretrained`.
        compile: Compile the model, for all shapes at once; the first batches take minutes.
        device: None takes a GPU where there is one, and of several each worker its own.
        vote, threshold, translation, chunk_rows, max_missing_translations, on_bad_rows: See
            `prediction.predict_file`.
    """

    model: str
    revision: str | None = None
    merge: str = "probabilities"
    device: str | None = None
    dtype: str = "auto"
    max_disagreement: float = 0.02
    reasoning_tokens: int = 0
    compile: bool = False
    vote: str | None = None
    threshold: str = "f1"
    translation: str | None = None
    chunk_rows: int = 5000
    max_missing_translations: float = MAX_MISSING
    on_bad_rows: str = "error"

    def __post_init__(self):
        object.__setattr__(self, "dtype", asked_dtype(self.dtype))  # of this process, for all workers and resumptions

    def __call__(self, source: Path) -> pd.DataFrame:
        """Return the table that `prediction.predict_frame` makes of the shard's records."""
        scorer, frame = predict_file.read_for(_loaded(self), str(source), "test", self.on_bad_rows)
        loading.require_translations(frame, scorer.run, self.translation, self.max_missing_translations)
        frame.attrs["read_once"] = True
        options = {name: getattr(self, name) for name in ("vote", "threshold", "translation", "chunk_rows")}
        return predict_file.predict_frame(scorer, frame, **options)

    def key(self) -> dict:
        """Return what determines the scores, as JSON: the options, and the content of what they name."""
        stack = stacking.is_stack(self.model)
        run = read_json(Path(self.model) / stacking.NAME) if stack else read_run(self.model, self.revision)
        named = json.dumps([run, finished_folds(Path(self.model))], sort_keys=True, default=str)
        options = {name: value for name, value in asdict(self).items() if name not in NO_KEY}
        if not self.compile:
            del options["compile"]  # what was scored before there was such an option stays valid
        return {"job": "score", "run": hashlib.sha256(named.encode()).hexdigest(), "options": _with_content(options)}

    def load(self):
        """Load the ensemble or stack.

        Raises:
            ValueError: See `RelevanceEnsemble.from_pretrained`; reasoning for a stack; what cannot be compiled.
        """
        from product_relevance.ensemble.ensemble import RelevanceEnsemble

        options = {name: getattr(self, name) for name in ("merge", "dtype", "max_disagreement")}
        options["device"] = self.device
        if not stacking.is_stack(self.model):
            options |= {"revision": self.revision, "reasoning_tokens": self.reasoning_tokens}
            ensemble = RelevanceEnsemble.from_pretrained(self.model, **options)
            if self.compile:
                _compile(ensemble)
            return ensemble
        if self.compile:
            raise ValueError("--compile: a stack loads one base after the other; give one of its runs")
        if self.reasoning_tokens:
            raise ValueError("--reasoning_tokens: a stack was made of scores without reasoning; give one of its runs")
        return stacking.RelevanceStack.from_pretrained(self.model, **options)


def _compile(ensemble) -> None:
    import torch

    if ensemble.shared_layers and len(ensemble.folds) > 1:
        raise ValueError("--compile: the folds of this run share a trunk, which is forwarded by layers; leave it out")
    # Graphs are for all shapes, so that none has to wait; a causal model has four, and each adapter those of its own.
    known = torch._dynamo.config
    known.recompile_limit = max(known.recompile_limit, 4 * len(ensemble.folds) + 4)
    ensemble.model.compile(dynamic=True)


@cache
def _loaded(job: Score):
    return replace(job, device=job.device or _own_gpu()).load()


def _own_gpu() -> str | None:
    import torch

    number = torch.cuda.device_count()
    if number < 2:
        return None
    from product_relevance.sharding.executor import worker

    return f"cuda:{worker() % number}"


@dataclass(kw_only=True)
class Columns(ColumnArguments):
    """Adds the columns of `prepare.py` to a shard of test records: clean texts, translations, languages.

    Attributes:
        task: Of the records.
        translate: Options of `steps.Translate` as JSON; None takes `translation`.
    """

    task: str
    translate: str | None = None

    def __call__(self, source: Path) -> pd.DataFrame:
        """Return the shard's records as a source of records, as `provenance.write_rows` writes them."""
        frame = read_records(source, task=self.task, role="test", on_bad_rows=self.on_bad_rows)
        frame.attrs["read_once"] = True
        translations = _translator(self.translate) if self.translate else self.translation
        options = self.lowercase, self.language_fix, translations, self.max_missing_translations
        return as_source(loading.add_all(frame, *options))

    def key(self) -> dict:
        """Return what determines the columns, as JSON: the options, and the content of what they name."""
        options = {name: value for name, value in asdict(self).items() if name not in NO_KEY}
        told = {"job": "prepare", "options": _with_content(options)}
        if self.translate:
            told["contents"] = steps.contents(steps.Translate(**json.loads(self.translate)), self.task)
        return told


@cache
def _translator(options: str):
    return steps.Translate(**json.loads(options)).load()


def _with_content(options: dict) -> dict:
    """Put the sha256 of a table of translations in place of its name."""
    table = options["translation"]
    found = table is not None and Path(table).is_file()
    return options | {"translation": sha256_of(table)} if found else options


def prepare_shards(asked) -> str:
    """Prepare a large source of test records shard by shard, into a folder that `predict_shards` takes as its source.

    Args:
        asked: `preparation.Preparation` with role test, shards, and no step but translate.

    Returns:
        A line that says what was written.

    Raises:
        ValueError: See `shards.plan` and `shard_runner.run_local`.
    """
    shared = {field.name: getattr(asked, field.name) for field in fields(ColumnArguments)}
    into_english = dict(asked.steps).get("translate")
    options = json.dumps(asdict(into_english), sort_keys=True) if into_english else None
    job = Columns(task=asked.task, **shared, translate=options)
    return _run(job, asked.file, Path(asked.output), asked.shards, asked.workers)


def _run(job, file: str, folder: Path, number: int, workers: int, overwrite: bool = False) -> str:
    try:
        from product_relevance.sharding.executor import Step, run_local
    except ModuleNotFoundError as error:
        raise ValueError(f"--shards needs {error.name}: {how_to_install('scale')}") from None
    plan = shards.plan(file, folder, number, job.key(), overwrite)
    done = run_local(Step(str(folder), job), workers)
    return f"{folder / 'output'}: {number} shards, {done} of them made now, {plan['rows']:,} rows"


def predict_shards(job: Score, file: str, output: str, number: int, workers: int = 1, overwrite: bool = False) -> str:
    """Score a large source shard by shard; after a kill the same call goes on.

    Args:
        job: How to score.
        file: JSON lines, a Parquet file, or a folder of Parquet files.
        output: A folder for scored shards; or, ending in .txt or .jsonl, one submission with its scores beside it.
        number: Of shards.
        workers: Processes at a time.
        overwrite: Replace a submission, or the shards of another source or run.

    Returns:
        A line that says what was written.

    Raises:
        ValueError: See `shards.plan` and `shard_runner.run_local`; a submission of other inputs; an id in two shards.
    """
    target = Path(output)
    joined = target.suffix in outputs.LINES
    if target.suffix.lower() in (*outputs.FORMATS, ".json") and not joined:
        raise ValueError(
            f"--output {output}: shards are joined into JSON lines only; name a file ending in .txt or .jsonl, or a "
            "folder for Parquet of each shard"
        )
    folder = Path(f"{output}.shards") if joined else target
    if joined and target.exists() and not overwrite:
        outputs.require_same(target, _asked(sha256_of(file), job.key()))
        shutil.rmtree(folder, ignore_errors=True)
        return f"{target}: complete, nothing to do"
    line = _run(job, file, folder, number, workers, overwrite or joined)
    if not joined:
        return line
    rows = join(folder, target)
    shutil.rmtree(folder)
    return f"{target}: {rows:,} predictions of {number} shards; probabilities in {outputs.scores_path(target).name}"


def join(folder: Path, target: Path) -> int:
    """Join scored shards into one submission and, beside it, one table of scores; one shard at a time is in memory.

    Args:
        folder: With the plan and all its shards.
        target: The submission.

    Returns:
        The number of rows.

    Raises:
        ValueError: An id that stands in two shards, where no check of one shard could see it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    plan, ids, digest = shards.read_plan(folder), [], hashlib.sha256()
    parts = plan["shards"]
    tables = [shards.output_path(folder, number) for number in range(len(parts))]
    schema = _one_schema([pq.read_schema(path) for path in tables])
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target, "wb") as file, atomic_write(outputs.scores_path(target), "wb") as beside:
        with pq.ParquetWriter(beside, schema) as writer:
            for path, part in zip(tables, parts, strict=True):
                table = pq.read_table(path).cast(schema)
                ids.append(pd.util.hash_array(table["id"].cast(pa.string()).to_numpy()))
                writer.write_table(table)
                frame = read_records(part["input"], role="test", on_bad_rows="skip")  # scoring it has judged its rows
                lines = write_submission(frame, table["prediction"].to_numpy(), folder / "part.txt")
                text = lines.read_bytes()
                digest.update(text)
                file.write(text)
            made = outputs.made_of(_asked(plan["source"], plan["job"]), digest.hexdigest())
            writer.add_key_value_metadata({outputs.MADE_OF: made})
        _require_distinct(np.concatenate(ids))
    return sum(map(len, ids))


def _asked(source: str, job: dict) -> dict:
    return {"file": source} | {name: value for name, value in job.items() if name != "options"} | job["options"]


def _one_schema(schemas: list):
    """Return the schema that fits all shards: ids are texts where those of one shard are."""
    import pyarrow as pa

    if len({schema.field("id").type for schema in schemas}) > 1:
        schemas = [schema.set(0, pa.field("id", pa.string())) for schema in schemas]
    return pa.unify_schemas(schemas)


def _require_distinct(ids: np.ndarray) -> None:
    if twice := len(ids) - len(np.unique(ids)):
        raise ValueError(f"{twice:,} ids stand in more than one shard; expected each id once: correct the source")
