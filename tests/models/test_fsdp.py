"""FSDP2 shards every head by the layers that its model names: two processes have the gradients of one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from tests.conftest import ROOT, free_port
from tests.models.test_wrapped import HEADS, adapted

KINDS = [(kind, head) for kind, head in HEADS if (kind, head) != ("qwen3", "mean")]


def gradients(model, batch) -> dict[str, torch.Tensor]:
    """The gradients of what is trained, whole and by names without the wrappers'."""
    model.zero_grad()
    model(**batch)["loss"].backward()
    trained = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    whole = lambda value: value.full_tensor() if hasattr(value, "full_tensor") else value.clone()  # noqa: E731
    return {name: whole(value) for name, value in trained.items()}


def compare(base: str, head: str, rank: int) -> dict:
    """Compare half of a batch on each of two processes with the whole batch on one."""
    from torch.distributed.fsdp import FSDPModule, fully_shard

    torch.manual_seed(0)  # adapters and heads start alike on both
    model, batch = adapted(Path(base), head)
    if head == "language":  # each half has as many tokens, so that the mean of means is the mean
        batch = {
            name: value[:2, : int(batch["attention_mask"].sum(1).min())].repeat(2, 1) for name, value in batch.items()
        }
    expected = gradients(model, batch)
    names = model.get_base_model()._no_split_modules
    for module in list(model.modules()):
        if type(module).__name__ in names:
            fully_shard(module)
    fully_shard(model)
    found = gradients(model, {name: value[2 * rank : 2 * rank + 2] for name, value in batch.items()})
    apart = max(float((found[name] - value).abs().max()) for name, value in expected.items())
    sharded = sum(isinstance(module, FSDPModule) for module in model.modules())
    return {"apart": apart, "sharded": sharded, "moved": max(float(v.abs().max()) for v in expected.values())}


def main() -> None:
    """Compare each base and head that the arguments name."""
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    for base, head in json.loads(sys.argv[1]):
        found = compare(base, head, rank)
        if rank == 0:
            print("RESULT", json.dumps(found))
    torch.distributed.destroy_process_group()


def test_two_processes_that_shard_every_head_have_the_gradients_of_one(base_of):
    cases = json.dumps([(str(base_of(kind)), head) for kind, head in KINDS])
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())]
    made = subprocess.run(
        [sys.executable, *launch, __file__, cases],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    results = [json.loads(line.split(" ", 1)[1]) for line in made.stdout.splitlines() if line.startswith("RESULT")]
    assert len(results) == len(KINDS)
    for case, found in zip(KINDS, results, strict=True):
        assert found["sharded"] >= 3 and found["moved"] > 1e-4, (case, found)  # two layers and what is around them
        assert found["apart"] < 1e-5, (case, found)


if __name__ == "__main__":
    main()
