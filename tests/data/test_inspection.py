"""`relevance inspect` finds what nobody said of a file, names its doubts, and writes a recipe for it."""

import pandas as pd
import pytest
import yaml

from product_relevance.cli.main import main as relevance
from product_relevance.data.inspection.inspect_file import inspect_file
from product_relevance.data.inspection.recipe import make_recipe
from product_relevance.data.reading_arguments import ReadingArguments
from product_relevance.data.records import read_records
from product_relevance.data.sources.tables import Source
from product_relevance.training.run_config import RunConfig
from tests.helpers.shop_export import write_export

WORDS = ["rote schuhe", "kırmızı ayakkabı", "garden hose", "lampe für die straße"]


def rows(count=40, **columns):
    """A table of a shop; a column is a function of the row's number."""
    plain = {"keyword": lambda n: f"{WORDS[n % 4]} {n}", "title": lambda n: f"A title of many words, number {n}"}
    made = plain | {"score": lambda n: n % 2, "lang": lambda n: ["de", "tr", "en_GB", "de_DE"][n % 4]} | columns
    return pd.DataFrame([{name: value(n) for name, value in made.items() if value} for n in range(count)])


def inspected(tmp_path, table, **options):
    table.to_csv(tmp_path / "shop.csv", index=False, sep=";")
    reading = ReadingArguments(**options).reading(20)
    return inspect_file(Source(str(tmp_path / "shop.csv"), reading=reading)), reading


def test_columns_are_found_by_their_names(tmp_path):
    found, _ = inspected(tmp_path, rows(sku=lambda n: f"A{n}", price=lambda n: n))
    expected = {"query": "keyword", "target": "title", "label": "score", "language": "lang", "id": "sku"}
    assert found.columns.given() == expected and found.task == "QI" and found.grades == 2
    assert found.languages == {"de": 20, "tr": 10, "en": 10} and found.labels == {"0": 20, "1": 20}
    assert not found.obstacles and "40 rows are few" in found.doubts[-1]


