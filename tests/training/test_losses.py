"""Objectives: each equals its formula, learns 32 rows by heart, and is refused where it means nothing."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import train_relevance
from product_relevance.ensemble.fit_stack import stack_runs
from product_relevance.ensemble.stack import blend_scores
from product_relevance.training import losses as objectives
from product_relevance.training.arguments import ObjectiveArguments
from product_relevance.training.parents import distillation as teacher
from product_relevance.training.parents.distillation import Teacher, check_teacher
from product_relevance.utils.run_folder import load_run
from tests.conftest import rows_of, write_rows
from tests.helpers.tiny_prompt import TEXT

TINY = "--task QC --use_cpu true --lora_r 4 --lora_dropout 0 --language_fix none --num_folds 2 --eval_strategy no"
TINY += " --save_strategy no --load_best_model_at_end false --per_device_train_batch_size 32"
logit = st.floats(-8, 8, allow_nan=False)
pairs = st.lists(st.tuples(logit, logit, st.integers(0, 1)), min_size=1, max_size=12)


def tensors(rows):
    logits = torch.tensor([row[:2] for row in rows], dtype=torch.float32)
    return logits, torch.tensor([row[2] for row in rows])


@given(pairs, st.floats(0, 0.5))
def test_cross_entropy_is_minus_the_log_of_the_smoothed_target(rows, smoothing):
    logits, labels = tensors(rows)
    found = objectives.cross_entropy(logits, labels, smoothing)
    logs = logits.double().log_softmax(-1)
    for i, label in enumerate(labels):
        expected = -(1 - smoothing / 2) * logs[i, label] - smoothing / 2 * logs[i, 1 - label]
        assert found[i].item() == pytest.approx(expected.item(), abs=1e-5)


@given(pairs, st.floats(0.05, 0.95))
def test_bootstrap_mixes_the_label_with_the_models_own_probability(rows, share):
    logits, labels = tensors(rows)
    found = objectives.bootstrap_loss(logits, labels, share)
    logs = logits.double().log_softmax(-1)
    for i, label in enumerate(labels):
        target = [share * logs[i, k].exp() + (1 - share) * (k == label) for k in (0, 1)]
        assert found[i].item() == pytest.approx(-sum(target[k] * logs[i, k] for k in (0, 1)).item(), abs=1e-4)


def test_bootstrap_pulls_less_at_a_label_that_the_model_is_sure_against():
    logits = torch.tensor([[4.0, 0.0]], requires_grad=True)
    pulls = {}
    for name, loss in (("plain", objectives.cross_entropy), ("own", lambda *of: objectives.bootstrap_loss(*of, 0.5))):
        (pulls[name],) = torch.autograd.grad(loss(logits, torch.tensor([1])).sum(), logits)
    assert pulls["own"].abs().max() < pulls["plain"].abs().max() / 2 + 0.05


@given(pairs, st.floats(0.1, 5))
def test_early_learning_adds_the_log_of_what_the_earlier_answers_leave(rows, strength):
    logits, labels = tensors(rows)
    targets = torch.tensor([0.2, 0.6]).expand(len(rows), 2)
    found = objectives.early_learning_loss(logits, labels, targets, strength)
    odds = logits.double().softmax(-1).clamp(1e-4, 1 - 1e-4)
    expected = objectives.cross_entropy(logits, labels) + strength * (1 - odds @ targets[0].double()).log()
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-4)


def test_early_learning_pulls_less_at_a_label_that_the_earlier_answers_are_against():
    logits, labels = torch.tensor([[1.0, 0.0]], requires_grad=True), torch.tensor([1])
    against, none = torch.tensor([[0.9, 0.1]]), torch.zeros(1, 2)
    pulls = [
        torch.autograd.grad(objectives.early_learning_loss(logits, labels, targets, 1.0).sum(), logits)[0][0, 0]
        for targets in (against, none)
    ]
    assert pulls[0] < pulls[1]


@given(pairs, pairs, st.floats(0.5, 5))
def test_a_softened_divergence_is_zero_for_the_same_answers_only(one, two, temperature):
    n = min(len(one), len(two))
    (a, _), (b, _) = tensors(one[:n]), tensors(two[:n])
    torch.testing.assert_close(objectives.softened_divergence(a, a, temperature), torch.zeros(n))
    found, teacher = objectives.softened_divergence(a, b, temperature), (b.double() / temperature).softmax(-1)
    expected = (teacher * (teacher.log() - (a.double() / temperature).log_softmax(-1))).sum(-1)
    torch.testing.assert_close(found.double(), temperature**2 * expected, atol=1e-4, rtol=1e-4)


@given(pairs)
def test_two_equal_passes_make_r_drop_a_plain_cross_entropy(rows):
    logits, labels = tensors(rows)
    found = objectives.r_drop(logits.repeat(2, 1), labels, strength=3.0)
    torch.testing.assert_close(found, objectives.cross_entropy(logits, labels))


@given(pairs, pairs)
def test_r_drop_never_rewards_disagreement(one, two):
    n = min(len(one), len(two))
    (a, labels), (b, _) = tensors(one[:n]), tensors(two[:n])
    found = objectives.r_drop(torch.cat([a, b]), labels, strength=1.0)
    mean = (objectives.cross_entropy(a, labels) + objectives.cross_entropy(b, labels)) / 2
    assert (found >= mean - 1e-6).all()


@given(pairs)
def test_a_teacher_that_gives_the_labels_teaches_the_labels(rows):
    logits, labels = tensors(rows)
    found = objectives.distillation_loss(logits, labels, labels.float(), share=0.7)
    torch.testing.assert_close(found, objectives.cross_entropy(logits, labels))


def test_rows_without_a_teacher_learn_from_their_label_alone():
    logits, labels = torch.tensor([[0.3, -0.2], [1.0, 2.0]]), torch.tensor([1, 0])
    teacher = torch.tensor([math.nan, 0.25])
    found = objectives.distillation_loss(logits, labels, teacher, share=1.0)
    assert found[0] == pytest.approx(objectives.cross_entropy(logits, labels)[0].item())
    logs = logits[1].log_softmax(-1)
    assert found[1].item() == pytest.approx(-(0.75 * logs[0] + 0.25 * logs[1]).item(), abs=1e-6)
    assert torch.isfinite(found).all()


def test_dpo_starts_at_log_two_and_falls_as_the_right_answer_gains():
    reference, labels = torch.tensor([[0.5, 1.5], [2.0, -1.0]]), torch.tensor([1, 0])
    start = objectives.preference_loss(reference, labels, reference, beta=0.5)
    torch.testing.assert_close(start, torch.full((2,), math.log(2)))
    gained = reference + torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    found = objectives.preference_loss(gained, labels, reference, beta=0.5)
    torch.testing.assert_close(found, torch.full((2,), math.log(1 + math.exp(-0.5))))


def train(base, file, output, *more) -> None:
    names = ["--model_name_or_path", str(base), "--train_file", str(file), "--output_dir", str(output)]
    train_relevance.main([*TINY.split(), *names, *more])


@pytest.fixture(scope="module")
def taught(base_of, tmp_path_factory):
    """A file of 64 rows and a teacher with two folds on it."""
    folder = tmp_path_factory.mktemp("taught")
    rows = rows_of("train_QC.txt")
    file = write_rows(
        folder / "train.txt", [r for r in rows if r["label"] == 1][:32] + [r for r in rows if not r["label"]][:32]
    )
    train(base_of("bert"), file, folder / "teacher", "--max_steps", "60", "--learning_rate", "5e-3")
    return folder


WAYS = {
    "cross_entropy": ["--label_smoothing_factor", "0.1"],
    "r_drop": ["--lora_dropout", "0.1"],
    "bootstrap": ["--own_share", "0.3"],
    "early_learning": ["--early_learning_strength", "0.5", "--target_momentum", "0.8"],
    "mean_teacher": ["--ema_decay", "0.9", "--teacher_temperature", "1.5", "--lora_dropout", "0.1"],
    "distill": ["--teacher_share", "0.2"],
    "dpo": ["--head", "yes_no", "--dpo_beta", "1.0"],
}


# Each objective on every base: tests/integration/test_combinations.py. Here its flags reach it, on two kinds of base.
BASES = dict.fromkeys(WAYS, "bert") | {"cross_entropy": "qwen3", "dpo": "qwen3"}


@pytest.mark.parametrize(("objective", "kind"), BASES.items())
def test_an_objective_learns_32_rows_by_heart(objective, kind, taught, base_of, tmp_path):
    more = ["--objective", objective, *WAYS[objective]]
    teacher = ["--teacher", str(taught / "teacher")] if objective == "distill" else []
    steps = ["--max_steps", "60", "--learning_rate", "5e-3", "--logging_steps", "1", "--fold", "0", "--lora_r", "8"]
    if objective == "dpo":
        (tmp_path / "own.txt").write_text(TEXT)
        steps += ["--prompt", str(tmp_path / "own.txt"), "--max_length", "96"]
    train(base_of(kind), taught / "train.txt", tmp_path / "run", *more, *teacher, *steps)
    history = json.loads((tmp_path / "run/fold-0/fold.json").read_text())["history"]
    losses = [row["loss"] for row in history if "loss" in row]
    assert np.mean(losses[-3:]) < 0.75 * np.mean(losses[:3])
    assert load_run(tmp_path / "run")["arguments"]["objective"]["objective"] == objective


def teachings(run, name="teacher") -> pd.DataFrame:
    """A teacher's probabilities, a column a fold, by id."""
    files = [run / f"{name}-{fold}.parquet" for fold in ("fold-0", "fold-1")]
    return pd.concat([pd.read_parquet(file).set_index("id") for file in files], axis=1)


