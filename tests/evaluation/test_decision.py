"""No row is judged by what was fitted on its label, and the choice is written where loading finds it."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from product_relevance.cli.main import main as relevance
from product_relevance.evaluation import confusion, decision_rule, thresholds
from product_relevance.evaluation import decision as nested
from product_relevance.evaluation.decision_rule import DecisionRule
from product_relevance.evaluation.metrics import RowFacts, scores_report
from product_relevance.evaluation.reliability import measure_reliability
from product_relevance.evaluation.thresholds import DecisionOptions
from product_relevance.utils.run_record import FinishedRunRecord


def made(rows: int = 900, folds: int = 3, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.5, 1.2, rows)
    columns = {"id": np.arange(rows), "language": "en", "given_language": rng.choice(["en", "es", "pl"], rows)}
    columns |= {"label": (rng.random(rows) < expit(logits)).astype(int), "score": expit(2 * logits)}
    return pd.DataFrame(columns | {"fold": [f"fold-{i % folds}" for i in range(rows)]})


@pytest.fixture
def run(tmp_path):
    """A run folder with out-of-fold scores and no weights."""
    oof, folds = made(), []
    for name, part in oof.groupby("fold"):
        (tmp_path / name).mkdir()
        part.to_parquet(tmp_path / name / "oof.parquet", index=False)
        (tmp_path / name / "fold.json").write_text(json.dumps({"name": name, "history": []}))
        folds.append({"name": name})
    cuts = thresholds.fit_decision(oof["label"], oof["score"], oof["language"], DecisionOptions("none"))["thresholds"]
    cuts.pop("expected_f1")
    content = {
        "format": 1,
        "task": "QC",
        "folds": folds,
        "thresholds": cuts,
        "thresholds_from": "900 out-of-fold rows",
    }
    content["metrics"] = scores_report(oof["label"], oof["score"], cuts["f1"], RowFacts(oof["language"]))
    (tmp_path / "run.json").write_text(json.dumps(content))
    return tmp_path


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 1000), method=st.sampled_from(["temperature", "isotonic"]), folds=st.sampled_from([1, 2, 3])
)
def test_labels_of_a_part_have_no_say_in_how_it_is_judged(seed, method, folds):
    oof = made(150, folds, seed)
    names = nested.name_parts(oof)
    judged = names == sorted(set(names))[seed % len(set(names))]
    other = oof.assign(label=np.where(judged, 1 - oof["label"], oof["label"]))
    way = nested.make_decider(DecisionOptions(method, "language", 50))
    (scores, called), (again, recalled) = nested.judge_rows(oof, *way), nested.judge_rows(other, *way)
    assert (scores[judged] == again[judged]).all()
    assert all((called[kind][judged] == recalled[kind][judged]).all() for kind in decision_rule.KINDS)
    assert (scores[~judged] != again[~judged]).any()


def test_each_part_is_judged_by_the_cut_of_the_others():
    oof = made()
    _, called = nested.judge_rows(oof, *nested.make_decider(DecisionOptions("none", "global", 0)))
    for name, part in oof.groupby("fold"):
        others = oof[oof["fold"] != name]
        rows = others["label"], others["score"], others["language"]
        cut = thresholds.fit_decision(*rows, DecisionOptions("none"))["thresholds"]["f1"]
        assert (called["f1"][part.index] == (part["score"] >= cut)).all()


def test_one_fold_is_divided_by_id_whatever_the_order():
    oof = made(folds=1)
    names = nested.name_parts(oof)
    turn = np.random.default_rng(1).permutation(len(oof))
    assert len(set(names)) == nested.PARTS and min(pd.Series(names).value_counts()) > 100
    assert (nested.name_parts(oof.iloc[turn]) == names[turn]).all()
    with pytest.raises(ValueError, match="too few to fit on some"):
        nested.judge_rows(oof.iloc[:1], *nested.make_decider(DecisionOptions("none", "global", 0)))


def test_figures_on_the_same_rows_flatter():
    way = nested.make_decider(DecisionOptions("isotonic", "language", 0))
    honest, same = nested.measure_decision(made(240), *way, name="x")
    assert (honest["fitted on"], same["fitted on"]) == (nested.OTHERS, nested.SAME) and honest["name"] == "x"
    assert same["f1"] > honest["f1"] and same["macro_f1"] > honest["macro_f1"] and same["ece"] < honest["ece"]


def test_the_comparison_has_every_calibration_and_cuts_by_language():
    rows = nested.compare_calibrations(made(300), DecisionOptions("temperature", shrinkage=100))
    assert len(rows) == 2 * 4 and {row["calibration"] for row in rows} == {"none", "temperature", "isotonic"}
    assert [row["cuts"] for row in rows[-2:]] == ["by language"] * 2
    before, after = rows[0], rows[2]
    assert after["ece"] < before["ece"] and after["log_loss"] < before["log_loss"] and after["f1"] == before["f1"]


def test_the_choice_is_written_into_run_json_and_the_report(run, capsys):
    before = json.loads((run / "run.json").read_text())
    relevance(["decide", str(run), "--calibration", "temperature", "--threshold_by", "language", "--shrinkage", "50"])
    told, content = capsys.readouterr().out, json.loads((run / "run.json").read_text())
    decision = content.pop("decision")
    decision_rule.check_decision(decision)
    assert content == before  # a reader that knows no decision reads what it read before
    assert decision["calibration"]["temperature"] == pytest.approx(2, rel=0.2)
    assert set(decision["languages"]) == {"en", "es", "pl"} and decision["shrinkage"] == 50
    report = (run / "report.md").read_text(encoding="utf-8")
    assert told.strip() in report and "## Decision" in report and "other folds" in told
    assert (run / "figures" / "reliability.png").is_file()


def test_a_second_choice_replaces_the_first_and_a_dry_run_writes_nothing(run):
    relevance(["decide", str(run), "--dry_run"])
    assert "decision" not in json.loads((run / "run.json").read_text()) and not (run / "report.md").exists()
    relevance(["decide", str(run), "--threshold_by", "language"])
    relevance(["decide", str(run), "--calibration", "none"])
    decision = json.loads((run / "run.json").read_text())["decision"]
    assert decision["calibration"] == {"method": "none"} and decision["languages"] == {}


def test_unlabelled_rows_move_the_written_cuts_and_not_the_figures(run):
    nested.decide_run(str(run))
    plain = json.loads((run / "run.json").read_text())["decision"]
    rng = np.random.default_rng(0)
    folds = expit(rng.normal(0, 1, (300, 1)) + rng.normal(0, 1.5, (300, 3)))
    nested.decide_run(
        str(run), unlabelled={"scores": folds.mean(axis=1), "folds": folds, "source": "new.txt"}, match="folds"
    )
    moved = json.loads((run / "run.json").read_text())["decision"]
    assert moved["figures"] == plain["figures"] and moved["calibration"] == plain["calibration"]
    assert moved["spread"]["slope"] > 1.3
    assert abs(moved["thresholds"]["f1"] - 0.5) < abs(plain["thresholds"]["f1"] - 0.5)
    assert "300 unlabelled rows of new.txt" in (run / "report.md").read_text(encoding="utf-8")


def test_a_run_without_out_of_fold_scores_is_refused(run):
    for file in run.glob("*/oof.parquet"):
        file.unlink()
    with pytest.raises(SystemExit, match="no out-of-fold scores"):
        relevance(["decide", str(run)])
    with pytest.raises(SystemExit, match="with unlabelled records to match on"):
        relevance(["decide", str(run), "--match", "training"])


def test_calibration_out_of_part_lowers_the_error_of_scores_that_are_too_sharp():
    oof = made(3000)
    scores, _ = nested.judge_rows(oof, *nested.make_decider(DecisionOptions("isotonic", "global", 0)))
    assert (
        measure_reliability(oof["label"], scores)["ece"] < 0.5 * measure_reliability(oof["label"], oof["score"])["ece"]
    )


def test_a_rule_is_read_alike_wherever_it_is_applied():
    cuts = {"f1": 0.4, "macro_f1": 0.5, "expected_f1": 0.6}
    spread = {"slope": 2.0, "offset": 0.1}
    run = {"task": "QC", "base": {}, "max_length": 64, "thresholds": {"f1": 0.3, "macro_f1": 0.5}, "decision": None}
    assert not (plain := DecisionRule.from_run(FinishedRunRecord.from_json(run))).chosen and plain.threshold() == 0.3
    made = {"thresholds": cuts, "languages": {"pl": dict.fromkeys(cuts, 0.9)}, "calibration": {"method": "none"}}
    rule = DecisionRule.from_run(FinishedRunRecord.from_json(run | {"decision": made | {"spread": spread}}))
    assert rule.chosen and rule.row_thresholds(["pl", "PL", "de", None]).tolist() == [0.9, 0.9, 0.4, 0.4]
    assert rule.decide([0.5, 0.5], ["pl", "de"]).tolist() == [0, 1] == rule.decide([0.3, 0.5]).tolist()
    assert rule.row_thresholds(["pl"], "0.25") == 0.25 and rule.row_thresholds(["pl"], vote="majority") == 0.5
    assert rule.calibrate([0.2, 0.7]).tolist() == decision_rule.stretch_scores(spread, [0.2, 0.7]).tolist()
    with pytest.raises(ValueError, match="--threshold f2: expected f1, macro_f1, expected_f1, or a number"):
        rule.threshold("f2")


@pytest.mark.parametrize(("measure", "value"), [("precision", 0.8), ("recall", 0.9)])
def test_a_goal_is_reached_by_the_threshold_that_costs_least(measure, value):
    oof = made(500)
    chosen = oof["label"], oof["score"], oof["given_language"].tolist()
    kind = f"{measure}_{value}"
    cut = thresholds.fit_decision(*chosen, DecisionOptions("none", **{measure: value}))["thresholds"][kind]
    other = {"precision": "recall", "recall": "precision"}[measure]
    found = confusion.measure_thresholds(*(oof[name].to_numpy() for name in ("label", "score")), [cut, *oof["score"]])
    assert found[measure][0] >= value
    assert found[other][0] == pytest.approx(found[other][found[measure] >= value].max())


def test_a_goal_that_no_threshold_reaches_is_an_error_with_the_highest_value():
    labels, scores = [0, 1, 0, 1], [0.9, 0.8, 0.7, 0.2]
    with pytest.raises(ValueError, match=r"--precision 0.9: no threshold reaches it, the highest precision is 0.5000"):
        thresholds.fit_decision(labels, scores, ["en"] * 4, DecisionOptions("none", precision=0.9))


def test_a_share_outside_0_to_1_is_no_goal():
    with pytest.raises(ValueError, match="recall: found 95.0, expected a share between 0 and 1"):
        DecisionOptions(recall=95.0)


def test_a_goal_is_written_into_the_run_and_decides(run, capsys):
    relevance(["decide", str(run), "--precision", "0.8", "--threshold_by", "language"])
    printed, decision = capsys.readouterr().out, json.loads((run / "run.json").read_text())["decision"]
    decision_rule.check_decision(decision)
    assert "precision at precision_0.8" in printed and "recall at precision_0.8" in printed
    rule = DecisionRule.from_json(decision)
    assert rule.threshold("precision_0.8") == decision["thresholds"]["precision_0.8"] > rule.threshold("f1")
    assert all("precision_0.8" in own for own in decision["languages"].values())


def test_a_threshold_of_an_unknown_kind_is_a_defect_of_the_decision():
    decision = {"calibration": {"method": "none"}, "thresholds": {"f1": 0.5, "macro_f1": 0.5, "expected_f1": 0.5}}
    rest = {"languages": {}, "shrinkage": None, "spread": None, "from": "", "figures": []}
    decision_rule.check_decision(decision | rest)
    decision["thresholds"]["best"] = 0.5
    with pytest.raises(ValueError, match="decision.thresholds: found"):
        decision_rule.check_decision(decision | rest)
