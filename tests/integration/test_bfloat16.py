"""Training and scoring in bfloat16, the default on a GPU: here on a CPU, whose autocast is the same code."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train_relevance
from product_relevance import RelevanceEnsemble
from product_relevance.training.trainer import RelevanceTrainer
from tests.conftest import rows_of, write_rows

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


def ensemble_of(run, dtype: str) -> RelevanceEnsemble:
    ensemble = RelevanceEnsemble.from_pretrained(str(run), dtype=dtype)
    assert ensemble.dtype == dtype
    return ensemble


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("xlm-roberta", ""),
        ("gemma3_text", "--gradient_checkpointing true"),
        ("qwen3", "--objective r_drop --lora_dropout 0.1"),
        ("qwen2", "--objective mean_teacher --share_prefixes true --ema_decay 0.9"),
        ("gemma2", "--share_prefixes true"),
        ("qwen2", "--adapter none --dtype float32"),
    ],
)
def test_two_folds_train_one_after_the_other_and_score_as_in_float32(kind, more, trained, monkeypatch):
    seen, compute = [], RelevanceTrainer.compute_loss

    def watched(trainer, model, *inputs, **options):
        hook = model.get_input_embeddings().register_forward_hook(
            lambda *_: seen.append(torch.is_autocast_enabled("cpu"))
        )
        try:
            return compute(trainer, model, *inputs, **options)
        finally:
            hook.remove()

    monkeypatch.setattr(RelevanceTrainer, "compute_loss", watched)
    run = trained(kind, *more.split())
    assert len(seen) >= 24 and all(seen)  # two folds of twelve steps
    half, exact = (np.asarray(ensemble_of(run, dtype).predict(PAIRS)) for dtype in ("bfloat16", "float32"))
    assert np.ptp(exact) > 0 and 0 < np.abs(half - exact).max() < 5e-3
    files = list(run.glob("fold-*/*model.safetensors"))
    assert len(files) == 2
    for file in files:
        assert {str(weight.dtype) for weight in load_file(file).values()} == {"torch.float32"}


def test_a_base_in_float16_is_refused(trained):
    run = trained("bert", "--fold", "0")
    with pytest.raises(ValueError, match="dtype float16: expected auto, bfloat16, float32, nf4"):
        RelevanceEnsemble.from_pretrained(str(run), dtype="float16")
