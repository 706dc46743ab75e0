"""One fold of a run: trained on the loaded base, scored on all of its validation rows, saved at once."""

import copy
import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import TrainingArguments

from product_relevance.data.folds import hash_texts
from product_relevance.evaluation import out_of_fold
from product_relevance.evaluation.confusion import require_finite
from product_relevance.evaluation.grades import name_shares
from product_relevance.evaluation.probabilities import to_distribution, to_probabilities
from product_relevance.models import adapters, predictor
from product_relevance.models.batching import batch_limits, budget_batches, distinct_rows, pad_on
from product_relevance.models.modeling import evaluation_mode
from product_relevance.models.pair_encoder import PairEncoder
from product_relevance.training import distributed, trainer
from product_relevance.training.base_model import BaseModelPool
from product_relevance.training.checkpointing import resume
from product_relevance.training.run_config import DescribedConfig
from product_relevance.training.run_data import FoldData
from product_relevance.utils import run_folder, run_settings
from product_relevance.utils.run_record import FoldRecord
from product_relevance.utils.tasks import BOTH, task_shares

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoldResult:
    """A fold that was trained to its end; its weights lie in the run folder.

    Attributes:
        record: what fold.json says.
        oof: scores of its validation rows; None without such rows.
    """

    record: FoldRecord
    oof: pd.DataFrame | None


@dataclass(frozen=True)
class TrainedModel:
    """A trained model about to be saved.

    Attributes:
        model: with its adapter.
        state: its trained weights, whole, on the first process.
        start: of `adapters.adapter_start`; None without one to subtract.
    """

    model: Any
    state: dict[str, torch.Tensor]
    start: Any = None


def train_fold(config: DescribedConfig, data: FoldData, encoder: PairEncoder, pool: BaseModelPool) -> FoldResult:
    """Train one fold and publish its folder: adapter, out-of-fold scores, fold.json.

    Args:
        config: of the run, with its record.
        data: rows of the fold.
        encoder: that made its tokens.
        pool: gives the base, and gets it back.

    Returns:
        What the fold came to, on every process.

    Raises:
        ValueError: no training row, a checkpoint of other settings, or an objective that the model cannot have.
        FloatingPointError: the loss became NaN.
    """
    name = data.split.name
    args = fold_arguments(config.training, run_folder.work_folder(config.folder, name), data.split.valid)
    model = pool.with_adapter(name)
    start = adapters.adapter_start(model)
    trainer.require_training_rows(len(data.split.train))
    fitter = trainer.make_trainer(model, encoder.tokenizer, data.train, data.watched, replace(config, training=args))
    if not config.training.deepspeed:  # whose stages spread what is counted here
        logger.info(fitter.memory_line())
    settings = run_settings.list_settings(config.record, name, pool.fingerprint)
    checkpoint, record = resume.prepare_resume(fitter, config, settings)
    fitter.train(resume_from_checkpoint=checkpoint)
    totals = record.totals()
    oof = _score_fold(fitter, data, encoder.pad_id)
    state = fitter.accelerator.get_state_dict(fitter.model_wrapped if config.training.deepspeed else fitter.model)
    facts = {"resumed": checkpoint is not None, **record.describe(), **trainer.describe_speed(totals)}
    facts |= {"steps": fitter.state.global_step, "best_step": fitter.state.best_global_step}
    facts |= {"engine": distributed.name_engine(fitter.model_wrapped), "history": _finite(fitter.state.log_history)}
    result = FoldResult(describe_rows(config, data, pool, facts), oof)
    save = lambda path: save_fold(path, config, TrainedModel(fitter.model, state, start), result)  # noqa: E731
    publish_fold(config, result.record, save)
    pool.release(fitter.accelerator.unwrap_model(fitter.model))
    return result


def publish_fold(config: DescribedConfig, record: FoldRecord, save) -> None:
    """Put a trained fold into the run folder on the first process, and remove its checkpoints; the others wait.

    Args:
        config: of the run.
        record: of the fold.
        save: fills a folder.
    """
    if config.training.process_index == 0:
        run_folder.publish_fold(config.folder, record.name, save)
        if not config.data.keep_checkpoints:
            shutil.rmtree(run_folder.work_folder(config.folder, record.name), ignore_errors=True)
        after = "" if record.steps is None else f" after {record.steps} steps"
        logger.info("%s: saved%s, %.1f seconds", record.name, after, record.seconds)
    distributed.wait_for_all()


def describe_rows(config: DescribedConfig, data: FoldData, pool: BaseModelPool, facts: dict[str, Any]) -> FoldRecord:
    """Return what fold.json says, but for the metrics; `facts` are of the training."""
    name, mixed = data.split.name, config.record.task == BOTH
    return FoldRecord(
        name=name,
        train_rows=len(data.split.train),
        valid_rows=len(data.split.valid),
        base={**config.record.base, "fingerprint": pool.fingerprint},
        attn_implementation=pool.attention,
        starts_from=pool.parent_of(name),
        shared=run_folder.shared_part(config.record),
        unlabelled_rows=len(data.train) - len(data.split.train),
        tasks=task_shares(data.tasks, config.data.task_mixing) if mixed else None,
        **facts,
    )