def test_a_teacher_is_asked_once_and_for_finished_folds_never(taught, base_of, tmp_path, monkeypatch):
    more = ["--objective", "distill", "--teacher", str(taught / "teacher"), "--max_steps", "1"]
    for fold in ("0", "1"):
        train(base_of("bert"), taught / "train.txt", tmp_path / "run", *more, "--fold", fold)
    shutil.rmtree(tmp_path / "run/fold-1")
    (tmp_path / "run/teacher-fold-0.parquet").unlink()
    monkeypatch.setattr(teacher, "_of_run", None)  # whoever asks it fails
    go_on = ["--fold", "all", "--resume_from_checkpoint", "last"]
    train(base_of("bert"), taught / "train.txt", tmp_path / "run", *more, *go_on)
    assert [fold["name"] for fold in load_run(tmp_path / "run")["folds"]] == ["fold-0", "fold-1"]
    (tmp_path / "run/teacher-fold-1.parquet").unlink()
    train(base_of("bert"), taught / "train.txt", tmp_path / "run", *more, *go_on)


def test_a_fold_is_taught_by_its_namesake_about_its_training_rows_only(taught, base_of, tmp_path):
    teacher = ["--objective", "distill", "--teacher", str(taught / "teacher"), "--max_steps", "2"]
    train(base_of("bert"), taught / "train.txt", tmp_path / "run", *teacher)
    scores = teachings(tmp_path / "run")
    oof = pd.read_parquet(tmp_path / "run/oof.parquet").set_index("id")
    for fold in ("fold-0", "fold-1"):
        held_out = oof.index[oof["fold"] == fold].astype(str)
        assert scores.loc[held_out, f"teacher:{fold}"].isna().all()
        assert scores[f"teacher:{fold}"].notna().sum() == len(scores) - len(held_out)
    # of the teacher's out-of-fold scores none is used: they come from folds that saw the validation rows
    theirs = pd.read_parquet(taught / "teacher/oof.parquet").set_index("id")["score"]
    other = theirs[oof.index[oof["fold"] == "fold-1"]]
    assert not np.allclose(other, scores.loc[other.index.astype(str), "teacher:fold-0"])


