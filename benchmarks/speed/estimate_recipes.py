"""Estimate whether each recipe fits the cards that its comments name: arithmetic on true shapes, nothing is measured.

python benchmarks/speed/estimate_recipes.py
"""

import json
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import fake_launch
import torch
import yaml

from product_relevance.models import memory
from product_relevance.models.arguments import ModelArguments
from product_relevance.utils.options import Parser

ROOT = Path(__file__).resolve().parents[2]
# Shape of each base that has weights to download; the recipes of the other bases run on a laptop.
SHAPES = {
    "google/gemma-3-12b-pt": "gemma-3-12b",
    "google/gemma-2-9b": "gemma-2-9b",
    "Qwen/Qwen3-14B-Base": "qwen3-14b",
    "Qwen/Qwen3-Reranker-4B": "qwen3-4b",
    "Qwen/Qwen3-Reranker-0.6B": "qwen3-0.6b",
    "FacebookAI/xlm-roberta-large": "xlm-r-large",
    "BAAI/bge-reranker-v2-m3": "xlm-r-large",
    "alibaba-nlp-community/gte-multilingual-reranker-base": "gte-multilingual",
}
CARD = re.compile(r"one card of (\d+) GB", re.I)
SPREAD = re.compile(r"(\d+) cards of (\d+) GB", re.I)  # of the command with DeepSpeed
COMMAND = re.compile(r"^#\s+((?:python|torchrun|deepspeed) .*)$", re.M)
PROCESSES = re.compile(r"--(?:nproc_per_node|num_gpus) (\d+)")
PAIRS_AT_A_TIME = 8  # of the Trainer, where batches are not split by tokens
LIVE = 2 * 10**9  # bytes of gathered weights under ZeRO-3: stage3_max_live_parameters, 1e9 by default, in bfloat16


@dataclass(frozen=True)
class Start:
    """One way to start a recipe.

    Attributes:
        recipe: its name.
        engine: `one process`, `DDP`, or `zero3` and the like.
        cards: that train one fold together.
        gb: memory of each of them, in 10**9 bytes.
    """

    recipe: str
    engine: str
    cards: int
    gb: int


@dataclass(frozen=True)
class Need:
    """What one card holds at the peak of a step, in bytes; `tokens` is the largest forward pass."""

    weights: int
    state: int
    activations: int
    tokens: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.state + self.activations


def starts_of(path: Path) -> list[Start]:
    """Return the ways to start a recipe that its comments name, each with the card that they state.

    Raises:
        ValueError: no command, or a command without its card.
    """
    text = path.read_text(encoding="utf-8")
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    found = []
    for command in COMMAND.findall(text):
        engine = re.search(r"ds_configs/(\w+)\.json", command)
        cards = int(count[1]) if (count := PROCESSES.search(command)) else 1
        stated = SPREAD.search(comment) if engine else CARD.search(comment)
        if stated is None:
            raise ValueError(f"{path.name}: {command}: the comments name no card; expected 'one card of N GB'")
        name = engine[1] if engine else "DDP" if cards > 1 else "one process"
        found.append(Start(path.stem, name, cards, int(stated.groups()[-1])))
    if not found:
        raise ValueError(f"{path.name}: its comments name no command")
    return found


def estimate_start(start: Start, keys: dict) -> Need:
    """Estimate what a card holds where a recipe is started in one way.

    Args:
        start: the way.
        keys: of the recipe.
    """
    names = ModelArguments.__dataclass_fields__
    model = _build(json.dumps({name: value for name, value in keys.items() if name in names}))
    computed = {"checkpointing": bool(keys.get("gradient_checkpointing")), "half": True}
    need = memory.estimate_memory(model, 1, **computed)
    weights, state = need["weights"], need["gradients"] + need["optimiser"] + need["copies"]
    longest, share = keys.get("max_length", ModelArguments.max_length), keys["global_batch_size"] // start.cards
    if start.engine.startswith("zero"):
        if start.engine == "zero3":
            weights = weights // start.cards + min(LIVE, weights)
        optimiser = 0 if start.engine.endswith("offload") else need["optimiser"] // start.cards
        state = (
            need["gradients"] // start.cards + optimiser + need["copies"] + need["gradients"]
        )  # and a bucket of them
        tokens = min(PAIRS_AT_A_TIME, share) * longest
    else:
        state += need["gradients"] if start.engine == "DDP" else 0  # the buckets that travel
        free = start.gb * 10**9 - weights
        budget = keys.get("tokens_per_forward") or memory.fitting_forward(model, free, **computed)
        pairs = keys.get("per_device_train_batch_size", share)
        tokens = memory.largest_forward([longest] * keys["global_batch_size"], pairs, budget)
    return Need(weights, state, int(memory.BEYOND * tokens * need["activations"]), tokens)


@cache
def _build(described: str):
    """Build the model of some arguments once for all ways to start it, on the meta device."""
    arguments = ModelArguments(**json.loads(described))
    dtype = torch.bfloat16 if arguments.adapter == "lora" else torch.float32
    return fake_launch.build_on_meta(SHAPES[arguments.model_name_or_path], arguments, dtype)


def fits(start: Start, need: Need) -> bool:
    """Return whether a card holds what is needed, with room for the allocator's gaps."""
    return need.total <= memory.KEPT * start.gb * 10**9


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    parser.add_argument("recipes", nargs="*", type=Path, help="recipe files (default: all of recipes/)")
    return parser


def estimate_all(paths: list[Path]) -> list[dict]:
    """Return a row for each way to start each recipe whose base has weights to download."""
    rows = []
    for path in paths:
        keys = yaml.safe_load(path.read_text(encoding="utf-8"))
        if keys["model_name_or_path"] not in SHAPES:
            continue
        for start in starts_of(path):
            need = estimate_start(start, keys)
            sizes = {"weights": need.weights, "state": need.state, "activations": need.activations, "all": need.total}
            about = {"recipe": start.recipe, "engine": start.engine, "cards": start.cards, "gb": start.gb}
            rows.append(about | {"tokens": need.tokens, **sizes, "fits": fits(start, need)})
    return rows


def table(rows: list[dict]) -> str:
    """Return the rows as a Markdown table, in GB of 10**9 bytes."""
    names = ("weights", "state", "activations", "all")
    lines = [
        "| recipe | engine | card, GB | tokens per forward | " + " | ".join(names) + " | fits |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        sizes = " | ".join(f"{row[name] / 1e9:.1f}" for name in names)
        engine = f"{row['engine']} on {row['cards']} cards" if row["cards"] > 1 else row["engine"]
        fit = "yes" if row["fits"] else "no"
        lines.append(f"| `{row['recipe']}` | {engine} | {row['gb']} | {row['tokens']:,} | {sizes} | {fit} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, then the same as one line of JSON; exit code 1 where a recipe does not fit."""
    asked = make_parser().parse_args()
    try:
        rows = estimate_all(asked.recipes or sorted((ROOT / "recipes").glob("*.yaml")))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(table(rows))
    print(json.dumps(rows))
    sys.exit(not all(row["fits"] for row in rows))


if __name__ == "__main__":
    main()
