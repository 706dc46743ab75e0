"""What the report says about a file is true of it, and whatever stands in the data it stays text."""

import sys
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from product_relevance.data import loading
from product_relevance.data.records import read_records
from product_relevance.preparation.exploration import drift, figures, report, statistics
from product_relevance.utils.tasks import LABELS
from tests.conftest import ROOT, SAMPLE, rows_of, write_rows
from tests.helpers import warm

HOSTILE = '<img src=x onerror="window.hacked=1">&lt;$\\frac{</td><script>alert(1)</script>'
SCRIPT = [sys.executable, str(ROOT / "dataset_scripts/explore.py")]


def measured(path) -> pd.DataFrame:
    return statistics.add_measures(loading.add_all_columns(read_records(path, role="any"), False, "identify", "none"))


@pytest.fixture(scope="module")
def train():
    return measured(SAMPLE / "train_QC.txt")


@pytest.fixture(scope="module")
def dev():
    return measured(SAMPLE / "dev_QC.txt")


@pytest.fixture
def hostile_file(tmp_path):
    """HTML, formulas, Arabic, Thai, a very long query, and one pair in three spellings with both labels."""
    texts = [HOSTILE, "سماعات بلوتوث", "รองเท้าวิ่งผู้หญิง", "x" * 10_000, "👟👟", "Usb Kabel", "usb  kabel", "usb kabel"]
    rows = [
        {"id": n, "task": "QC", "language": "$\\frac<b>" if n % 2 else "en", "origin_query": text, "label": n % 2}
        | {"category_path": HOSTILE.replace(",", "") if n < 4 else "computers,cables"}
        for n, text in enumerate(texts)
    ]
    return write_rows(tmp_path / "<b>hostile.txt", rows)


def test_counts_agree_with_the_rows(train):
    rows = rows_of("train_QC.txt")
    table = statistics.summarise_rows(train).iloc[0]
    assert table["rows"] == len(rows)
    assert table["relevant"] == pytest.approx(np.mean([row["label"] for row in rows]))
    codes = statistics.count_languages(train).set_index("language")
    given_codes = Counter(row["language"] for row in rows)
    assert codes["given"].to_dict() == {code: given_codes[code] for code in codes.index}
    assert codes["corrected"].sum() == len(rows)


def test_the_queries_that_the_sample_labels_en_by_mistake_are_moved(train):
    moves = statistics.count_language_moves(train)
    assert set(moves["given"]) == {"en"} and {"es", "fr", "it", "de"} & set(moves["corrected"])
    counts = statistics.count_languages(train).set_index("language")
    assert moves["rows"].sum() == counts["given"]["en"] - counts["corrected"]["en"]


@given(st.text(max_size=40), st.text(max_size=40))
def test_the_overlap_is_symmetric_and_one_only_for_equal_sets_of_words(left, right):
    a, b = set(statistics.split_words(left)), set(statistics.split_words(right))
    assert statistics.jaccard(a, b) == statistics.jaccard(b, a) <= 1
    assert (statistics.jaccard(a, b) == 1) == (a == b and bool(a))


def test_words_are_the_same_whatever_case_and_punctuation():
    assert statistics.split_words("Women's T-Shirt, (XL)") == ["women", "s", "t", "shirt", "xl"]
    assert statistics.split_words("รองเท้าวิ่ง ワイヤレス、イヤホン") == ["รองเท้าวิ่ง", "ワイヤレス", "イヤホン"]
    assert statistics.split_words(" ,- ") == []


def test_lengths_and_overlaps_by_bin_add_up_to_all_rows(train):
    assert statistics.bin_lengths(train)[["query", "target"]].sum().tolist() == pytest.approx([1, 1])
    assert statistics.bin_overlaps(train)[list(LABELS.values())].sum().tolist() == pytest.approx([1, 1])
    lengths = statistics.measure_lengths(train).set_index(["text", "language"])
    english = train[train["language"] == "en"]["query_characters"]
    assert lengths.loc[("query", "en"), "longest"] == english.max()
    assert lengths.loc[("query", "en"), "median"] == english.median()


def test_queries_are_counted_by_their_rows(train):
    table = statistics.count_rows_per_query(train)
    sizes = Counter(train["query_key"])
    assert table["queries"].sum() == len(sizes) and table["rows"].sum() == len(train)
    assert table.set_index("rows per query").loc["3", "queries"] == sum(size == 3 for size in sizes.values())


def test_repeated_and_contradictory_pairs_are_found_whatever_their_spelling(hostile_file):
    frame = measured(hostile_file)
    table = statistics.summarise_rows(frame).iloc[0]
    assert table["rows of a repeated pair"] == 3 and table["letter for letter"] == 0
    assert table["rows of a contradictory pair"] == 3
    found = statistics.list_contradictions(frame)
    assert found[["rows", "relevant"]].to_numpy().tolist() == [[3, 2]]
    assert statistics.list_repeats(frame)["rows"].tolist() == [3]


def test_the_tree_and_its_rows_add_up(train):
    table, tree = statistics.describe_taxonomy(train), set(train["target"])
    assert table["paths that end here"].sum() == len(tree) and table["rows"].sum() == len(train)
    assert (table["nodes"] >= table["names"]).all() and table["level"].tolist() == list(range(1, len(table) + 1))
    assert statistics.list_branches(train)["rows"].is_monotonic_decreasing


