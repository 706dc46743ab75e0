"""Training: resumed = uninterrupted, accumulated = large batch, NaN stops, no run is lost to another or to a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

import train_relevance
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.training.arguments import parse_arguments
from product_relevance.training.batches.dataset import PairCollator, PairDataset
from product_relevance.training.checkpointing.safe_trainer import MARKER, STATE, last_whole_checkpoint
from product_relevance.training.run_data import sample_evaluation_rows
from product_relevance.training.trainer import RelevanceTrainer
from product_relevance.utils.run_folder import load_run
from tests.conftest import ROOT, rows_of, write_rows


def arguments(base, train_file, output, *more) -> list[str]:
    """Flags of a tiny run: 12 steps in three epochs, saved at 6 (inside the second) and 12."""
    fixed = "--task QC --use_cpu true --fold 0 --max_steps 12 --eval_steps 6 --save_steps 6 --lora_r 4"
    fixed += " --per_device_train_batch_size 32 --learning_rate 1e-3 --lora_dropout 0.1 --language_fix none"
    names = ["--model_name_or_path", str(base), "--train_file", str(train_file), "--output_dir", str(output)]
    return [*fixed.split(), *names, *more]


def weights(run) -> dict:
    return load_file(run / "fold-0/adapter_model.safetensors")


def assert_equal_weights(one, two, atol=0.0):
    a, b = weights(one), weights(two)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.allclose(a[name], b[name], rtol=0, atol=atol), name


@pytest.fixture(scope="module")
def whole_run(base_of, tmp_path_factory):
    """An uninterrupted run with its checkpoints kept."""
    folder = tmp_path_factory.mktemp("whole")
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:240])
    train_relevance.main(arguments(base_of("qwen3"), file, folder / "run", "--keep_checkpoints", "true"))
    return folder


def test_a_run_holds_what_the_readme_says(whole_run):
    run = load_run(whole_run / "run")
    for name in ("run.json", "report.md", "oof.parquet", "fold-0/adapter_model.safetensors", "fold-0/fold.json"):
        assert (whole_run / "run" / name).is_file(), name
    assert {"base", "template", "thresholds", "metrics", "versions", "data", "seconds"} <= run.keys()
    assert run["base"]["fingerprint"] and run["data"]["sha256"]
    fold = run["folds"][0]
    assert fold["pairs_per_second"] > 0 and fold["tokens_per_second"] > 0 and fold["padding_ratio"] >= 1
    assert "token" not in json.dumps(run["arguments"]["training"]).replace("tokens", "").replace("tokenizer", "")


def test_resumed_from_a_checkpoint_equals_uninterrupted(whole_run, base_of, tmp_path):
    kept = whole_run / "run/checkpoints/fold-0/checkpoint-6"
    shutil.copytree(kept, tmp_path / "run/checkpoints/fold-0/checkpoint-6")
    more = ["--resume_from_checkpoint", "last"]
    train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more))
    assert_equal_weights(whole_run / "run", tmp_path / "run")


def test_killed_in_training_and_resumed_equals_uninterrupted(whole_run, base_of, tmp_path):
    flags = arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run")
    command = [sys.executable, str(ROOT / "train_relevance.py"), *flags]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = tmp_path / "run/checkpoints/fold-0/checkpoint-6" / MARKER
    deadline = time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert first.exists() and not (tmp_path / "run/fold-0").exists()
    train_relevance.main([*flags, "--resume_from_checkpoint", "last"])
    assert_equal_weights(whole_run / "run", tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "kept", "told"),
    [
        (STATE, 50, f"{STATE} is missing or incomplete"),
        (STATE, None, f"{STATE} is missing or incomplete"),
        (MARKER, None, f"no {MARKER}"),  # killed before another process had written its files
        ("rng_state.pth", None, "rng_state.pth is missing or incomplete"),
        ("adapter_model.safetensors", 900, "adapter_model.safetensors is missing or incomplete"),
    ],
)
def test_a_checkpoint_cut_off_while_it_was_saved_is_passed_over(name, kept, told, whole_run, tmp_path, caplog):
    shutil.copytree(whole_run / "run/checkpoints/fold-0", tmp_path / "fold-0")
    assert last_whole_checkpoint(tmp_path / "fold-0").name == "checkpoint-12"
    file = tmp_path / "fold-0/checkpoint-12" / name
    content = file.read_bytes()
    file.unlink()
    if kept:
        file.write_bytes(content[:kept])
    assert last_whole_checkpoint(tmp_path / "fold-0").name == "checkpoint-6"
    assert f"checkpoint-12 is not whole ({told}" in caplog.text


def test_a_checkpoint_that_is_asked_for_but_not_whole_is_refused(whole_run, base_of, tmp_path):
    kept = tmp_path / "run/checkpoints/fold-0/checkpoint-6"
    shutil.copytree(whole_run / "run/checkpoints/fold-0/checkpoint-6", kept)
    (kept / MARKER).unlink()
    more = ["--resume_from_checkpoint", str(kept)]
    with pytest.raises(SystemExit, match=r"checkpoint-6 is not whole .*--resume_from_checkpoint last"):
        train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more))


def test_accumulated_batches_equal_one_large_batch(whole_run, base_of, tmp_path):
    for name, rows, times in (("large", 8, 1), ("accumulated", 2, 4)):
        more = ["--per_device_train_batch_size", str(rows), "--gradient_accumulation_steps", str(times)]
        more += ["--lora_dropout", "0"]
        train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / name, *more))
    assert_equal_weights(tmp_path / "large", tmp_path / "accumulated", atol=2e-5)


def test_a_weight_of_two_is_worth_the_row_twice(base_of):
    tokenizer = load_tokenizer(str(base_of("bert")))
    model = load_classifier(str(base_of("bert")), tokenizer, ClassifierOptions(dropout=0.0))
    ids = encode_pairs(tokenizer, ["red shoes", "usb"], ["shoes", "phones,cables"], 32)

    def loss(rows, weights=None):
        data = PairDataset([ids[i] for i in rows], [i % 2 for i in rows], weights)
        fitter = RelevanceTrainer(model=model, pad_id=1, args=TrainingArguments(use_cpu=True, report_to="none"))
        return fitter.compute_loss(model, PairCollator(1)([data[i] for i in range(len(rows))])).item() * len(rows)

    assert loss([0, 1], [2.0, 1.0]) == pytest.approx(loss([0, 0, 1]), abs=1e-5)
    assert loss([0, 1], [0.0, 1.0]) == pytest.approx(loss([1]), abs=1e-5)


def test_weights_of_a_prepared_file_reach_the_loss(whole_run, base_of, tmp_path):
    rows = rows_of("train_QC.txt")[:240]
    for name, weight in (("one", 1.0), ("half", 0.5)):
        file = write_rows(tmp_path / f"{name}.txt", [row | {"weight": weight} for row in rows])
        train_relevance.main(arguments(base_of("qwen3"), file, tmp_path / name))
    assert_equal_weights(whole_run / "run", tmp_path / "one", atol=1e-6)
    history = {n: json.loads((tmp_path / n / "fold-0/fold.json").read_text())["history"] for n in ("one", "half")}
    loss = {name: next(row["loss"] for row in rows if "loss" in row) for name, rows in history.items()}
    assert loss["half"] < 0.7 * loss["one"]


@pytest.mark.parametrize("weight", [-1.0, None, "much"])
def test_a_weight_that_is_no_positive_number_is_refused(weight, base_of, tmp_path):
    rows = rows_of("train_QC.txt")[:60]
    file = write_rows(tmp_path / "train.txt", [rows[0] | {"weight": weight}, *(r | {"weight": 1.0} for r in rows[1:])])
    with pytest.raises(SystemExit, match="field 'weight'"):
        train_relevance.main(arguments(base_of("qwen3"), file, tmp_path / "run"))


def test_a_loss_that_is_no_number_stops_with_the_step(whole_run, base_of, tmp_path):
    more = ["--learning_rate", "1e30", "--max_grad_norm", "0"]
    with pytest.raises(SystemExit, match=r"loss is .* at step \d+"):
        train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more))
    assert not (tmp_path / "run/fold-0").exists()


def test_a_finished_run_is_not_overwritten_without_asking(whole_run, base_of):
    before = weights(whole_run / "run")
    with pytest.raises(SystemExit, match="--overwrite"):
        train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", whole_run / "run"))
    assert all(torch.equal(before[k], v) for k, v in weights(whole_run / "run").items())


def test_a_fold_of_another_kind_is_not_added_to_a_run(whole_run, base_of):
    more = ["--fold", "1", "--path_style", "leaf_first"]
    with pytest.raises(SystemExit, match="template"):
        train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", whole_run / "run", *more))


@pytest.mark.parametrize("more", [["--adapter", "none"], ["--init_lora_weights", "pissa"], ["--use_dora", "true"]])
def test_other_ways_to_train_are_loaded_back_with_the_scores_they_had(more, whole_run, base_of, tmp_path):
    import pandas as pd

    from product_relevance import RelevanceEnsemble

    flags = arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more)
    train_relevance.main([*flags, "--fold", "all", "--num_folds", "2"])
    rows = {row["id"]: row for row in rows_of("train_QC.txt")[:240]}
    ensemble = RelevanceEnsemble.from_pretrained(tmp_path / "run", device="cpu")
    for k in (0, 1):
        oof = pd.read_parquet(tmp_path / f"run/fold-{k}/oof.parquet")
        pairs = [(rows[i]["origin_query"], rows[i]["category_path"]) for i in oof["id"]]
        assert np.allclose(ensemble.predict_folds(pairs)[:, k], oof["score"], atol=2e-5)


@pytest.mark.parametrize("kind, pooling", [("qwen3", "auto"), ("bert", "pair")])
def test_a_fold_trained_among_all_equals_the_fold_trained_alone(kind, pooling, whole_run, base_of, tmp_path):
    flags = ["--pooling", pooling, "--learning_rate", "1e-2"]
    for name, fold in (("all", "all"), ("alone", "1")):
        output = tmp_path / name
        train_relevance.main(arguments(base_of(kind), whole_run / "train_QC.txt", output, *flags, "--fold", fold))
    together, alone = (load_file(tmp_path / name / "fold-1/adapter_model.safetensors") for name in ("all", "alone"))
    assert together.keys() == alone.keys()
    assert all(torch.equal(together[name], alone[name]) for name in alone)


def test_a_fold_copied_from_an_unlike_run_is_refused(whole_run, base_of, tmp_path):
    shutil.copytree(whole_run / "run", tmp_path / "run")
    (tmp_path / "run/run.json").unlink()
    more = ["--fold", "1", "--fold_seed", "7"]
    with pytest.raises(SystemExit, match="fold-0 was trained with folds_by"):
        train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more))


def test_overwrite_deletes_nothing_before_it_has_checked(whole_run, base_of, tmp_path):
    shutil.copytree(whole_run / "run", tmp_path / "run")
    shutil.copytree(tmp_path / "run/fold-0", tmp_path / "run/fold-1")
    more = ["--overwrite", "true", "--path_style", "leaf_first"]
    with pytest.raises(SystemExit, match="fold-1"):
        train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more))
    assert (tmp_path / "run/fold-0/fold.json").is_file()


def test_a_checkpoint_of_another_fold_is_refused(whole_run, base_of, tmp_path):
    more = ["--fold", "1", "--resume_from_checkpoint", str(whole_run / "run/checkpoints/fold-0/checkpoint-6")]
    with pytest.raises(SystemExit, match="no checkpoint of fold-1"):
        train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more))


def test_full_training_has_no_validation_and_says_where_its_threshold_comes_from(whole_run, base_of, tmp_path):
    more = ["--fold", "full"]
    train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more))
    run = load_run(tmp_path / "run")
    assert run["thresholds"]["f1"] == 0.5 and run["thresholds_from"] == "default" and run["metrics"] is None


def test_early_stopping_ends_a_run_that_no_longer_improves(whole_run, base_of, tmp_path):
    more = ["--learning_rate", "1e-12", "--eval_steps", "2", "--save_steps", "2", "--early_stopping_patience", "1"]
    train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more))
    assert load_run(tmp_path / "run")["folds"][0]["steps"] < 12


def test_metrics_go_to_tensorboard_when_asked(whole_run, base_of, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "logs"))
    more = ["--report_to", "tensorboard", "--keep_checkpoints", "true"]
    train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more))
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_held_out_languages_are_not_trained_on(whole_run, base_of, tmp_path):
    more = ["--held_out_languages", "ja", "ko"]
    train_relevance.main(arguments(base_of("qwen3"), whole_run / "train_QC.txt", tmp_path / "run", *more))
    import pandas as pd

    assert set(pd.read_parquet(tmp_path / "run/oof.parquet")["language"]) == {"ja", "ko"}


def test_bad_rows_stop_training_or_are_put_aside(base_of, tmp_path):
    rows = rows_of("train_QC.txt")[:240]
    rows[7]["label"] = 2
    file = write_rows(tmp_path / "train_QC.txt", rows)
    with pytest.raises(SystemExit, match=r"train_QC.txt:8: .*label"):
        train_relevance.main(arguments(base_of("qwen3"), file, tmp_path / "run"))
    train_relevance.main(arguments(base_of("qwen3"), file, tmp_path / "run", "--on_bad_rows", "skip"))
    assert len((tmp_path / "run/rejects.jsonl").read_text().splitlines()) == 1


def test_evaluation_rows_are_fixed_and_keep_query_groups_whole():
    queries = np.array([f"query {i // 3}" for i in range(300)])
    rows = np.arange(300)
    chosen = sample_evaluation_rows(queries, rows, 100)
    assert 100 <= len(chosen) <= 102
    assert set(queries[chosen]).isdisjoint(set(queries) - set(queries[chosen]))
    assert all((queries[chosen] == q).sum() == 3 for q in set(queries[chosen]))
    assert (sample_evaluation_rows(queries, rows, 100) == chosen).all()


def test_flags_win_over_the_recipe_and_unknown_keys_are_refused(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model_name_or_path: x\ntask: QC\ntrain_file: t\nlearning_rate: 1e-5\nlora_r: 8\n")
    model, data, _, training = parse_arguments([str(recipe), "--lora_r", "4", "--output_dir", str(tmp_path / "o")])
    assert (model.lora_r, data.task, training.learning_rate) == (4, "QC", 1e-5)
    recipe.write_text("model_name_or_path: x\ntask: QC\ntrain_file: t\nlearning_rat: 1e-5\n")
    with pytest.raises(ValueError, match="did you mean learning_rate"):
        parse_arguments([str(recipe)])


@pytest.mark.parametrize("line", ["held_out_languages: [de, no]", "eval_strategy: no", "attn_implementation: on"])
def test_a_word_that_yaml_reads_as_a_truth_value_is_told_to_be_quoted(tmp_path, line):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"model_name_or_path: x\ntask: QC\ntrain_file: t\nbf16: no\n{line}\n")
    with pytest.raises(ValueError, match=rf"{line.partition(':')[0]}: found (True|False), .*write it in quotes"):
        parse_arguments([str(recipe)])


def test_a_token_is_refused_as_an_argument():
    flags = ["--model_name_or_path", "x", "--task", "QC", "--train_file", "t"]
    with pytest.raises(ValueError, match="HF_TOKEN") as error:
        parse_arguments([*flags, "--hub_token", "hf_secret"])
    assert "hf_secret" not in str(error.value)
    with pytest.raises((SystemExit, ValueError)):  # no abbreviation gets past
        parse_arguments([*flags, "--hub_tok", "hf_secret"])


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_parses(recipe):
    model, data, *_ = parse_arguments([str(recipe), "--bf16", "false"])
    assert model.model_name_or_path and data.task in ("QC", "QI", "QC,QI")


@pytest.mark.parametrize("config", sorted((ROOT / "ds_configs").glob("*.json")), ids=lambda p: p.stem)
def test_deepspeed_configs_hold_no_dead_keys(config):
    content = json.loads(config.read_text())
    assert content["zero_optimization"]["stage"] == int(config.stem[4])
    assert "auto" in content["train_batch_size"] and "scheduler" not in content and "optimizer" not in content
