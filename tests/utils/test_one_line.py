"""What a user can mend ends in one line; a defect of the program keeps its traceback."""

import pytest
import torch
from safetensors import SafetensorError

from product_relevance.cli.main import main as relevance
from product_relevance.models.loading.checkpoints import choose_device
from product_relevance.models.memory import is_out_of_memory
from product_relevance.training.arguments import check_reports, parse_arguments
from product_relevance.utils.one_line import errors_in_one_line, one_line

TOLD = [
    (ValueError("a.csv:3: label: found 2"), "a.csv:3: label: found 2"),
    (PermissionError(13, "Permission denied", "/x/run.json"), "/x/run.json: Permission denied"),
    (OSError(28, "No space left on device"), "No space left on device"),
    (OSError("cannot reach the Hub"), "cannot reach the Hub"),
    (
        SafetensorError("incomplete metadata"),
        "a safetensors file is incomplete or broken (incomplete metadata)",
    ),
    (
        ModuleNotFoundError("No module named 'onnx'", name="onnx"),
        "the package onnx is missing (No module named 'onnx')",
    ),
    (AssertionError("Torch not compiled with CUDA enabled"), "no GPU can be used here (Torch not compiled"),
]


@pytest.mark.parametrize("error, told", TOLD)
def test_what_a_user_can_mend_is_one_line(error, told):
    with pytest.raises(SystemExit) as ended, errors_in_one_line():
        raise error
    assert str(ended.value).startswith(f"error: {told}") and "\n" not in str(ended.value)


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), AssertionError("x"), RuntimeError("x")])
def test_a_defect_of_the_program_keeps_its_traceback(error):
    assert one_line(error) is None
    with pytest.raises(type(error)), errors_in_one_line():
        raise error


def test_an_error_of_the_system_is_one_line_of_the_command():
    with pytest.raises(SystemExit, match="^error: x{300}.*: File name too long$"):
        relevance(["info", "x" * 300])


@pytest.mark.parametrize("device", [f"cuda:{torch.cuda.device_count()}", "gpu", "cuda:x"])
def test_a_device_that_is_not_there_is_a_clear_error(device):
    with pytest.raises(ValueError, match=f"device {device}: "):
        choose_device(device)


def test_the_gpu_of_a_mac_is_chosen_where_torch_offers_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for there, expected in ((True, "mps"), (False, "cpu")):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda there=there: there)
        assert choose_device() == expected
    with pytest.raises(ValueError, match="device mps: torch .* finds no GPU of a Mac here"):
        choose_device("mps")


def test_a_gpu_without_memory_is_known_by_its_error():
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("no memory left"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_a_device_that_is_there_is_taken():
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("name, told", [("wandb", "wandb to be installed"), ("nothing", "expected none, or one of")])
def test_a_service_to_report_to_that_is_missing_is_named_before_anything_is_read(name, told, monkeypatch):
    monkeypatch.setattr("transformers.integrations.integration_utils.is_wandb_available", lambda: False)
    flags = ["--model_name_or_path", "org/base", "--task", "QC", "--train_file", "x.txt", "--use_cpu", "true"]
    with pytest.raises(ValueError, match=f"--report_to {name}: .*{told}"):
        check_reports(parse_arguments([*flags, "--report_to", name])[-1])
