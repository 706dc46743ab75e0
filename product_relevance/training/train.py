"""Train a run, from its records to its report: `train(config)`."""

import copy
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from product_relevance.data import loading
from product_relevance.data.folds import query_groups
from product_relevance.data.splits import make_splits
from product_relevance.evaluation import out_of_fold
from product_relevance.text.prompt import chosen_prompt
from product_relevance.training import distributed, preflight, pretraining, run
from product_relevance.training.arguments import check_reports
from product_relevance.training.base_model import BaseModelPool
from product_relevance.training.batches import prefix_batches
from product_relevance.training.fold import train_fold
from product_relevance.training.parents.distillation import find_teacher
from product_relevance.training.parents.warm_start import find_warm_start
from product_relevance.training.run_config import RunConfig
from product_relevance.training.run_data import RunData, prepare_run_data
from product_relevance.utils import console

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """A run that was trained to its end.

    Attributes:
        folder: the run folder, which `RelevanceEnsemble.from_pretrained` takes.
        summary: a table of its figures; empty on all processes but the first.
    """

    folder: Path
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
    distributed.start(config.training)
    config.training.disable_tqdm = config.training.disable_tqdm or not console.on_terminal()
    logger.info(distributed.split_batch(config.training, config.data.global_batch_size))
    if config.objective.stage == "language_model":
        return TrainedRun(config.folder, pretraining.train(config))
    return TrainedRun(config.folder, _train_relevance(config))


def _train_relevance(config: RunConfig) -> str:
    """Train folds with labels; return the summary."""
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
    preflight.check(frame, splits, config.data, config.objective, training)

    # ---- Tokens, once for all folds ----
    config = run.pin_base(config)
    encoder = run.make_encoder(config, template, loading.make_taxonomy(frame))
    data = RunData(frame, run.encode_records(encoder, frame), config.data.task_mixing, config.data.eval_rows)
    if config.data.share_prefixes:
        prefix_batches.require_shareable(config.model, config.objective.objective, training)

    # ---- The run folder, and the runs that this one builds on ----
    names = [split.name for split in splits]
    record = replace(run.describe_run(config, frame, template, splits), weights=preflight.weights(frame))
    parent = find_warm_start(config.model.init_adapter, record.to_json(), names)
    teacher = find_teacher(config.objective.teacher, record.to_json(), names, config.data.translation)
    described = [None if found is None else found.described() for found in (parent, teacher)]
    record = replace(record, first_stage=described[0], teacher=described[1])
    config = replace(config, record=record)
    todo = run.claim_folder(config, splits, encoder.taxonomy, frame)
    data = prepare_run_data(config, data, todo, encoder, teacher)

    # ---- Train each fold on the one loaded base ----
    run.clear_folds(config, todo)
    pool = BaseModelPool(config.model, training, encoder, parent)
    for split in todo:
        train_fold(config, data.fold(split), encoder, pool)

    # ---- Out-of-fold threshold, run.json, report ----
    if training.process_index:
        return ""
    summary = out_of_fold.finish_run(config.folder, record.to_json())
    return f"{summary}\n\nreport with pictures: {config.folder}/report.md"
