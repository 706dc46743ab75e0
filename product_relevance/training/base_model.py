"""Load the base of a run once for all folds where that is safe, and anew where training changed it."""

import gc
import logging

import torch
from transformers import set_seed

from product_relevance.models import adapters, modeling
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.loading import packaged_bases, quantization
from product_relevance.models.loading.liger_kernels import use_liger_kernels
from product_relevance.models.pair_encoder import PairEncoder
from product_relevance.training import distributed
from product_relevance.training.parents.parent_run import ParentRun
from product_relevance.training.parents.warm_start import continue_from

logger = logging.getLogger(__name__)


class BaseModelPool:
    """Hands out the bare base for each fold: loaded once where that is safe, anew where training changed it."""

    def __init__(
        self,
        model_args,
        training,
        encoder: PairEncoder | None,
        parent: ParentRun | None = None,
        language: bool = False,
    ):
        self.model_args, self.training, self.encoder = model_args, training, encoder
        self.parent, self.language = parent, language
        changed = model_args.adapter == "none" or model_args.init_lora_weights in ("pissa", "olora")
        self.reload = changed or bool(training.deepspeed)
        self.model = self.fingerprint = self.base_fingerprint = self.attention = None
        if model_args.quantization != "none":
            quantization.require_bitsandbytes()
            if distributed.zero_stage(training) == 3:
                raise ValueError("--quantization: ZeRO-3 spreads whole weights only; use DDP, or leave it out")

    def load(self):
        """Return a base with an untouched head."""
        if self.model is None:
            _free_memory()  # of the fold before, whose trainer and engine hold each other
            args = self.model_args
            if packaged_bases.is_embedded(args.model_name_or_path):
                logger.info(packaged_bases.licence_notice(args.model_name_or_path))
            set_seed(self.training.seed)  # the head starts alike in every fold
            options = ClassifierOptions(
                revision=args.model_revision,
                pooling=args.pooling,
                answers=self.encoder.answers,
                language=self.language,
                dtype=self._dtype(),
                attn_implementation=args.attn_implementation or self._faster_attention(),
                dropout=args.base_dropout,
                device=self._straight_to(),
                grades=self.encoder.grades,
            )
            self.model = modeling.load_classifier(args.model_name_or_path, self.encoder.tokenizer, options)
            modeling.require_positions(self.model, args.max_length)
            if self.training.use_liger_kernel:
                use_liger_kernels(modeling.inner_model(self.model), self.training.device)
            self.attention = modeling.attention_of(self.model)
            if distributed.zero_stage(self.training) < 3:  # there the weights are spread over the processes
                self.base_fingerprint = modeling.fingerprint_weights(modeling.inner_model(self.model))
                self.fingerprint = self.base_fingerprint if self.language else modeling.fingerprint_weights(self.model)
            if args.quantization != "none":
                self.model = quantization.quantize_model(self.model, self.training.device)
        return self.model

    def _faster_attention(self) -> str | None:
        """Return how attention is computed where nobody asked for a way; None leaves it to the base.

        On a CPU, the backward pass of torch's SDPA in bfloat16 takes a third of a step (torch 2.13).
        """
        return "eager" if self.training.bf16 and self.training.device.type == "cpu" else None

    def _straight_to(self) -> torch.device | None:
        """Return the GPU that each process reads the base to, so that main memory need not hold one for each.

        A base to be quantised, or spread over the processes (ZeRO-3), goes another way.
        """
        whole = self.model_args.quantization == "none" and distributed.zero_stage(self.training) < 3
        return self.training.device if whole and self.training.device.type == "cuda" else None

    def _dtype(self) -> str:
        if self.model_args.dtype != "auto":
            return self.model_args.dtype
        frozen = self.model_args.adapter != "none"
        return "bfloat16" if frozen and self.training.bf16 and self.training.device.type == "cuda" else "float32"

    def with_adapter(self, split: str):
        """Return the base with a fresh adapter, or with that of the parent run; itself for full fine-tuning."""
        model = self.load()
        set_seed(self.training.seed)
        stage = distributed.zero_stage(self.training)
        if self.parent is not None:
            folder = self.parent.folder(split)
            if stage == 3:
                raise ValueError("--init_adapter loads whole weights: not under ZeRO-3; use ZeRO-2 or DDP")
            fingerprints = self.fingerprint, self.base_fingerprint
            model = continue_from(folder, model, self.model_args, *fingerprints)
        if self.model_args.adapter == "none":
            return model
        if stage == 3 and self.model_args.init_lora_weights in ("pissa", "olora"):
            raise ValueError("--init_lora_weights pissa and olora need whole weights at the start: not under ZeRO-3")
        if self.parent is None:
            model = adapters.add_adapter(model, self.model_args, autocast=not (stage == 3 and self.training.bf16))
        if (self.training.bf16 or self.training.fp16) and stage < 3:
            for weight in (p for p in model.parameters() if p.requires_grad):
                weight.data = weight.data.float()  # weights in bf16 would round small updates away
            adapters.leave_casts_to_autocast(model)
        return model

    def parent_of(self, split: str) -> dict[str, str] | None:
        """Return the task and the fold of the parent run that a fold starts from, None without one."""
        parent = self.parent
        return None if parent is None else {"task": parent.record.task, "fold": parent.fold(split)}

    def release(self, model) -> None:
        """Take the adapter off again, or forget the base where training changed it."""
        self.model = None if self.reload else adapters.remove_adapter(model)
        del model
        _free_memory()


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