def test_columns_are_found_by_their_values(tmp_path):
    table = rows(sku=lambda n: n // 2)
    table.columns = ["a", "b", "c", "d", "e"]
    found, _ = inspected(tmp_path, table)
    assert {name: found.columns.given()[name] for name in ("query", "target", "language")} == {
        "query": "a",
        "target": "b",
        "language": "d",
    }
    assert found.columns.given()["label"] == "c" and "each row gets its number" in found.doubts[0]


def test_what_was_given_is_kept(tmp_path):
    found, _ = inspected(tmp_path, rows(other=lambda n: f"Path > level {n}"), columns=["target=other", "language="])
    assert found.columns.target == "other" and found.columns.language == "" and found.task == "QC"
    assert list(found.separators) == [">"] and any("identified" in doubt for doubt in found.doubts)


def test_our_own_names_need_no_map(tmp_path):
    names = {"keyword": "origin_query", "title": "item_title", "score": "label", "lang": "language"}
    found, _ = inspected(tmp_path, rows().rename(columns=names).assign(id=range(40), task="QI"))
    assert found.columns.given() == {} and found.grades == 2


def test_a_column_with_our_name_that_holds_something_else_is_not_read(tmp_path):
    found, reading = inspected(tmp_path, rows(id=lambda n: n // 3, task=lambda n: "todo"))
    assert found.columns.id == "" and found.columns.task == ""
    recipe = make_recipe(found, reading)
    assert recipe["columns"]["id"] == ""


LABELS = {
    "words": (lambda n: "ESCI"[n % 4], 4, {"E": 3, "S": 2, "C": 1, "I": 0}),
    "numbers": (lambda n: n % 4, 4, {}),
    "from one": (lambda n: 1 + n % 5, 5, {"5": 4, "4": 3, "3": 2, "2": 1, "1": 0}),
    "yes and no": (lambda n: ["yes", "no"][n % 2], 2, {}),
    "exact": (lambda n: ["Exact", "Partial", "Irrelevant"][n % 3], 3, {"Exact": 2, "Partial": 1, "Irrelevant": 0}),
}


@pytest.mark.parametrize(("label", "grades", "label_map"), LABELS.values(), ids=LABELS)
def test_grades_are_counted_and_ordered(tmp_path, label, grades, label_map):
    found, reading = inspected(tmp_path, rows(score=label))
    assert found.grades == grades and found.label_map == label_map
    recipe = make_recipe(found, reading)
    asked = ReadingArguments(columns=recipe["columns"], label_map=recipe.get("label_map", []))
    labels = read_records(Source(recipe["train_file"], reading=asked.reading(recipe.get("grades", 2))))["label"]
    assert set(labels) == set(range(grades))


OBSTACLES = {
    "unknown words": (lambda n: "abc"[n % 3], "the order of the labels is not known"),
    "one label": (lambda n: 1, "all labels are '1'"),
    "too many": (lambda n: n / 7, "labels have 40 values"),
    "none": (None, "there is no column of labels"),
}


@pytest.mark.parametrize(("label", "told"), OBSTACLES.values(), ids=OBSTACLES)
def test_no_recipe_without_usable_labels(tmp_path, label, told):
    found, reading = inspected(tmp_path, rows(score=label))
    assert told in found.obstacles[0]
    with pytest.raises(ValueError, match=f"no recipe can be written: {told}"):
        make_recipe(found, reading)


def test_contradictions_defects_and_separators_are_doubts_and_the_recipe_settles_them(tmp_path):
    table = rows(title=lambda n: f"a > b|c > {n // 8}", keyword=lambda n: "same" if n < 3 else f"{n}")
    table.loc[39, "keyword"] = ""
    found, reading = inspected(tmp_path, table)
    assert found.contradictory == 3 and found.repeated == 2 and found.defective == 1 and len(found.separators) == 2
    recipe = make_recipe(found, reading)
    assert (recipe["on_duplicates"], recipe["on_bad_rows"], recipe["path_separator"]) == ("majority", "skip", ">")


def test_repeated_pairs_show_the_noise_of_their_labels(tmp_path, capsys):
    table = rows(80, title=lambda n: f"a title of words {n // 2}", keyword=lambda n: f"{n // 2}", lang=lambda n: "de")
    table["score"] = [n % 4 == 0 if n < 40 else 1 for n in range(80)]
    table.to_csv(tmp_path / "shop.csv", index=False)
    relevance(["inspect", str(tmp_path / "shop.csv")])
    shown = capsys.readouterr().out
    assert "noise       all 10 of 40 repeated pairs disagree: 14.6% of the labels wrong [" in shown
    assert "\n            de  10 of 40" in shown
    rows().to_csv(tmp_path / "shop.csv", index=False)
    relevance(["inspect", str(tmp_path / "shop.csv")])
    assert "noise" not in capsys.readouterr().out


def test_the_command_prints_writes_and_replaces_only_when_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows().to_csv("shop.csv", index=False, sep="\t")
    relevance(["inspect", "shop.csv", "--output", "shop.yaml"])
    shown = capsys.readouterr().out
    for part in ("shop.csv: 40 rows, columns with a tab between", "languages   de 20", "labels      0 20, 1 20"):
        assert part in shown, part
    assert "flags       --columns query=keyword target=title label=score language=lang\n" in shown
    config = RunConfig.from_recipe("shop.yaml")
    assert config.data.columns and config.data.task == "QI" and config.model.model_name_or_path == "embedded:e5-small"
    assert yaml.safe_load((tmp_path / "shop.yaml").read_text())["columns"]["query"] == "keyword"
    with pytest.raises(SystemExit, match="add --overwrite to replace it"):
        relevance(["inspect", "shop.csv", "--output", "shop.yaml"])
    relevance(["inspect", "shop.csv", "--output", "shop.yaml", "--overwrite", "--task", "QC"])
    with pytest.raises(SystemExit, match=r"expected a name that ends in \.yaml"):
        relevance(["inspect", "shop.csv", "--output", "shop.txt"])


def test_ids_are_found_in_exports_that_use_the_same_ones(tmp_path):
    for month in range(2):
        write_export(tmp_path / f"{month}.csv", rows=60, seed=month)
    assert inspect_file(Source(str(tmp_path))).columns.id == "sku"