def test_a_stack_teaches_what_its_runs_say_together(taught, base_of, tmp_path):
    train(base_of("qwen3"), taught / "train.txt", tmp_path / "other", "--max_steps", "20", "--learning_rate", "5e-3")
    runs = {"one": taught / "teacher", "two": tmp_path / "other"}
    stack_runs([str(folder) for folder in runs.values()], str(tmp_path / "stack"))
    found = {}
    for name, folder in (runs | {"stack": tmp_path / "stack"}).items():
        more = ["--objective", "distill", "--teacher", str(folder), "--max_steps", "1"]
        train(base_of("bert"), taught / "train.txt", tmp_path / f"student-{name}", *more)
        found[name] = teachings(tmp_path / f"student-{name}")
    content = json.loads((tmp_path / "stack/stack.json").read_text())
    weights = [member["coefficient"] for member in content["members"]], content["intercept"]
    for column in ("teacher:fold-0", "teacher:fold-1"):
        singles = np.column_stack([found[name][column] for name in runs])
        np.testing.assert_allclose(found["stack"][column], blend_scores(singles, *weights), atol=1e-6)
    again = ["--objective", "distill", "--teacher", str(tmp_path / "stack"), "--overwrite", "true"]
    with pytest.raises(SystemExit, match="which the new run needs"):
        train(base_of("bert"), taught / "train.txt", tmp_path / "other", *again)


