"""What a training takes from its own past: means of rows and weights, also after a resume and over micro-batches."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

import train_relevance
from product_relevance.training.arguments import ObjectiveArguments
from product_relevance.training.own_past import EarlyTargets, MeanTeacher
from product_relevance.training.trainer import check_objective
from tests.conftest import rows_of, write_rows

OBJECTIVES = ["early_learning", "mean_teacher"]


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.floats(0.1, 0.9))
def test_a_rows_target_is_the_running_mean_of_its_answers(answers, momentum):
    memory, expected = EarlyTargets(3, momentum), torch.zeros(2)
    for answer in answers:
        logits = torch.tensor([[0.0, answer]])
        expected = momentum * expected + (1 - momentum) * logits.softmax(-1)[0]
        torch.testing.assert_close(memory.update(torch.tensor([1.0]), logits)[0], expected)
    assert (memory.targets[[0, 2]] == 0).all()


def test_the_teacher_is_the_running_mean_of_the_weights_and_gives_them_back():
    model = torch.nn.Linear(2, 1, bias=False)
    teacher, state = MeanTeacher(model, decay=0.5), SimpleNamespace(global_step=100)
    teacher.on_train_begin(None, state, None)
    before = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    teacher.on_step_end(None, state, None)
    with teacher.in_place():
        torch.testing.assert_close(model.weight.detach(), before + 0.5)
    torch.testing.assert_close(model.weight.detach(), before + 1)
    torch.testing.assert_close(teacher.means["weight"], before + 0.5)


def test_the_mean_of_the_first_steps_forgets_the_start_sooner():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 0)
    teacher = MeanTeacher(model, decay=0.999)
    teacher.on_train_begin(None, None, None)
    torch.nn.init.constant_(model.weight, 11)
    teacher.on_step_end(None, SimpleNamespace(global_step=1), None)
    assert teacher.means["weight"].item() == pytest.approx(9)


@pytest.mark.parametrize("precision", ["false", "true"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_resumed_training_ends_as_an_uninterrupted_one(objective, precision, base_of, tmp_path):
    file = write_rows(tmp_path / "train.txt", rows_of("train_QC.txt")[:64])
    fixed = (
        "--task QC --use_cpu true --fold 0 --num_folds 2 --max_steps 8 --save_steps 4 --eval_strategy no --lora_r 4"
    )
    fixed += " --load_best_model_at_end false --per_device_train_batch_size 8 --learning_rate 5e-3"
    fixed += f" --language_fix none --bf16 {precision} --attn_implementation eager --objective {objective}"
    names = ["--model_name_or_path", str(base_of("bert")), "--train_file", str(file)]

    def train(output, *more) -> None:
        train_relevance.main([*fixed.split(), *names, "--output_dir", str(output), *more])

    train(tmp_path / "whole", "--keep_checkpoints", "true")
    step = "checkpoints/fold-0/checkpoint-4"
    shutil.copytree(tmp_path / "whole" / step, tmp_path / "resumed" / step)
    train(tmp_path / "resumed", "--resume_from_checkpoint", "last")
    whole, resumed = (load_file(tmp_path / run / "fold-0/adapter_model.safetensors") for run in ("whole", "resumed"))
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    ("objective", "training", "told"),
    [
        ("early_learning", {"world_size": 2, "deepspeed": None, "fsdp": None}, "found 2 processes.*--folds_parallel"),
        ("mean_teacher", {"world_size": 1, "deepspeed": "zero2.json", "fsdp": None}, "use torchrun alone"),
    ],
)
def test_a_launcher_that_spreads_what_is_remembered_is_refused(objective, training, told):
    with pytest.raises(ValueError, match=told):
        check_objective(torch.nn.Linear(2, 2), SimpleNamespace(**training), ObjectiveArguments(objective=objective))
