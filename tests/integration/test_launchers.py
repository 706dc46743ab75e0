"""The real launchers on two CPU processes: the engine that was asked for trains, and all of them agree."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import train_relevance
from product_relevance.utils.run_folder import load_run
from tests.conftest import rows_of, write_rows
from tests.helpers.launching import launch, launch_in_turn

pytestmark = pytest.mark.launcher


@pytest.fixture(scope="module")
def train(base_of, tmp_path_factory):
    """Return a function that trains tiny runs under a launcher and gives the fold.json and folder of each."""
    folder = tmp_path_factory.mktemp("launchers")
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:160])
    flags = "--task QC --use_cpu true --num_folds 2 --max_steps 4 --eval_steps 4 --save_steps 4 --lora_r 4"
    flags += " --lora_dropout 0 --learning_rate 1e-3 --language_fix none --per_device_train_batch_size 4 --fold all"
    flags += " --global_batch_size 16"
    names = ["--model_name_or_path", str(base_of("qwen3")), "--train_file", str(file)]
    teacher = folder / "teacher"
    train_relevance.main([*flags.split(), *names, "--output_dir", str(teacher)])
    names += ["--objective", "distill", "--teacher", str(teacher)]

    def start(launcher: str, runs: dict[str, list[str]]):
        trainings = [
            [*flags.split(), *names, "--output_dir", str(folder / name), *more] for name, more in runs.items()
        ]
        launch_in_turn(launcher, trainings) if len(runs) > 1 else launch(launcher, *trainings[0])
        return [(json.loads((folder / name / "fold-0/fold.json").read_text()), folder / name) for name in runs]

    return start


def scores(output: Path, fold: str = "fold-0") -> pd.DataFrame:
    return pd.read_parquet(output / fold / "oof.parquet")


@pytest.fixture(scope="module")
def ddp(train):
    return train("torchrun", {"ddp": []})[0]


def test_torchrun_trains_with_ddp(ddp):
    assert ddp[0]["engine"] == "DistributedDataParallel"


def test_the_batch_is_split_over_the_processes(ddp):
    run = load_run(ddp[1])
    assert run["arguments"]["training"]["gradient_accumulation_steps"] == 2 and run["pairs_per_step"] == 16


@pytest.fixture(scope="module")
def zero(train):
    """Stage to a run at it; one job of deepspeed for both."""
    stages = {f"zero{stage}": ["--deepspeed", f"ds_configs/zero{stage}.json"] for stage in (2, 3)}
    return dict(zip((2, 3), train("deepspeed", stages), strict=True))


@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_trains_at_the_stage_asked_for_and_scores_as_ddp_does(stage, zero, ddp):
    fold, output = zero[stage]
    assert fold["engine"] == f"DeepSpeedEngine zero{stage}"
    ours, theirs = scores(output), scores(ddp[1])
    assert (ours["id"] == theirs["id"]).all()
    assert (ours["score"] - theirs["score"]).abs().max() < 2e-4
    assert (scores(output, "fold-1")["score"] - scores(ddp[1], "fold-1")["score"]).abs().max() < 2e-4


def fold_scores(run: Path, ids) -> np.ndarray:
    """The scores that fold-0 of a run gives to rows of the training file, in this one process."""
    from product_relevance import RelevanceEnsemble

    rows = {row["id"]: row for row in rows_of("train_QC.txt")[:160]}
    ensemble = RelevanceEnsemble.from_pretrained(run, device="cpu")
    return ensemble.predict_folds([(rows[i]["origin_query"], rows[i]["category_path"]) for i in ids])[:, 0]


def test_an_adapter_trained_under_zero3_scores_alike_when_loaded_on_one_process(zero):
    oof = scores(zero[3][1])
    assert abs(fold_scores(zero[3][1], oof["id"]) - oof["score"].to_numpy()).max() < 2e-4


def test_two_processes_score_a_fold_as_one_does(ddp):
    oof = scores(ddp[1])
    assert abs(fold_scores(ddp[1], oof["id"]) - oof["score"].to_numpy()).max() < 1e-6


def test_two_processes_ask_a_teacher_as_one_does(ddp):
    taught = pd.read_parquet(ddp[1] / "teacher-fold-0.parquet").dropna()
    assert len(taught) == ddp[0]["train_rows"]
    again = fold_scores(ddp[1].parent / "teacher", taught["id"].astype(rows_of("train_QC.txt")[0]["id"].__class__))
    assert abs(again - taught["teacher:fold-0"].to_numpy()).max() < 1e-6
