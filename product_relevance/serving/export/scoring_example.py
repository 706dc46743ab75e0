"""What a folder with a graph holds for programs without torch: scoring.json, and an example in the README."""

import json
from pathlib import Path
from typing import Any

from product_relevance.ensemble.ensemble import RelevanceEnsemble

FILE = "scoring.json"
# `tokenizers` alone knows neither the length nor that control tokens in a text are text: the example says both.
ONNX = """
With ONNX Runtime, `{graph}`, whose probabilities of the canaries differ by {moved:.1g} at most, in one batch or alone.
Only `onnxruntime`, `tokenizers` and `numpy` are needed. `scoring.json` holds the numbers that a caller needs:

```python
import json

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

facts = json.load(open("scoring.json", encoding="utf-8"))
session, tokenizer = InferenceSession(facts["graph"]), Tokenizer.from_file("tokenizer.json")
tokenizer.encode_special_tokens = True  # "</s>" in a text is text
tokenizer.enable_truncation(facts["max_length"])  # the longer text loses tokens first
tokenizer.enable_padding(pad_id=facts["pad_id"])


def score(pairs):
    rows = tokenizer.encode_batch(pairs)
    ids, mask = np.array([row.ids for row in rows]), np.array([row.attention_mask for row in rows])
    (logits,) = session.run(["logits"], {{"input_ids": ids, "attention_mask": mask}})
    return 1 / (1 + np.exp(-logits[:, 0]))


score([({query}, {second})])[0]  # {score:.4f}
```

A pair is relevant from `facts["thresholds"]["f1"]`. Both texts are cleaned and written as in training:
`facts["example"]` shows a raw pair beside its texts.

OpenVINO reads the same file. Where the CPU has bfloat16 units it computes in bfloat16 by itself: give it
`{{"INFERENCE_PRECISION_HINT": "f32"}}`.
"""
INT8 = """In int8 activations share one scale per forward, so a score depends a little on the rest of its batch, and
8-bit products are rounded otherwise on CPUs without VNNI.
"""


def write_scoring_file(folder: Path, ensemble: RelevanceEnsemble, graph: str, example: dict[str, Any]) -> None:
    """Write scoring.json: what a program needs to score with the graph.

    Args:
        folder: of the export; holds tokenizer.json.
        ensemble: of one task.
        graph: path of the graph in the folder.
        example: raw query and target, their texts as the graph takes them, and their score.
    """
    run = ensemble.run
    facts = {
        "graph": graph,
        "task": run.task,
        "max_length": ensemble.encoder.max_length,
        "pad_id": ensemble.encoder.pad_id,
        "labels": dict(run.labels),
        "thresholds": dict(run.thresholds),
        "thresholds_from": run.thresholds_from,
        "template": dict(run.template),
        "example": example,
    }
    if run.decision:
        facts["decision"] = dict(run.decision)
    (folder / FILE).write_text(json.dumps(facts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_section(graph: str, moved: float, example: dict[str, Any]) -> str:
    """Return the section of a README that shows how to score with the graph.

    Args:
        graph: path of the graph in the folder.
        moved: largest difference of a canary's probability.
        example: query, target and score, as in scoring.json.
    """
    texts = {name: json.dumps(example[f"{name}_text"], ensure_ascii=False) for name in ("query", "target")}
    section = ONNX.format(
        graph=graph, moved=moved, query=texts["query"], second=texts["target"], score=example["score"]
    )
    return section + (INT8 if "quantized" in graph else "")