def test_noise_is_told_by_kind(hostile_file):
    table = statistics.measure_noise(measured(hostile_file)).set_index("language")
    whole = table.loc["all"]
    assert whole["rows"] == 8 and whole["no letter"] == pytest.approx(1 / 8)
    assert whole["non-Latin letters"] == pytest.approx(2 / 8) and whole["two scripts"] == 0
    assert whole["query changed by cleaning"] >= 1 / 8  # two blanks in `usb  kabel`


def test_paths_of_another_file_are_looked_up(train, dev):
    counts, unknown = drift.find_unseen_paths(train, dev)
    assert counts["known"].tolist() == ["complete", "partial", "none"] and counts["rows"].sum() == len(dev)
    assert not set(unknown["path"]) & set(train["target"])
    assert drift.find_unseen_paths(train, train)[0]["rows"].tolist() == [len(train), 0, 0]


def test_a_file_is_at_no_distance_from_itself_and_at_some_from_another(train, dev):
    distances = drift.measure_drift(train, train)["distance"].dropna()
    assert distances.tolist() == pytest.approx([0] * len(distances))
    far = drift.measure_drift(train, dev).set_index("what")
    assert far.loc["rows in a language that the first has not", "second"] > 0.3
    assert far["distance"].dropna().between(0, 1).all()


def test_drift_leads_with_the_overlap_of_queries(train, dev):
    same, other = drift.measure_drift(train, train).iloc[0], drift.measure_drift(train, dev).iloc[0]
    assert same["what"] == "rows whose query is in the other file, too"
    assert (same["first"], same["second"]) == (1.0, 1.0) and (other["first"], other["second"]) == (0.0, 0.0)
    assert f"{len(train):,} of {len(train):,} rows (100.0%)" in drift.describe_shared_queries(train, train)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(0, 9), min_size=1))
def test_the_distance_of_lengths_is_that_of_scipy(left, right):
    found = drift.kolmogorov_smirnov(np.array(left), np.array(right))
    assert found == pytest.approx(ks_2samp(left, right, method="exact").statistic)


def test_files_without_labels_are_described_too(tmp_path):
    frames = {"test": measured(SAMPLE / "test_QC.txt")}
    page = report.write_report(tmp_path, {"QC": frames}).read_text()
    assert "QC: noise" in page and "QC: labels" not in page and "QC: overlap" not in page


class Tags(HTMLParser):
    """Collect the tags and attributes of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = Counter(), [], ""

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_data(self, text):
        self.text += text


def test_the_report_shows_hostile_texts_as_text_and_loads_nothing(hostile_file, tmp_path):
    frame = measured(hostile_file)
    page = report.write_report(tmp_path, {"QC": {hostile_file.name: frame, "again": frame}}).read_text()
    parsed = Tags()
    parsed.feed(page)
    allowed = {"a", "body", "caption", "h1", "h2", "head", "html", "img", "meta", "nav", "p", "style"}
    allowed |= {"table", "tbody", "td", "th", "thead", "title", "tr"}
    assert set(parsed.tags) == allowed
    names = {name for name, _ in parsed.attributes}
    assert not {name for name in names if name.startswith("on")} and "script" not in parsed.tags
    sources = [value for name, value in parsed.attributes if name in ("src", "href")]
    assert all(value.startswith(("data:image/png;base64,", "#s")) for value in sources)
    assert "default-src 'none'" in page and "window.hacked" in parsed.text and "x" * 301 not in page


def test_the_program_writes_a_page_and_pictures_of_both_tasks(tmp_path):
    files = [str(SAMPLE / name) for name in ("train_QC.txt", "dev_QC.txt", "train_QI.txt")]
    done = warm.run([*SCRIPT, *files, "--output", str(tmp_path / "out")])
    assert done.returncode == 0, done.stderr
    pictures = {path.name for path in (tmp_path / "out/figures").iterdir()}
    assert {"QC_languages.png", "QC_drift.png", "QC_unseen.png", "QI_labels.png", "QI_noise.png"} <= pictures
    assert "QI_taxonomy.png" not in pictures
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in (tmp_path / "out/figures").iterdir())
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/png") == len(pictures) and str(tmp_path) not in page and str(ROOT) not in page


def test_bad_rows_are_left_out_and_kept_beside_the_report(tmp_path):
    rows = rows_of("train_QC.txt")[:50]
    rows[3]["label"] = "maybe"
    source = write_rows(tmp_path / "bad.txt", rows)
    done = warm.run([*SCRIPT, str(source), "--output", str(tmp_path / "out")])
    assert done.returncode == 0 and "49 rows, 1 left out" in done.stdout, done.stderr
    assert "maybe" in (tmp_path / "out/bad.rejects.jsonl").read_text()


def test_a_missing_file_ends_with_one_clear_line(tmp_path):
    done = warm.run([*SCRIPT, "no.txt", "--output", str(tmp_path)])
    assert done.returncode == 1 and "no.txt" in done.stderr and "Traceback" not in done.stderr


def test_the_interval_of_a_share_holds_the_share_and_narrows_with_rows():
    share, rows = np.array([0.0, 0.5, 1.0, 0.5]), np.array([3, 10, 3, 1000])
    low, high = figures._wilson(share, rows)
    assert (low <= share).all() and (share <= high).all() and (low >= -1e-12).all() and (high <= 1 + 1e-12).all()
    assert high[3] - low[3] < high[1] - low[1]
    assert high[1] - low[1] == pytest.approx(0.5268, abs=1e-3)  # 5 of 10: .2366 to .7634, as published tables have it
