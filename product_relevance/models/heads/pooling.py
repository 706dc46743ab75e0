"""Pooled heads for encoders whose first token was not trained to summarise a text."""

import torch
from torch import nn
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from product_relevance.models.heads.classifier import Float32Linear
from product_relevance.models.heads.wrapped import Wrapped


class PooledClassifier(Wrapped):
    """A head on pooled token states of an encoder, for bases whose first token was never trained to sum up a text.

    `mean` pools all tokens. `pair` also pools both sides of the separator by themselves and adds their product,
    absolute difference and cosine (Sentence-BERT, arXiv 1908.10084, section 3; here on jointly encoded sides). Under
    `sides` the head is not read: a kernel reads each side by itself, see `sides`.
    """

    def __init__(self, backbone, pooling: str, separator: int):
        super().__init__(backbone)
        self.pooling, self.separator = pooling, separator
        if pooling in ("pair", "sides") and self.config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
            raise ValueError(
                f"--pooling {pooling} needs an encoder whose pairs hold a separator token; use auto or mean"
            )
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # random in most checkpoints and not read here
        width = self.config.hidden_size
        self.dropout = nn.Dropout(getattr(self.config, "hidden_dropout_prob", 0.1))
        self.classifier = Float32Linear(3 * width + 1 if pooling == "pair" else width, self.config.num_labels or 2)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, labels=None, **_):
        """Return logits of shape (batch, 2) for token ids and mask of shape (batch, length)."""
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        logits = self.classifier(self.dropout(self._pool(states.float(), input_ids, attention_mask)))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _pool(self, states, ids, mask):
        mean = masked_mean(states, mask)
        if self.pooling != "pair":
            return mean
        separators = (ids == self.separator).cumsum(1)  # <s> q </s></s> t </s>: 0 on the query, 2 on the target
        content = (ids != self.separator) & mask.bool()
        content[:, 0] = False  # <s>
        left = nn.functional.normalize(masked_mean(states, content & (separators == 0)), dim=-1)
        right = nn.functional.normalize(masked_mean(states, content & (separators > 0)), dim=-1)
        scale = states.shape[-1] ** 0.5  # brings unit vectors to the size of token states
        product = left * right * scale**1.5
        cosine = (left * right).sum(-1, keepdim=True) * 10
        return torch.cat([mean, product, (left - right).abs() * scale, cosine], dim=-1)


def masked_mean(states, mask):
    """Return the mean of states (batch, length, width) over the tokens in a mask (batch, length)."""
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)
