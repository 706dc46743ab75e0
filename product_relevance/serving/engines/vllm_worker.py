"""Score token ids with vLLM, in whatever environment has it: no module of this package is imported.

python vllm_worker.py FOLDER OPTIONS

FOLDER is an export of one logit, OPTIONS are those of `vllm.LLM` as JSON. Each line on standard input is a JSON list
of rows of token ids; each line on standard output holds their probabilities, and how many of their tokens came from
the prefix cache.
"""

import json
import os
import sys

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # else an error inside the engine is not shown
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


def main(folder: str, options: str) -> None:
    """Say that the model is loaded, then answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # vLLM logs on standard output
    from vllm import LLM

    model = LLM(model=folder, runner="pooling", **json.loads(options))
    print(json.dumps("loaded"), file=answers, flush=True)
    for line in sys.stdin:
        rows = [{"prompt_token_ids": ids} for ids in json.loads(line)]
        found = model.classify(rows, use_tqdm=False)
        cached = sum(each.num_cached_tokens or 0 for each in found)
        answer = {"scores": [each.outputs.probs[0] for each in found], "cached_tokens": cached}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
