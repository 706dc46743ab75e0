"""Check on a tiny model that a device computes and trains as a CPU does.

python benchmarks/speed/gpu_checks.py resume cuda

The last line is JSON: `ok`, the figures, and in `look_at` what is wrong.
"""

import importlib.util
import json
import multiprocessing
import sys
import tempfile
from pathlib import Path

import measurement
import random_models
import torch

from product_relevance.evaluation.probabilities import to_probabilities
from product_relevance.models import adapters
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.loading import float8, quantization
from product_relevance.models.predictor import predict_logits
from product_relevance.training.batches.dataset import PairDataset
from product_relevance.training.trainer import RelevanceTrainer

# Checks and the seconds that each may take.
SECONDS = {"device": 20, "resume": 20, "bf16": 20, "qlora": 25, "float8": 10, "compile": 45, "two_folds": 30}
PAIRS, STEPS, BATCH = 64, 4, 16
FLOAT8 = 0.02  # of the largest value: a GPU sums products in FP8 less exactly
EXACT = 1e-4  # float32 on another device: sums in another order


def print_peaks() -> None:
    """Print the matmul peak of each type; the device is the only word of the command line."""
    device = sys.argv[1]
    types = ("float32", "bfloat16") if device == "cpu" else ("bfloat16", "float16", "float32")
    print(json.dumps({"tflops": {t: round(measurement.matmul_peak(device, t) / 1e12, 3) for t in types}}))


def build(device: str, dtype: torch.dtype = torch.float32, adapter: bool = False):
    """Build the tiny model on the CPU, so that its weights are the same on every device, and copy it."""
    model, vocabulary = random_models.build("tiny", "cpu", dtype)
    if adapter:
        model = adapters.add_adapter(model, ModelArguments("base", lora_dropout=0.0))
        for weight in (p for p in model.parameters() if p.requires_grad):
            weight.data = weight.data.float()  # as a run does
    return model.to(device), random_models.random_rows(PAIRS, vocabulary)


def scores_on(device: str, dtype: torch.dtype):
    """Score random rows by our scorer."""
    model, ids = build(device, dtype)
    return to_probabilities(predict_logits(model, ids, 0))


def check_device(device: str) -> dict:
    """Compare the scores of a device with those of the CPU, in float32 and in bfloat16."""
    exact = scores_on("cpu", torch.float32)
    found = {}
    for name, limit in (("float32", EXACT), ("bfloat16", measurement.largest_difference("bfloat16"))):
        gap = float(abs(scores_on(device, getattr(torch, name)) - exact).max())
        found[name] = {"max_difference": gap, "limit": limit}
    return {"figures": found, "look_at": [name for name, row in found.items() if row["max_difference"] > row["limit"]]}


def make_trainer(device: str, folder: str, model, ids: list[list[int]], **more) -> RelevanceTrainer:
    """Build our trainer of `STEPS` steps, with a batch that is split by tokens."""
    from transformers import TrainingArguments

    options = {"save_strategy": "no", "bf16": False} | more
    arguments = TrainingArguments(
        folder,
        per_device_train_batch_size=BATCH,
        max_steps=STEPS,
        learning_rate=1e-2,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device != "cpu",
        remove_unused_columns=False,
        logging_steps=1,
        report_to="none",
        disable_tqdm=True,
        **options,
    )
    data = PairDataset(ids, [i % 2 for i in range(len(ids))])
    return RelevanceTrainer(model=model, args=arguments, train_dataset=data, pad_id=0, tokens_per_forward=512)


def train(device: str, folder: str, dtype: torch.dtype = torch.float32, resume=None, **more):
    """Train a fresh adapter; return its losses and its weights on the CPU."""
    model, ids = build(device, dtype, adapter=True)
    fitter = make_trainer(device, folder, model, ids, **more)
    fitter.train(resume_from_checkpoint=resume)
    losses = [row["loss"] for row in fitter.state.log_history if "loss" in row]
    return losses, {name: p.detach().cpu() for name, p in fitter.model.named_parameters() if p.requires_grad}


