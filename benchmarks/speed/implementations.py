"""Three ways to score the same pairs with the same weights: ours, the 1st team's, and sentence-transformers'."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from product_relevance.models.batching import pad_rows
from product_relevance.models.modeling import evaluation_mode
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.models.predictor import predict_logits
from product_relevance.serving.export.onnx_export import score_logits

CHUNK = 5000  # rows that `relevance predict` holds as tokens at a time


@dataclass
class Scorer:
    """A classifier, what its pairs are tokenised with, and its plain transformers folder if it has one."""

    model: torch.nn.Module
    tokenizer: object
    max_length: int
    folder: str | None = None

    @property
    def device(self) -> str:
        """Where the model lies."""
        return str(next(self.model.parameters()).device)

    def encode(self, texts: list[str], targets: list[str]) -> list[list[int]]:
        """Return the token ids of pairs."""
        return encode_pairs(self.tokenizer, texts, targets, self.max_length)


class TokenScorer(Scorer):
    """A classifier whose texts are rows of token ids already."""

    def __init__(self, model, pad_token_id: int):
        super().__init__(model, self, 0)
        self.pad_token_id = pad_token_id

    def encode(self, texts: list[list[int]], targets) -> list[list[int]]:
        """Return the texts."""
        return texts


def ours(scorer: Scorer, texts: list[str], targets: list[str]) -> np.ndarray:
    """Score in the chunks of `relevance predict`: distinct rows, sorted by length, one token budget per batch."""
    scores = []
    for start in range(0, len(texts), CHUNK):
        ids = scorer.encode(texts[start : start + CHUNK], targets[start : start + CHUNK])
        scores.append(score_logits(predict_logits(scorer.model, ids, scorer.tokenizer.pad_token_id)))
    return np.concatenate(scores)


def first_team(scorer: Scorer, texts: list[str], targets: list[str], batch: int = 32) -> np.ndarray:
    """Score in the order of arrival, `batch` rows at a time, each padded to the longest of its batch.

    The way of the 1st team's code, at its effective batch; all rows are tokenised first, as its data set is.
    """
    ids, logits = scorer.encode(texts, targets), []
    with evaluation_mode(scorer.model), torch.inference_mode():
        for start in range(0, len(ids), batch):
            rows = pad_rows(ids[start : start + batch], scorer.tokenizer.pad_token_id)
            rows = {key: value.to(scorer.device) for key, value in rows.items()}
            logits.append(scorer.model(**rows).logits.float().cpu().numpy())
    return score_logits(np.concatenate(logits))


def cross_encoder(scorer: Scorer) -> tuple[Callable, torch.nn.Module]:
    """Load the plain folder as sentence-transformers' CrossEncoder.

    Returns:
        (a way like those above: CrossEncoder.predict with its own batches of 32, the transformers model inside)
    """
    from sentence_transformers import CrossEncoder

    dtype = scorer.model.get_input_embeddings().weight.dtype
    loaded = CrossEncoder(
        scorer.folder, device=scorer.device, max_length=scorer.max_length, model_kwargs={"dtype": dtype}
    )

    def predict(_, texts: list[str], targets: list[str]) -> np.ndarray:
        pairs = list(zip(texts, targets, strict=True))
        logits = loaded.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        return score_logits(logits.reshape(len(pairs), -1))

    return predict, loaded.model


@contextmanager
def counting(model, pad_id: int):
    """Count the tokens that reach a model's embeddings, without waiting for the device.

    At the embeddings, since sentence-transformers calls `forward` past the hooks of the model itself.

    Yields:
        A dict that holds after the block `forwarded`, all tokens, and `real`, those that are no padding.
    """
    found, real = {"forwarded": 0, "real": 0}, 0

    def count(_, inputs):
        nonlocal real
        found["forwarded"] += inputs[0].numel()
        real = real + (inputs[0] != pad_id).sum()

    handle = model.get_input_embeddings().register_forward_pre_hook(count)
    try:
        yield found
    finally:
        handle.remove()
        found["real"] = int(real)
