"""Score token ids with vLLM, in the environment of the engine: no module of this package is there.

python tests/engines/vllm_classify.py FOLDER IDS.json OPTIONS.json SCORES.json
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}


def main(folder: str, ids: str, options: str, scores: str) -> None:
    """Write the probability of "relevant" of each row of token ids."""
    from vllm import LLM

    asked = {"runner": "pooling", "dtype": "float32", "enforce_eager": True} | json.loads(Path(options).read_text())
    rows = [{"prompt_token_ids": row} for row in json.loads(Path(ids).read_text())]
    found = LLM(model=folder, **asked).classify(rows)
    Path(scores).write_text(json.dumps([each.outputs.probs[1] for each in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
