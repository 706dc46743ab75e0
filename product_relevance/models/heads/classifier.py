"""Classifier heads in float32: logits rounded to bfloat16 tie pairs that differ, which coarsens AUC and thresholds."""

import logging
import re
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutputWithPast
from transformers.utils import can_return_tuple

from product_relevance.models.heads.wrapped import Trainable
from product_relevance.models.loading.base_errors import UnusableBaseError
from product_relevance.utils.tasks import LABELS, name_labels

logger = logging.getLogger(__name__)

NUM_LABELS = len(LABELS)
# Modules that are new in a classifier: trained in full, and saved beside the adapter.
HEAD = re.compile(r"(^|\.)(score|classifier|pooler|head)(\.|$)")
LAST = re.compile(r"(^|\.)(score|classifier)(\.|$)")  # where the layer that gives the logits is


def head_part(name: str) -> str | None:
    """Return which module of the new head a parameter or module belongs to; None for one of the base."""
    found = HEAD.search(name)
    return found.group(2) if found else None


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32, whatever autocast says and its input and weights are."""

    def forward(self, states):
        """Return float32 outputs of shape (..., out_features)."""
        bias = None if self.bias is None else self.bias.float()
        if not torch.is_autocast_enabled(states.device.type):
            return nn.functional.linear(states.float(), self.weight.float(), bias)
        with torch.autocast(states.device.type, enabled=False):
            return nn.functional.linear(states.float(), self.weight.float(), bias)


class _LastToken(Trainable):
    """The forward pass of transformers' classifiers on decoders, the last token taken before the head."""

    @can_return_tuple
    def forward(self, input_ids=None, attention_mask=None, labels=None, ends=None, **options):
        """Return logits of shape (batch, labels) for token ids and mask of shape (batch, length).

        Rows that are packed into one have `ends`, the places of their last tokens, in place of a mask.
        """
        found = self.base_model(input_ids=input_ids, attention_mask=attention_mask, **options)
        if ends is None:
            rows, places = (torch.arange(n, device=input_ids.device) for n in input_ids.shape)
            last = found.last_hidden_state[rows, ((input_ids != self.config.pad_token_id) * places).argmax(-1)]
        else:
            last = found.last_hidden_state[0, ends]
        logits = self.score(last)
        return SequenceClassifierOutputWithPast(
            loss=None if labels is None else nn.functional.cross_entropy(logits, labels),
            logits=logits,
            past_key_values=found.past_key_values,
            hidden_states=found.hidden_states,
            attentions=found.attentions,
        )


def classifier_class(name: str, config):
    """Return transformers' classifier for a config; of the common decoders one that takes the last token first.

    The class keeps its name, which stands in the config of whatever it saves.

    Args:
        name: of the base, for the message.
        config: of its text part.

    Raises:
        ValueError: no classifier of this architecture.
    """
    try:
        known: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]  # a class; the stub says a pair
    except KeyError:
        why = f"transformers has no text classifier on {config.model_type}"
        raise UnusableBaseError(name, why, "take another base") from None
    ours = _LastToken if issubclass(known, GenericForSequenceClassification) else Trainable
    return type(known.__name__, (ours, known), {"__module__": known.__module__})


def set_labels(config, grades: int = NUM_LABELS) -> None:
    """Set a config for the two labels of relevance, or for so many grades."""
    config.num_labels, config.id2label = grades, dict(name_labels(grades))
    config.label2id = {label: i for i, label in config.id2label.items()}


def adopt_head(name: str, model, missing: set[str], grades: int = NUM_LABELS) -> None:
    """Give a classifier two labels, or so many grades, whatever its checkpoint had, in place.

    For two labels a reranker's one logit s becomes [0, s], whose softmax is the sigmoid of s: the same ranking before
    any training.
    The last layer of a head of two labels stays; that of any other head is replaced.

    Args:
        name: of the base, for the log.
        model: loaded with as many labels as its config says.
        missing: names of the weights that the checkpoint has not, and that are new.
        grades: number of labels.
    """
    config = model.config
    where = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and LAST.search(n)][-1]
    last, labels = model.get_submodule(where), ", ".join(map(str, config.id2label.values()))
    ours = f"{where}.weight" in missing
    of_pairs = not config.architectures or config.architectures[0].endswith("ForSequenceClassification")
    if not ours and last.out_features == 1 and of_pairs and grades == NUM_LABELS:
        model.set_submodule(where, _widened(last))
        logger.info("%s: its head of one label is taken over: its logit s becomes [0, s], the same ranking", name)
    elif not ours and last.out_features == NUM_LABELS == grades and of_pairs:
        logger.info("%s: its head of two labels (%s) is taken over: the second one is read as relevant", name, labels)
    elif not ours or last.out_features != grades:
        model.set_submodule(where, _fresh(last, getattr(config, "initializer_range", 0.02), grades))
        if not ours:
            new = "two" if grades == NUM_LABELS else grades
            logger.info(
                "%s: its head of %d labels (%s) is replaced by a new one of %s", name, last.out_features, labels, new
            )
    model.num_labels = grades
    config.problem_type = None
    set_labels(config, grades)


def _like(linear: nn.Linear, labels: int = NUM_LABELS) -> nn.Linear:
    kind = {"device": linear.weight.device, "dtype": linear.weight.dtype}
    return nn.Linear(linear.in_features, labels, linear.bias is not None, **kind)


def _fresh(linear: nn.Linear, deviation: float, labels: int) -> nn.Linear:
    """Return a new last layer, which starts as transformers starts it."""
    made = _like(linear, labels)
    nn.init.normal_(made.weight, std=deviation)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


@torch.no_grad()
def _widened(linear: nn.Linear) -> nn.Linear:
    """Return a layer of two outputs: zero, and what a layer of one output gives."""
    made = _like(linear)
    weights = [weight for weight in (linear.weight, linear.bias) if weight is not None]
    with gather_weights(weights):
        for ours, theirs in zip((made.weight, made.bias), weights, strict=False):
            ours.zero_()
            ours[1] = theirs[0]
    return made


def gather_weights(weights: list):
    """Return a context in which weights are whole; under ZeRO-3 they lie spread over the processes."""
    if not hasattr(weights[0], "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(weights)


def base_dtype(model) -> torch.dtype:
    """Return the dtype of a base, with head and adapters or without, that of its embeddings."""
    return model.get_input_embeddings().weight.dtype


def compute_in_float32(model):
    """Let a model's head be and compute in float32, in place; the base below it keeps its dtype."""
    for name, module in model.named_modules():
        if HEAD.search(name):
            module.float()
            if type(module) is nn.Linear:
                module.__class__ = Float32Linear
    return model
