"""Training and scoring in bfloat16, the default on a GPU: here on a CPU, whose autocast is the same code."""

import numpy as np
import pytest
from conftest import rows_of, write_rows
from safetensors.torch import load_file

import train_relevance
from product_relevance import RelevanceEnsemble

PAIRS = [(row["origin_query"], row["category_path"]) for row in rows_of("train_QC.txt")[:40]]
FLAGS = "--task QC --use_cpu true --bf16 true --dtype bfloat16 --max_steps 12 --eval_steps 6 --save_steps 6 "
FLAGS += "--lora_r 4 --num_folds 2 --per_device_train_batch_size 32 --learning_rate 1e-3 --language_fix none "
FLAGS += "--lora_dropout 0"


@pytest.fixture(scope="module")
def trained(base_of, tmp_path_factory):
    """Return a function that trains two folds of a base with further flags."""
    file = write_rows(tmp_path_factory.mktemp("rows") / "train_QC.txt", rows_of("train_QC.txt")[:240])

    def train(kind, *more):
        folder = tmp_path_factory.mktemp("run") / "run"
        names = ["--model_name_or_path", str(base_of(kind)), "--train_file", str(file), "--output_dir", str(folder)]
        train_relevance.main([*FLAGS.split(), *names, *more])
        return folder

    return train


def scores(run, **options) -> np.ndarray:
    return np.asarray(RelevanceEnsemble.from_pretrained(str(run), **options).predict(PAIRS))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("xlm-roberta", ""),
        ("gemma3_text", "--gradient_checkpointing true"),
        ("qwen3", "--objective r_drop --lora_dropout 0.1"),
        ("gemma2", "--share_prefixes true"),
        ("qwen2", "--adapter none --dtype float32"),
    ],
)
def test_two_folds_train_one_after_the_other_and_score_as_in_float32(kind, more, trained):
    run = trained(kind, *more.split())
    exact = scores(run, dtype="float32")
    assert np.ptp(exact) > 0 and np.abs(scores(run, dtype="bfloat16") - exact).max() < 5e-3
    for file in run.glob("fold-*/adapter_model.safetensors"):
        assert {str(weight.dtype) for weight in load_file(file).values()} == {"torch.float32"}
