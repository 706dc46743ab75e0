"""A run is scored with the attention that it was trained with, or says why not."""

import shutil

import pytest

import train_relevance
from product_relevance.ensemble.base_model import attention_of_run, load_base
from product_relevance.ensemble.locate import locate_run
from product_relevance.models.modeling import attention_of
from product_relevance.utils.run_folder import join_folds, load_run, read_json, write_json
from product_relevance.utils.run_record import FoldRecord, RunRecord
from tests.conftest import rows_of, write_rows


@pytest.fixture(scope="module")
def capped(base_of, tmp_path_factory):
    """A run on a base that caps the logits of attention, as its recipe trains it: eager."""
    folder = tmp_path_factory.mktemp("capped")
    file = write_rows(folder / "train.txt", rows_of("train_QC.txt")[:60])
    flags = "--task QC --use_cpu true --fold full --max_steps 1 --language_fix none"
    flags += " --save_strategy no --eval_strategy no --load_best_model_at_end false"
    names = ["--model_name_or_path", str(base_of("gemma2")), "--train_file", str(file)]
    more = ["--output_dir", str(folder / "run"), "--attn_implementation", "eager"]
    train_relevance.main([*flags.split(), *names, *more])
    return folder / "run"


def changed(run, tmp_path, **changes):
    """The run with another run.json; None takes a key out."""
    shutil.copytree(run, tmp_path / "run")
    content = load_run(run) | changes
    write_json(tmp_path / "run/run.json", {key: value for key, value in content.items() if value is not None})
    return locate_run(str(tmp_path / "run"))


def test_a_run_is_scored_with_the_attention_of_its_training(capped):
    assert load_run(capped)["attn_implementation"] == "eager"
    assert attention_of(load_base(locate_run(str(capped)), "cpu", "float32")[1]) == "eager"


def test_an_older_run_is_scored_with_what_its_arguments_asked_for(capped, tmp_path):
    assert attention_of_run(changed(capped, tmp_path, attn_implementation=None), "cpu", "float32") == "eager"


@pytest.mark.parametrize(
    ("wanted", "device", "dtype", "reason"),
    [
        ("flash_attention_2", "cpu", "bfloat16", "it needs a GPU"),
        ("flash_attention_3", "cuda", "float32", "it needs a dtype of 16 bits"),
    ],
)
def test_what_cannot_be_had_here_is_replaced_with_a_reason(wanted, device, dtype, reason, capped, tmp_path, caplog):
    found = changed(capped, tmp_path, attn_implementation=wanted)
    assert attention_of_run(found, device, dtype) == "eager"  # the default would leave out the cap
    assert f"{wanted}, which cannot be had here ({reason})" in caplog.text


def test_code_on_the_hub_is_neither_kept_nor_loaded(capped, tmp_path, caplog):
    fold = read_json(capped / "full/fold.json") | {"attn_implementation": "someone/kernels"}
    record = RunRecord.from_json(load_run(capped))
    assert join_folds(record, [FoldRecord.from_json(fold)]).attn_implementation is None
    asked = {"model": {"attn_implementation": "someone/kernels"}}
    found = changed(capped, tmp_path, attn_implementation=None, arguments=asked)
    assert (
        attention_of_run(found, "cuda", "bfloat16") == "eager" and "none that transformers itself has" in caplog.text
    )
