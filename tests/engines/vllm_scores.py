"""Score exports with vLLM, in the environment of the engine: no module of this package is there.

python tests/engines/vllm_scores.py SETTINGS.json FOLDER [FOLDER ...]
"""

import json
import os
import platform
import sys
import traceback
from importlib.metadata import version
from pathlib import Path

import vllm


def score(folder: Path, settings: dict) -> dict:
    """Return the probabilities of the folder's canaries, of their token ids and of their plain texts."""
    rows = json.loads((folder / "canaries.json").read_text())["pairs"]
    model = vllm.LLM(model=str(folder), runner="pooling", **settings)
    of_ids = model.classify([{"prompt_token_ids": row["token_ids"]} for row in rows])
    of_texts = model.score([row["query_text"] for row in rows], [row["target_text"] for row in rows])
    return {
        "classify": [each.outputs.probs[0] for each in of_ids],
        "score": [each.outputs.score for each in of_texts],
        "tokens": [each.prompt_token_ids for each in of_texts],
        "versions": {"vllm": vllm.__version__} | {name: version(name) for name in ("torch", "transformers")},
        "device": f"CPU, {platform.machine()}",
    }


def main(settings: str, *folders: str) -> None:
    """Write vllm.json into each folder, from a process of its own that has vLLM imported already."""
    for folder in map(Path, folders):
        if os.fork():
            os.wait()
            continue
        try:
            found = score(folder, json.loads(Path(settings).read_text()))
        except Exception:  # one model that vLLM does not load says nothing of the others
            found = {"error": traceback.format_exc()}
        (folder / "vllm.json").write_text(json.dumps(found))
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
