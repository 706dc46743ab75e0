"""Measures are those of their definitions and of the command of ir-measures; differences are paired."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("ir_measures")
from product_relevance.evaluation import ranking, trec
from product_relevance.evaluation.ranking import USUAL

# By score: a (not relevant), b (relevant), c (not), d (relevant); e is relevant and not ranked.
QRELS = pd.DataFrame([("q", name, int(name in "bde")) for name in "abcde"], columns=[*trec.QRELS])
RUN = pd.DataFrame([("q", name, 1 - place / 10) for place, name in enumerate("abcd")], columns=[*trec.RUN])


def made(seed: int, strength: float, queries: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    names = np.repeat([f"q{i}" for i in range(queries)], 8)
    qrels = ranking.judge_rows(names, rng.integers(0, 2, len(names)))
    noise = np.random.default_rng(seed).random(len(names))
    return qrels, ranking.rank_rows(qrels, strength * qrels["relevance"] + (1 - strength) * noise)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("P@5", 2 / 5),
        ("P@2", 1 / 2),
        ("R@50", 2 / 3),
        ("RR@10", 1 / 2),
        ("AP", (1 / 2 + 2 / 4) / 3),
        ("nDCG@10", (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / math.log2(4))),
    ],
)
def test_a_measure_is_what_one_computes_by_hand(name, expected):
    found = ranking.measure_queries(QRELS, RUN, ranking.parse_measures([name]))
    assert found.loc["q", name] == pytest.approx(expected, abs=1e-6)


def test_grades_are_gains_and_the_lowest_relevant_one_can_be_chosen():
    qrels = QRELS.assign(relevance=[0, 1, 0, 3, 2])
    measures = ranking.parse_measures(["RR@10", "nDCG@10", "AP(rel=3)"], relevant_from=2)
    found = ranking.measure_queries(qrels, RUN, measures).loc["q"]
    ideal = 3 + 2 / math.log2(3) + 1 / 2
    assert found["nDCG@10"] == pytest.approx((1 / math.log2(3) + 3 / math.log2(5)) / ideal, abs=1e-6)
    assert found["RR(rel=2)@10"] == found["AP(rel=3)"] == 1 / 4


def test_a_query_without_relevant_target_or_without_ranking_counts_as_zero():
    more = pd.DataFrame([("none", "a", 0), ("lost", "a", 1)], columns=[*trec.QRELS])
    run = pd.concat([RUN, pd.DataFrame([("none", "a", 0.5), ("unjudged", "a", 0.5)], columns=[*trec.RUN])])
    found = ranking.measure_queries(pd.concat([QRELS, more]), run, ranking.parse_measures(USUAL))
    assert found.index.tolist() == ["lost", "none", "q"]
    assert not found.loc[["lost", "none"]].to_numpy().any()
    report = ranking.report_ranking(pd.concat([QRELS, more]), found)
    assert (report.queries, report.without_relevant) == (3, 1)
    assert report.measures["RR@10"].value == pytest.approx(1 / 6)


def test_the_means_are_those_of_the_command_of_ir_measures(tmp_path):
    qrels, run = made(1, 0.3)
    run = run.iloc[::2]  # so that recall differs from 1
    trec.write_qrels(qrels, tmp_path / "qrels.txt")
    trec.write_run(run, tmp_path / "run.txt")
    command = [sys.executable, "-m", "ir_measures", "-p", "6", str(tmp_path / "qrels.txt"), str(tmp_path / "run.txt")]
    printed = subprocess.run([*command, *USUAL], capture_output=True, text=True, check=True).stdout
    theirs = {name: float(value) for name, value in (line.split("\t") for line in printed.splitlines())}
    read = trec.read_qrels(tmp_path / "qrels.txt"), trec.read_run(tmp_path / "run.txt")
    ours = ranking.measure_queries(*read, ranking.parse_measures(USUAL)).mean()
    assert theirs.keys() == set(USUAL)
    assert all(ours[name] == pytest.approx(value, abs=2e-6) for name, value in theirs.items())


def test_a_difference_is_paired_and_turns_its_sign():
    measures = ranking.parse_measures(USUAL)
    qrels, run = made(1, 0.1)
    a, b = (ranking.measure_queries(qrels, each, measures) for each in (run, made(2, 0.3)[1]))
    same = ranking.compare_rankings(a, a)
    assert {(each.difference, each.low, each.high) for each in same.values()} == {(0.0, 0.0, 0.0)}
    there, back = ranking.compare_rankings(a, b)["AP"], ranking.compare_rankings(b, a)["AP"]
    assert there.difference == -back.difference and there.low == pytest.approx(-back.high) and there.low > 0
    alone = ranking.report_ranking(qrels, b).measures["AP"]
    assert alone.low < alone.value < alone.high and alone.value == pytest.approx(b["AP"].mean())


def test_rankings_of_other_queries_are_not_compared():
    measures = ranking.parse_measures(["AP"])
    a, b = (ranking.measure_queries(*made(1, 0.3, queries), measures) for queries in (20, 30))
    with pytest.raises(ValueError, match="expected the same judgements"):
        ranking.compare_rankings(a, b)


@pytest.mark.parametrize("name", ["ndcg@10", "foo", "nDCG@", "", "P(x=1)@5"])
def test_an_unknown_measure_is_named(name):
    with pytest.raises(ValueError, match="expected a measure of ir-measures, as nDCG@10"):
        ranking.parse_measures([name])


def test_the_table_names_rankings_measures_and_queries():
    qrels, run = made(1, 0.3)
    report = ranking.report_ranking(qrels, ranking.measure_queries(qrels, run, ranking.parse_measures(["AP"])))
    table = ranking.ranking_table({"ensemble": report.to_json()})
    assert "| ensemble |" in table and "AP 95%" in table and "60 queries" in table