def check_resume(device: str) -> dict:
    """Compare the weights of a training that goes on from a checkpoint with those of one that was not interrupted."""
    with tempfile.TemporaryDirectory() as folder:
        _, whole = train(device, folder, save_strategy="steps", save_steps=STEPS // 2)
        _, resumed = train(device, folder, resume=str(Path(folder) / f"checkpoint-{STEPS // 2}"))
    gap = max(float((whole[name] - resumed[name]).abs().max()) for name in whole)
    return {"figures": {"max_difference": gap}, "look_at": ["other weights than without a stop"] if gap > 1e-6 else []}


def check_bf16(device: str) -> dict:
    """Compare the losses of a training in bfloat16 with those in float32."""
    with tempfile.TemporaryDirectory() as folder:
        exact, _ = train(device, folder)
        half, _ = train(device, folder, torch.bfloat16, bf16=True)
    gap = max(abs(a - b) for a, b in zip(exact, half, strict=True))
    wrong = ["losses far from those in float32"] if not gap < 0.1 else []
    return {"figures": {"float32": exact, "bfloat16": half, "max_difference": gap}, "look_at": wrong}


def check_qlora(device: str) -> dict:
    """Train an adapter on a base in four bits; skipped where bitsandbytes is missing."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return {"skipped": "bitsandbytes is not installed"}
    dtype = torch.bfloat16 if device != "cpu" else torch.float32
    model, vocabulary = random_models.build("tiny", "cpu", dtype)
    ids = random_models.random_rows(PAIRS, vocabulary)
    model = quantization.quantize_model(model, torch.device(device))
    model = adapters.add_adapter(model, ModelArguments("base", lora_dropout=0.0))
    with tempfile.TemporaryDirectory() as folder:
        fitter = make_trainer(device, folder, model, ids, bf16=device != "cpu")
        fitter.train()
    losses = [row["loss"] for row in fitter.state.log_history if "loss" in row]
    return {"figures": {"losses": losses}, "look_at": [] if losses[-1] < 2 * losses[0] else ["the loss grows"]}


def check_float8(device: str) -> dict:
    """Compare a product in FP8 with the one that the CPU emulates; skipped where there is none."""
    if device != "cpu":
        try:
            float8.require_float8(device)
        except ValueError as error:
            return {"skipped": str(error)}
    torch.manual_seed(0)
    layer = float8.Float8Linear(torch.nn.Linear(512, 256).bfloat16())
    states = torch.randn(300, 512).bfloat16()
    exact = layer(states).float()
    gap = float((layer.to(device)(states.to(device)).cpu().float() - exact).abs().max() / exact.abs().max())
    return {"figures": {"difference": gap, "limit": FLOAT8}, "look_at": ["other products"] if gap > FLOAT8 else []}


def check_compile(device: str) -> dict:
    """Compare the scores of a compiled model with those of the same one as it is; on a CPU bench_compile.py does."""
    if device == "cpu":
        return {"skipped": "the speed stage compares them on a CPU, which may have no C++ compiler"}
    model, ids = build(device)
    exact = to_probabilities(predict_logits(model, ids, 0))
    layers = adapters.layer_stack(model)[1]
    for layer in layers:
        layer.compile(dynamic=True)
    gap = float(abs(to_probabilities(predict_logits(model, ids, 0)) - exact).max())
    return {"figures": {"max_difference": gap}, "look_at": ["scores far from the plain ones"] if gap > 1e-3 else []}


def losses_beside(device: str) -> list[float]:
    """Train with half of the card's memory; return the losses."""
    if device != "cpu":
        torch.cuda.set_per_process_memory_fraction(0.5)
    with tempfile.TemporaryDirectory() as folder:
        return train(device, folder)[0]


def check_two_folds(device: str) -> dict:
    """Train two folds at the same time on one card, and compare them with the same training alone."""
    with multiprocessing.get_context("fork").Pool(2) as pool:  # before this process touches the GPU
        beside = pool.map(losses_beside, [device] * 2)
    with tempfile.TemporaryDirectory() as folder:
        alone, _ = train(device, folder)
    gap = max(abs(a - b) for losses in beside for a, b in zip(alone, losses, strict=True))
    return {"figures": {"max_difference": gap}, "look_at": ["other losses than alone"] if gap > EXACT else []}


CHECKS = {
    "device": check_device,
    "resume": check_resume,
    "bf16": check_bf16,
    "qlora": check_qlora,
    "float8": check_float8,
    "compile": check_compile,
    "two_folds": check_two_folds,
}


def main() -> None:
    """Run one check, and print what it found as a line of JSON."""
    name, device = sys.argv[1:]
    found = CHECKS[name](device)
    print(json.dumps({"ok": not found.get("look_at"), **found}))


if __name__ == "__main__":
    main()
