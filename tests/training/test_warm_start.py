"""Two stages: the second starts exactly where the first ended, and never on rows that its first stage has seen."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import train_relevance
from product_relevance.cli.info import run_lines
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.training.arguments import parse_arguments
from product_relevance.training.parents import distillation, parent_run, warm_start
from product_relevance.utils.run_folder import load_record, load_run, write_json
from product_relevance.utils.run_record import RunRecord
from tests.conftest import rows_of, write_rows

TINY = "--use_cpu true --lora_r 4 --lora_alpha 8 --language_fix none --per_device_train_batch_size 32 --num_folds 2"
TINY += " --max_steps 6 --eval_strategy no --save_strategy no --load_best_model_at_end false --learning_rate 1e-3"


def train(base, file, task: str, output, *more) -> None:
    names = ["--model_name_or_path", str(base), "--train_file", str(file), "--output_dir", str(output)]
    train_relevance.main([*TINY.split(), *names, "--task", task, *more])


@pytest.fixture(scope="module")
def stages(base_of, tmp_path_factory):
    """Files of both tasks, and a first stage on QI with two folds."""
    folder = tmp_path_factory.mktemp("stages")
    for task in ("QC", "QI"):
        write_rows(folder / f"{task}.txt", rows_of(f"train_{task}.txt")[:160])
    train(base_of("bert"), folder / "QI.txt", "QI", folder / "qi")
    return folder


def test_a_second_stage_that_learns_nothing_scores_as_its_first_stage(stages, base_of, tmp_path):
    first = ["--init_adapter", str(stages / "qi"), "--learning_rate", "0"]
    train(base_of("bert"), stages / "QC.txt", "QC", tmp_path / "qc", *first)
    oof = pd.read_parquet(tmp_path / "qc/oof.parquet")
    rows = {str(row["id"]): row for row in rows_of("train_QC.txt")[:160]}
    pairs = [(rows[str(i)]["origin_query"], rows[str(i)]["category_path"]) for i in oof["id"]]
    folds = RelevanceEnsemble.from_pretrained(str(stages / "qi")).predict_folds(pairs)
    own = folds[np.arange(len(oof)), oof["fold"].map({"fold-0": 0, "fold-1": 1}).to_numpy()]
    np.testing.assert_allclose(oof["score"], own, atol=1e-6)


def test_a_second_stage_learns_and_says_what_it_came_from(stages, base_of, tmp_path):
    train(base_of("bert"), stages / "QC.txt", "QC", tmp_path / "qc", "--init_adapter", str(stages / "qi/fold-1"))
    run = load_run(tmp_path / "qc")
    assert (run["first_stage"]["task"], run["first_stage"]["folds"]) == ("QI", ["fold-1"])
    assert [fold["starts_from"] for fold in run["folds"]] == [{"task": "QI", "fold": "fold-1"}] * 2
    line = "fold-0 started from fold-1 of a QI run"
    assert (
        f"parent      {line}" in run_lines(load_record(tmp_path / "qc"))
        and line in (tmp_path / "qc/report.md").read_text()
    )
    plain = [("zapatos rojos", "shoes,women's shoes")]
    second = RelevanceEnsemble.from_pretrained(str(tmp_path / "qc")).predict_folds(plain)
    first = RelevanceEnsemble.from_pretrained(str(stages / "qi")).predict_folds(plain)
    assert np.abs(second - first[:, 1:]).min() > 1e-4


def test_full_fine_tuning_continues_as_well(stages, base_of, tmp_path):
    whole = ["--adapter", "none", "--fold", "full"]
    train(base_of("bert"), stages / "QI.txt", "QI", tmp_path / "qi", *whole)
    more = [*whole, "--init_adapter", str(tmp_path / "qi"), "--learning_rate", "0"]
    train(base_of("bert"), stages / "QC.txt", "QC", tmp_path / "qc", *more)
    pair = [("usb kabel", "consumer electronics,cables")]
    one, two = (RelevanceEnsemble.from_pretrained(str(tmp_path / t)).predict(pair) for t in ("qi", "qc"))
    np.testing.assert_allclose(one, two, atol=1e-6)


def refused(*arguments) -> str:
    with pytest.raises(SystemExit) as stopped:
        train(*arguments)
    return str(stopped.value)


def test_a_fold_never_continues_from_one_that_saw_its_validation_rows(stages, base_of, tmp_path):
    other = ["--fold", "0", "--init_adapter", str(stages / "qi/fold-1")]
    told = refused(base_of("bert"), stages / "QI.txt", "QI", tmp_path / "again", *other)
    assert "fold-1 saw rows that fold-0 validates on" in told
    same = ["--fold", "0", "--init_adapter", str(stages / "qi")]
    train(base_of("bert"), stages / "QI.txt", "QI", tmp_path / "again", *same)
    other_folds = [*same, "--fold_seed", "7"]
    assert "fold-0 and fold-1 saw rows" in refused(
        base_of("bert"), stages / "QI.txt", "QI", tmp_path / "seed", *other_folds
    )


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--lora_alpha", "16"], "lora_alpha is 8 there, 16 here"),
        (["--lora_r", "8"], "r is 4 there, 8 here"),
        (["--lora_target_modules", "attention"], "adapter and base do not fit"),
        (["--pooling", "mean"], "its pooling is auto, this run's mean"),
        (["--adapter", "none"], "its adapter is lora, this run's none"),
        (["--init_lora_weights", "gaussian"], "give one of them"),
        (["--fold", "full"], "full has no namesake among fold-0, fold-1"),
    ],
)
def test_a_stage_of_another_form_is_refused(more, told, stages, base_of, tmp_path):
    first = ["--init_adapter", str(stages / "qi"), *more]
    assert told in refused(base_of("bert"), stages / "QC.txt", "QC", tmp_path / "qc", *first)


def test_a_stage_of_another_base_is_refused(stages, base_of, tmp_path):
    from tests.conftest import save_base

    other = save_base(tmp_path / "base", "bert", seed=5)
    told = refused(other, stages / "QC.txt", "QC", tmp_path / "qc", "--init_adapter", str(stages / "qi"))
    assert "trained on another base" in told


def test_a_stage_that_lost_its_head_is_refused(stages, base_of, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(stages / "qi", tmp_path / "qi")
    file = tmp_path / "qi/fold-0/adapter_model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if "classifier" not in k}, file)
    first = ["--init_adapter", str(tmp_path / "qi")]
    assert "not fit" in refused(base_of("bert"), stages / "QC.txt", "QC", tmp_path / "qc", *first)


@pytest.fixture(scope="module")
def parent(stages):
    """Content of run.json of the first stage, to be changed."""
    return load_run(stages / "qi")


def find(stages, shared, *splits, name="qi"):
    return parent_run.find_parent("--init_adapter", str(stages / name), RunRecord.from_json(shared), list(splits))


def other_rows(run: dict) -> dict:
    """The same run with other rows in its folds."""
    return run | {"folds_by": run["folds_by"] | {"valid_sha256": {f"fold-{k}": {"QI": "other"} for k in (0, 1)}}}


@pytest.mark.parametrize(
    ("name", "told"),
    [("qi", "fold-1 starts from fold-1 of the QI run"), ("qi/fold-1", "fold-0 and fold-1 all start from fold-1")],
)
def test_the_log_says_which_fold_each_fold_starts_from(name, told, stages, parent, caplog):
    caplog.set_level("INFO")
    ours = parent | {"task": "QC", "folds_by": parent["folds_by"] | {"valid_sha256": {"fold-0": {}, "fold-1": {}}}}
    config = SimpleNamespace(model=SimpleNamespace(init_adapter=str(stages / name)))
    warm_start.find_warm_start(config, RunRecord.from_json(ours), ["fold-0", "fold-1"])
    assert told in caplog.text


def test_a_parent_run_that_knows_a_held_out_language_is_reported(stages, parent, caplog):
    by = parent["folds_by"] | {"held_out_languages": ["ja"], "valid_sha256": {"held-out-ja": {"QC": "ja"}}}
    parent_run.find_parent(
        "--init_adapter",
        str(stages / "qi/fold-0"),
        RunRecord.from_json(parent | {"task": "QC", "folds_by": by}),
        ["held-out-ja"],
    )
    assert "trained on ja too, which this run holds out" in caplog.text


@pytest.mark.parametrize("flag", ["--init_adapter", "--teacher"])
def test_folds_made_of_other_languages_are_other_folds(flag, stages, base_of, tmp_path):
    more = ["--fold", "0", "--language_fix", "identify", flag, str(stages / "qi")]
    more += ["--objective", "distill"] if flag == "--teacher" else []
    told = refused(base_of("bert"), stages / "QI.txt", "QI", tmp_path / "run", *more)
    assert "saw rows that fold-0 validates on" in told and "language_fix none there, identify here" in told


def test_folds_made_of_translations_are_other_folds(stages, base_of, tmp_path):
    queries = sorted({row["origin_query"] for row in rows_of("train_QI.txt")[:160]})
    table = pd.DataFrame(
        {"origin_query": queries, "translated_query": [f"same {i // 5}" for i in range(len(queries))]}
    )
    table.to_csv(tmp_path / "table.csv", index=False)
    more = ["--fold", "0", "--translation", str(tmp_path / "table.csv"), "--init_adapter", str(stages / "qi")]
    assert "saw rows" in refused(base_of("bert"), stages / "QI.txt", "QI", tmp_path / "run", *more)


def test_the_same_rows_in_the_same_folds_are_taken_whatever_the_settings_say(stages, parent):
    assert find(stages, parent | {"folds_by": parent["folds_by"] | {"fold_seed": 7}}, "fold-0", "fold-1")


def as_older(stages, tmp_path, with_scores: bool) -> dict:
    """Copy the first stage as an older version would have left it; return its run.json."""
    shutil.copytree(stages / "qi", tmp_path / "qi")
    content = load_run(tmp_path / "qi")
    older = content | {"folds_by": {k: v for k, v in content["folds_by"].items() if k != "valid_sha256"}}
    write_json(tmp_path / "qi/run.json", older)
    for file in () if with_scores else (tmp_path / "qi").glob("fold-*/oof.parquet"):
        file.unlink()
    return content


@pytest.mark.parametrize("with_scores", [True, False])
def test_an_older_run_is_known_by_its_scores_or_by_its_settings(with_scores, stages, tmp_path):
    ours = as_older(stages, tmp_path, with_scores)
    assert find(tmp_path, ours, "fold-0", "fold-1")
    with pytest.raises(ValueError, match="saw rows"):
        changed = ours if not with_scores else other_rows(ours)
        find(tmp_path, changed | {"columns": changed["columns"] | {"language_fix": "identify"}}, "fold-0")


def test_a_run_is_refused_for_what_the_runs_that_it_was_built_on_have_seen(stages, parent, tmp_path):
    grandparent = find(stages, parent, "fold-0").describe().to_json()
    shutil.copytree(stages / "qi", tmp_path / "qc")
    child = parent | {"task": "QC", "data": parent["data"] | {"sha256": "qc"}, "first_stage": grandparent}
    child["template"] = parent["template"] | {"task": "QC"}
    write_json(tmp_path / "qc/run.json", child)
    assert find(tmp_path, parent, "fold-0", "fold-1", name="qc")
    with pytest.raises(ValueError, match="qc, which was built on .*qi: fold-0 and fold-1 saw rows"):
        find(tmp_path, other_rows(parent), "fold-0", name="qc")


@pytest.mark.parametrize(("bf16", "expected"), [("true", torch.bfloat16), ("false", torch.float32)])
def test_a_teacher_scores_in_the_precision_of_the_training(bf16, expected, stages, base_of):
    flags = ["--model_name_or_path", str(base_of("bert")), "--task", "QI", "--train_file", "t"]
    training = parse_arguments([*flags, "--use_cpu", "true", "--bf16", bf16])[-1]
    teacher = distillation.load_teacher(SimpleNamespace(home=stages / "qi"), training)
    assert next(teacher.fold_models.model.parameters()).dtype == expected
