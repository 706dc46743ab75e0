"""A training goes on as it began: another setting is refused with both values, or allowed by name and recorded."""

import json
import shutil
from dataclasses import fields

import pytest
from safetensors.torch import load_file
from transformers import TrainingArguments

import train_relevance
from product_relevance.cli.info import run_lines
from product_relevance.data.arguments import DataArguments
from product_relevance.models.arguments import ModelArguments
from product_relevance.training.arguments import ObjectiveArguments
from product_relevance.training.checkpointing.checkpoint_record import CheckpointRecord, read_checkpoint
from product_relevance.utils import run_settings
from product_relevance.utils.run_folder import load_record, load_run, read_json, write_json
from product_relevance.utils.run_record import RunRecord
from tests.conftest import rows_of, save_base, write_rows

LAST = ["--resume_from_checkpoint", "last"]


@pytest.fixture(scope="module")
def whole(base_of, tmp_path_factory):
    """A function that trains 6 steps with some more flags, and an uninterrupted run with its checkpoints kept."""
    folder = tmp_path_factory.mktemp("whole")
    write_rows(folder / "train.txt", rows_of("train_QC.txt")[:160])
    write_rows(folder / "other.txt", rows_of("train_QC.txt")[:161])

    def train(output, *more) -> None:
        fixed = (
            "--task QC --use_cpu true --fold 0 --num_folds 2 --max_steps 6 --eval_steps 2 --save_steps 2 --lora_r 4"
        )
        fixed += " --per_device_train_batch_size 16 --learning_rate 1e-3 --language_fix none --save_total_limit 5"
        names = ["--model_name_or_path", str(base_of("bert")), "--train_file", str(folder / "train.txt")]
        train_relevance.main([*fixed.split(), *names, "--output_dir", str(output), *more])

    train(folder / "run", "--keep_checkpoints", "true", "--early_stopping_patience", "9")
    return folder, train


@pytest.fixture
def begun(whole, tmp_path):
    """A run that was interrupted after its second step."""
    step = "checkpoints/fold-0/checkpoint-2"
    shutil.copytree(whole[0] / "run" / step, tmp_path / "run" / step)
    return tmp_path / "run"


def refused(train, *arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        train(*arguments, *LAST)
    return str(stopped.value)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--lora_alpha", "512"], "lora_alpha 32 there, 512 here"),
        (["--label_smoothing_factor", "0.1"], "label_smoothing_factor 0.0 there, 0.1 here"),
        (["--learning_rate", "1e-4"], "learning_rate 0.001 there, 0.0001 here"),
        (["--gradient_accumulation_steps", "2"], "effective_batch 16 there, 32 here"),
    ],
)
def test_another_setting_is_refused_with_both_values_and_the_way_out(more, told, whole, begun):
    message = refused(whole[1], begun, *more, "--early_stopping_patience", "9")
    assert told in message and f"--resume_allow {told.split()[0]}" in message


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--lora_r", "8"], "lora_r 4 there, 8 here"),
        (["--fold_seed", "7"], "it has trained on rows that the fold would validate on"),
    ],
)
def test_what_the_weights_cannot_go_on_with_is_refused_even_by_name(more, told, whole, begun):
    message = refused(whole[1], begun, *more, "--resume_allow", "fold_seed")
    assert told in message and "--overwrite true" in message and "--resume_allow" not in message


def test_another_file_is_refused(whole, begun):
    message = refused(whole[1], begun, "--train_file", str(whole[0] / "other.txt"))
    assert "train_file sha256" in message


def test_a_name_that_is_no_setting_is_refused_with_the_nearest(whole, begun):
    assert "did you mean learning_rate?" in refused(whole[1], begun, "--resume_allow", "learning_rates")


def test_a_difference_that_is_allowed_by_name_is_recorded(whole, begun):
    whole[1](begun, *LAST, "--learning_rate", "1e-4", "--resume_allow", "learning_rate", "early_stopping_patience")
    changes = load_run(begun)["folds"][0]["changes"]
    known = {"early_stopping_patience": [9, None], "learning_rate": [0.001, 0.0001]}
    assert changes == [{"step": 2, "settings": known}]
    assert "fold-0 went on after step 2 with other settings" in (begun / "report.md").read_text()


def test_a_base_that_was_moved_is_the_same_base_and_another_one_is_not(whole, begun, base_of, tmp_path):
    more = ["--early_stopping_patience", "9", "--resume_allow", "model_name_or_path", "--model_name_or_path"]
    other = save_base(tmp_path / "other", "bert", seed=5)
    assert "base_weights" in refused(whole[1], begun, *more, str(other))
    shutil.copytree(base_of("bert"), tmp_path / "moved")
    whole[1](begun, *LAST, *more, str(tmp_path / "moved"))
    assert load_run(begun)["folds"][0]["changes"][0]["settings"].keys() == {"model_name_or_path"}


def without_record(checkpoint) -> None:
    """Leave a checkpoint as an older version did."""
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    del state["stateful_callbacks"]["CheckpointRecord"]
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))


def test_an_older_checkpoint_is_taken_with_a_warning_and_ends_as_an_uninterrupted_run(whole, begun, caplog):
    without_record(begun / "checkpoints/fold-0/checkpoint-2")
    whole[1](begun, *LAST, "--early_stopping_patience", "9")
    assert "does not say what it was trained with" in caplog.text
    one, two = (load_file(run / "fold-0/adapter_model.safetensors") for run in (whole[0] / "run", begun))
    assert all((one[name] == two[name]).all() for name in one)


