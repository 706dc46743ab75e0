"""The page on errors shows figures of each group and the worst rows with their texts; no text starts a script."""

import numpy as np
import pandas as pd
import pytest

from product_relevance.evaluation.grades import measure_grades
from product_relevance.evaluation.metrics import scores_report
from product_relevance.evaluation.ranking import RankingFigure, RankingReport
from product_relevance.evaluation.reports.error_report import JudgedRows, write_error_report

DATA = {"source": "train.csv", "rows": 90, "handled": {"rejected": 7, "languages_corrected": 3}}


def made(rows: int = 120, **changed) -> JudgedRows:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, rows)
    records = pd.DataFrame(
        {
            "id": np.arange(rows),
            "task": "QC",
            "language": rng.choice(["en", "de"], rows),
            "origin_query": [f"query {i % 40}" * (1 + i % 3) for i in range(rows)],
            "target": [f"{level},leaf {i}" for i, level in enumerate(rng.choice(["shoes", "toys"], rows))],
            "label": labels,
        }
    )
    scores = np.clip(0.3 * labels + rng.random(rows) * 0.7, 0, 1)
    given = {"records": records, "scores": scores, "thresholds": np.full(rows, 0.5), "queries": np.arange(rows) % 40}
    given |= {"known": np.arange(rows) % 40 < 5, "first_levels": [t.split(",")[0] for t in records["target"]]}
    return JudgedRows(**given | changed)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return write_error_report(tmp_path_factory.mktemp("errors"), made(), 0.5, DATA).read_text(encoding="utf-8")


def test_each_group_has_the_figures_of_its_rows(page):
    rows = made()
    part = (rows.records["language"] == "de").to_numpy()
    expected = scores_report(rows.labels[part], rows.scores[part], 0.5)
    assert all(f'<td class="short" dir="auto">{expected[name]:.4f}</td>' in page for name in ("f1", "auc"))


@pytest.mark.parametrize("title", ["by language", "by first level", "by query length", "by query", "confusion"])
def test_the_page_has_a_section(page, title):
    assert f">{title}</h2>" in page


def test_rows_of_an_item_title_have_no_first_level(tmp_path):
    page = write_error_report(tmp_path, made(first_levels=None), 0.5, DATA).read_text(encoding="utf-8")
    assert "by first level" not in page


def test_the_row_with_the_largest_loss_comes_first(page):
    rows = made()
    right = np.where(rows.labels == 1, rows.scores, 1 - rows.scores)
    worst = rows.records.iloc[int(right.argmin())]
    listed = page[page.index(">rows with the largest loss</h2>") :]
    assert listed.index(worst["target"]) == min(listed.index(t) for t in rows.records["target"] if f">{t}<" in listed)


def test_a_text_cannot_start_a_script(tmp_path):
    rows = made()
    rows.records.loc[:, "target"] = "<script>alert(1)</script>"
    page = write_error_report(tmp_path, rows, 0.5, DATA).read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page and "default-src 'none'" in page


def test_the_confusion_is_drawn(page):
    part = page[page.index(">confusion</h2>") :]
    assert part.index("<img") < part.index("<h2")


def test_grades_and_ranking_are_shown_where_there_are_some(page, tmp_path):
    assert ">grades</h2>" not in page and ">ranking</h2>" not in page
    measured = measure_grades([0, 1, 2, 2, 1], [0, 1, 1, 2, 0], 3, [0, 0, 1, 1, 2])
    report = RankingReport(40, 3, {"nDCG@10": RankingFigure(0.8123, 0.7, 0.9)}).to_json()
    shown = write_error_report(tmp_path, made(grades=measured, ranking=report), 0.5, DATA).read_text(encoding="utf-8")
    assert "3 of 5 rows got their true grade, and 2 one of its neighbours" in shown
    assert f"{measured['kappa']:.4f}" in shown and (tmp_path / "figures" / "grades.png").is_file()
    assert "0.8123" in shown and "Queries without a relevant row count as 0: 3." in shown


def test_a_reason_stands_where_no_ranking_could_be_measured(tmp_path):
    page = write_error_report(tmp_path, made(ranking="ir-measures is missing"), 0.5, DATA).read_text(encoding="utf-8")
    assert "<p>ir-measures is missing</p>" in page


def test_the_counts_of_the_training_file_are_shown(page):
    assert "rows that were left out, since they could not be read" in page and ">7<" in page


def test_a_run_of_before_says_that_nothing_was_counted(tmp_path):
    page = write_error_report(tmp_path, made(), 0.5, {"source": "train.csv", "rows": 90}).read_text(encoding="utf-8")
    assert "The run was made before such rows were counted." in page


def test_rows_of_one_label_are_reported_too(tmp_path):
    rows = made()
    records = rows.records.assign(label=1)
    page = write_error_report(tmp_path, made(records=records), 0.5, DATA).read_text(encoding="utf-8")
    assert ">thresholds</h2>" in page
