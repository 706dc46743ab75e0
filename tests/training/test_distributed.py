"""Several processes: the first decides, rows are shared out, and no weight waits for a gradient that never comes."""

import multiprocessing
import queue

import numpy as np
import pytest
import torch

from product_relevance.models import adapters
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.batching import pad_rows
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.models.pair_encoder import PairEncoder, encode_pairs
from product_relevance.text.templates import Template
from product_relevance.training import distributed
from product_relevance.training.arguments import parse_arguments
from product_relevance.training.base_model import BaseModelPool

QUERIES = ["red shoes", "usb", "red shoes", "hat", "lamp", "usb", "rug"]


def _work(function, rank: int, place: str, results) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    try:
        results.put((rank, function(rank)))
    except (ValueError, SystemExit) as error:
        results.put((rank, error))
    torch.distributed.destroy_process_group()


@pytest.fixture
def in_two(tmp_path):
    """A function that calls one on two processes and returns what each gave or raised."""

    def call(function) -> list:
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        place = str(tmp_path / "meeting")
        processes = [context.Process(target=_work, args=(function, rank, place, results)) for rank in (0, 1)]
        for process in processes:
            process.start()
        try:
            return [value for _, value in sorted((results.get(timeout=60) for _ in processes), key=lambda one: one[0])]
        except queue.Empty:
            pytest.fail("the processes wait for each other")
        finally:
            for process in processes:
                process.join(timeout=10)
                process.kill()

    return call


def test_the_first_process_decides_for_both(in_two):
    assert in_two(lambda rank: distributed.decide_on_first(lambda: f"decided by {rank}")) == ["decided by 0"] * 2


def test_what_the_first_process_refuses_is_said_once(in_two):
    def refuse(rank: int):
        raise ValueError(f"refused by {rank}")

    first, second = in_two(lambda rank: distributed.decide_on_first(lambda: refuse(rank)))
    assert isinstance(first, ValueError) and str(first) == "refused by 0"
    assert isinstance(second, SystemExit) and second.code == 1


def test_rows_are_shared_out_by_query_and_come_back_in_their_order(in_two):
    def share(rank: int):
        mine = []
        whole = distributed.share_computation(QUERIES, lambda rows: mine.extend(rows.tolist()) or rows * 10)
        return mine, whole.tolist()

    (one, whole), (two, again) = in_two(share)
    assert whole == again == [0, 10, 20, 30, 40, 50, 60]
    assert sorted(one + two) == list(range(7)) and one and two
    assert {QUERIES[i] for i in one}.isdisjoint(QUERIES[i] for i in two)


def test_a_process_without_rows_gets_the_scores_too(in_two):
    found = in_two(lambda rank: distributed.share_computation(["usb"] * 3, lambda rows: np.ones((len(rows), 2))).shape)
    assert found == [(3, 2)] * 2


ENCODERS = [("bert", "auto"), ("xlm-roberta", "pair"), ("deberta-v2", "auto"), ("modernbert", "mean")]


@pytest.mark.parametrize("kind, pooling", [*ENCODERS, ("qwen3", "auto"), ("gemma3_text", "mean")])
@pytest.mark.parametrize("adapter", ["lora", "none"])
def test_every_trained_weight_has_a_part_in_the_loss(kind, pooling, adapter, base_of):
    """DDP is told that it need not look for weights without a gradient, for which it would wait."""
    tokenizer = load_tokenizer(str(base_of(kind)))
    model = load_classifier(str(base_of(kind)), tokenizer, ClassifierOptions(pooling=pooling))
    model = adapters.add_adapter(model, ModelArguments("base")) if adapter == "lora" else model
    ids = encode_pairs(tokenizer, ["red shoes", "usb"], ["shoes", "phones,cables"], 32)
    logits = model(**pad_rows(ids, tokenizer.pad_token_id)).logits
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.fixture
def arguments(base_of):
    """A function from flags to the arguments of a run."""
    fixed = ["--model_name_or_path", str(base_of("bert")), "--task", "QC", "--train_file", "t", "--use_cpu", "true"]
    return lambda *more: parse_arguments([*fixed, *more])


def test_ddp_does_not_look_for_weights_without_a_gradient(arguments):
    assert arguments()[-1].ddp_find_unused_parameters is False


class OnGPU:
    """Arguments of a process with the second GPU of a machine; there is none here, so nothing is loaded to it."""

    device, hf_deepspeed_config, deepspeed = torch.device("cuda", 1), None, None


@pytest.mark.parametrize("more", [[], ["--adapter", "none"]])
def test_each_process_reads_the_base_straight_to_its_gpu(more, arguments):
    assert BaseModelPool(arguments(*more)[0], OnGPU, None)._straight_to() == torch.device("cuda:1")


def test_on_a_cpu_the_base_is_read_as_ever(arguments):
    model_args, _, _, training = arguments()
    assert BaseModelPool(model_args, training, None)._straight_to() is None


@pytest.mark.parametrize(
    "more, expected",
    [
        ("--bf16 true", "eager"),
        ("--bf16 true --attn_implementation sdpa", "sdpa"),
        ("--bf16 false", "sdpa"),
    ],
)
def test_a_cpu_trains_in_bfloat16_with_the_attention_that_is_fast_there(more, expected, arguments, base_of):
    model_args, _, _, training = arguments(*more.split())
    tokenizer = load_tokenizer(str(base_of("bert")))
    pool = BaseModelPool(model_args, training, PairEncoder.from_tokenizer(tokenizer, Template("QC"), 32))
    pool.load()
    assert pool.attention == expected


def test_a_base_read_straight_to_its_device_is_the_same(base_of):
    tokenizer = load_tokenizer(str(base_of("bert")))
    models = []
    for device in (None, torch.device("cpu")):
        torch.manual_seed(0)
        models.append(load_classifier(str(base_of("bert")), tokenizer, ClassifierOptions(device=device)))
    one, two = (model.state_dict() for model in models)
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    assert not hasattr(models[1], "hf_device_map")  # or the Trainer would leave where it is what is added to the base
