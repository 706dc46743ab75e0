"""Train a run, from its records to its report: `train(config)`."""

import copy
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from product_relevance.data import loading
from product_relevance.data.folds import query_groups
from product_relevance.data.splits import make_splits
from product_relevance.evaluation.out_of_fold import finish_run
from product_relevance.text.prompt import chosen_prompt
from product_relevance.training import distributed, parallel_folds, preflight, run
from product_relevance.training.arguments import check_reports
from product_relevance.training.base_model import BaseModelPool
from product_relevance.training.batches import prefix_batches
from product_relevance.training.fold import train_fold
from product_relevance.training.kernel_fold import check_kernel, make_fit
from product_relevance.training.parents.distillation import find_teacher
from product_relevance.training.parents.warm_start import find_warm_start
from product_relevance.training.pretraining import train_language_model
from product_relevance.training.run_config import RunConfig
from product_relevance.training.run_data import RunData, prepare_run_data
from product_relevance.utils import console
from product_relevance.utils.run_record import FinishedRunRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """A run that was trained to its end.

    Attributes:
        folder: the run folder, which `RelevanceEnsemble.from_pretrained` takes.
        record: what run.json says: folds, thresholds, metrics.
        summary: a table of its figures.
    """

    folder: Path
    record: FinishedRunRecord
    summary: str


def train(config: RunConfig) -> TrainedRun:
    """Train the folds that a configuration names, and finish the run folder.

    Args:
        config: of `RunConfig.from_recipe`; it stays as it is.

    Returns:
        The finished run.

    Raises:
        ValueError: bad records, a leak between folds, a finished fold without `--overwrite`, or a wrong base.
        FloatingPointError: the loss became NaN.
    """
    config = replace(config, training=copy.copy(config.training))
    check_reports(config.training)
    check_kernel(config)
    distributed.prepare_processes(config.training, config.data.folds_parallel)
    parallel_folds.check_parallel(config)
    config.training.disable_tqdm = config.training.disable_tqdm or not console.on_terminal()
    batch = distributed.split_batch(config.training, config.data.global_batch_size)
    if config.model.adapter != "kernel":
        logger.info(batch)
    train_stage = train_language_model if config.objective.stage == "language_model" else _train_relevance
    return TrainedRun(config.folder, *train_stage(config))


def _train_relevance(config: RunConfig) -> tuple[FinishedRunRecord, str]:
    """Train folds with labels; return what run.json says, and the summary, on every process."""
    training = config.training

    # ---- Records and their columns ----
    with training.main_process_first(desc="records"):
        frame = loading.load_columns(config.data, rejects=f"{config.folder}/rejects.jsonl")
    template = loading.make_template(config.data, chosen_prompt(config.model), frame)
    logger.info(loading.describe_records(frame))

    # ---- Folds, checked for leaks ----
    splits = make_splits(frame, config.data)
    frame["query_group"] = query_groups(frame)
    logger.info("\n".join(split.report for split in splits))
    preflight.check_rows(frame, splits, config)

    # ---- Tokens, once for all folds ----
    config = run.pin_base(config)
    encoder = run.make_encoder(config, template, loading.make_taxonomy(frame))
    data = RunData(frame, run.encode_records(encoder, frame), config.data.task_mixing, config.data.eval_rows)
    if config.data.share_prefixes:
        prefix_batches.require_shareable(config.model, config.objective.objective, training)

    # ---- The run folder, and the runs that this one builds on ----
    names = [split.name for split in splits]
    record = replace(run.describe_run(config, frame, template, splits), weights=preflight.weight_range(frame))
    parent = find_warm_start(config, record, names)
    teacher = find_teacher(config, record, names)
    if parent is not None:
        record = replace(record, first_stage=parent.describe().to_json())
    if teacher is not None:
        record = replace(record, teacher=teacher.describe().to_json())
    described = config.describe(record)
    todo = run.claim_folder(described, splits, encoder.taxonomy, frame)
    data = prepare_run_data(config, data, todo, encoder, teacher)

    # ---- Train or fit each fold: in turn on one loaded base, or each in a process of its own ----
    run.clear_folds(described, todo)
    pool = BaseModelPool(config.model, training, encoder, parent)
    train_one = make_fit(pool, data, encoder) if config.model.adapter == "kernel" and todo else train_fold
    parallel_folds.train_folds(train_one, described, map(data.fold, todo), encoder, pool)

    # ---- Out-of-fold threshold, run.json, report ----
    finished, summary = distributed.decide_on_first(lambda: finish_run(config.folder, record))
    return finished, f"{summary}\n\nreport with pictures: {config.folder}/report.md"
