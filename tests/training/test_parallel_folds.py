"""Folds that train at the same time, each in a process of its own, leave the run that one process leaves."""

import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import train_relevance
from product_relevance.training import distributed, parallel_folds
from product_relevance.training.run_config import RunConfig
from product_relevance.utils.run_folder import read_json
from tests.conftest import rows_of, write_rows

FLAGS = (
    "--task QC --use_cpu true --num_folds 2 --max_steps 4 --eval_steps 2 --save_steps 2 --lora_r 4 --logging_steps 1"
    " --per_device_train_batch_size 4 --global_batch_size 8 --learning_rate 1e-3 --language_fix none"
)
# What the clock, the place of the run and the way it was started differ in.
ELSEWHERE = {
    "resume_from_checkpoint",
    "seconds",
    "pairs_per_second",
    "tokens_per_second",
    "finished",
    "folds_parallel",
    "output_dir",
}
ELSEWHERE |= {"train_runtime", "train_samples_per_second", "train_steps_per_second"}
ELSEWHERE |= {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second"}


def alike(value):
    """Take out of a record what two runs of the same training differ in."""
    if isinstance(value, dict):
        return {name: alike(part) for name, part in value.items() if name not in ELSEWHERE}
    return [alike(part) for part in value] if isinstance(value, list) else value


def files_of(run) -> set:
    """Return the files of a run, but for logs, and what is drawn and written for people from run.json."""
    files = {path.relative_to(run) for path in run.rglob("*") if path.is_file()}
    return {file for file in files if file.suffix not in (".log", ".png", ".md")}


def assert_equal_runs(run, other) -> None:
    files = files_of(run)
    assert files == files_of(other)
    for file in files:
        match file.suffix:
            case ".json":
                ours, theirs = (alike(json.loads((each / file).read_text())) for each in (run, other))
                assert ours == theirs, file
            case ".parquet":
                pd.testing.assert_frame_equal(pd.read_parquet(run / file), pd.read_parquet(other / file))
            case ".safetensors":
                ours, theirs = load_file(run / file), load_file(other / file)
                assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
            case _:
                assert (run / file).read_bytes() == (other / file).read_bytes(), file


@pytest.fixture(scope="module")
def train(base_of, tmp_path_factory):
    """A function that trains two folds into a folder, with some more flags."""
    file = write_rows(tmp_path_factory.mktemp("rows") / "train.txt", rows_of("train_QC.txt")[:80])
    names = ["--model_name_or_path", str(base_of("qwen3")), "--train_file", str(file)]

    def call(output, *more: str) -> None:
        train_relevance.main([*FLAGS.split(), *names, "--output_dir", str(output), *more])

    return call


@pytest.fixture(scope="module")
def runs(train, tmp_path_factory):
    """A run whose folds were trained in turn, and one whose folds were trained by two processes."""
    folder = tmp_path_factory.mktemp("folds")
    train(folder / "in-turn")
    train(folder / "beside", "--folds_parallel", "2")
    return folder / "in-turn", folder / "beside"


def test_two_processes_leave_the_files_that_one_leaves(runs):
    in_turn, beside = runs
    assert_equal_runs(in_turn, beside)
    assert read_json(beside / "run.json")["pairs_per_step"] == 8  # the batch is not divided


def test_each_process_has_a_log_of_its_own(runs):
    for name in ("fold-0", "fold-1"):
        log = (runs[1] / "logs" / f"{name}.log").read_text()
        assert "memory:" in log and f"{name}: saved after 4 steps" in log


def test_a_fold_that_is_missing_is_trained_again_and_the_other_kept(runs, train, tmp_path):
    run = shutil.copytree(runs[1], tmp_path / "run")
    kept = (run / "fold-0/fold.json").stat().st_mtime_ns
    shutil.rmtree(run / "fold-1")
    train(run, "--folds_parallel", "2", "--resume_from_checkpoint", "last")
    assert (run / "fold-0/fold.json").stat().st_mtime_ns == kept
    assert_equal_runs(runs[0], run)


def test_the_error_of_a_process_names_fold_reason_and_log_and_the_other_fold_is_kept(runs, train, tmp_path):
    """Both folds are trained anew, and one of them cannot be put into its place."""
    run = shutil.copytree(runs[1], tmp_path / "run")
    blocked = run / "checkpoints/fold-1"
    blocked.parent.mkdir(exist_ok=True)

    def block(config, splits):
        shutil.rmtree(run / "fold-0")
        blocked.write_text("no folder")

    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit) as stopped:
        patched.setattr("product_relevance.training.run.clear_folds", block)
        train(run, "--folds_parallel", "2", "--overwrite", "true")
    message = str(stopped.value)
    assert "1 of 2 folds failed: fold-1 ended with exit code 1" in message, message
    assert str(run / "logs/fold-1.log") in message and "--resume_from_checkpoint last" in message
    assert (run / "fold-0/fold.json").is_file()
    assert "logs/fold-0.log" not in message


