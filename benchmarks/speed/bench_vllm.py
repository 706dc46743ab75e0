"""Measure vLLM's prefix caching against this package's shared prefixes: same weights, same token ids, same threads.

OMP_NUM_THREADS=1 python benchmarks/speed/bench_vllm.py --engine_python .venv-engines/bin/python
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import bench_rank
import measurement
import numpy as np
import psutil
from bench_predict import SAMPLE
from tqdm.auto import tqdm

from product_relevance.ensemble.published import canaries
from product_relevance.models import modeling
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.prompt_tokens import use_prompt
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.models.predictor import predict_logits
from product_relevance.models.prefix_groups import worth_sharing
from product_relevance.serving.engines.engine_process import EngineProcess, require_vllm
from product_relevance.serving.export.one_logit import name_for_engines
from product_relevance.serving.export.onnx_export import score_logits
from product_relevance.serving.export.transformers_export import save_tokenizer
from product_relevance.text.prompt import load_prompt
from product_relevance.utils.options import Parser

NAMES = ("input", "side", "targets", "pairs", "prefix", "suffix")
COLUMNS = ("saved_tokens", "pairs_per_cpu_second", "cpu_seconds", "seconds", "max_difference")
MAX_LENGTH = 256  # tokens of a pair
INPUTS = {
    "short": (False, 0),
    "prompt": (True, 0),
    "long": (True, 40),
}  # with the prompt; words per query, 0: as it is
SETTINGS = {"dtype": "float32", "enforce_eager": True, "max_num_seqs": 128}
# vLLM's threads are those of OMP_NUM_THREADS, as torch's here, and its cache takes 2 GiB
ENVIRONMENT = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_CPU_KVCACHE_SPACE": "2"}
OURS = {"ours": predict_logits, "ours, not shared": bench_rank.whole}
# A block is what vLLM's cache keeps or shares as a whole: 128 tokens on a CPU by default, 16 on a GPU.
ENGINES: dict[str, dict[str, Any]] = {
    "vllm": {"enable_prefix_caching": True},
    "vllm, blocks of 16": {"enable_prefix_caching": True, "block_size": 16},
    "vllm, no cache": {"enable_prefix_caching": False},
}
ALONE = ("ours, not shared", "vllm, no cache")  # they take as long for a pair of one query as of many: `--pairs` do
CLOCK = 0.01  # seconds; a shorter use of the CPU reads as nothing


class Case(NamedTuple):
    """Rows of token ids, query by query, and how many tokens of a pair its query has in front, prompt and all."""

    input: str
    targets: int
    rows: list[list[int]]
    prefix: float
    suffix: float


class Found(NamedTuple):
    """What a side took for a case, the share of tokens that it did not compute, and its probabilities."""

    seconds: float
    cpu_seconds: float
    saved: float
    scores: np.ndarray


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("--model", default="embedded:gemma-3-270m", help="language model that answers yes or no")
    parser.add_argument("--engine_python", default="python", help="python of the environment that has vLLM")
    parser.add_argument("--inputs", choices=INPUTS, nargs="+", default=list(INPUTS), help="long: 40 words per query")
    parser.add_argument("--prompt", default="plain", help="of the inputs prompt and long: name or file")
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 10, 100, 1000], help="a query")
    parser.add_argument("--pairs", type=int, default=100, help="of each size, at least one query's (default 100)")
    parser.add_argument("--rows", type=Path, default=SAMPLE, help="records (default: sample)")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    parser.set_defaults(shape=None)
    return parser


def save_reranker(name: str, prompt: str, folder: Path):
    """Save a base that answers yes or no as `relevance export` writes it.

    Returns:
        The model, a plain classifier of one logit, and the tokenizer that joins pairs in the prompt.
    """
    tokenizer = modeling.load_tokenizer(name)
    answers = use_prompt(tokenizer, load_prompt(prompt), "QC", MAX_LENGTH)
    options = ClassifierOptions(dtype="float32", answers=answers)
    model = modeling.load_classifier(name, tokenizer, options).as_classifier()
    model.save_pretrained(folder, save_original_format=False)
    name_for_engines(folder)
    save_tokenizer(tokenizer, MAX_LENGTH + 1, folder)
    return model, tokenizer


def cases_of(arguments, prompted) -> list[Case]:
    """Tokenise each input with each number of targets.

    A token of each case's own stands behind the first, so that no cache knows a prefix from the case before.
    """
    plain, cases = modeling.load_tokenizer(arguments.model), []
    for name in arguments.inputs:
        with_prompt, words = INPUTS[name]
        tokenizer = prompted if with_prompt else plain
        for targets in arguments.targets:
            texts, seconds = bench_rank.texts_of(arguments.rows, max(1, arguments.pairs // targets), targets)
            texts = lengthen(texts, words) if words else texts
            ids, others = (encode_pairs(tokenizer, texts, side, MAX_LENGTH) for side in (seconds, ["0"] * len(texts)))
            prefix = np.mean([len(os.path.commonprefix(rows)) + 1 for rows in zip(ids, others, strict=True)])
            rows = [[row[0], 100 + len(cases), *row[1:]] for row in ids]
            suffix = np.mean([len(row) for row in rows]) - prefix
            cases.append(Case(name, targets, rows, round(float(prefix), 1), round(float(suffix), 1)))
    return cases


def lengthen(texts: list[str], words: int) -> list[str]:
    """Give each distinct text a stand-in of so many words, drawn from all texts."""
    rng, pool = np.random.default_rng(0), " ".join(dict.fromkeys(texts)).split()
    longer = {text: " ".join(rng.choice(pool, words)) for text in dict.fromkeys(texts)}
    return [longer[text] for text in texts]


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of those that it started and that still run."""
    own = psutil.Process()
    times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def measure(side: str, score: Callable[[list[list[int]]], tuple[np.ndarray, float]], cases: list[Case]) -> list[Found]:
    """Score each case once after a warm-up on rows without a common prefix.

    Args:
        side: shown with the progress.
        score: from rows to their probabilities and the number of tokens that were not computed.
        cases: to be scored.
    """
    score([[row[0], *reversed(row[1:])] for row in cases[0].rows[:32]])
    found = []
    for case in tqdm(cases, desc=side, unit="case"):
        started, used = time.perf_counter(), cpu_seconds()
        scores, saved = score(case.rows)
        spent = time.perf_counter() - started, cpu_seconds() - used
        found.append(Found(*spent, saved / sum(map(len, case.rows)), scores))
    return found


