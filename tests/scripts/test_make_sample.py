"""The hand-written sample keeps the promises of sample/README.md."""

import csv
import json
import re
import subprocess
import sys
import unicodedata
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample"
TASKS = ("QC", "QI")
SPLITS = ("train", "dev", "test")
TARGET = {"QC": "category_path", "QI": "item_title"}
ALL_LANGUAGES = {"ar", "de", "en", "es", "fr", "id", "it", "ja", "ko", "pl", "pt", "th", "vn"}
TRAIN_LANGUAGES = {"QC": {"en", "es", "fr", "ja", "ko", "pt"}, "QI": {"en", "es", "fr", "ja", "ko", "pt", "th"}}


def read(name: str) -> list[dict]:
    return [json.loads(line) for line in (SAMPLE / f"{name}.txt").read_text("utf-8").splitlines()]


def labelled(task: str, split: str) -> list[dict]:
    return read(f"answers_{task}" if split == "test" else f"{split}_{task}")


def folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def concept_queries(concept: dict) -> list[tuple[str, str]]:
    return [*concept["queries"].items(), *(pair for extra in concept["noisy"] for pair in extra.items())]


@pytest.fixture(scope="module")
def table() -> dict:
    return yaml.safe_load((SAMPLE / "concepts.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def written_languages(table) -> dict[str, str]:
    """Map each query to the language under which the table lists it."""
    languages = {text: code for concept in table["concepts"] for code, text in concept_queries(concept)}
    return languages | {entry["query"]: entry["language"] for entry in table["ambiguous"]}


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory) -> tuple[Path, str]:
    """Run the program into an empty folder; return the folder and what it printed."""
    out = tmp_path_factory.mktemp("sample")
    command = [sys.executable, ROOT / "dataset_scripts" / "make_sample.py"]
    command += ["--concepts", SAMPLE / "concepts.yaml", "--out", out]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return out, done.stdout


def test_rebuilding_gives_the_same_bytes(rebuilt):
    folder, _ = rebuilt
    names = {path.name for pattern in ("*.txt", "*.csv") for path in SAMPLE.glob(pattern)}
    assert names == {path.name for path in folder.iterdir()}
    assert len(names) == 10
    assert [name for name in sorted(names) if (folder / name).read_bytes() != (SAMPLE / name).read_bytes()] == []


def test_the_readme_shows_the_counts_that_the_program_prints(rebuilt, table):
    _, printed = rebuilt
    readme = (SAMPLE / "README.md").read_text("utf-8")
    assert printed.split("\n\n", 1)[1].strip() in readme
    assert f"{len(table['concepts'])} product concepts" in readme


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_row_has_the_fields_of_the_competition_in_their_order(task, split):
    rows = labelled(task, split)
    fields = ["id", "task", "language", "origin_query", TARGET[task], "label"]
    assert all(list(row) == fields for row in rows)
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
    assert {row["task"] for row in rows} == {task}
    assert {row["label"] for row in rows} == {0, 1}


@pytest.mark.parametrize("task", TASKS)
def test_train_lacks_the_languages_that_dev_and_test_add(task):
    languages = {split: {row["language"] for row in labelled(task, split)} for split in SPLITS}
    assert languages == {"train": TRAIN_LANGUAGES[task], "dev": ALL_LANGUAGES, "test": ALL_LANGUAGES}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_a_query_has_two_to_four_targets(task, split):
    targets = defaultdict(set)
    for row in labelled(task, split):
        targets[row["origin_query"]].add(row[TARGET[task]])
    assert {len(each) for each in targets.values()} == {2, 3, 4}


@pytest.mark.parametrize("task", TASKS)
def test_no_query_crosses_files(task):
    queries = {split: {folded(row["origin_query"]) for row in labelled(task, split)} for split in SPLITS}
    assert all(not queries[one] & queries[other] for one, other in combinations(SPLITS, 2))
    assert sum(len(each) for each in queries.values()) >= 400


def test_a_query_stays_in_its_split_across_the_tasks():
    queries = {(task, split): {folded(row["origin_query"]) for row in labelled(task, split)}
               for task in TASKS for split in SPLITS}  # fmt: skip
    pairs = [(one, other) for one in SPLITS for other in SPLITS if one != other]
    assert all(not queries["QC", one] & queries["QI", other] for one, other in pairs)


@pytest.mark.parametrize("task", TASKS)
def test_no_pair_occurs_twice_so_none_contradicts_itself(task):
    rows = [row for split in SPLITS for row in labelled(task, split)]
    assert len({(folded(row["origin_query"]), folded(row[TARGET[task]])) for row in rows}) == len(rows)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", SPLITS)
def test_about_five_rows_in_eight_are_relevant(task, split):
    labels = [row["label"] for row in labelled(task, split)]
    assert 0.60 <= sum(labels) / len(labels) <= 0.69


@pytest.mark.parametrize("task", TASKS)
def test_some_rows_labelled_english_are_not(task, written_languages):
    for split in SPLITS:
        english = [row for row in labelled(task, split) if row["language"] == "en"]
        foreign = [row for row in english if written_languages[row["origin_query"]] != "en"]
        assert foreign
        if split == "train":
            assert 0.03 <= len(foreign) / len(english) <= 0.06


@pytest.mark.parametrize("task", TASKS)
def test_only_the_label_en_is_ever_wrong(task, written_languages):
    rows = [row for split in SPLITS for row in labelled(task, split)]
    assert all(row["language"] in ("en", written_languages[row["origin_query"]]) for row in rows)


@pytest.mark.parametrize("task", TASKS)
def test_test_files_are_the_answers_without_their_label(task):
    answers = [{key: value for key, value in row.items() if key != "label"} for row in read(f"answers_{task}")]
    assert read(f"test_{task}") == answers


def test_some_levels_hold_a_comma_and_paths_have_two_to_five_levels(table):
    paths = [re.split(r",(?! )", concept["path"]) for concept in table["concepts"]]
    assert {len(path) for path in paths} == {2, 3, 4, 5}
    assert any(", " in level for path in paths for level in path)


def test_a_near_miss_shares_no_relevant_target_with_its_concept(table):
    concepts = {concept["name"]: concept for concept in table["concepts"]}
    for concept in concepts.values():
        paths = {concept["path"], *concept.get("also", []), ",".join(re.split(r",(?! )", concept["path"])[:-1])}
        for near in (concepts[name] for name in concept["hard"]):
            assert not paths & {near["path"], *near.get("also", [])}
            assert not set(concept["titles"]) & set(near["titles"])


def test_the_translations_from_english_are_queries_of_no_file():
    with (SAMPLE / "from_english.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    held = {row["origin_query"] for task in TASKS for split in SPLITS for row in labelled(task, split)}
    assert len(rows) > 100 and not held & {row["translation"] for row in rows}
    assert {row["language"] for row in rows} == ALL_LANGUAGES - TRAIN_LANGUAGES["QI"]


def test_each_concept_speaks_every_language_and_no_query_is_written_twice(table):
    assert all(set(concept["queries"]) == ALL_LANGUAGES for concept in table["concepts"])
    queries = [folded(text) for concept in table["concepts"] for _, text in concept_queries(concept)]
    queries += [folded(entry["query"]) for entry in table["ambiguous"]]
    assert len(set(queries)) == len(queries)


@pytest.mark.parametrize("debris", ["%", '\\"', "  ", ".."])
def test_some_queries_carry_debris(debris):
    assert any(debris in row["origin_query"] for task in TASKS for row in read(f"train_{task}"))
