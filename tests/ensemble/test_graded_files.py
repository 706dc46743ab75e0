"""Files with grades through a graded run, through a stack of graded runs, and through a run of two labels."""

import json

import ir_measures
import numpy as np
import pytest

from product_relevance.cli.main import main as relevance
from product_relevance.data.records import read_records
from product_relevance.data.sources.labels import LabelScale
from product_relevance.data.sources.options import ReadingOptions
from product_relevance.data.sources.tables import Source
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.files.evaluate_file import evaluate_file
from product_relevance.ensemble.files.predict_file import predict_frame, read_as_trained, read_records_for
from product_relevance.ensemble.scoring_arguments import FileOptions
from product_relevance.ensemble.stack import RelevanceStack
from product_relevance.evaluation import ranking
from product_relevance.utils.run_folder import read_json, write_json
from product_relevance.utils.run_record import FinishedRunRecord
from tests.conftest import write_rows
from tests.helpers.graded import GRADES, graded_rows, graded_run
from tests.helpers.serving import tiny_run

LETTERS = "ICSE"
MAP = ["--label_map", *(f"{letter}={grade}" for grade, letter in enumerate(LETTERS))]
CPU = ["--device", "cpu"]


@pytest.fixture(scope="module")
def run(base_of):
    return graded_run(base_of("bert"))


@pytest.fixture
def numbers(tmp_path):
    return write_rows(tmp_path / "numbers.txt", graded_rows(60, "dev_QC.txt"))


@pytest.fixture
def letters(tmp_path):
    rows = [row | {"label": LETTERS[row["label"]]} for row in graded_rows(60, "dev_QC.txt")]
    return write_rows(tmp_path / "letters.txt", rows)


def measured(capsys, *words) -> dict:
    capsys.readouterr()
    relevance(["evaluate", *map(str, words), "--json", *CPU])
    return json.loads(capsys.readouterr().out)


def test_letters_are_measured_as_their_grades(run, numbers, letters, capsys):
    plain, named = measured(capsys, run, numbers), measured(capsys, run, letters, *MAP)
    assert plain["ensemble"] == named["ensemble"] and "kappa" in plain["ensemble"]["grades"]


@pytest.mark.parametrize("label", ["grade", "label"], ids=["the-remembered-column", "a-column-of-its-own"])
def test_a_label_map_alone_leaves_the_columns_of_the_training_file(run, tmp_path, letters, label):
    content = read_json(run / "run.json")
    content["arguments"]["data"] |= {"columns": ["query=search", "label=grade"], "label_map": ["N=0", "Y=3"]}
    kept = FinishedRunRecord.from_json(content)
    rows = [json.loads(line) for line in letters.read_text(encoding="utf-8").splitlines()]
    renamed = [{"search": row.pop("origin_query"), label: row.pop("label")} | row for row in rows]
    file = write_rows(tmp_path / "renamed.txt", renamed)
    asked = Source(
        str(file), reading=ReadingOptions(scale=LabelScale.parse(dict(zip(LETTERS, range(4), strict=True)), 4))
    )
    found = read_records(read_as_trained(asked, kept), task="QC")
    assert found["origin_query"].tolist() == [row["search"] for row in renamed]
    assert found["label"].tolist() == [LETTERS.index(row[label]) for row in renamed]


def test_letters_are_predicted_and_the_same_command_again_has_nothing_to_do(run, letters, tmp_path, capsys):
    command = ["predict", str(run), str(letters), "--output", str(tmp_path / "out.csv"), *MAP, *CPU]
    relevance(command)
    assert "60 predictions" in capsys.readouterr().out
    relevance(command)
    assert "complete, nothing to do" in capsys.readouterr().out


def test_two_graded_runs_are_compared_by_letters(run, letters, capsys):
    relevance(["compare", str(run), str(run), str(letters), *MAP, *CPU])
    assert "0.0000" in capsys.readouterr().out


def test_a_map_of_other_grades_than_the_run_has_is_refused(run, base_of, letters):
    with pytest.raises(SystemExit, match="--label_map E=4: found '4', expected a whole number from 0 to 3"):
        relevance(["evaluate", str(run), str(letters), "--label_map", "I=0", "C=1", "S=2", "E=4", *CPU])
    with pytest.raises(SystemExit, match="--label_map S=2: found '2', expected 0 or 1"):
        relevance(["evaluate", str(tiny_run(base_of("qwen3"))), str(letters), *MAP, *CPU])


def test_rankings_gain_by_the_grades_and_count_what_the_run_counts_as_relevant(run, numbers, tmp_path, capsys):
    found = measured(capsys, run, numbers, "--measures", "nDCG@10", "AP", "--trec", tmp_path / "trec")
    figures, rows = found["ranking"]["ensemble"], graded_rows(60, "dev_QC.txt")
    assert list(figures["measures"]) == ["nDCG@10", "AP(rel=2)"]
    qrels = (tmp_path / "trec" / "qrels.txt").read_text(encoding="utf-8").splitlines()
    assert [int(line.split()[-1]) for line in qrels] == [row["label"] for row in rows]
    scores = RelevanceEnsemble.from_pretrained(run, device="cpu").predict(
        [(row["origin_query"], row["category_path"]) for row in rows]
    )
    judged = ranking.judge_rows([row["origin_query"] for row in rows], [row["label"] for row in rows])
    mean = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], judged, ranking.rank_rows(judged, scores))
    assert figures["measures"]["nDCG@10"]["value"] == pytest.approx(mean[ir_measures.nDCG @ 10], abs=1e-6)
    best = {row["origin_query"]: 0 for row in rows}
    for row in rows:
        best[row["origin_query"]] = max(best[row["origin_query"]], row["label"])
    assert figures["without_relevant"] == sum(grade < 2 for grade in best.values())


@pytest.fixture
def stack(run, tmp_path):
    relevance(["stack", str(run), str(run), "--output", str(tmp_path / "stack")])
    return RelevanceStack.from_pretrained(tmp_path / "stack", device="cpu")


def test_a_stack_of_graded_runs_reads_grades_and_gives_the_probability_of_relevance(stack, numbers):
    found = evaluate_file(stack, str(numbers))["ensemble"]
    relevant = np.mean([row["label"] >= GRADES // 2 for row in graded_rows(60, "dev_QC.txt")])
    assert found["positive"] == pytest.approx(relevant) and "grades" not in found


def test_a_row_without_a_query_gets_the_share_of_relevant_rows_from_a_stack(stack, tmp_path):
    rows = graded_rows(4, "dev_QC.txt")
    rows[1]["origin_query"] = " "
    _, frame = read_records_for(stack, str(write_rows(tmp_path / "a.txt", rows)), "test", "skip")
    assert predict_frame(stack, frame, FileOptions())["score"][1] == stack.run.data["positive"]


def test_runs_of_other_grades_or_of_another_meaning_of_relevant_make_no_stack(run, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    for change, said in (
        ({"relevant_from": 3}, "relevant_from 3, but"),
        ({"labels": {"0": "no", "1": "yes"}, "relevant_from": None}, "number of grades 2, but"),
    ):
        write_json(other / "run.json", read_json(run / "run.json") | change)
        with pytest.raises(SystemExit, match=said):
            relevance(["stack", str(run), str(other), "--output", str(tmp_path / "stack")])
