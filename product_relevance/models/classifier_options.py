"""How a base is loaded as a classifier: its head, its precision, its place."""

from dataclasses import dataclass

import torch

from product_relevance.models.heads.prompt_tokens import Answers


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions:
    """What `modeling.load_classifier` makes of a base.

    Attributes:
        revision: commit, tag or branch of the base on the Hub.
        pooling: `auto`, `mean` or `pair` (see ModelArguments).
        answers: from `use_prompt`: the base stays a language model and its logits are those of no and yes.
        writes: with answers, let it write down its steps before them.
        language: no head at all: a `LanguageModel`.
        dtype: of the base weights, the name of a torch dtype.
        attn_implementation: as in transformers; the base's default if None.
        dropout: inside the base while training; None keeps its config's own.
        device: that the base's weights are read to at once, without a copy in main memory; the CPU if None.
        grades: number of labels K.
    """

    revision: str | None = None
    pooling: str = "auto"
    answers: Answers | None = None
    writes: bool = False
    language: bool = False
    dtype: str = "float32"
    attn_implementation: str | None = None
    dropout: float | None = None
    device: str | torch.device | None = None
    grades: int = 2
