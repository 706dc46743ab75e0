"""The pairs of one step: what the recipes promise on the processes of their own commands, and what is refused."""

import json
import re
import shlex

import pytest
from transformers import TrainingArguments

from product_relevance.training import arguments, distributed
from product_relevance.training.arguments import parse_arguments
from product_relevance.training.distributed import count_accumulation
from tests.conftest import ROOT
from tests.helpers.pages import pages

FLAGS = ["--model_name_or_path", "x", "--task", "QC", "--train_file", "t", "--use_cpu", "true"]
# From the published code of the 1st team (8 pairs on each of 4 cards); the quickstart's is for a file of few rows.
PAIRS = {"quickstart": 16}
PROCESSES = re.compile(r"--(?:nproc_per_node|num_gpus) (\d+)")


def documented_commands() -> list[tuple[str, int]]:
    """Return (recipe, processes) of each training command in README, docs, recipes and the script."""
    found = []
    places = [*map(ROOT.joinpath, pages()), ROOT / "train_relevance.py", *ROOT.glob("recipes/*.yaml")]
    for path in places:
        text = path.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"(?:python|torchrun|deepspeed)\b.*train_relevance\.py .*", text):
            recipe = re.search(r"recipes/([\w.-]+)\.yaml", line)
            count = PROCESSES.search(line)
            if recipe and (count or not re.match("torchrun|deepspeed", line)):
                found.append((recipe[1], int(count[1]) if count else 1))
    return sorted(set(found))


def settings(recipe: str) -> dict:
    import yaml

    return yaml.safe_load((ROOT / f"recipes/{recipe}.yaml").read_text(encoding="utf-8"))


# A kernel is fitted to all pairs at once.
TRAININGS = [each for each in documented_commands() if settings(each[0]).get("adapter") != "kernel"]


@pytest.mark.parametrize("recipe, processes", TRAININGS)
def test_a_recipe_trains_with_the_batch_it_promises_on_the_processes_of_its_command(recipe, processes):
    found = settings(recipe)
    per_device, pairs = found.get("per_device_train_batch_size", 8), PAIRS.get(recipe, 32)
    assert found["global_batch_size"] == pairs and "gradient_accumulation_steps" not in found
    assert count_accumulation(pairs, per_device, processes) * per_device * processes == pairs
    assert pairs % processes == 0  # so that on GPUs each process takes its whole share at a time


def test_every_recipe_names_its_command():
    assert {recipe for recipe, _ in documented_commands()} == {path.stem for path in ROOT.glob("recipes/*.yaml")}


def test_every_launcher_command_names_its_processes():
    for path in ROOT.glob("recipes/*.yaml"):
        for line in re.findall(r"^#\s+((?:torchrun|deepspeed) .*)", path.read_text(encoding="utf-8"), re.M):
            assert PROCESSES.search(line), shlex.split(line)


@pytest.mark.parametrize("pairs, per_device, processes, way_out", [
    (32, 8, 3, "another number of processes"),
    (32, 32, 2, "--per_device_train_batch_size 16"),
    (48, 10, 2, "--per_device_train_batch_size 8"),
])  # fmt: skip
def test_a_batch_that_does_not_divide_is_refused_with_both_numbers(pairs, per_device, processes, way_out):
    with pytest.raises(ValueError, match=f"size {pairs}.*batch_size {per_device} on {processes} .* give {way_out},"):
        count_accumulation(pairs, per_device, processes)


@pytest.mark.parametrize("flag", ["--gradient_accumulation_steps", "--gradient-accumulation-steps"])
def test_a_batch_and_its_accumulation_are_not_given_together(flag):
    with pytest.raises(ValueError, match="found both, expected one"):
        parse_arguments([*FLAGS, "--global_batch_size", "32", flag, "2"])


BATCH = ["--global_batch_size", "32"]


@pytest.mark.parametrize(
    ("more", "processes", "pairs"),
    [
        (["--tokens_per_forward", "512"], 1, 32),
        (["--tokens_per_forward", "512"], 4, 8),
        (["--tokens_per_forward", "512"], 3, 8),  # does not divide: refused where the batch is split
        (["--tokens_per_forward", "512", "--per_device_train_batch_size", "4"], 1, 4),
        ([], 1, 8),
    ],
)
def test_where_batches_are_split_by_tokens_a_device_takes_its_whole_share(more, processes, pairs, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    given = dict(zip(more[::2], map(int, more[1::2]), strict=True))
    named = {name.removeprefix("--"): value for name, value in given.items()} | {"global_batch_size": 32}
    assert arguments._share_of_a_device(named) == (None if not more or len(more) > 2 or processes == 3 else pairs)
    monkeypatch.delenv("WORLD_SIZE")
    if processes == 1:
        assert parse_arguments([*FLAGS, *BATCH, *more])[3].per_device_train_batch_size == pairs


@pytest.mark.parametrize(
    ("given", "pairs"),
    [
        ({}, 32),
        ({"use_cpu": True}, None),
        ({"deepspeed": "ds_configs/zero2.json"}, None),
        ({"fsdp": "full_shard"}, None),
        ({"stage": "language_model"}, None),
        ({"per_device_train_batch_size": 8}, None),
    ],
)
def test_on_a_gpu_batches_are_split_by_tokens_unless_something_is_in_the_way(given, pairs, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert arguments._share_of_a_device({"global_batch_size": 32} | given) == pairs


def test_a_batch_that_would_be_looked_for_is_refused():
    with pytest.raises(ValueError, match="--tokens_per_forward keeps a step within memory"):
        parse_arguments([*FLAGS, "--global_batch_size", "32", "--auto_find_batch_size", "true"])


def test_the_accumulation_follows_from_the_batch():
    training = TrainingArguments(use_cpu=True, per_device_train_batch_size=4)
    assert distributed.split_batch(training, 12) == "12 pairs per step: 1 process x 4 pairs at a time x 3 accumulated"
    assert training.gradient_accumulation_steps == 3


def test_without_the_option_the_batch_is_that_of_the_accumulation():
    training = TrainingArguments(use_cpu=True, per_device_train_batch_size=4, gradient_accumulation_steps=5)
    assert distributed.split_batch(training, None).startswith("20 pairs per step")


@pytest.mark.parametrize("config", sorted((ROOT / "ds_configs").glob("*.json")), ids=lambda p: p.stem)
def test_deepspeed_takes_its_batch_from_the_run(config):
    content = json.loads(config.read_text())
    batch = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    assert [content[key] for key in batch] == ["auto"] * 3
