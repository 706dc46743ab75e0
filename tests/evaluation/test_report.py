"""The report says what was trained and how it compares with the floor, and links pictures that exist."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from product_relevance.evaluation.metrics import RowFacts, best_threshold, scores_report
from product_relevance.evaluation.reports.report import metrics_table, write_report


@pytest.fixture(scope="module")
def oof():
    rng = np.random.default_rng(0)
    labels = (rng.random(600) < 0.7).astype(int)
    scores = 1 / (1 + np.exp(-rng.normal(size=600) - labels))
    columns = {"id": range(600), "language": rng.choice(["en", "pt", "de"], 600), "label": labels, "score": scores}
    more = {"fold": [f"fold-{i % 3}" for i in range(600)], "query_digest": np.arange(600) // 3}
    return pd.DataFrame(columns | more)


@pytest.fixture(scope="module")
def run(oof):
    cuts = {kind: best_threshold(oof["label"], oof["score"], kind)[0] for kind in ("f1", "macro_f1")}
    speed = {"seconds": 61.5, "pairs_per_second": 33.1, "tokens_per_second": 1234.0, "padding_ratio": 0.021}
    return {
        "task": "QC",
        "base": {"name": "embedded:e5-small", "revision": "1a2b3c"},
        "adapter": {"r": 16, "alpha": 32},
        "template": {"style": "both"},
        "data": {"source": "/some/where/train_QC.txt", "sha256": "ab" * 32, "rows": 600, "positive": 0.7},
        "folds": [{"name": f"fold-{k}", "metrics": scores_report([0, 1], [0.2, 0.8], 0.5), **speed} for k in range(3)],
        "metrics": scores_report(
            oof["label"],
            oof["score"],
            cuts["f1"],
            RowFacts(oof["language"], ["en", "pt"], queries=oof["query_digest"]),
        ),
        "thresholds": cuts,
        "versions": {"python": "3.11.9", "torch": "2.13.0"},
        "arguments": {"training": {"learning_rate": 5e-4, "hub_token": "secret"}},
    }


HISTORY = {"fold-0": [{"loss": 0.6, "step": 1}, {"loss": 0.5, "step": 2}, {"eval_loss": 0.5, "step": 2}]}


@pytest.fixture(scope="module")
def written(tmp_path_factory, run, oof):
    folder = tmp_path_factory.mktemp("run")
    return folder, write_report(folder, run, oof, HISTORY), (folder / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "words",
    [
        "# QC: embedded:e5-small", "1a2b3c", "r 16, alpha 32", "style both", "train_QC.txt", "ab" * 32, "600",
        "learning_rate 0.0005", "fold-2", "all out of fold", "floor: all relevant", "| seen ", "| unseen ",
        "| de ", "chosen on out-of-fold rows only", "padding ratio", "1,234", "torch 2.13.0",
        "macro-F1 (own threshold)",
    ],
)  # fmt: skip
def test_the_report_says(written, words):
    assert words in written[2]


def test_intervals_stand_beside_the_figures(written):
    line = next(line for line in written[2].splitlines() if line.startswith("| all out of fold"))
    assert len(re.findall(r" \d\.\d{3}-\d\.\d{3} ", line)) == 3


def test_a_language_of_few_rows_and_one_below_its_floor_are_marked(tmp_path, run, oof):
    found = run["metrics"]["by_language"]
    groups = found | {"de": found["de"] | {"rows": 3}, "pt": found["pt"] | {"f1": 0.1}}
    told = write_report(tmp_path, run | {"metrics": run["metrics"] | {"by_language": groups}}, oof)
    assert "does better): pt" in told and "which say little: de" in told
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("| de ") and "few rows" in line for line in lines)
    assert any(line.startswith("| pt ") and "below the floor" in line for line in lines)


def test_the_language_fix_shown_is_the_one_of_the_column(tmp_path, run, oof):
    columns = {"template": {"style": "both", "language_fix": "none"}, "columns": {"language_fix": "identify"}}
    write_report(tmp_path, run | columns, oof)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "language_fix identify" in text and "language_fix none" not in text


def test_the_report_tells_neither_secrets_nor_where_files_lay(written):
    assert "secret" not in written[2] and "/some/where" not in written[2]


def test_the_metrics_are_those_of_the_stored_cuts(written, run, oof):
    line = next(line for line in written[2].splitlines() if line.startswith("| all out of fold"))
    own = scores_report(oof["label"], oof["score"], run["thresholds"]["macro_f1"])["macro_f1"]
    for value in (run["metrics"]["f1"], run["metrics"]["floor_f1"], run["metrics"]["auc"], own):
        assert f" {value:.4f} " in line


def test_a_folds_rows_are_measured_at_the_cut_of_the_run(written, run, oof):
    part = oof[oof["fold"] == "fold-1"]
    line = next(line for line in written[2].splitlines() if line.startswith("| fold-1"))
    assert f" {scores_report(part['label'], part['score'], run['thresholds']['f1'])['f1']:.4f} " in line


def test_the_terminal_gets_a_table_that_fits_it(written):
    assert "floor F1" in written[1] and max(map(len, written[1].splitlines())) <= 110


def test_every_linked_picture_exists_and_is_not_blank(written):
    links = re.findall(r"!\[.+?\]\((figures/\w+\.png)\)", written[2])
    assert len(links) == 4
    for link in links:
        assert np.ptp(imread(written[0] / link)[..., :3]) > 0.5


def test_nothing_else_is_left_in_the_folder(written):
    assert sorted(path.name for path in written[0].iterdir()) == ["figures", "report.md"]


def test_a_run_on_all_rows_says_that_nothing_was_measured(tmp_path, run):
    defaults = {"metrics": None, "thresholds": {"f1": 0.5, "macro_f1": 0.5}}
    returned = write_report(tmp_path, run | defaults, None, {"full": HISTORY["fold-0"]})
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "no out-of-fold rows" in returned and "no out-of-fold rows" in text
    assert "not chosen on scores" in text and "chosen on out-of-fold rows only" not in text
    assert re.findall(r"figures/(\w+)", text) == ["loss"]


def test_missing_optional_keys_are_left_out(tmp_path, oof):
    write_report(tmp_path, {"task": "QI"}, oof[["label", "score"]], None)
    assert "None" not in (tmp_path / "report.md").read_text(encoding="utf-8")
    write_report(tmp_path, {}, None)


def test_a_table_is_aligned_and_escapes_what_would_break_it():
    rows = [{"a": "x|y\nz", "b": 0.12345, "c": 12345}, {"a": "long name", "b": None, "c": np.int64(7)}]
    lines = metrics_table(rows, {"a": "name", "b": "share", "c": "rows", "d": "never there"}).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "| --------- | -----: | -----: |"
    assert lines[2:] == ["| x\\|y z    | 0.1235 | 12,345 |", "| long name |      - |      7 |"]


def test_a_table_without_rows_has_its_headings():
    assert metrics_table([], ["f1"]).splitlines()[0] == "|  f1 |"
