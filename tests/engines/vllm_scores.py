"""Score an export with vLLM, in the environment of the engine: no module of this package is there.

python tests/engines/vllm_scores.py FOLDER SETTINGS.json SCORES.json
"""

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def main(folder: str, settings: str, scores: str) -> None:
    """Write the probabilities of the folder's canaries, of their token ids and of their plain texts."""
    from vllm import LLM, __version__

    rows = json.loads((Path(folder) / "canaries.json").read_text())["pairs"]
    model = LLM(model=folder, runner="pooling", **json.loads(Path(settings).read_text()))
    of_ids = model.classify([{"prompt_token_ids": row["token_ids"]} for row in rows])
    of_texts = model.score([row["query_text"] for row in rows], [row["target_text"] for row in rows])
    found = {
        "classify": [each.outputs.probs[0] for each in of_ids],
        "score": [each.outputs.score for each in of_texts],
        "tokens": [each.prompt_token_ids for each in of_texts],
        "versions": {"vllm": __version__} | {name: version(name) for name in ("torch", "transformers")},
        "device": f"CPU, {platform.machine()}",
    }
    Path(scores).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
