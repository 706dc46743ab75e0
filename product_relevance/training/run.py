"""A training run: claim the folder, train fold after fold on one loaded base, score each whole fold, finish."""

import copy
import logging
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from product_relevance.data import loading
from product_relevance.data.folds import digests
from product_relevance.evaluation import out_of_fold as summary
from product_relevance.models import adapters, modeling
from product_relevance.models.batching import PairDataset
from product_relevance.models.heads import classifier
from product_relevance.models.heads.prompt_tokens import use_prompt
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.training import distributed, fold_scores, resume, trainer
from product_relevance.training.parents.parent_run import teacher_column
from product_relevance.utils import run_folder, run_settings
from product_relevance.utils.files import sha256_of
from product_relevance.utils.tasks import BOTH, mixing_weights, shares

logger = logging.getLogger(__name__)


def tokenise(model_args, template, texts: list[str], targets: list[str]):
    """Tokenise all pairs of a run.

    Returns:
        (tokenizer, the prompt's answers or None, n lists of token ids)
    """
    tokenizer = modeling.load_tokenizer(model_args.model_name_or_path, model_args.model_revision)
    answers = template.prompt and use_prompt(tokenizer, template.prompt, template.task, model_args.max_length)
    tokens = encode_pairs(tokenizer, texts, targets, model_args.max_length)
    logger.info("%d pairs, %.1f tokens each", len(tokens), sum(map(len, tokens)) / len(tokens))
    return tokenizer, answers, tokens


