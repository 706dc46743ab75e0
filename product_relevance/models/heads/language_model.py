"""A causal base that trains as a language model on texts alone, for a warm start."""

import torch
from torch import nn

from product_relevance.models.batching import pad_rows
from product_relevance.models.heads.wrapped import Wrapped

IGNORED = -100  # the label of a place whose token is not predicted, as transformers counts them


class LanguageModel(Wrapped):
    """Gives the loss of the next tokens; the base keeps the name `model`, so that an adapter fits a classifier on it.

    Logits are computed only where a next token is known: of short texts, many of a padded batch have none.
    """

    prepare_inputs_for_generation = None  # PEFT looks for it on a base of its task type CAUSAL_LM

    def __init__(self, causal):
        super().__init__(causal.base_model, causal.config)
        self.cap = getattr(causal.config, "final_logit_softcapping", None)
        self.output = causal.get_output_embeddings().weight  # in many bases the input embedding itself
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, labels=None, num_items_in_batch=None, **_):
        """Return {"loss"}: the sum over the tokens to predict, divided by their number in the accumulated batch.

        Args:
            input_ids: shape (batch, length).
            attention_mask: shape (batch, length).
            labels: token ids, IGNORED where there is none, shape (batch, length).
            num_items_in_batch: labels of the whole accumulated batch on all processes; those here if None.
        """
        states = self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        next_tokens = labels[:, 1:]
        known = next_tokens != IGNORED
        logits = nn.functional.linear(states[:, :-1][known], self.output.to(states.dtype)).float()
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        loss = nn.functional.cross_entropy(logits, next_tokens[known], reduction="sum")
        return {"loss": loss / (known.sum() if num_items_in_batch is None else num_items_in_batch)}


class TextCollator:
    """Pads texts on the right; every token but the first is a label."""

    def __init__(self, pad_id: int):
        self.pad_id = pad_id

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        batch = pad_rows([row["input_ids"] for row in rows], self.pad_id)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
        labels[:, 0] = IGNORED
        return batch | {"labels": labels}


def encode_texts(tokenizer, texts: list[str], max_length: int) -> list[list[int]]:
    """Tokenise texts, each with the end token where there is one; what has no next token to learn is left out.

    Args:
        tokenizer: of the base.
        texts: distinct texts.
        max_length: tokens per text at most.
    """
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    ids = tokenizer(texts, truncation=True, max_length=max_length - 1, return_attention_mask=False)["input_ids"]
    return [row if row[-1:] == end else row + end for row in ids if len(row) + len(end) > 1]
