"""A first stage on texts alone: the base goes on as a language model of queries and targets, read without labels.

Task-adaptive pre-training (Gururangan et al., arXiv 2004.10964) with an adapter, which `--init_adapter` continues from
under a new head. A query and a target are two texts: read together, the pairs that do not go together would teach that
they do.
"""

import logging
import math
from dataclasses import dataclass, replace

import pandas as pd

from product_relevance.data import loading
from product_relevance.data.splits import Split, make_splits
from product_relevance.models import modeling
from product_relevance.models.heads.language_model import TextCollator, encode_texts
from product_relevance.models.pair_encoder import PairEncoder
from product_relevance.training import distributed, fold, parallel_folds, run
from product_relevance.training.base_model import BaseModelPool
from product_relevance.training.checkpointing import resume
from product_relevance.training.checkpointing.checkpoint_record import ResumableTrainer
from product_relevance.training.run_config import DescribedConfig, RunConfig
from product_relevance.utils import run_folder, run_settings
from product_relevance.utils.run_record import FinishedRunRecord, FoldRecord

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoldTexts:
    """The texts of one fold.

    Attributes:
        split: the fold, by row numbers.
        rows: token ids of each distinct text.
    """

    split: Split
    rows: list[dict]


def train_language_model(config: RunConfig) -> tuple[FinishedRunRecord, str]:
    """Train an adapter for each fold on the texts of the rows that the fold trains on; `--fold full` takes all.

    Labels are not read: records may lack them. With the same file and folds as the second stage, no fold sees a text
    because it stands in one of its validation rows.

    Args:
        config: of the run.

    Returns:
        What run.json says, and a line on each fold for the terminal, on every process.

    Raises:
        ValueError: arguments that belong to a classifier, bad records, or a base that is no causal language model.
    """
    training = config.training
    _check_arguments(config)
    with training.main_process_first(desc="records"):
        frame = loading.load_columns(config.data, rejects=f"{config.folder}/rejects.jsonl", labelled=False)
    template, splits = loading.make_template(config.data, frame=frame), make_splits(frame, config.data)
    sides = loading.render_frame(frame, template, loading.make_taxonomy(frame))
    config = run.pin_base(config)
    model_args = config.model
    tokenizer = modeling.load_tokenizer(model_args.model_name_or_path, model_args.model_revision)
    encoder = PairEncoder(tokenizer, template, model_args.max_length)
    record = run.describe_run(config, frame, template, splits)
    described = config.describe(replace(record, stage=config.objective.stage, pooling=None))
    todo = run.claim_folder(described, splits)
    run.clear_folds(described, todo)
    pool = BaseModelPool(model_args, training, encoder, language=True)

    def texts_of(split: Split) -> FoldTexts:
        texts = distinct_texts(sides, split.train)
        rows = [{"input_ids": ids} for ids in encode_texts(tokenizer, texts, model_args.max_length)]
        logger.info("%s: %d distinct texts of %d rows, %d tokens", *_sizes(split, texts, rows))
        return FoldTexts(split, rows)

    parallel_folds.train_folds(_train_fold, described, map(texts_of, todo), encoder, pool)
    return distributed.decide_on_first(lambda: _finish_run(described))


def distinct_texts(sides: tuple[list[str], list[str]], rows) -> list[str]:
    """Return the queries and targets of some rows, each text once, in the order of their first row."""
    return [text for text in dict.fromkeys(side[i] for i in rows for side in sides) if text]


def _check_arguments(config: RunConfig) -> None:
    """Raise ValueError for arguments that belong to a classifier, before anything is read."""
    model_args, data_args = config.model, config.data
    if data_args.random_levels:
        raise ValueError(
            f"--random_levels {data_args.random_levels}: --stage language_model reads each text once and whole; "
            "leave it to the second stage"
        )
    for name in ("tokens_per_forward", "share_prefixes"):
        if found := getattr(data_args, name):
            raise ValueError(f"--{name} {found}: --stage language_model trains on batches as they are; leave it out")
    expected = {"adapter": "lora", "head": "classifier", "pooling": "auto", "init_lora_weights": "default"}
    for name, value in (expected | {"init_adapter": None}).items():
        if (found := getattr(model_args, name)) != value:
            raise ValueError(f"--stage language_model: found --{name} {found}, expected {value or 'none'}: it makes a "
                             "plain adapter without a head, which a second stage puts under any head")  # fmt: skip
    if distributed.zero_stage(config.training) == 3:
        raise ValueError(
            "--stage language_model reads the whole output embedding: not under ZeRO-3; use ZeRO-2 or DDP"
        )


def _sizes(split, texts: list[str], rows: list[dict]) -> tuple:
    return split.name, len(texts), len(split.train), sum(len(row["input_ids"]) for row in rows)


def _train_fold(config: DescribedConfig, data: FoldTexts, encoder: PairEncoder, pool: BaseModelPool) -> None:
    training, tokenizer, split, rows = config.training, encoder.tokenizer, data.split, data.rows
    model = pool.with_adapter(split.name)
    args = fold.fold_arguments(training, run_folder.work_folder(config.folder, split.name), [])
    args.label_smoothing_factor = 0.0  # a recipe's smoothing is that of two labels, not of a vocabulary
    collator = TextCollator(tokenizer.pad_token_id)
    kept = {"model": model, "args": args, "processing_class": tokenizer}
    fitter = ResumableTrainer(train_dataset=rows, data_collator=collator, **kept)
    settings = run_settings.list_settings(config.record, split.name, pool.fingerprint)
    checkpoint, kept_record = resume.prepare_resume(fitter, config, settings)
    loss = fitter.train(resume_from_checkpoint=checkpoint).training_loss
    if not math.isfinite(loss):
        raise FloatingPointError(f"{split.name}: the loss is {loss}: lower --learning_rate, or train in float32")
    state = fitter.accelerator.get_state_dict(fitter.model_wrapped if training.deepspeed else fitter.model)
    record = FoldRecord(
        name=split.name,
        stage=config.record.stage,
        train_rows=len(split.train),
        valid_rows=0,
        texts=len(rows),
        loss=loss,
        seconds=round(kept_record.totals()["seconds"], 1),
        base={**config.record.base, "fingerprint": pool.fingerprint},
        resumed=checkpoint is not None,
        steps=fitter.state.global_step,
        history=fitter.state.log_history,
        shared=run_folder.shared_part(config.record),
        **kept_record.describe(),
    )
    trained, result = fold.TrainedModel(fitter.model, state), fold.FoldResult(record, None)
    fold.publish_fold(config, record, lambda path: fold.save_fold(path, config, trained, result))
    pool.release(fitter.accelerator.unwrap_model(fitter.model))


def _finish_run(config: DescribedConfig) -> tuple[FinishedRunRecord, str]:
    folder = config.folder
    folds = run_folder.read_folds(folder, run_folder.finished_folds(folder))
    record = run_folder.join_folds(config.record, folds)
    run_folder.write_json(folder / "run.json", record.to_json())
    names = ("name", "texts", "steps", "loss", "seconds")
    table = pd.DataFrame([{name: getattr(fold, name) for name in names} for fold in folds])
    line = f"{folder}: a first stage without a head: --init_adapter {folder}"
    return record, f"{table.to_string(index=False)}\n\n{line}"