def config_of(train_file, **options) -> RunConfig:
    given = {"model_name_or_path": "base", "task": "QC", "train_file": str(train_file), "use_cpu": True}
    return RunConfig.from_recipe(None, **given | options)


def on_gpus(config: RunConfig, monkeypatch, count: int, visible: str | None = None) -> RunConfig:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv(parallel_folds.VISIBLE, raising=False)
    if visible is not None:
        monkeypatch.setenv(parallel_folds.VISIBLE, visible)
    training = SimpleNamespace(device=torch.device("cuda"), world_size=1, deepspeed=None, fsdp=None)
    return replace(config, training=training)


@pytest.mark.parametrize(
    ("wanted", "count", "visible", "places"),
    [
        (0, 4, None, ["0", "1", "2", "3"]),
        (3, 4, "4,5,6,7", ["4", "5", "6"]),
        (0, 1, "GPU-8a,GPU-9b", ["GPU-8a"]),
        (2, 1, None, ["0", "0"]),  # two folds on one card
    ],
)
def test_each_process_sees_one_gpu(wanted, count, visible, places, monkeypatch, tmp_path):
    config = on_gpus(config_of(tmp_path / "rows", folds_parallel=wanted), monkeypatch, count, visible)
    parallel_folds.check_parallel(config)
    assert parallel_folds._places(config) == places


def test_a_process_gets_its_gpu_and_its_share_of_the_cores(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert parallel_folds._settings("3", 4) == {"OMP_NUM_THREADS": "4", parallel_folds.VISIBLE: "3"}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with parallel_folds._environment(parallel_folds._settings("3", 4)):
        assert os.environ[parallel_folds.VISIBLE] == "3" and os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ.get(parallel_folds.VISIBLE) != "3" and os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"world_size": 4}, "found 4 processes of a launcher"),
        ({"deepspeed": "zero2.json"}, "found DeepSpeed"),
        ({"device": torch.device("cpu")}, "runs on cpu; give a number, as --folds_parallel 2"),
    ],
)
def test_what_starts_processes_of_its_own_is_refused(found, told, monkeypatch, tmp_path):
    config = on_gpus(config_of(tmp_path / "rows", folds_parallel=0), monkeypatch, 2)
    vars(config.training).update(found)
    with pytest.raises(ValueError, match=told):
        parallel_folds.check_parallel(config)


def test_a_number_below_zero_is_refused(tmp_path):
    with pytest.raises(ValueError, match="--folds_parallel -1: expected how many folds"):
        config_of(tmp_path / "rows", folds_parallel=-1)


def test_a_machine_with_several_gpus_is_told_how_to_use_them(caplog):
    training = SimpleNamespace(n_gpu=4, _n_gpu=4, deepspeed=None, use_cpu=False)
    distributed.prepare_processes(training, folds_parallel=0)
    assert not caplog.records and training._n_gpu == 1
    training.n_gpu = 4
    distributed.prepare_processes(training)
    assert "--folds_parallel 0" in caplog.text and "torchrun --nproc_per_node 4" in caplog.text
