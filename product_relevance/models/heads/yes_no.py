"""Yes/no scoring: a causal language model that computes the logits of two answers at the last token only."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from product_relevance.models.batching import batch_limits, budget_batches, pad_left_on
from product_relevance.models.heads.classifier import gather_weights
from product_relevance.models.heads.prompt_tokens import Answers
from product_relevance.models.heads.wrapped import Wrapped

# Config keys by which some families scale their logits, in ways that are not computed here.
SCALED = ("logit_scale", "logits_scaling", "lm_head_multiplier")


class YesNoModel(Wrapped):
    """Gives logits of shape (batch, 2), those of (no, yes) after the last token, as a two-label classifier would.

    It has no new head: the answers' two rows of the output embedding, frozen under an adapter, stand for the whole
    vocabulary. The base keeps the name `model`, so that an adapter also fits the causal model it came from.
    """

    prepare_inputs_for_generation = None  # PEFT looks for it on a base of its task type CAUSAL_LM

    def __init__(self, causal, answers: Answers, writes: bool = False):
        super().__init__(causal.base_model, causal.config)
        self.cap = getattr(causal.config, "final_logit_softcapping", None)
        self.answers = nn.Parameter(_rows(causal.get_output_embeddings().weight, [answers.no, answers.yes]))
        self.stem = answers.stem
        self._writer = [causal] if writes else []  # in a list: its parameters are not this model's own
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, labels=None, ends=None, **options):
        """Return logits of shape (batch, 2) for token ids of shape (batch, length); the mask has cached tokens too.

        Rows that are packed into one have `ends`, the places of their last tokens, in place of a mask.
        """
        cached = {name: options.get(name) for name in ("position_ids", "past_key_values")}
        cached["use_cache"] = cached["past_key_values"] is not None
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, **cached).last_hidden_state
        if ends is None:
            rows, places = (torch.arange(n, device=states.device) for n in states.shape[:2])
            last = states[rows, (attention_mask[:, -states.shape[1] :] * places).argmax(1)]
        else:
            last = states[0, ends]
        # A product and a sum, not a matrix product: autocast would compute that in 16 bits.
        logits = (last.float().unsqueeze(1) * self.answers.float()).sum(-1)
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    @torch.inference_mode()
    def reason(self, ids: Sequence[list[int]], pad_id: int, limit: int) -> list[list[int]]:
        """Let the model write down its steps, greedily, before the forced answer.

        Args:
            ids: n tokenised prompts, which end in the stem of the answer.
            pad_id: pad token.
            limit: new tokens a prompt at most.

        Returns:
            The n prompts with the steps in front of the stem.
        """
        (writer,) = self._writer
        device = self.answers.device
        writer.to(device)  # what it shares with this model is there already
        starts = [row[: len(row) - len(self.stem)] for row in ids]
        longest = [len(row) + limit for row in starts]
        steps: list[list[int]] = [[]] * len(ids)
        for rows in budget_batches(longest, *batch_limits(device.type)):
            batch = pad_left_on(device, [starts[i] for i in rows], pad_id)
            made = writer.generate(**batch, max_new_tokens=limit, do_sample=False, pad_token_id=pad_id)
            for i, row in zip(rows, made[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
                steps[i] = row
        ends = {pad_id, *_listed(writer.generation_config.eos_token_id)}
        return [[*start, *_until(row, ends), *self.stem] for start, row in zip(starts, steps, strict=True)]

    def as_classifier(self):
        """Return the same model as transformers' classifier with one label: the logit of yes less that of no.

        Raises:
            ValueError: logits that are capped, whose difference is no linear head.
        """
        if self.cap is not None:
            raise ValueError(
                f"{self.config.model_type} caps each answer's logit at {self.cap}, so their difference is no linear "
                "head and no plain classifier gives these scores: serve the ensemble instead"
            )
        self.config.num_labels, self.config.id2label, self.config.label2id = 1, {0: "relevant"}, {"relevant": 0}
        with torch.device("meta"):
            plain = AutoModelForSequenceClassification.from_config(self.config)
        setattr(plain, plain.base_model_prefix, self.model)
        plain.score = nn.Linear(self.answers.shape[1], 1, bias=False)
        plain.score.weight.data = (self.answers[1] - self.answers[0]).detach().unsqueeze(0)
        return plain.eval()


def require_causal(name: str, config, flag: str = "--head yes_no") -> None:
    """Raise ValueError if a base is no language model, or makes its logits in a way not known here.

    Raises:
        ValueError: with the reason.
    """
    kind = config.model_type
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise ValueError(
            f"{name}: {flag} needs a causal language model, found {kind}; use --head classifier, and as a first stage "
            "a run on another task"
        )
    scaled = [key for key in SCALED if getattr(config, key, None) not in (None, 1)]
    if scaled:
        raise ValueError(f"{name}: its config has {scaled[0]}, which {flag} does not know; use another base")


def _rows(weight, rows: list[int]):
    """Copy rows of the output embedding."""
    with gather_weights([weight]):
        return weight.detach()[rows].clone()


def _listed(ids) -> list[int]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def _until(row: list[int], ends: set[int]) -> list[int]:
    return row[: next((i for i, token in enumerate(row) if token in ends), len(row))]
