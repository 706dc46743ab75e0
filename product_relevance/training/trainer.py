"""The HF Trainer for pairs: exact loss over accumulated batches, NaN stop, fixed evaluation rows."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import EarlyStoppingCallback

from product_relevance.models import memory
from product_relevance.models.heads.classifier import HEAD
from product_relevance.models.modeling import evaluation_mode
from product_relevance.training import distributed, losses
from product_relevance.training.arguments import ObjectiveArguments
from product_relevance.training.batches import micro_batches, prefix_batches
from product_relevance.training.batches.dataset import (
    ROW_COLUMNS,
    LengthGroupedSampler,
    PairCollator,
    PairDataset,
    PrefixGroupedSampler,
)
from product_relevance.training.checkpointing.checkpoint_record import ResumableTrainer
from product_relevance.training.own_past import EarlyTargets, MeanTeacher
from product_relevance.training.run_config import RunConfig


class RelevanceTrainer(ResumableTrainer):
    """Trainer that weighs rows, counts tokens and stops at the first loss that is not a number."""

    objective: ObjectiveArguments
    row_inputs: dict[str, Any]

    def __init__(
        self,
        *args,
        pad_id: int,
        objective: ObjectiveArguments | None = None,
        tokens_per_forward: int | None = None,
        share_prefixes: bool = False,
        **options,
    ):
        collator = PairCollator(pad_id, with_rows=True)
        super().__init__(*args, data_collator=collator, compute_loss_func=self.pair_loss, **options)
        self.objective, self.tokens_per_forward = objective or ObjectiveArguments(), tokens_per_forward
        self.share_prefixes = share_prefixes
        self.row_inputs = dict.fromkeys(ROW_COLUMNS)
        self.past: EarlyTargets | MeanTeacher | None = None
        if self.objective.objective == "early_learning":
            self.past = EarlyTargets(len(cast(PairDataset, self.train_dataset)), self.objective.target_momentum)
        if self.objective.objective == "mean_teacher":
            self.past = MeanTeacher(self.model, self.objective.ema_decay)
            self.add_callback(self.past)
        self.real_tokens = self.padded_tokens = self.pairs = 0

    def counts(self) -> dict[str, int]:
        """Return the pairs and tokens of this training on all processes, which have batches of one size."""
        mine = {"pairs": self.pairs, "real_tokens": self.real_tokens, "padded_tokens": self.padded_tokens}
        return {name: number * self.args.world_size for name, number in mine.items()}

    def compute_loss(self, model, inputs, *args, **options):
        """Keep from the model what belongs to the loss: weights, a teacher's probabilities, a reference's logits."""
        inputs.pop("rows", None)
        self.row_inputs = {name: inputs.pop(name, None) for name in ROW_COLUMNS}
        self.row_inputs["objective"] = self.objective.objective if model.training else "cross_entropy"
        if self.row_inputs["objective"] == "dpo":
            self.row_inputs["reference"] = self._other_logits(model, inputs)
        if self.row_inputs["objective"] == "r_drop":
            inputs = {k: v if k == "labels" else v.repeat(2, 1) for k, v in inputs.items()}
        shared = inputs.pop("shared", None)
        if self.row_inputs["objective"] == "mean_teacher":
            self.row_inputs["taught"] = self._other_logits(model, inputs, shared)
        if shared:
            inner = self.accelerator.unwrap_model(model)
            return super().compute_loss(lambda **_: {"logits": shared.logits(model, inner)}, inputs, *args, **options)
        return super().compute_loss(model, inputs, *args, **options)

    def _other_logits(self, model, inputs, shared=None) -> torch.Tensor:
        """Return the logits of a teacher: without the adapter, or with the mean of the weights; without dropout."""
        bare = self.accelerator.unwrap_model(model)
        weights = self.past.in_place() if isinstance(self.past, MeanTeacher) else bare.disable_adapter()
        with torch.no_grad(), evaluation_mode(bare), weights:
            if shared:
                return shared.logits(bare, bare)
            return bare(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits

    def pair_loss(self, outputs, labels, num_items_in_batch=None):
        """Return the objective's summed loss divided by the pairs of the whole accumulated batch, on all processes.

        So 4 x 8 accumulated pairs give the gradient of one batch of 32 however they were split. A weight scales its
        row's loss and leaves that of the others alone.
        """
        loss = self._losses(outputs["logits"], labels)
        if self.row_inputs["weights"] is not None:
            loss = loss * self.row_inputs["weights"]
        return loss.sum() / (len(labels) if num_items_in_batch is None else num_items_in_batch)

    def _losses(self, logits, labels) -> torch.Tensor:
        row_inputs, chosen = self.row_inputs, self.objective
        smoothing = self.args.label_smoothing_factor
        match row_inputs["objective"]:
            case "r_drop":
                return losses.r_drop(logits, labels, chosen.r_drop_strength, smoothing)
            case "bootstrap":
                return losses.bootstrap_loss(logits, labels, chosen.own_share, smoothing)
            case "distill":
                return losses.distillation_loss(logits, labels, row_inputs["teacher"], chosen.teacher_share, smoothing)
            case "early_learning":
                targets = cast(EarlyTargets, self.past).update(row_inputs["places"], logits)
                return losses.early_learning_loss(logits, labels, targets, chosen.early_learning_strength, smoothing)
            case "mean_teacher":
                apart = losses.softened_divergence(logits, row_inputs["taught"], chosen.teacher_temperature)
                share = chosen.teacher_share
                return (1 - share) * losses.cross_entropy(logits, labels, smoothing) + share * apart
            case "dpo":
                return losses.preference_loss(logits, labels, row_inputs["reference"], chosen.dpo_beta)
        if logits.shape[-1] > 2:
            return losses.ordinal(logits, labels, smoothing)
        return losses.cross_entropy(logits, labels, smoothing)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """Run a forward and a backward pass for each micro-batch of the batch, without a wait for a GPU."""
        self.real_tokens += int(inputs["rows"].lengths.sum())
        self.pairs += len(inputs["labels"])
        loss = 0.0
        batches = self._micro_batches(inputs)
        for micro_batch in batches:
            self.padded_tokens += (
                micro_batch["shared"].forwarded if "shared" in micro_batch else micro_batch["input_ids"].numel()
            )
            # gradients travel between the processes once, with the last micro-batch
            with nullcontext() if micro_batch is batches[-1] else self.accelerator.no_sync(model):
                loss += super().training_step(model, micro_batch, num_items_in_batch)
        return loss

    def _micro_batches(self, inputs: dict) -> list[dict]:
        if self.share_prefixes:
            return prefix_batches.split_by_prefix(
                inputs, self._budget(), cast(PairCollator, self.data_collator).pad_id
            )
        return micro_batches.split_by_length(inputs, self._budget())

    def _budget(self) -> int | None:
        passes = 2 if self.objective.objective == "r_drop" else 1
        return self.tokens_per_forward and max(1, self.tokens_per_forward // passes)

    def fill_forwards(self) -> None:
        """Choose the padded tokens of a forward pass by the free memory of the GPU, where no number was given."""
        free = memory.free_memory(self.args.device)
        self.tokens_per_forward = memory.fitting_forward(self.model, free, **self._computed())

    def memory_line(self) -> str:
        """Say in a line what the largest training step needs and what the device has."""
        args = self.args
        passes = 2 if self.objective.objective == "r_drop" else 1
        lengths = [len(row) for row in cast(PairDataset, self.train_dataset).ids]
        tokens = passes * memory.largest_forward(lengths, args.train_batch_size, self._budget())
        return memory.describe_need(self.model, tokens, args.device, **self._computed())

    def _computed(self) -> dict[str, bool]:
        """Return how the forward pass is computed, as the estimates of memory take it."""
        args = self.args
        return {"checkpointing": bool(args.gradient_checkpointing), "half": bool(args.bf16 or args.fp16)}

    def _save_optimizer_and_scheduler(self, output_dir):
        super()._save_optimizer_and_scheduler(output_dir)
        if self.past and self.args.should_save:
            self.past.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint):
        super()._load_optimizer_and_scheduler(checkpoint)
        if self.past and checkpoint is not None:
            self.past.load(Path(checkpoint))

    def _get_train_sampler(self, train_dataset=None):
        rows = self.train_dataset if train_dataset is None else train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        step = distributed.step_pairs(self.args)
        if self.share_prefixes:
            return PrefixGroupedSampler(rows.ids, step, seed, rows.short)
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(rows)
        return LengthGroupedSampler([len(row) for row in rows.ids], step, seed, rows.short)

    def _get_eval_sampler(self, eval_dataset):
        # The Trainer would shuffle evaluation rows by length groups, and predictions would come back in that order.
        return torch.utils.data.SequentialSampler(eval_dataset)


def make_trainer(
    model, tokenizer, train: PairDataset, valid: PairDataset | None, config: RunConfig
) -> RelevanceTrainer:
    """Build the trainer of one fold; without validation rows it neither evaluates nor picks a best checkpoint.

    `prefix_batches.require_shareable` says when prefixes may be shared.

    Args:
        model: with its adapter.
        tokenizer: that is saved with checkpoints.
        train: rows to train on.
        valid: rows that are scored while it trains.
        config: of the run, with the Trainer's arguments of this fold.

    Raises:
        ValueError: an objective that the model cannot be trained with, or a launcher that cannot split batches.
    """
    from product_relevance.evaluation.metrics import compute_metrics
    from product_relevance.evaluation.out_of_fold import compute_metrics_by_task

    tasks, patience = None if valid is None else valid.tasks, config.data.early_stopping_patience
    measure = partial(compute_metrics, relevant_from=config.data.relevant_from if config.data.grades > 2 else None)
    check_objective(model, config.training, config.objective)
    if config.objective.objective == "early_learning":
        train.places = np.arange(len(train))
    if (tokens := config.data.tokens_per_forward) is not None:
        micro_batches.require_splittable(config.training, f"--tokens_per_forward {tokens}")
    callbacks = [EarlyStoppingCallback(patience)] if patience and valid is not None else []
    fitter = RelevanceTrainer(
        model=model,
        args=config.training,
        train_dataset=train,
        eval_dataset=valid,
        processing_class=tokenizer,
        pad_id=tokenizer.pad_token_id,
        objective=config.objective,
        compute_metrics=measure if tasks is None else partial(compute_metrics_by_task, tasks=tasks),
        callbacks=callbacks,
        tokens_per_forward=tokens,
        share_prefixes=config.data.share_prefixes,
    )
    if tokens is None and micro_batches.splits_by_itself(config.training):
        fitter.fill_forwards()
    return fitter


def check_objective(model, training, objective: ObjectiveArguments) -> None:
    """Raise ValueError if the model or the launcher cannot have an objective.

    Args:
        model: with its adapter.
        training: arguments of the Trainer.
        objective: what is minimised.

    Raises:
        ValueError: says what is in the way and what to do.
    """
    drops = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())
    if objective.objective == "r_drop" and not drops:
        raise ValueError("--objective r_drop compares two passes under dropout: give --lora_dropout or --base_dropout")
    if objective.objective == "early_learning" and training.world_size > 1:
        raise ValueError(
            f"--objective early_learning remembers each row where it was seen: found {training.world_size} processes; "
            "train with one, and several folds at once with --folds_parallel"
        )
    if objective.objective == "mean_teacher" and (training.deepspeed or training.fsdp):
        raise ValueError(
            "--objective mean_teacher takes means of whole weights, and DeepSpeed and FSDP keep weights of their own: "
            "use torchrun alone"
        )
    if objective.objective == "dpo":
        if not hasattr(model, "disable_adapter") or any(HEAD.search(n) for n, _ in model.named_parameters()):
            raise ValueError(
                "--objective dpo compares with the model without its adapter: use --head yes_no and --adapter lora"
            )
        if training.label_smoothing_factor:
            raise ValueError("--label_smoothing_factor: dpo has no labels to smooth; set it to 0")


def describe_speed(totals: dict[str, float]) -> dict:
    """Return seconds, pairs/s, tokens/s (real tokens) and the padding ratio (padded / real) of a training.

    Args:
        totals: of `CheckpointRecord.totals`, over all processes and resumes.
    """
    seconds, real = totals["seconds"], max(1, totals["real_tokens"])
    return {
        "seconds": round(seconds, 1),
        "pairs_per_second": round(totals["pairs"] / seconds, 2),
        "tokens_per_second": round(totals["real_tokens"] / seconds, 1),
        "padding_ratio": round(totals["padded_tokens"] / real, 3),
    }


def require_training_rows(rows: int) -> None:
    """Raise ValueError if a fold has no row to train on, as a purge can leave it.

    Raises:
        ValueError: no row is left.
    """
    if rows == 0:
        raise ValueError("no training row is left: nothing to train on; use --group_by query or fewer --num_folds")