def describe(model_args, data_args, objective, training, frame, template, splits) -> dict:
    """Return what run.json says of the run before any fold: arguments, data, base, template."""
    name = model_args.model_name_or_path
    base = {"name": name, "revision": model_args.model_revision}
    lora = {
        k.removeprefix("lora_"): v
        for k, v in vars(model_args).items()
        if k.startswith(("lora_", "use_", "init_", "quantization"))
    }
    training_arguments = {k: v for k, v in training.to_dict().items() if not k.endswith("_token")}
    return {
        "format": run_folder.FORMAT,
        "task": data_args.task,
        "base": base,
        "adapter": lora if model_args.adapter == "lora" else None,
        "pooling": model_args.pooling,
        "max_length": model_args.max_length,
        "template": template.to_dict(),
        "columns": {k: getattr(data_args, k) for k in ("lowercase", "language_fix", "translation")}
        | {"translation_sha256": _sha256_of_table(data_args.translation)},
        "labels": {str(i): label for i, label in classifier.LABELS.items()},
        "folds_by": {
            k: getattr(data_args, k)
            for k in ("num_folds", "group_by", "prefix_levels", "fold_seed", "held_out_languages")
        }
        | {"full": data_args.fold == "full", "given": "fold" in frame, "valid_sha256": splits[0].division},
        "data": loading.facts(frame, data_args.held_out_languages),
        "arguments": {
            "model": vars(model_args),
            "data": vars(data_args),
            "objective": vars(objective),
            "training": training_arguments,
        },
        "versions": run_folder.versions(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() and not training.use_cpu else "cpu",
        "processes": training.world_size,
        "pairs_per_step": distributed.step_pairs(training),
    }


def _sha256_of_table(translation: str) -> str | None:
    return sha256_of(translation) if Path(translation).is_file() else None


def claim(training, data_args, shared: dict, splits, taxonomy=None, queries=None) -> list:
    """Make the run folder on the first process, before anything is computed, while others wait.

    It gets its taxonomy.json and the digests of its queries.

    No finished or unlike run is overwritten.

    Returns:
        The splits that are to be trained: under `--overwrite` all, else those that are not finished.

    Raises:
        ValueError: with the way out: `--overwrite`, `--resume_from_checkpoint`, or another folder.
    """
    folder, names = Path(training.output_dir), [split.name for split in splits]

    def decide() -> list[str]:
        _claim(folder, training, data_args, shared, names)
        if taxonomy is not None:
            taxonomy.save(folder / "taxonomy.json")
        if queries is not None:
            run_folder.save_queries(folder, queries)
        todo = [name for name in names if data_args.overwrite or not run_folder.finished(folder, name)]
        if not data_args.overwrite:
            resume.check(training, data_args.resume_allow, shared, todo)
        return todo

    todo = distributed.first_decides(decide)
    if kept := [name for name in names if name not in todo]:
        logger.info("%s: finished before, kept", ", ".join(kept))
    return [split for split in splits if split.name in todo]


def _claim(folder: Path, training, data_args, shared: dict, names: list[str]) -> None:
    for flag in ("first_stage", "teacher"):
        found = shared.get(flag) or {}
        for name in [each["name"] for each in (found, *found.get("runs", ())) if each]:
            if data_args.overwrite and Path(name).resolve().is_relative_to(folder.resolve()):
                told = f"--overwrite would replace {name}, which the new run needs: choose another --output_dir"
                raise ValueError(told)
    replaced = set(names) if data_args.overwrite else set()
    run_folder.check_shared(folder, shared, replaced)
    if not data_args.mixed_folds:
        run_folder.check_settings(folder, shared, names, replaced)
    kept = [] if data_args.overwrite else names
    done = [name for name in kept if run_folder.finished(folder, name)]
    started = [name for name in kept if run_folder.work_folder(folder, name).is_dir()]
    if not training.resume_from_checkpoint and (len(done) == len(names) or started):
        what = f"{', '.join(done)} finished" if done else f"{', '.join(started)} begun"
        raise ValueError(
            f"{folder} holds a run already ({what}): add --resume_from_checkpoint last to go on with it, "
            "--overwrite to train these folds anew, or choose another --output_dir"
        )
    folder.mkdir(parents=True, exist_ok=True)


def clear(training, data_args, splits) -> None:
    """Remove, under `--overwrite`, the folds that are about to be trained: the last thing before they are."""
    if data_args.overwrite and training.process_index == 0:
        for split in splits:
            shutil.rmtree(run_folder.fold_folder(Path(training.output_dir), split.name), ignore_errors=True)
            shutil.rmtree(run_folder.work_folder(Path(training.output_dir), split.name), ignore_errors=True)
    distributed.wait()


def train_fold(split, frame, tokens, pool, tokenizer, data_args, objective, training, shared, additions=()) -> None:
    """Train one fold and publish its folder: adapter, out-of-fold scores, fold.json.

    Each of the additions (ShortPaths, Unlabelled) changes what the fold trains on, never what it validates on.
    """
    folder = Path(training.output_dir)
    args = fold_arguments(training, run_folder.work_folder(folder, split.name), split.valid)
    model = pool.with_adapter(split.name)
    start = adapters.adapter_start(model)
    train_set = _rows(frame, tokens, split.train, split.name, data_args.task_mixing)
    for addition in additions:
        train_set = addition.add_to(train_set, split)
    valid_set = None
    if len(split.valid):
        watched = trainer.evaluation_rows(frame["query_group"].to_numpy(), split.valid, data_args.eval_rows)
        valid_set = _rows(frame, tokens, _longest_first(tokens, watched))
    trainer.require_rows(len(split.train))
    patience = data_args.early_stopping_patience
    split_by = {"tokens_per_forward": data_args.tokens_per_forward, "share_prefixes": data_args.share_prefixes}
    fitter = trainer.make_trainer(model, tokenizer, args, train_set, valid_set, objective, patience, **split_by)
    if not training.deepspeed:  # whose stages spread what is counted here
        logger.info(fitter.memory_line())
    settings = run_settings.settings(shared, split.name, pool.fingerprint)
    checkpoint, record = resume.start(fitter, settings, training, data_args.resume_allow, fitter.counts)
    fitter.train(resume_from_checkpoint=checkpoint)
    speed = trainer.speed(record.totals())
    oof = _score_fold(fitter, frame, tokens, split, tokenizer)
    state = fitter.accelerator.get_state_dict(fitter.model_wrapped if training.deepspeed else fitter.model)
    if training.process_index == 0:
        content = {"name": split.name, "train_rows": len(split.train), "valid_rows": len(split.valid), **speed}
        content |= {"base": shared["base"] | {"fingerprint": pool.fingerprint}, "resumed": checkpoint is not None}
        content |= {"steps": fitter.state.global_step, "best_step": fitter.state.best_global_step}
        content |= {"engine": distributed.engine(fitter.model_wrapped), "history": _finite(fitter.state.log_history)}
        content |= record.described() | {
            "attn_implementation": pool.attention,
            "starts_from": pool.parent_of(split.name),
            "shared": run_folder.shared_part(shared),
            "unlabelled_rows": len(train_set) - len(split.train),
        }
        if shared["task"] == BOTH:
            content["tasks"] = shares(frame["task"].iloc[split.train], data_args.task_mixing)
        run_folder.publish_fold(
            folder, split.name, lambda path: save_fold(path, fitter.model, state, start, shared, content, oof)
        )
        if not data_args.keep_checkpoints:
            shutil.rmtree(run_folder.work_folder(folder, split.name), ignore_errors=True)
        logger.info("%s: saved after %d steps, %s", split.name, fitter.state.global_step, speed)
    distributed.wait()
    pool.release(fitter.accelerator.unwrap_model(fitter.model))


def fold_arguments(training, folder: Path, valid):
    """Copy the arguments for one fold; the DeepSpeed configuration is read anew, since "auto" values get filled in."""
    args = copy.copy(training)
    args.output_dir, args.label_names = str(folder), ["labels"]
    args.remove_unused_columns = False  # it would drop the weights, which no model's forward knows
    args.restore_callback_states_from_checkpoint = False  # the Trainer would make them anew: see resume.start
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


def _rows(frame, tokens, rows, trained_by: str | None = None, mixing: str = "proportional") -> PairDataset:
    """Make the data set of some rows; with the name of a split, those that it trains on, with all its loss needs."""
    part, columns = frame.iloc[rows], {}
    if trained_by is not None:
        columns = {"weights": "weight", "teacher": teacher_column(trained_by)}
    found = {name: part[column].to_numpy(float) for name, column in columns.items() if column in frame}
    if mixing != "proportional":
        found["weights"] = found.get("weights", 1.0) * np.array(mixing_weights(part["task"], mixing))
    tasks = part["task"].to_numpy(str) if frame["task"].nunique() > 1 else None
    return PairDataset([tokens[i] for i in rows], part["label"].to_numpy(int), tasks=tasks, **found)


def _longest_first(tokens, rows: np.ndarray) -> np.ndarray:
    return rows[np.argsort([-len(tokens[i]) for i in rows], kind="stable")]


def _finite(history: list[dict]) -> list[dict]:
    # gradient norms may overflow under fp16, and JSON has no infinity
    def checked(value):
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{key: checked(value) for key, value in row.items()} for row in history]