def test_a_student_ranks_like_its_teacher(taught, base_of, tmp_path):
    from product_relevance.ensemble.ensemble import RelevanceEnsemble

    more = ["--objective", "distill", "--teacher", str(taught / "teacher"), "--teacher_share", "1", "--fold", "full"]
    more += ["--max_steps", "150", "--learning_rate", "5e-3", "--lora_r", "8"]
    train(base_of("bert"), taught / "train.txt", tmp_path / "run", *more)
    rows = rows_of("train_QC.txt")
    rows = [r for r in rows if r["label"] == 1][:32] + [r for r in rows if not r["label"]][:32]
    pairs = [(row["origin_query"], row["category_path"]) for row in rows]
    teacher, student = (
        RelevanceEnsemble.from_pretrained(str(folder)).predict(pairs)
        for folder in (taught / "teacher", tmp_path / "run")
    )
    assert pd.Series(teacher).corr(pd.Series(student), method="spearman") > 0.8


def without_labels(rows) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "label"} for row in rows]


def test_a_student_of_another_base_ranks_unlabelled_rows_like_its_teacher(taught, base_of, tmp_path):
    from product_relevance.ensemble.ensemble import RelevanceEnsemble

    rows = [json.loads(line) for line in (taught / "train.txt").read_text().splitlines()]
    few, many = rows[:4] + rows[-4:], rows[4:-4]
    files = [write_rows(tmp_path / "few.txt", few), write_rows(tmp_path / "many.txt", without_labels(many))]
    more = ["--objective", "distill", "--teacher", str(taught / "teacher"), "--teacher_share", "1", "--fold", "full"]
    more += ["--unlabelled_file", str(files[1]), "--adapter", "none", "--base_dropout", "0", "--learning_rate", "3e-3"]
    train(base_of("xlm-roberta"), files[0], tmp_path / "run", *more, "--max_steps", "150")
    pairs = [(row["origin_query"], row["category_path"]) for row in many]
    teacher, student = (
        RelevanceEnsemble.from_pretrained(str(folder)).predict(pairs)
        for folder in (taught / "teacher", tmp_path / "run")
    )
    assert pd.Series(teacher).corr(pd.Series(student), method="spearman") > 0.9
    assert json.loads((tmp_path / "run/full/fold.json").read_text())["unlabelled_rows"] == len(many)


def test_unlabelled_rows_that_share_a_query_with_the_validation_side_are_left_out(taught, base_of, tmp_path, caplog):
    rows = [json.loads(line) for line in (taught / "train.txt").read_text().splitlines()]
    known = {row["origin_query"] for row in rows}
    others = [row for row in rows_of("train_QC.txt") if row["origin_query"] not in known][:6]
    shouted = [f" {row['origin_query'].upper()}!" for row in rows]
    leaks = [row | {"id": 900_000 + i, "origin_query": shouted[i]} for i, row in enumerate(rows)]
    file = write_rows(tmp_path / "more.txt", without_labels(leaks + others))
    more = ["--objective", "distill", "--teacher", str(taught / "teacher"), "--unlabelled_file", str(file)]
    with caplog.at_level("INFO"):
        train(base_of("bert"), taught / "train.txt", tmp_path / "run", *more, "--max_steps", "2")
    scores = teachings(tmp_path / "run", "teacher-unlabelled")
    oof = pd.read_parquet(tmp_path / "run/oof.parquet").set_index("id")
    assert sorted(oof.index) == sorted(row["id"] for row in rows)  # thresholds are chosen on these, and only these
    for fold in ("fold-0", "fold-1"):
        validated = [oof.loc[row["id"], "fold"] == fold for row in rows]
        assert scores[f"teacher:{fold}"].isna().tolist()[: len(rows)] == validated
        told = f"{fold}: {(~np.array(validated)).sum() + len(others)} unlabelled rows of"
        assert told in caplog.text and f"{sum(validated)} more share a query with the validation side" in caplog.text
        content = json.loads((tmp_path / f"run/{fold}/fold.json").read_text())
        assert content["unlabelled_rows"] == len(rows) - sum(validated) + len(others)
        assert content["train_rows"] == len(rows) - sum(validated)


