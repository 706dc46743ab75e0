"""Classifier heads in float32: logits rounded to bfloat16 tie pairs that differ, which coarsens AUC and thresholds."""

import re

import torch
from torch import nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutputWithPast
from transformers.utils import can_return_tuple

from product_relevance.base_faults import UnusableBaseError

# Modules that are new in a classifier: trained in full, and saved beside the adapter.
HEAD = re.compile(r"(^|\.)(score|classifier|pooler|head)(\.|$)")


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32, whatever autocast says and its input and weights are."""

    def forward(self, states):
        """Return float32 outputs of shape (..., out_features)."""
        bias = None if self.bias is None else self.bias.float()
        if not torch.is_autocast_enabled(states.device.type):
            return nn.functional.linear(states.float(), self.weight.float(), bias)
        with torch.autocast(states.device.type, enabled=False):
            return nn.functional.linear(states.float(), self.weight.float(), bias)


class _LastToken:
    """The forward pass of transformers' classifiers on decoders, the last token taken before the head."""

    @can_return_tuple
    def forward(self, input_ids=None, attention_mask=None, labels=None, **options):
        """Return logits of shape (batch, labels) for token ids and mask of shape (batch, length)."""
        found = self.base_model(input_ids=input_ids, attention_mask=attention_mask, **options)
        rows, places = (torch.arange(n, device=input_ids.device) for n in input_ids.shape)
        last = ((input_ids != self.config.pad_token_id) * places).argmax(-1)
        logits = self.score(found.last_hidden_state[rows, last])
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
        known = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    except KeyError:
        why = f"transformers has no text classifier on {config.model_type}"
        raise UnusableBaseError(name, why, "take another base") from None
    if not issubclass(known, GenericForSequenceClassification):
        return known
    return type(known.__name__, (_LastToken, known), {"__module__": known.__module__})


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