def _score_fold(fitter, frame, tokens, split, tokenizer) -> pd.DataFrame | None:
    """Score the whole validation side with the best checkpoint."""
    if not len(split.valid):
        return None
    ids, queries = [tokens[i] for i in split.valid], frame["query_group"].iloc[split.valid]
    scores = fold_scores.score(fitter, ids, queries, tokenizer.pad_token_id, f"{split.name} scores")
    part = frame.iloc[split.valid]
    names = ["id", "language", "given_language"] + ["task"] * (frame["task"].nunique() > 1)
    columns = {name: part[name].to_numpy() for name in names}
    columns["query_digest"] = digests(part["query_group"])  # for intervals over queries, without their texts
    return pd.DataFrame(columns | {"label": part["label"].to_numpy(int), "score": scores, "fold": split.name})


def save_fold(path: Path, model, state: dict, start, shared: dict, content: dict, oof) -> None:
    """Fill the folder of a finished fold."""
    if shared["adapter"] is not None:
        config = model.peft_config["default"]
        config.base_model_name_or_path, config.revision = shared["base"]["name"], shared["base"]["revision"]
        model.save_pretrained(path, state_dict=state, save_embedding_layers=False)
        if start is not None:
            adapters.convert_to_plain_lora(path, start)
        (path / "README.md").unlink(missing_ok=True)  # PEFT's blank card; push_to_hub.py writes a filled one
    else:
        from safetensors.torch import save_file

        save_file({k: v.contiguous().cpu() for k, v in state.items()}, path / "model.safetensors")
    if oof is not None:
        oof.to_parquet(path / "oof.parquet", index=False)
        content["metrics"] = summary.fold_metrics(oof)
    run_folder.write_json(path / "fold.json", content)