def test_unlabelled_rows_without_a_target_or_in_a_held_out_language_teach_nothing(taught, base_of, tmp_path):
    rows = [row | {"id": 900_000 + i} for i, row in enumerate(rows_of("dev_QC.txt")[:40])]
    rows[0] |= {"category_path": None}
    file = write_rows(tmp_path / "more.txt", without_labels(rows))
    more = ["--objective", "distill", "--teacher", str(taught / "teacher"), "--unlabelled_file", str(file)]
    text = write_rows(tmp_path / "train.txt", rows_of("train_QC.txt")[-90:])  # other rows than the teacher's
    more += ["--held_out_languages", "ja", "--max_steps", "1"]
    train(base_of("bert"), text, tmp_path / "run", *more)
    content = json.loads((tmp_path / "run/held-out-ja/fold.json").read_text())
    valid = pd.read_parquet(tmp_path / "run/oof.parquet")["id"]
    known = {row["origin_query"] for row in rows_of("train_QC.txt")[-90:] if row["id"] in set(valid)}
    taken = [r for r in rows[1:] if r["language"] != "ja" and r["origin_query"] not in known]
    assert content["unlabelled_rows"] == len(taken) < 39


def test_a_failed_command_replaces_nothing(taught, base_of, tmp_path):
    shutil.copytree(taught / "teacher", tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.safetensors")}
    base, file, again = base_of("bert"), taught / "train.txt", ["--overwrite", "true", "--objective", "distill"]
    with pytest.raises(SystemExit, match="which the new run needs"):
        train(base, file, tmp_path / "run", *again, "--teacher", str(tmp_path / "run"))
    more = ["--teacher", str(taught / "teacher"), "--unlabelled_file", str(tmp_path / "none.txt")]
    with pytest.raises(SystemExit, match="none.txt"):
        train(base, file, tmp_path / "run", *again, *more)
    assert before == {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.safetensors")} and before


def test_a_teacher_that_reads_translations_does_not_go_without(taught):
    run = SimpleNamespace(name="teacher", record=SimpleNamespace(columns={"translation": "column"}))
    run = Teacher("teacher", [run])
    with pytest.raises(ValueError, match="trained with translations"):
        check_teacher(run, "none")
    check_teacher(run, "column")


def test_a_row_without_a_label_learns_from_the_teacher_alone():
    logits, labels = torch.tensor([[0.3, -0.2], [1.0, 2.0]]), torch.tensor([objectives.UNLABELLED, 1])
    teacher = torch.tensor([0.25, 0.25])
    usual = (teacher, 0.5, 0.1)
    found = objectives.distillation_loss(logits, labels, *usual)
    logs = logits[0].log_softmax(-1)
    assert found[0].item() == pytest.approx(-(0.75 * logs[0] + 0.25 * logs[1]).item(), abs=1e-6)
    torch.testing.assert_close(found[1:], objectives.distillation_loss(logits, labels.clamp(min=1), *usual)[1:])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"objective": "distill"}, "go together"),
        ({"teacher": "runs/x"}, "go together"),
        ({"objective": "focal"}, "expected one of"),
        ({"teacher_share": 0.0}, "more than 0"),
        ({"dpo_beta": 0.0}, "more than 0"),
        ({"own_share": 1.0}, "more than 0, and less than 1"),
        ({"target_momentum": 0.0}, "--target_momentum 0.0: expected more than 0, and less than 1"),
        ({"ema_decay": 1.0}, "--ema_decay 1.0: expected more than 0, and less than 1"),
        ({"early_learning_strength": -1.0}, "--early_learning_strength -1.0: expected more than 0"),
        ({"teacher_temperature": 0.0}, "--teacher_temperature 0.0: expected more than 0"),
    ],
)
def test_senseless_arguments_are_refused(values, told):
    with pytest.raises(ValueError, match=told):
        ObjectiveArguments(**values)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--objective", "r_drop"], "give --lora_dropout"),
        (["--objective", "dpo"], "use --head yes_no"),
    ],
)
def test_an_objective_that_the_model_cannot_have_is_refused(more, told, taught, base_of, tmp_path):
    with pytest.raises(SystemExit, match=told):
        train(base_of("qwen3"), taught / "train.txt", tmp_path / "run", *more, "--max_steps", "2")


def test_soft_targets_of_grades_fall_with_the_distance_and_sum_to_one():
    logits, grades = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 3])
    logs = logits.double().log_softmax(-1)
    weights = torch.exp(-objectives.SHARPNESS * (torch.arange(4) - grades.unsqueeze(1)).abs().double())
    target = 0.9 * weights / weights.sum(1, keepdim=True) + 0.1 / 4
    assert torch.allclose(objectives.ordinal(logits, grades, 0.1).double(), -(target * logs).sum(1), atol=1e-5)
