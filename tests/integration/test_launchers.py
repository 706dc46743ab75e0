"""The real launchers on two CPU processes: the engine that was asked for trains, and all of them agree."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import train_relevance
from product_relevance.utils.run_folder import load_run
from tests.conftest import rows_of, write_rows
from tests.helpers import tiny_prompt
from tests.helpers.launching import launch_in_turn

pytestmark = pytest.mark.launcher


FLAGS = (
    "--task QC --use_cpu true --num_folds 2 --max_steps 4 --eval_steps 4 --save_steps 4 --lora_r 4 --lora_dropout 0"
    " --learning_rate 1e-3 --language_fix none --per_device_train_batch_size 4 --fold all --global_batch_size 16"
)


@pytest.fixture(scope="module")
def distilled(base_of, tmp_path_factory):
    """Return a function from a name and more flags to those of a training with a teacher, and its folder."""
    folder = tmp_path_factory.mktemp("launchers")
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:160])
    names = ["--model_name_or_path", str(base_of("qwen3")), "--train_file", str(file)]
    teacher = folder / "teacher"
    train_relevance.main([*FLAGS.split(), *names, "--output_dir", str(teacher)])
    names += ["--objective", "distill", "--teacher", str(teacher)]
    return lambda name, *more: ([*FLAGS.split(), *names, "--output_dir", str(folder / name), *more], folder / name)


SPLIT_FLAGS = (
    "--task QC --use_cpu true --fold full --max_steps 4 --eval_strategy no --save_strategy no --lora_r 4 "
    "--lora_dropout 0 --load_best_model_at_end false "
    "--learning_rate 1e-1 --optim sgd --language_fix none --logging_steps 1"
)
SPLITS = {"plain": ("false", "random", 40), "shared": ("true", "group_by_length", 120)}


def split_flags(name: str, base: Path, folder: Path) -> list[str]:
    """Write the records of one way of SPLITS; flags of a training on them."""
    share, order, _ = SPLITS[name]
    rows = rows_of("train_QC.txt")[:64]
    if share == "true":  # four targets a query
        rows = [
            row | {"origin_query": rows[i // 4]["origin_query"] + " for a rainy day"} for i, row in enumerate(rows)
        ]
    file = write_rows(folder / f"{name}.txt", rows)
    flags = [*SPLIT_FLAGS.split(), "--model_name_or_path", str(base), "--train_file", str(file)]
    return [*flags, "--share_prefixes", share, "--train_sampling_strategy", order]


@pytest.fixture(scope="module")
def torchrun(distilled, base_of, tmp_path_factory):
    """The run of ddp, and a folder with each way of SPLITS trained by one process and by two: one job of torchrun."""
    folder = tmp_path_factory.mktemp("splits")
    ddp_flags, ddp = distilled("ddp")
    jobs = [ddp_flags]
    for name, (_, _, tokens) in SPLITS.items():
        flags = split_flags(name, base_of("qwen3"), folder)
        train_relevance.main(
            [*flags, "--per_device_train_batch_size", "16", "--output_dir", str(folder / name / "one")]
        )
        pieces = ["--per_device_train_batch_size", "4", "--global_batch_size", "16"]
        jobs.append([*flags, *pieces, "--tokens_per_forward", str(tokens), "--output_dir", str(folder / name / "two")])
    launch_in_turn("torchrun", jobs)
    return ddp, folder


@pytest.fixture(scope="module")
def ddp(torchrun):
    return torchrun[0]


def fold_of(run: Path, fold: str = "fold-0") -> dict:
    return json.loads((run / fold / "fold.json").read_text())


def scores(output: Path, fold: str = "fold-0") -> pd.DataFrame:
    return pd.read_parquet(output / fold / "oof.parquet")


def test_torchrun_trains_with_ddp(ddp):
    assert fold_of(ddp)["engine"] == "DistributedDataParallel"


def test_the_batch_is_split_over_the_processes(ddp):
    run = load_run(ddp)
    assert run["arguments"]["training"]["gradient_accumulation_steps"] == 2 and run["pairs_per_step"] == 16


@pytest.mark.parametrize("name", SPLITS)
def test_two_processes_that_split_train_as_one_that_does_not(name, torchrun):
    runs = [torchrun[1] / name / processes / "full" for processes in ("two", "one")]
    fold, whole = (json.loads((run / "fold.json").read_text()) for run in runs)
    assert fold["engine"] == "DistributedDataParallel"
    assert fold["padding_ratio"] < (1 if name == "shared" else whole["padding_ratio"])
    two, one = (load_file(run / "adapter_model.safetensors") for run in runs)
    assert two.keys() == one.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-6, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def zero_file(stage: int) -> list[str]:
    return ["--deepspeed", f"ds_configs/zero{stage}.json"]


@pytest.fixture(scope="module")
def deepspeed(distilled, tmp_path_factory):
    """Stage to a run at it, and a folder with a yes/no run of one process and of ZeRO-3: one job of deepspeed."""
    runs = {stage: distilled(f"zero{stage}", *zero_file(stage)) for stage in (2, 3)}
    answers = tmp_path_factory.mktemp("answers")
    tiny_prompt.write_inputs(answers)
    one = ["--fold", "0", "--max_steps", "4", "--lora_dropout", "0", "--eval_strategy", "no", "--save_strategy", "no"]
    base = tiny_prompt.save_strong_base(answers / "base", "qwen3")  # its output embedding is a matrix of its own
    flags = [*tiny_prompt.arguments(base, answers, *one), "--load_best_model_at_end", "false"]
    train_relevance.main([*flags, "--output_dir", str(answers / "one")])
    in_two = [*flags, "--per_device_train_batch_size", "8", *zero_file(3)]
    launch_in_turn("deepspeed", [*(flags for flags, _ in runs.values()), in_two])
    return {stage: run for stage, (_, run) in runs.items()}, answers


@pytest.fixture(scope="module")
def zero(deepspeed):
    return deepspeed[0]


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_trains_at_the_stage_asked_for_and_scores_as_ddp_does(stage, zero, ddp):
    output = zero[stage]
    assert fold_of(output)["engine"] == f"DeepSpeedEngine zero{stage}"
    ours, theirs = scores(output), scores(ddp)
    assert (ours["id"] == theirs["id"]).all()
    assert (ours["score"] - theirs["score"]).abs().max() < 2e-4
    assert (scores(output, "fold-1")["score"] - scores(ddp, "fold-1")["score"]).abs().max() < 2e-4


def test_zero_3_takes_the_answers_out_of_a_spread_embedding(deepspeed):
    ours, theirs = (pd.read_parquet(deepspeed[1] / name / "fold-0/oof.parquet") for name in ("run", "one"))
    assert np.ptp(ours["score"]) > 0.1 and np.allclose(ours["score"], theirs["score"], atol=2e-4)


def fold_scores(run: Path, ids) -> np.ndarray:
    """The scores that fold-0 of a run gives to rows of the training file, in this one process."""
    from product_relevance import RelevanceEnsemble

    rows = {row["id"]: row for row in rows_of("train_QC.txt")[:160]}
    ensemble = RelevanceEnsemble.from_pretrained(run, device="cpu")
    return ensemble.predict_folds([(rows[i]["origin_query"], rows[i]["category_path"]) for i in ids])[:, 0]


def test_an_adapter_trained_under_zero3_scores_alike_when_loaded_on_one_process(zero):
    oof = scores(zero[3])
    assert abs(fold_scores(zero[3], oof["id"]) - oof["score"].to_numpy()).max() < 2e-4


def test_two_processes_score_a_fold_as_one_does(ddp):
    oof = scores(ddp)
    assert abs(fold_scores(ddp, oof["id"]) - oof["score"].to_numpy()).max() < 1e-6


def test_two_processes_ask_a_teacher_as_one_does(ddp):
    taught = pd.read_parquet(ddp / "teacher-fold-0.parquet").dropna()
    assert len(taught) == fold_of(ddp)["train_rows"]
    again = fold_scores(ddp.parent / "teacher", taught["id"].astype(rows_of("train_QC.txt")[0]["id"].__class__))
    assert abs(again - taught["teacher:fold-0"].to_numpy()).max() < 1e-6
