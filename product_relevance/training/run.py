"""A run folder: what run.json says of the run, which folds are to be trained, and what is removed before they are."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from product_relevance.data import loading
from product_relevance.data.folds import hash_texts, query_keys
from product_relevance.data.splits import Split
from product_relevance.models import modeling
from product_relevance.models.loading.checkpoints import resolve_revision
from product_relevance.models.pair_encoder import PairEncoder
from product_relevance.text.taxonomy import Taxonomy
from product_relevance.text.templates import Template
from product_relevance.training import distributed
from product_relevance.training.checkpointing import resume
from product_relevance.training.run_config import DescribedConfig, RunConfig
from product_relevance.utils import run_folder
from product_relevance.utils.files import sha256_of
from product_relevance.utils.run_record import RunRecord
from product_relevance.utils.tasks import name_labels

logger = logging.getLogger(__name__)


def pin_base(config: RunConfig) -> RunConfig:
    """Return a configuration whose base is one commit: a branch may move while folds train."""
    revision = resolve_revision(config.model.model_name_or_path, config.model.model_revision)
    return replace(config, model=replace(config.model, model_revision=revision))


def make_encoder(config: RunConfig, template: Template, taxonomy: Taxonomy | None) -> PairEncoder:
    """Return what makes the tokens of a run: the base's tokenizer with the run's template and tree of paths."""
    tokenizer = modeling.load_tokenizer(config.model.model_name_or_path, config.model.model_revision)
    encoder = PairEncoder.from_tokenizer(tokenizer, template, config.model.max_length, taxonomy)
    return replace(encoder, grades=config.data.grades)


def encode_records(encoder: PairEncoder, frame: pd.DataFrame) -> list[list[int]]:
    """Tokenise all pairs of a run, and log how long they are."""
    tokens = encoder.encode_frame(frame)
    logger.info("%d pairs, %.1f tokens each", len(tokens), sum(map(len, tokens)) / len(tokens))
    return tokens


def describe_run(config: RunConfig, frame: pd.DataFrame, template: Template, splits: list[Split]) -> RunRecord:
    """Return what run.json says of the run before any fold: arguments, data, base, template."""
    model_args, data_args, training = config.model, config.data, config.training
    lora = {
        k.removeprefix("lora_"): v
        for k, v in vars(model_args).items()
        if k.startswith(("lora_", "use_", "init_", "quantization"))
    }
    by = ("num_folds", "group_by", "prefix_levels", "fold_seed", "held_out_languages")
    return RunRecord(
        format=run_folder.FORMAT,
        task=data_args.task,
        base={"name": model_args.model_name_or_path, "revision": model_args.model_revision},
        adapter=lora if model_args.adapter == "lora" else None,
        pooling=model_args.pooling,
        max_length=model_args.max_length,
        template=template.to_dict(),
        columns={k: getattr(data_args, k) for k in ("lowercase", "language_fix", "translation")}
        | {"translation_sha256": _sha256_of_table(data_args.translation)},
        labels={str(i): label for i, label in name_labels(data_args.grades).items()},
        relevant_from=data_args.relevant_from if data_args.grades > 2 else None,
        folds_by={k: getattr(data_args, k) for k in by}
        | {"full": data_args.fold == "full", "given": "fold" in frame, "valid_sha256": splits[0].valid_digests},
        data=loading.describe_data(frame, data_args.held_out_languages, data_args.grades),
        arguments={
            "model": vars(model_args),
            "data": vars(data_args),
            "objective": vars(config.objective),
            "training": {k: v for k, v in training.to_dict().items() if not k.endswith("_token")},
        },
        versions=run_folder.package_versions(),
        device=torch.cuda.get_device_name()
        if torch.cuda.is_available() and not training.use_cpu
        else training.device.type,
        processes=training.world_size,
        pairs_per_step=None if model_args.adapter == "kernel" else distributed.step_pairs(training),
    )


def _sha256_of_table(translation: str) -> str | None:
    return sha256_of(translation) if Path(translation).is_file() else None


def claim_folder(
    config: DescribedConfig, splits: list[Split], taxonomy: Taxonomy | None = None, frame: pd.DataFrame | None = None
) -> list[Split]:
    """Make the run folder on the first process, before anything is computed, while others wait.

    It gets its taxonomy.json and the digests of its queries. No finished or unlike run is overwritten.

    Args:
        config: of the run, with its record.
        splits: that the arguments name.
        taxonomy: of the training paths.
        frame: records, whose queries are kept as digests; None keeps none.

    Returns:
        The splits that are to be trained: under `--overwrite` all, else those that are not finished.

    Raises:
        ValueError: with the way out: `--overwrite`, `--resume_from_checkpoint`, or another folder.
    """
    folder, names, overwrite = config.folder, [split.name for split in splits], config.data.overwrite

    def decide() -> list[str]:
        _check_claim(config, names)
        folder.mkdir(parents=True, exist_ok=True)
        if taxonomy is not None:
            taxonomy.save(folder / "taxonomy.json")
        if frame is not None:
            run_folder.save_queries(folder, hash_texts(query_keys(frame)[0]))
        todo = [name for name in names if overwrite or not run_folder.is_finished(folder, name)]
        if not overwrite:
            resume.check_checkpoints(config, todo)
        return todo

    todo = distributed.decide_on_first(decide)
    if kept := [name for name in names if name not in todo]:
        logger.info("%s: finished before, kept", ", ".join(kept))
    return [split for split in splits if split.name in todo]


def _check_claim(config: DescribedConfig, names: list[str]) -> None:
    folder, record, data_args = config.folder, config.record, config.data
    for found in (record.first_stage or {}, record.teacher or {}):
        for name in [each["name"] for each in (found, *found.get("runs", ())) if each]:
            if data_args.overwrite and Path(name).resolve().is_relative_to(folder.resolve()):
                raise ValueError(
                    f"--overwrite would replace {name}, which the new run needs: choose another --output_dir"
                )
    replaced = names if data_args.overwrite else []
    run_folder.check_shared(folder, record, replaced)
    if not data_args.mixed_folds:
        run_folder.check_settings(folder, record, names, replaced)
    kept = [] if data_args.overwrite else names
    done = [name for name in kept if run_folder.is_finished(folder, name)]
    started = [name for name in kept if run_folder.work_folder(folder, name).is_dir()]
    if not config.training.resume_from_checkpoint and (len(done) == len(names) or started):
        what = f"{', '.join(done)} finished" if done else f"{', '.join(started)} begun"
        raise ValueError(
            f"{folder} holds a run already ({what}): add --resume_from_checkpoint last to go on with it, "
            "--overwrite to train these folds anew, or choose another --output_dir"
        )


def clear_folds(config: DescribedConfig, splits: list[Split]) -> None:
    """Remove, under `--overwrite`, the folds that are about to be trained: the last thing before they are."""
    if config.data.overwrite and config.training.process_index == 0:
        for split in splits:
            shutil.rmtree(run_folder.fold_folder(config.folder, split.name), ignore_errors=True)
            shutil.rmtree(run_folder.work_folder(config.folder, split.name), ignore_errors=True)
    distributed.wait_for_all()
