"""Measure LoRA training beside two other ways, on equal pairs.

python benchmarks/speed/bench_train.py --shape tiny
"""

import gc
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import implementations
import measurement
import random_models
import torch
from bench_predict import SAMPLE, distinct_pairs, peak, reset_peak

from product_relevance.models import adapters, memory, modeling, prefix_cache
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.loading import checkpoints
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.models.predictor import predict_logits
from product_relevance.training.batches.dataset import PairCollator, PairDataset
from product_relevance.training.trainer import RelevanceTrainer
from product_relevance.utils.options import Parser

STEP = 32  # pairs of an optimiser step of the 1st team, four GPUs together
LARGE = 256  # pairs of a step of `ours_large`
# Pairs scored for each pair trained, in 2 epochs of 240,000 rows with 60,000 to validate on: the 1st team scored them
# all every 500 steps (30 times), a plain Trainer does after each epoch, we 2,000 five times and all of them once.
SCORED = {"first_team": 30 * 60 / 480, "trainer": 2 * 60 / 480, "ours": (5 * 2 + 60) / 480}
COLUMNS = (
    "pairs_per_second",
    "tokens_per_second",
    "cpu_seconds",
    "padding",
    "mfu",
    "peak_mib",
    "estimated_mib",
    "loss",
    "scored_per_second",
)
COLUMNS += ("with_evaluation",)


@dataclass(frozen=True)
class Way:
    """Batches of one way to train: rows of a forward pass, passes of a step, their order."""

    rows: int
    passes: int
    order: str
    split: bool = False
    shared: bool = False


WAYS = {
    "first_team": Way(8, STEP // 8, "sequential"),
    "trainer": Way(8, 1, "random"),
    "ours": Way(STEP, 1, "group_by_length", split=True),
    "ours_large": Way(LARGE, 1, "random", split=True),
    "ours_shared": Way(STEP, 1, "random", split=True, shared=True),  # causal bases; pays where queries repeat
}


def make_parser() -> Parser:
    """Build the command line's parser."""
    parser = Parser(description=__doc__)
    base = parser.add_mutually_exclusive_group()
    base.add_argument("--model", default="embedded:e5-small", help="base (default: embedded:e5-small)")
    base.add_argument("--shape", choices=sorted(random_models.SHAPES), help="random weights and tokens")
    parser.add_argument("--steps", type=int, default=16, help=f"steps of {STEP} pairs (default 16)")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS)[:-1])
    parser.add_argument("--repeats", type=int, default=1, help="rounds over the ways; medians are shown (default 1)")
    parser.add_argument("--tokens_per_forward", type=int, help="of ours (default: a run's on a GPU, 1024 on a CPU)")
    parser.add_argument("--gradient_checkpointing", action="store_true", help="of all ways alike")
    parser.add_argument("--rows", type=Path, default=SAMPLE, help="records, repeated with numbers (default: sample)")
    parser.add_argument("--device", help="cpu, cuda (default: a GPU when there is one)")
    parser.add_argument("--dtype", default="auto", help="of the frozen base: auto, float32, bfloat16")
    parser.add_argument("--keep", metavar="NAME", help="write benchmarks/results/NAME.json")
    return parser


def load(arguments, pairs: int, device: str, dtype: str):
    """Load the base with a fresh adapter, and its rows.

    Returns:
        (model on the device, n lists of token ids, pad token)
    """
    kind = getattr(torch, dtype)
    if arguments.shape:
        model, vocabulary = random_models.build(arguments.shape, device, kind)
        ids, pad_id = random_models.random_rows(pairs, vocabulary), 0
    else:
        torch.manual_seed(0)
        tokenizer = modeling.load_tokenizer(arguments.model)
        model = modeling.load_classifier(arguments.model, tokenizer, ClassifierOptions(dtype=dtype, dropout=0.0))
        ids = encode_pairs(tokenizer, *distinct_pairs(arguments.rows, pairs), 192)
        pad_id = tokenizer.pad_token_id
    model = adapters.add_adapter(model, ModelArguments("base", lora_dropout=0.0))
    for weight in (p for p in model.parameters() if p.requires_grad):
        weight.data = weight.data.float()  # as a run does
    return model.to(device), ids, pad_id