def test_early_stopping_counts_on_where_it_was(whole, tmp_path):
    still = ["--learning_rate", "1e-12", "--early_stopping_patience", "2", "--max_steps", "10"]
    whole[1](tmp_path / "whole", *still, "--keep_checkpoints", "true")
    step = "checkpoints/fold-0/checkpoint-4"
    shutil.copytree(tmp_path / "whole" / step, tmp_path / "run" / step)
    whole[1](tmp_path / "run", *still, *LAST)
    steps = [load_run(tmp_path / name)["folds"][0]["steps"] for name in ("whole", "run")]
    assert steps == [6, 6]


@pytest.fixture(scope="module")
def again(whole):
    """The run once more, which was killed after its last checkpoint."""
    shutil.copytree(whole[0] / "run/checkpoints", whole[0] / "again/checkpoints")
    whole[1](whole[0] / "again", *LAST, "--early_stopping_patience", "9")
    return whole[0] / "again"


def test_a_run_that_was_killed_after_its_last_step_takes_no_further_one(whole, again):
    assert load_run(again)["folds"][0]["steps"] == 6
    one, two = (load_file(run / "fold-0/adapter_model.safetensors") for run in (whole[0] / "run", again))
    assert all((one[name] == two[name]).all() for name in one)


def test_times_and_pairs_add_up_over_resumes(whole, again):
    first, second = (read_json(run / "fold-0/fold.json") for run in (whole[0] / "run", again))
    checkpoint = read_checkpoint(whole[0] / "run/checkpoints/fold-0/checkpoint-6")
    known = checkpoint.attributes(CheckpointRecord)["totals"]
    assert second["seconds"] >= round(known["seconds"], 1) > 0.5 * first["seconds"]
    assert second["pairs_per_second"] * second["seconds"] == pytest.approx(6 * 16, rel=0.3)  # seconds are rounded


def test_info_says_how_long_a_short_training_took(again):
    assert f"trained     {load_run(again)['seconds']:.1f} seconds" in run_lines(load_record(again))[-1]


@pytest.fixture
def joined(whole, tmp_path):
    """A run with its first fold, to which another one may be added."""
    shutil.copytree(whole[0] / "run/fold-0", tmp_path / "run/fold-0")
    return tmp_path / "run"


def test_a_fold_that_was_trained_otherwise_is_not_joined_unasked(whole, joined):
    message = refused(whole[1], joined, "--fold", "1", "--learning_rate", "1e-4", "--early_stopping_patience", "9")
    assert "learning_rate 0.001 in fold-0, 0.0001 in this run" in message and "--mixed_folds true" in message


def test_folds_that_are_joined_all_the_same_are_reported(whole, joined):
    more = ["--fold", "1", "--lora_r", "2", "--early_stopping_patience", "9", "--mixed_folds", "true"]
    whole[1](joined, *more)
    assert load_run(joined)["mixed_folds"] == {"lora_r": {"fold-0": 4, "fold-1": 2}}
    assert "- lora_r: 4 (fold-0), 2 (fold-1)" in (joined / "report.md").read_text()


def test_folds_on_other_base_weights_are_not_joined(whole, joined):
    shutil.copytree(joined / "fold-0", joined / "fold-1")
    fold = read_json(joined / "fold-1/fold.json")
    write_json(
        joined / "fold-1/fold.json", fold | {"name": "fold-1", "settings": fold["settings"] | {"base_weights": "x"}}
    )
    assert "base_weights" in refused(whole[1], joined, "--early_stopping_patience", "9", "--fold", "all")


def test_each_fold_keeps_the_digest_of_what_shaped_it(whole):
    fold = read_json(whole[0] / "run/fold-0/fold.json")
    assert fold["settings_sha256"] == run_settings.hash_settings(fold["settings"])


def test_every_argument_is_known_to_shape_a_fold_or_not_to():
    kinds = (ModelArguments, ObjectiveArguments, DataArguments, TrainingArguments)
    names = {field.name for kind in kinds for field in fields(kind) if field.init}
    assert not run_settings.SHAPING & run_settings.WITHOUT_EFFECT
    assert names <= run_settings.SHAPING | run_settings.WITHOUT_EFFECT


@pytest.fixture
def shared(whole):
    """What a run says before any fold; its arguments may be changed."""
    return load_run(whole[0] / "run")


def settings_of(run: dict) -> dict:
    return run_settings.list_settings(RunRecord.from_json(run), "fold-0")


@pytest.mark.parametrize(
    ("group", "changes", "processes"),
    [
        ("training", {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}, 2),
        ("training", {"output_dir": "elsewhere", "use_cpu": False, "logging_steps": 1}, 1),
        ("data", {"tokens_per_forward": 512, "train_file": "moved/train.txt", "keep_checkpoints": False}, 1),
    ],
)
def test_what_shapes_nothing_makes_no_difference(group, changes, processes, shared):
    before = settings_of(shared)
    arguments = shared["arguments"] | {group: shared["arguments"][group] | changes}
    assert settings_of(shared | {"arguments": arguments, "processes": processes}) == before


def test_a_parent_run_that_was_trained_anew_makes_a_difference(shared):
    parent = {"name": "runs/qi", "task": "QI", "folds": ["fold-0"], "finished": "2026-01-01"}
    one = settings_of(shared | {"first_stage": parent})
    moved = settings_of(shared | {"first_stage": parent | {"name": "qi"}})
    anew = settings_of(shared | {"first_stage": parent | {"finished": "2026-02-02"}})
    assert one == moved != anew