def fold_arguments(training: TrainingArguments, folder: Path, valid: Sequence | np.ndarray) -> TrainingArguments:
    """Copy the arguments for one fold; the DeepSpeed configuration is read anew, since "auto" values get filled in."""
    args = copy.copy(training)
    args.output_dir, args.label_names = str(folder), ["labels"]
    args.use_liger_kernel = False  # the base has its kernels since it was loaded: see liger_kernels
    args.remove_unused_columns = False  # it would drop the weights, which no model's forward knows
    args.logging_nan_inf_filter = False  # it waits for a GPU after each batch; SafeTrainer looks once per step
    args.restore_callback_states_from_checkpoint = False  # the Trainer would make them anew: see resume.prepare_resume
    if training.deepspeed:
        from accelerate.state import AcceleratorState
        from accelerate.utils import DeepSpeedPlugin
        from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

        args.hf_deepspeed_config = HfTrainerDeepSpeedConfig(training.deepspeed)
        args.hf_deepspeed_config.trainer_config_process(args)
        AcceleratorState._reset_state()  # a process holds one plugin; the process group stays
        args.deepspeed_plugin = DeepSpeedPlugin(hf_ds_config=args.hf_deepspeed_config)
    if not len(valid):
        args.eval_strategy, args.load_best_model_at_end = "no", False
    return args


def _finite(history: list[dict]) -> list[dict]:
    # gradient norms may overflow under fp16, and JSON has no infinity
    def checked(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{key: checked(value) for key, value in row.items()} for row in history]


def _score_fold(fitter, data: FoldData, pad_id: int) -> pd.DataFrame | None:
    """Score the whole validation side with the best checkpoint."""
    if not len(data.valid):
        return None
    queries, name = data.valid["query_group"].tolist(), data.split.name
    return describe_scores(data, score_logits(fitter, data.valid_tokens, queries, pad_id, f"{name} scores"))


def describe_scores(data: FoldData, logits: np.ndarray) -> pd.DataFrame:
    """Return what oof.parquet holds: the scores of a fold's validation rows, by their logits of shape (n, K)."""
    part = data.valid
    names = ["id", "language", "given_language"] + ["task"] * (data.train.tasks is not None)
    columns = {column: part[column].to_numpy() for column in names}
    columns["query_digest"] = hash_texts(part["query_group"])  # for intervals over queries, without their texts
    columns |= {"label": part["label"].to_numpy(int), "score": to_probabilities(logits)}
    if "grade" in part:
        columns |= {"grade": part["grade"].to_numpy(int)} | name_shares(to_distribution(logits))
    return pd.DataFrame(columns).assign(fold=data.split.name)


def save_fold(path: Path, config: DescribedConfig, trained: TrainedModel, result: FoldResult) -> None:
    """Fill the folder of a finished fold."""
    model, state, base = trained.model, trained.state, config.record.base
    if config.record.adapter is not None:
        lora = model.peft_config["default"]
        lora.base_model_name_or_path, lora.revision = base["name"], base["revision"]
        lora.target_modules = sorted(lora.target_modules)  # a set, whose order each process has of its own
        model.save_pretrained(path, state_dict=state, save_embedding_layers=False)
        if trained.start is not None:
            adapters.convert_to_plain_lora(path, trained.start)
        (path / "README.md").unlink(missing_ok=True)  # PEFT's blank card; push_to_hub.py writes a filled one
    else:
        from safetensors.torch import save_file

        save_file({k: v.contiguous().cpu() for k, v in state.items()}, path / "model.safetensors")
    describe_fold(path, config, result)


def describe_fold(path: Path, config: DescribedConfig, result: FoldResult) -> None:
    """Write oof.parquet and fold.json."""
    record = result.record
    if result.oof is not None:
        result.oof.to_parquet(path / "oof.parquet", index=False)
        record = replace(record, metrics=out_of_fold.fold_metrics(config.record, result.oof))
    run_folder.write_json(path / "fold.json", record.to_json())


def score_logits(fitter, ids: list[list[int]], queries: Sequence, pad_id: int, progress: str) -> np.ndarray:
    """Score tokenised pairs with the model of a Trainer, by the scorer that one process has, on all of them.

    Args:
        fitter: the Trainer; every process calls.
        ids: n lists of token ids.
        queries: of the n pairs; those of one query go to one process, which forwards what they share once.
        pad_id: pad token.
        progress: description of the first process's progress bar.

    Returns:
        Logits of the labels, shape (n, K), on every process.

    Raises:
        ValueError: a logit is not finite.
    """
    if distributed.zero_stage(fitter.args) == 3:
        return _in_step(fitter, ids, pad_id)
    shown = progress if fitter.args.process_index == 0 else None
    return distributed.share_computation(
        queries,
        lambda rows: predictor.predict_logits(fitter.model, [ids[i] for i in rows], pad_id, progress=shown),
    )


def _in_step(fitter, ids: list[list[int]], pad_id: int) -> np.ndarray:
    """Return logits of shape (n, K) where the weights are spread (ZeRO-3): all processes forward equally often."""
    (once, inverse), device = distinct_rows(ids), fitter.args.device
    tokens, at_most = batch_limits(device.type)
    tokens = distributed.decide_on_first(lambda: predictor.token_budget(fitter.model, device)) or tokens
    batches = list(budget_batches([len(row) for row in once], tokens, at_most))
    found = np.full((len(once), fitter.model.config.num_labels), np.nan, np.float32)
    with evaluation_mode(fitter.model), torch.no_grad():
        for start in range(0, len(batches), fitter.args.world_size):
            # the last batch once more where no other is left
            rows = batches[min(start + fitter.args.process_index, len(batches) - 1)]
            logits = fitter.model_wrapped(**pad_on(device, [once[i] for i in rows], pad_id)).logits
            found[rows] = logits.float().cpu().numpy()
    for part in distributed.gather_values(found):
        found = np.where(np.isnan(found), part, found)
    require_finite(found, "logits")
    return found[inverse]