def in_bfloat16(model) -> bool:
    """Return whether the model computes in bfloat16: on a GPU, and where its base is."""
    base = model.get_input_embeddings().weight
    return base.device.type == "cuda" or base.dtype == torch.bfloat16


def make_trainer(way: Way, model, data: PairDataset, pad_id: int, folder: str, budget: int, checkpointing: bool):
    """Build the trainer of a way; a learning rate of 0 leaves the weights alike for the next one, at the same cost."""
    from transformers import Trainer, TrainingArguments

    on_gpu = next(model.parameters()).device.type == "cuda"
    arguments = TrainingArguments(
        folder,
        per_device_train_batch_size=way.rows,
        gradient_accumulation_steps=way.passes,
        train_sampling_strategy=way.order,
        gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=0.0,
        num_train_epochs=1,
        bf16=in_bfloat16(model),
        use_cpu=not on_gpu,
        dataloader_pin_memory=on_gpu,
        remove_unused_columns=False,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    if way.split:
        options = {"pad_id": pad_id, "tokens_per_forward": budget, "share_prefixes": way.shared}
        trainer = RelevanceTrainer(model=model, args=arguments, train_dataset=data, **options)
    else:
        trainer = Trainer(model=model, args=arguments, train_dataset=data, data_collator=PairCollator(pad_id))
        # transformers 5.23 takes these classifiers for models that divide their loss by the accumulated batch, which
        # they do not: the loss and gradient would be `passes` times too large
        trainer.model_accepts_loss_kwargs = False
    return trainer


def train(way: Way, model, ids: list[list[int]], pad_id: int, budget: int, checkpointing: bool) -> dict:
    """Train one epoch over the rows; seconds, CPU seconds, tokens, peak of memory in MiB and the mean loss."""
    device = str(next(model.parameters()).device)
    data = PairDataset(ids, [i % 2 for i in range(len(ids))])
    gc.collect()  # the trainer before lies in a circle of references, with its optimiser
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(way, model, data, pad_id, folder, budget, checkpointing)
        before = reset_peak(device)
        started, used = time.perf_counter(), time.process_time()
        with implementations.counting(model, pad_id) as tokens:
            loss = trainer.train().training_loss
        measurement.synchronize(device)
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return {"seconds": seconds, "cpu": cpu, **tokens, "peak_mib": peak(device) - before, "loss": loss}


def estimate_peak(way: Way, model, ids: list[list[int]], budget: int, checkpointing: bool) -> float:
    """Return the MiB that `models.memory` expects beyond what `reset_peak` leaves out: on a CPU the weights."""
    tokens = memory.largest_forward(list(map(len, ids)), way.rows, budget if way.split else None)
    need = memory.estimate_memory(model, tokens, checkpointing=checkpointing, half=in_bfloat16(model))
    on_gpu = next(model.parameters()).device.type == "cuda"
    return (need["total"] - (0 if on_gpu else need["weights"])) / 2**20


def default_budget(model, checkpointing: bool) -> int:
    """Return the padded tokens of a forward pass that a run takes on a GPU by itself; 1024 on a CPU."""
    device = next(model.parameters()).device
    if device.type != "cuda":
        return 1024
    free = memory.free_memory(device)
    return memory.fitting_forward(model, free, checkpointing=checkpointing, half=in_bfloat16(model))


def scored_per_second(name: str, model, ids: list[list[int]], pad_id: int) -> float:
    """Measure evaluation: ours sorted within a token budget, the others in order of arrival, 32 rows at a time."""
    device = next(model.parameters()).device
    half = torch.autocast(device.type, torch.bfloat16, enabled=in_bfloat16(model))
    started = time.perf_counter()
    with half:
        if name.startswith("ours"):
            predict_logits(model, ids, pad_id)
        else:
            implementations.first_team(implementations.TokenScorer(model, pad_id), ids, ids)
    measurement.synchronize(str(device))
    return len(ids) / (time.perf_counter() - started)


def medians(runs: list[dict]) -> dict:
    """Return the medians of what was measured in several rounds, and the highest peak of memory."""
    found = {key: median(run[key] for run in runs) for key in runs[0]}
    return found | {"real": runs[0]["real"], "peak_mib": max(run["peak_mib"] for run in runs)}


def figures_of(name: str, found: dict, pairs: int, flop: float, best: float) -> dict:
    """Return the columns of a way from what was measured.

    Args:
        name: of the way.
        found: as `train` returns it, and `scored`: pairs scored a second.
        pairs: trained.
        flop: of a trained token.
        best: FLOP/s of the device.
    """
    seconds, scored, share = found["seconds"], found["scored"], SCORED["ours" if name.startswith("ours") else name]
    return {
        "pairs_per_second": round(pairs / seconds, 2),
        "tokens_per_second": round(found["real"] / seconds),
        "cpu_seconds": round(found["cpu"], 2),
        "padding": round(found["forwarded"] / found["real"], 4),
        "mfu": round(found["real"] / seconds * flop / best, 4),
        "peak_mib": round(found["peak_mib"], 1),
        "estimated_mib": round(found["estimated_mib"], 1),
        "loss": round(found["loss"], 6),
        "scored_per_second": round(scored, 2),
        "with_evaluation": round(1 / (seconds / pairs + share / scored), 2),
    }


def require_agreement(rows: list[dict], tokens: int, tolerance: float) -> None:
    """Refuse ways that read other tokens or have another mean loss.

    Raises:
        ValueError: they do.
    """
    losses = [row["loss"] for row in rows]
    other = [row for row in rows if row["real"] > tokens or (row["real"] < tokens and not WAYS[row["way"]].shared)]
    if other or max(losses) - min(losses) > tolerance:
        found = ", ".join(f"{row['way']}: {row['real']} tokens, loss {row['loss']}" for row in rows)
        raise ValueError(f"{found}; expected {tokens} tokens and losses within {tolerance}")


def run(arguments) -> dict:
    """Measure all ways on the same pairs; return what the last line of stdout holds."""
    if arguments.steps < 1 or ("ours_large" in arguments.ways and arguments.steps * STEP % LARGE):
        raise ValueError(
            f"--steps {arguments.steps}: expected a multiple of {LARGE // STEP} where ours_large takes part"
        )
    device = checkpoints.choose_device(arguments.device)
    dtype = checkpoints.choose_dtype(arguments.dtype, device)
    model, ids, pad_id = load(arguments, arguments.steps * STEP, device, dtype)
    budget = arguments.tokens_per_forward or default_budget(model, arguments.gradient_checkpointing)
    shareable = prefix_cache.supports_prefixes(model) and not arguments.gradient_checkpointing
    if not shareable and any(WAYS[name].shared for name in arguments.ways):
        raise ValueError("ours_shared needs a causal base and no --gradient_checkpointing")
    best, checkpointing = measurement.matmul_peak(device, dtype), arguments.gradient_checkpointing
    flop = (6 if checkpointing else 4) * random_models.matmul_weights(model)  # the base is frozen
    rounds = {name: [] for name in arguments.ways}
    for name in arguments.ways:
        train(WAYS[name], model, ids[: WAYS[name].rows], pad_id, budget, checkpointing)  # warms up
    for _ in range(arguments.repeats):
        for name, runs in rounds.items():
            runs.append(train(WAYS[name], model, ids, pad_id, budget, checkpointing))
            runs[-1]["estimated_mib"] = estimate_peak(WAYS[name], model, ids, budget, checkpointing)
            runs[-1]["scored"] = scored_per_second(name, model, ids, pad_id)
            print(f"{name}: {len(ids) / runs[-1]['seconds']:.2f} pairs/s", file=sys.stderr, flush=True)
    best = max(best, measurement.matmul_peak(device, dtype))  # what else runs on the machine may come and go
    found = {name: medians(runs) for name, runs in rounds.items()}
    rows = [{"way": n, "real": f["real"]} | figures_of(n, f, len(ids), flop, best) for n, f in found.items()]
    require_agreement(rows, sum(map(len, ids)), 1e-4 if dtype == "float32" else 2e-2)
    return measurement.described("train", arguments, device, dtype) | {
        "pairs": len(ids),
        "tokens_a_pair": round(sum(map(len, ids)) / len(ids), 2),
        "tokens_per_forward": budget,
        "gradient_checkpointing": checkpointing,
        "peak_gflops": round(best / 1e9, 1),
        "results": rows,
    }


def main() -> None:
    """Print the table, then the same as one line of JSON."""
    measurement.report(run, make_parser().parse_args(), ("way",), COLUMNS)


if __name__ == "__main__":
    main()
