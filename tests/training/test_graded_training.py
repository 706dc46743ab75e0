"""A run with four grades: trained, loaded, its grades decided, its distribution the mean of the folds."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from product_relevance.cli.main import main as relevance
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.files.evaluate_file import evaluate_file, evaluation_table
from product_relevance.ensemble.files.predict_file import predict_file
from product_relevance.evaluation.decision import decide_run
from product_relevance.evaluation.thresholds import DecisionOptions
from product_relevance.training.run_config import RunConfig
from product_relevance.training.train import train
from tests.conftest import rows_of, write_rows
from tests.helpers.graded import GRADES, graded_rows, graded_run, options_of

PAIRS = [(row["origin_query"], row["category_path"]) for row in rows_of("train_QC.txt")[:12]]


@pytest.fixture(scope="module")
def trained(base_of):
    return graded_run(base_of("bert"))


@pytest.fixture(scope="module")
def ensemble(trained):
    return RelevanceEnsemble.from_pretrained(str(trained))


def test_the_run_says_its_grades_and_its_thresholds_rise(trained):
    content = json.loads((trained / "run.json").read_text(encoding="utf-8"))
    assert content["labels"] == {str(k): f"grade {k}" for k in range(GRADES)} and content["relevant_from"] == 2
    limits = content["grade_thresholds"]
    assert len(limits) == GRADES - 1 and limits == sorted(set(limits)) and limits[0] > 0 and limits[-1] < 1
    assert sum(content["data"]["grades"]) == pytest.approx(1) and content["data"]["positive"] < 1
    assert np.sum(content["metrics"]["grades"]["confusion"]) == 160


@pytest.mark.parametrize("measure", ["nDCG@10", "AP(rel=2)"])
def test_the_ranking_of_the_run_is_the_mean_over_the_queries_of_its_folds(trained, measure):
    whole = json.loads((trained / "run.json").read_text(encoding="utf-8"))["metrics"]["ranking"]
    folds = [
        json.loads(path.read_text(encoding="utf-8"))["metrics"]["ranking"] for path in trained.glob("*/fold.json")
    ]
    assert len(folds) == 2 and sum(fold["queries"] for fold in folds) == whole["queries"]
    mean = sum(fold["queries"] * fold["measures"][measure]["value"] for fold in folds) / whole["queries"]
    assert whole["measures"][measure]["value"] == pytest.approx(mean)


def test_the_report_of_a_run_shows_the_measures_of_its_rankings(trained):
    text = (trained / "report.md").read_text(encoding="utf-8")
    assert "## Ranking" in text and "nDCG@10 95%" in text


def test_an_unknown_measure_is_refused_before_anything_is_trained(base_of, tmp_path):
    with pytest.raises(ValueError, match="--ranking_measures ndcg@10: expected"):
        RunConfig.from_recipe(**options_of(tmp_path, base_of("bert"), ranking_measures=["ndcg@10"]))


def test_out_of_fold_rows_hold_a_distribution_whose_mean_is_the_score(trained):
    oof = pd.read_parquet(trained / "oof.parquet")
    shares = oof[[f"share_{k}" for k in range(GRADES)]].to_numpy()
    assert np.allclose(shares.sum(axis=1), 1) and np.allclose(shares @ np.arange(GRADES) / 3, oof["score"])
    assert (oof["label"] == (oof["grade"] >= 2)).all()


def test_the_report_shows_the_grades(trained):
    report = (trained / "report.md").read_text(encoding="utf-8")
    assert "## Grades" in report and "quadratic kappa" in report and "decided 3" in report
    assert (trained / "figures" / "grades.png").is_file()


def test_the_ensemble_averages_the_distributions_of_its_folds(ensemble):
    shares, scores = ensemble.predict_shares(PAIRS), ensemble.predict(PAIRS)
    assert shares.shape == (len(PAIRS), GRADES) and np.allclose(shares.sum(axis=1), 1)
    assert np.allclose(shares @ np.arange(GRADES) / 3, scores)
    assert np.allclose(ensemble.predict_folds(PAIRS).mean(axis=1), scores)
    assert set(ensemble.decide_grades(scores)) <= set(range(GRADES))


def test_a_pair_alone_scores_as_in_a_batch(ensemble):
    together = ensemble.predict_shares(PAIRS)
    alone = np.concatenate([ensemble.predict_shares([pair]) for pair in PAIRS])
    assert np.allclose(alone, together, atol=1e-6)


def test_out_of_fold_scores_are_those_of_the_loaded_fold(trained, ensemble):
    oof = pd.read_parquet(trained / "oof.parquet").set_index("id")
    rows = [row for row in graded_rows(160) if row["id"] in oof.index]
    found = ensemble.predict_folds([(row["origin_query"], row["category_path"]) for row in rows])
    for row, scores in zip(rows, found, strict=True):
        fold = list(ensemble.folds).index(oof.loc[row["id"], "fold"])
        assert scores[fold] == pytest.approx(oof.loc[row["id"], "score"], abs=1e-5)


def test_a_file_is_measured_by_its_grades(ensemble, tmp_path):
    found = evaluate_file(ensemble, str(write_rows(tmp_path / "dev.txt", graded_rows(40))))
    assert np.sum(found["ensemble"]["grades"]["confusion"]) == 40
    assert "quadratic kappa" in evaluation_table(found)


def test_predictions_hold_the_grade_and_the_distribution(ensemble, tmp_path):
    predict_file(ensemble, str(write_rows(tmp_path / "dev.txt", graded_rows(40))), str(tmp_path / "out.csv"))
    table = pd.read_parquet(tmp_path / "out.csv.scores.parquet")
    shares = table[[f"share_{k}" for k in range(GRADES)]].to_numpy()
    assert np.allclose(shares @ np.arange(GRADES) / 3, table["score"])
    assert (ensemble.decide_grades(table["score"]) == table["grade"]).all()


def test_a_table_with_texts_holds_the_grade(ensemble, tmp_path):
    predict_file(
        ensemble, str(write_rows(tmp_path / "dev.txt", graded_rows(40))), str(tmp_path / "out.csv"), with_texts=True
    )
    table = pd.read_csv(tmp_path / "out.csv")
    assert [*table][-2:] == ["decision", "grade"] and (ensemble.decide_grades(table["score"]) == table["grade"]).all()


def test_the_page_on_errors_shows_grades_and_the_order_of_each_query(trained, tmp_path, capsys):
    pytest.importorskip("ir_measures")
    file = write_rows(
        tmp_path / "dev.txt", [row | {"origin_query": f"query {int(row['id']) % 9}"} for row in graded_rows(60)]
    )
    asked = ["--report", str(tmp_path / "errors"), "--measures", "nDCG@10", "RR@10", "--device", "cpu", "--json"]
    relevance(["evaluate", str(trained), str(file), *asked])
    found = json.loads(capsys.readouterr().out)["ranking"]["ensemble"]["measures"]
    assert set(found) == {"nDCG@10", "RR(rel=2)@10"}  # grades are gains; those of the run's binary view are relevant
    page = (tmp_path / "errors" / "report.html").read_text(encoding="utf-8")
    assert ">grades</h2>" in page and f"{found['nDCG@10']['value']:.4f}" in page
    rows = pd.read_csv(tmp_path / "errors" / "rows.csv")
    assert {"true_grade", "decided_grade", "label"} <= {*rows} and len(rows) == 60


def test_calibration_and_thresholds_are_chosen_on_the_binary_view(trained):
    assert "Chosen: calibration isotonic" in decide_run(trained, dry_run=True)


def test_a_decision_calibrates_the_distribution_by_a_temperature(trained, tmp_path):
    folder = tmp_path / "decided"
    shutil.copytree(trained, folder)
    assert "Probabilities of the grades" in decide_run(folder)
    chosen = json.loads((folder / "run.json").read_text(encoding="utf-8"))["grade_calibration"]
    before, after = (row["log_loss"] for row in chosen["figures"])
    assert chosen["temperature"] > 0 and after < before + 0.05
    assert "divided by the temperature" in (folder / "report.md").read_text(encoding="utf-8")
    ensemble = RelevanceEnsemble.from_pretrained(folder)
    predict_file(ensemble, str(write_rows(tmp_path / "dev.txt", graded_rows(20))), str(tmp_path / "out.csv"))
    table = pd.read_parquet(tmp_path / "out.csv.scores.parquet")
    shares = table[[f"share_{k}" for k in range(GRADES)]].to_numpy()
    calibrated = table[[f"probability_{k}" for k in range(GRADES)]].to_numpy()
    assert np.allclose(calibrated, ensemble.calibrate_shares(shares)) and np.allclose(calibrated.sum(axis=1), 1)
    decide_run(folder, DecisionOptions("none"))
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["grade_calibration"] is None


def test_a_resumed_training_gives_the_scores_of_an_uninterrupted_one(trained, base_of, tmp_path):
    saved = {"save_strategy": "steps", "save_steps": 3, "keep_checkpoints": True}
    train(RunConfig.from_recipe(**options_of(tmp_path, base_of("bert"), fold="0", **saved)))
    folder, first = tmp_path / "run", pd.read_parquet(tmp_path / "run" / "fold-0" / "oof.parquet")
    (folder / "fold-0" / "fold.json").unlink()
    for late in (folder / "checkpoints" / "fold-0").glob("checkpoint-6"):
        late.rename(tmp_path / "late")
    again = options_of(tmp_path, base_of("bert"), fold="0", resume_from_checkpoint="last", **saved)
    train(RunConfig.from_recipe(**again))
    assert pd.read_parquet(folder / "fold-0" / "oof.parquet").equals(first)
    whole = pd.read_parquet(trained / "fold-0" / "oof.parquet")
    assert np.allclose(whole["score"], first["score"], atol=1e-6)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"head": "yes_no"}, "--head yes_no answers with two words"),
        ({"objective": "r_drop"}, "--objective r_drop is of two labels"),
        ({"objective": "distill", "teacher": "x"}, "--objective distill is of two labels"),
        ({"task": "QC,QI", "train_file": "a,b"}, "--task QC,QI has no thresholds of grades"),
    ],
)
def test_what_knows_two_labels_only_is_refused_with_the_reason(given, reason, tmp_path, base_of):
    with pytest.raises(ValueError, match=f"--grades 4: {reason}"):
        RunConfig.from_recipe(**options_of(tmp_path, base_of("bert"), **given))


def test_a_warm_start_from_another_number_of_grades_says_what_to_do(trained, base_of, tmp_path):
    five = options_of(tmp_path, base_of("bert"), grades=5, init_adapter=str(trained))
    with pytest.raises(ValueError, match="found a run of 4 grades, expected 5 as --grades says: start from"):
        train(RunConfig.from_recipe(**five))


def test_a_warm_start_from_the_same_number_of_grades_begins_where_its_parent_ended(trained, base_of, tmp_path):
    config = options_of(tmp_path, base_of("bert"), init_adapter=str(trained), learning_rate=0.0)
    again = pd.read_parquet(train(RunConfig.from_recipe(**config)).folder / "oof.parquet").set_index("id")
    first = pd.read_parquet(trained / "oof.parquet").set_index("id")
    assert np.allclose(again["score"], first["score"].reindex(again.index), atol=1e-6)
