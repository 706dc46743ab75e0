"""One logit in place of two, and the two words in config.json, by which engines take a folder for a reranker."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from product_relevance.models.heads.classifier import LAST

# vLLM finds a decoder by the first part of this name. It would read Gemma 3's text model as a base without a head.
NAMES_IN_ENGINES = {"Gemma3TextForSequenceClassification": "Gemma3ForSequenceClassification"}


@torch.no_grad()
def join_logits(model: nn.Module) -> None:
    """Replace the last layer of a classifier of two labels by one that gives the difference of both, in place.

    The sigmoid of the one logit is the softmax of the two. Rerankers have one logit: sentence-transformers, vLLM's
    `/score` and TEI's `/rerank` ask for it.

    Args:
        model: classifier in float32; one of a single label stays as it is.
    """
    config: Any = model.config
    if config.num_labels == 1:
        return
    heads = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear) and LAST.search(name)]
    where, two = heads[-1]
    one = type(two)(two.in_features, 1, two.bias is not None)
    for ours, theirs in zip(one.parameters(), two.parameters(), strict=True):
        ours.copy_((theirs[1] - theirs[0]).unsqueeze(0))
    model.set_submodule(where, one)
    model.num_labels = 1  # type: ignore[assignment]  # a plain attribute of transformers' classifiers
    config.num_labels, config.id2label, config.label2id = 1, {0: "relevant"}, {"relevant": 0}


def name_for_engines(folder: Path) -> None:
    """Write into config.json what vLLM reads there, and transformers does not.

    `use_sep_token` lets vLLM hand query and document to the tokenizer as a pair, whose own template then joins them as
    in training, prompt and all.

    Args:
        folder: of a saved classifier.
    """
    path = folder / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["architectures"] = [NAMES_IN_ENGINES.get(name, name) for name in content["architectures"]]
    content["use_sep_token"] = True
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