def run(arguments) -> dict:
    """Measure all sides, one after the other; return what the last line of stdout holds."""
    version = require_vllm(arguments.engine_python)
    os.environ.update(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = save_reranker(arguments.model, arguments.prompt, Path(folder))
        cases = cases_of(arguments, tokenizer)
        fewer = [case._replace(rows=case.rows[: arguments.pairs]) for case in cases]
        of_side = {side: fewer if side in ALONE else cases for side in (*OURS, *ENGINES)}
        found = {side: _by_torch(side, model, tokenizer.pad_token_id, of_side[side]) for side in OURS}
        del model  # its memory is the engines'
        for side, settings in ENGINES.items():
            engine = EngineProcess(arguments.engine_python, Path(folder), SETTINGS | settings)
            found[side] = measure(side, lambda ids, by=engine: _by_engine(by, ids), of_side[side])
            engine.close()
    results = [
        _line(side, of_side[side][i], measured[i], found["ours"][i].scores)
        for i in range(len(cases))
        for side, measured in found.items()
    ]
    about = measurement.described("vllm", arguments, "cpu", "float32")
    return about | {"vllm": version, "prompt": arguments.prompt, "results": results}


def _by_torch(side: str, model, pad_id: int, cases: list[Case]) -> list[Found]:
    def score(ids: list[list[int]]) -> tuple[np.ndarray, float]:
        sharing = worth_sharing(ids) if side == "ours" else None
        return score_logits(OURS[side](model, ids, pad_id)), sharing.saved if sharing else 0

    return measure(side, score, cases)


def _by_engine(engine: EngineProcess, ids: list[list[int]]) -> tuple[np.ndarray, float]:
    before = engine.cached_tokens
    scores = np.array(engine.score(ids))
    return scores, engine.cached_tokens - before


def _line(side: str, case: Case, found: Found, expected: np.ndarray) -> dict:
    gap = canaries.largest_difference(found.scores, expected[: len(found.scores)])
    if not gap <= canaries.EXACT:
        raise ValueError(f"{side}: probabilities up to {gap:.2g} away from ours; expected {canaries.EXACT} at most")
    pairs, cpu = len(case.rows), max(found.cpu_seconds, CLOCK)
    tokens = {"prefix": case.prefix, "suffix": case.suffix, "saved_tokens": round(found.saved, 3)}
    line = {"input": case.input, "side": side, "targets": case.targets, "pairs": pairs} | tokens
    line |= {"pairs_per_cpu_second": round(pairs / cpu, 1), "cpu_seconds": round(cpu, 2)}
    return line | {"seconds": round(found.seconds, 2), "max_difference": gap}


def main() -> None:
    """Print the table, then the same as one line of JSON."""
    measurement.report(run, make_parser().parse_args(), NAMES, COLUMNS)


if __name__ == "__main__":
    main()
