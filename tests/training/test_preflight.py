"""Before the first fold: a metric that these rows define, both labels to learn from, weights that are reported."""

import json

import pandas as pd
import pytest

import train_relevance
from product_relevance.training import preflight
from product_relevance.training.arguments import metric_names, parse_arguments
from tests.conftest import rows_of, write_rows

FLAGS = "--task QC --use_cpu true --fold 0 --max_steps 2 --eval_steps 1 --save_steps 1 --lora_r 2 --language_fix none"


def watched(labels: dict) -> object:
    rows = [{"task": task, "label": label} for task, found in labels.items() for label in found]
    return pd.DataFrame(rows).groupby("task")["label"]


def arguments(*more: str):
    return parse_arguments([*FLAGS.split(), "--model_name_or_path", "x", "--train_file", "t", *more])


def train(base, folder, rows, *more) -> None:
    file = write_rows(folder / "train_QC.txt", rows)
    flags = ["--model_name_or_path", str(base), "--train_file", str(file), "--output_dir", str(folder / "run"), *more]
    train_relevance.main([*FLAGS.split(), *flags])


@pytest.mark.parametrize("metric", [name for name in metric_names("QC,QI") if name != "loss"])
def test_a_metric_of_one_label_only_is_refused(metric):
    labels = {"QC": [1, 1], "QI": [1, 1]}
    with pytest.raises(ValueError, match=f"best_model {metric}: found only rows labelled 1 .*--eval_rows"):
        preflight.check_metric("fold-0", watched(labels), metric)


def test_the_mean_of_both_tasks_needs_both_labels_of_each():
    with pytest.raises(ValueError, match="found only rows labelled 0 of QI among the rows of fold-2"):
        preflight.check_metric("fold-2", watched({"QC": [0, 1], "QI": [0]}), "auc")


def test_a_metric_of_a_task_without_rows_is_refused():
    with pytest.raises(ValueError, match="found no row of QI"):
        preflight.check_metric("fold-0", watched({"QC": [0, 1]}), "eval_auc_QI")


@pytest.mark.parametrize("metric, labels", [("loss", [1]), ("auc", [0, 1]), ("auc_QC", [1, 0])])
def test_a_metric_that_the_rows_define_passes(metric, labels):
    assert preflight.check_metric("fold-0", watched({"QC": labels}), metric) is None


@pytest.mark.parametrize("metric", metric_names("QC"))
def test_a_checkpoint_is_better_by_a_lower_loss_and_a_higher_figure(metric):
    assert arguments("--metric_for_best_model", metric)[-1].greater_is_better == (metric != "loss")


@pytest.mark.parametrize("more, found", [
    (["--metric_for_best_model", "accuracy"], "accuracy: expected one of f1, macro_f1, f1_at_half, auc, loss"),
    (["--metric_for_best_model", "auc_QI"], "auc_QI: expected one of"),
    (["--metric_for_best_model", "loss", "--greater_is_better", "true"], "keep the worst checkpoint"),
    (["--early_stopping_patience", "2", "--eval_strategy", "no", "--load_best_model_at_end", "no"], "nothing is sc"),
])  # fmt: skip
def test_a_metric_that_cannot_choose_is_refused(more, found):
    with pytest.raises(ValueError, match=found):
        arguments(*more)


def test_what_the_trainer_measures_is_what_the_metric_may_be():
    from types import SimpleNamespace

    from product_relevance.evaluation.out_of_fold import compute_metrics_by_task

    prediction = SimpleNamespace(predictions=[[0, 1], [1, 0]] * 2, label_ids=[1, 0, 1, 0])
    found = compute_metrics_by_task(prediction, ["QC", "QC", "QI", "QI"])
    assert set(metric_names("QC,QI")) - {"loss"} == {name for name in found if "threshold" not in name}


def test_watched_rows_of_one_label_stop_a_run_before_it_trains(base_of, tmp_path):
    more = ["--metric_for_best_model", "auc", "--eval_rows", "1"]
    with pytest.raises(SystemExit, match="found only rows labelled [01] of QC among the rows of fold-0"):
        train(base_of("qwen3"), tmp_path, rows_of("train_QC.txt")[:60], *more)
    assert not (tmp_path / "run/run.json").exists()


def test_training_rows_of_one_label_are_refused(base_of, tmp_path):
    rows = [row | {"label": 1} for row in rows_of("train_QC.txt")[:60]]
    with pytest.raises(SystemExit, match="fold-0: all 40 QC rows to train on are labelled 1; expected rows of both"):
        train(base_of("qwen3"), tmp_path, rows)


def test_the_weights_of_the_rows_are_reported(base_of, tmp_path, caplog):
    rows = [row | {"weight": 250 + 50 * i} for i, row in enumerate(rows_of("train_QC.txt")[:60])]
    with caplog.at_level("INFO"):
        train(base_of("qwen3"), tmp_path, rows)
    line = "rows are weighted by the field weight, 250 to 3,200"
    assert line in caplog.text
    assert line in (tmp_path / "run/report.md").read_text()
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert run["weights"] == {"field": "weight", "min": 250, "max": 3200}


def test_weights_of_one_are_no_weights():
    assert preflight.weight_range(pd.DataFrame({"weight": [1.0, 1]})) is None


def test_weights_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no row has a loss"):
        preflight.weight_range(pd.DataFrame({"weight": [0.0, 0]}))


def test_one_label_of_one_of_two_tasks_is_reported(caplog):
    from product_relevance.data.splits import Split
    from product_relevance.training.arguments import ObjectiveArguments
    from product_relevance.training.run_config import RunConfig

    frame = pd.DataFrame({"task": ["QC", "QC", "QI"], "label": [0, 1, 1]})
    *_, training = arguments("--eval_strategy", "no", "--load_best_model_at_end", "no")
    split = Split("full", frame.index.to_numpy(), frame.index[:0].to_numpy())
    preflight.check_rows(frame, [split], RunConfig(None, None, ObjectiveArguments(), training))
    assert "full: all 1 QI rows to train on are labelled 1" in caplog.text
