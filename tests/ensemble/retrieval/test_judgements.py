"""Judgements are matched by ids or by texts, graded ones keep their grades, and what is lost is counted."""

import json
import logging
from dataclasses import replace

import pandas as pd
import pytest

from product_relevance.data.catalogue import Catalogue, Queries
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.tables import Source
from product_relevance.ensemble.retrieval import judgements
from product_relevance.evaluation.ranking import parse_measures
from product_relevance.utils.run_record import FinishedRunRecord

CATALOGUE = Catalogue("c.csv", ["a", "b", "c"], ["Red Belt", "Hat", "red  belt"])
QUERIES = Queries("q.csv", ["1", "2"], ["belt", "hat"], ["en", "en"], None)
BINARY = FinishedRunRecord(format=1, task="QI", max_length=64)
GRADED = replace(BINARY, labels={"0": "", "1": "", "2": "", "3": ""}, relevant_from=2)


def labelled(path, rows, grades: int = 2) -> Source:
    fields = ("origin_query", "item_title", "label")
    path.write_text("\n".join(json.dumps(dict(zip(fields, row, strict=True))) for row in rows), encoding="utf-8")
    return Source(str(path), reading=ReadingOptions().with_grades(grades))


def read(source: Source, run=BINARY) -> judgements.Judgements:
    return judgements.read_judgements(source, QUERIES, CATALOGUE, run)


def test_labelled_records_are_matched_by_their_texts(tmp_path, caplog):
    rows = [("BELT ", "“red belt”", 1), ("belt", "hat", 0), ("hat", "cap", 1), ("shoe", "hat", 1)]
    with caplog.at_level(logging.WARNING):
        found = read(labelled(tmp_path / "l.jsonl", rows))
    known = [("1", "a", 1), ("1", "c", 1), ("1", "b", 0), ("2", "not in the catalogue: cap", 1)]
    assert [*found.qrels.itertuples(index=False, name=None)] == known and found.relevant_from == 1
    assert "1 judged targets are not in c.csv and count as not found" in caplog.text


def test_grades_are_kept_with_the_grade_from_which_the_run_calls_a_target_relevant(tmp_path):
    found = read(
        labelled(tmp_path / "l.jsonl", [("belt", "hat", 1), ("belt", "hat", 3), ("hat", "hat", 2)], 4), GRADED
    )
    assert found.qrels["relevance"].tolist() == [3, 2] and found.relevant_from == 2


def test_a_trec_file_is_matched_by_ids(tmp_path):
    (tmp_path / "qrels.txt").write_text("1 0 a 1\n2 0 b 0\n9 0 a 1\n")
    assert read(Source(str(tmp_path / "qrels.txt"))).qrels["doc_id"].tolist() == ["a", "b"]


def test_judgements_of_other_queries_are_an_error(tmp_path):
    (tmp_path / "qrels.txt").write_text("9 0 a 1\n")
    with pytest.raises(ValueError, match="found no query of q.csv, expected its query ids"):
        read(Source(str(tmp_path / "qrels.txt")))
    with pytest.raises(ValueError, match="found no query of q.csv, expected texts of its queries"):
        read(labelled(tmp_path / "l.jsonl", [("shoe", "hat", 1)]))
    with pytest.raises(ValueError, match="--columns label=LABEL|field 'label'"):
        (tmp_path / "l.csv").write_text("origin_query,item_title\nbelt,hat\n")
        read(Source(str(tmp_path / "l.csv")))


def test_the_order_of_both_stages_is_measured_and_compared(tmp_path):
    pytest.importorskip("ir_measures")
    (tmp_path / "qrels.txt").write_text("1 0 a 1\n2 0 b 1\n")
    columns = {"query_id": ["1", "1", "2"], "id": ["a", "b", "b"], "score": [0.9, 0.1, 0.5]}
    frame = pd.DataFrame(columns | {"first_stage_score": [0.2, 0.8, 0.5]})
    found = judgements.measure_stages(
        read(Source(str(tmp_path / "qrels.txt"))), frame, parse_measures(["R@2", "RR@10"])
    )
    values = {
        stage: {n: f["value"] for n, f in found[stage]["measures"].items()} for stage in ("first_stage", "ensemble")
    }
    assert values == {"first_stage": {"R@2": 1, "RR@10": 0.75}, "ensemble": {"R@2": 1, "RR@10": 1}}
    assert found["ensemble_less_first_stage"]["RR@10"]["difference"] == 0.25
    assert "+0.2500" in judgements.stages_table(found)
