"""Separators and names of levels are found in the file, kept with the run, and followed wherever paths are split."""

import logging

import numpy as np
import pandas as pd
import pytest

from product_relevance.data import loading
from product_relevance.data.arguments import DataArguments
from product_relevance.data.folds import assign_folds, prefix_groups
from product_relevance.data.leakage import check_leakage
from product_relevance.preparation.augmentation.negative_candidates import Catalogue
from product_relevance.preparation.exploration import statistics
from product_relevance.text.path_format import KNOWN_NAMES, find_form, flat_paths, form_of, learn_names, use_form
from product_relevance.text.taxonomy import PLAIN, PathForm, Taxonomy, path_prefix, render_path, split_path
from product_relevance.text.templates import Template
from product_relevance.training.batches import path_truncation

NAME = "cups,pots & pans"
SPLIT = PathForm(",", (NAME,))


def tree(rows=60, width=12):
    """Rows of the paths of a wide tree, in which `NAME` stands as a first level."""
    wide = {f"root {a},mid {a}-{b},leaf {c}": rows for a in range(width) for b in range(3) for c in range(2)}
    return wide | {f"{NAME},{leaf}": rows for leaf in ("kettles", "woks")}


def records(paths, task="QC"):
    paths = list(paths)
    texts = {"origin_query": [f"query {i}" for i in range(len(paths))], "target": paths, "clean_target": paths}
    return pd.DataFrame({"id": range(len(paths)), "task": task, "language": "en", "label": 1, **texts})


def test_a_name_with_a_comma_is_one_level():
    assert SPLIT.split(f"home,{NAME},woks") == ["home", NAME, "woks"]
    assert PLAIN.split(f"home,{NAME},woks") == ["home", "cups", "pots & pans", "woks"]


@pytest.mark.parametrize("path", ["Cups,Pots & Pans,woks", "cups,pots &amp; pans,woks", "cups,pots  & pans,woks"])
def test_a_name_is_known_before_and_after_cleaning(path):
    assert len(SPLIT.split(path)) == 2


@pytest.mark.parametrize("name", KNOWN_NAMES)
def test_the_names_of_the_competition_are_known_without_being_learned(name):
    assert find_form({f"{name},x": 1}).split(f"{name},x") == [name, "x"]


def test_a_name_is_learned_from_a_node_with_one_child_over_many_rows():
    assert learn_names(tree(), PLAIN) == {NAME: 120}


@pytest.mark.parametrize(
    ("why", "rows"),
    [
        ("few rows", tree(rows=40)),
        ("a path ends at the first part", tree() | {"cups": 1}),
        ("another child", tree() | {"cups,tea sets,woks": 1}),
        ("the second part under another parent", tree() | {"home,pots & pans": 1}),
        ("the first part under another parent with another child", tree() | {"home,cups,mugs": 1}),
        ("the child does not go on", {p: n for p, n in tree(60).items() if "woks" not in p} | {"root 0": 200}),
        ("a tree that is seen in part", tree(width=2) | {f"a{i},b{i},{c}": 60 for i in range(9) for c in "cd"}),
        ("no list", {p.replace("pots & pans", "pots"): n for p, n in tree().items()}),
    ],
)
def test_a_name_is_not_learned_from(why, rows):
    assert learn_names(rows, PLAIN) == {}, why


def test_what_is_learned_does_not_depend_on_the_order_of_rows():
    rows = tree() | {f"bags,boxes and tins,{leaf}": 60 for leaf in "ab"}
    assert find_form(rows) == find_form(dict(reversed(rows.items())))


def test_made_rows_teach_no_names():
    rows = records([path for path, n in tree().items() for _ in range(n)]).assign(method="easy_negative")
    rows.loc[rows.index[:10], "method"] = "original"
    assert NAME not in form_of(rows).names


def test_a_file_adds_names_and_none_takes_all_away(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("tea,coffee & cocoa\n\n", encoding="utf-8")
    assert find_form(tree(), level_names=str(file)).names == (*KNOWN_NAMES, "tea,coffee & cocoa", NAME)
    assert find_form(tree(), level_names="none").names == ()


def test_a_name_without_the_separator_is_refused_with_its_line(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("tea,coffee\ntea, coffee\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"names.txt:2: found 'tea, coffee', expected a level name with a comma"):
        find_form(tree(), level_names=str(file))
    with pytest.raises(ValueError, match="--level_names nothing.txt: found no such file"):
        find_form(tree(), level_names="nothing.txt")


@pytest.mark.parametrize("written", [",", " > ", ">", "/", " / ", "|", " | ", "›", " › ", " &gt; "])
def test_the_separator_of_a_file_is_found(written):
    paths = {written.join(["Home, Garden & Co", f"Lamps {i}", "LED"]): 1 for i in range(9)} | {"Sale": 1}
    form = find_form(paths)
    assert form.separator == written.replace("&gt;", ">").strip()
    assert form.split(next(iter(paths))) == ["Home, Garden & Co", "Lamps 0", "LED"]


def test_a_separator_that_few_paths_hold_is_part_of_names():
    assert find_form({"a,b": 1, "c,d/e": 1, "f,g": 1}).separator == ","
    assert find_form({"a, b": 1, "c, d/e": 1, "f, g": 1}).separator == ","


def test_two_separators_in_most_paths_are_ambiguous_until_one_is_given():
    rows = {"a/b > c": 1, "d/e > f": 1}
    with pytest.raises(ValueError, match="found several separators .*'>' 100%, '/' 100%.*--path_separator"):
        find_form(rows)
    assert find_form(rows, ">").split("a/b > c") == ["a/b", "c"]


def test_any_text_can_be_given_as_the_separator():
    assert find_form({"a :: b": 1}, "::").split("a :: b::c") == ["a", "b", "c"]


def test_prefix_groups_follow_names_and_separators():
    frame = records([f"{NAME},woks,small", f"{NAME},kettles,small"])
    use_form(frame, level_names="none")
    assert len(set(prefix_groups(frame))) == 1
    frame.attrs["path_form"] = SPLIT.to_dict()
    assert len(set(prefix_groups(frame))) == 2
    assert len(set(prefix_groups(records(["A > b > c", "A>B>d", "A > e > f"])))) == 2


def test_folds_by_prefix_hold_on_paths_with_another_separator():
    frame = records(f"Root {i % 7} > Mid {i % 14} > Leaf {i}" for i in range(140))
    folds = assign_folds(frame, 3, "prefix")
    report = check_leakage(frame, folds != 0, folds == 0, "prefix")
    assert report.shared_prefixes == 0 and report.to_text().endswith("no leak")


def test_paths_without_two_levels_are_told_and_never_called_free_of_leaks(caplog):
    frame = records([f"Home; Lamps {i % 2}" for i in range(8)])
    with caplog.at_level(logging.WARNING):
        use_form(frame)
    assert "no path has two levels at ','; separators seen: ';' in 100%: give --path_separator" in caplog.text
    train = np.arange(8) % 2 == 0
    text = check_leakage(frame, train, ~train, "prefix").to_text()
    assert "no leak" not in text and "separators seen: ';' in 100%" in text


def test_flat_paths_of_the_second_rendering_are_told_with_its_separator():
    assert flat_paths(records(["a, b", "a, c"])).endswith("separators seen: ', ' in 100%")


def test_titles_have_no_form():
    frame = records(["a > b"], task="QI")
    use_form(frame)
    assert "path_form" not in frame.attrs and flat_paths(frame) == ""


def test_level_tags_count_the_levels_of_the_form():
    assert render_path(f"{NAME},woks", "level_tags", form=SPLIT) == f"[L1] {NAME} [L2] woks"
    assert render_path("a>b", "leaf_first", form=PathForm(">")) == "b < a"


def test_raw_paths_read_the_same_with_and_without_blanks_around_the_separator():
    template = Template(paths=PathForm(">"))
    assert template.render(["q"] * 2, ["a>b", "a > b"])[1] == ["a > b"] * 2


def test_easy_negatives_take_the_first_level_of_the_form():
    frame = records([f"{NAME},woks", "cups,mugs,big"])
    frame.attrs["path_form"] = SPLIT.to_dict()
    assert {levels[0] for levels in Catalogue(frame, 10, 0).levels} == {NAME, "cups"}


def test_the_taxonomy_report_counts_levels_by_the_form():
    frame = records(["A > b > c", "A > b > d", "E > f"])
    assert statistics.describe_taxonomy(frame)["paths that end here"].tolist() == [0, 1, 2]
    assert set(statistics.list_branches(frame)["first level"]) == {"A", "E"}


def test_short_paths_are_cut_at_the_levels_of_the_form():
    frame = records([f"home,{NAME},woks"])
    frame.attrs["path_form"] = SPLIT.to_dict()
    seen = []
    training = type("T", (), {"train_sampling_strategy": "group_by_length", "seed": 1, "data_seed": None})
    encode = lambda part: [seen.append(path) or [1] for path in part["target"]]  # noqa: E731
    path_truncation.shorten_paths(frame, 0.5, training, encode)
    assert seen == ["woks", f"{NAME},woks"]


@pytest.mark.parametrize("text", [f"home, {NAME}, woks", "home, cups, pots & pans, woks"])
def test_the_second_rendering_is_looked_up_with_names_that_hold_a_comma(text):
    known = Taxonomy.from_paths([f"home,{NAME},woks"], SPLIT)
    assert split_path(text, known) == ["home", NAME, "woks"]


def test_prefixes_are_written_as_the_form_says():
    assert path_prefix("a>b>c", 2, form=PathForm(">")) == "a > b"


def test_a_run_keeps_the_form_and_an_older_one_splits_as_it_did(tmp_path):
    frame = records([f"{NAME},woks", "a,b"])
    frame.attrs["path_form"] = SPLIT.to_dict()
    template = loading.make_template(DataArguments(train_file="x", task="QC", path_style="level_tags"), frame=frame)
    kept = Template.from_dict(template.to_dict())
    loading.make_taxonomy(frame).save(tmp_path / "taxonomy.json")
    new = Taxonomy.load(tmp_path / "taxonomy.json", kept.paths)
    assert kept.render(["q"], [f"{NAME},woks"], known=new)[1] == [f"[L1] {NAME} [L2] woks"]
    older = Template.from_dict({k: v for k, v in template.to_dict().items() if k != "paths"})
    assert older.render(["q"], [f"{NAME},woks"])[1] == ["[L1] cups [L2] pots & pans [L3] woks"]


@pytest.mark.parametrize(
    "paths", [{"separator": ","}, {"separator": " ", "names": []}, [], {"separator": 1, "names": []}]
)
def test_a_form_with_a_defect_is_refused(paths):
    with pytest.raises(ValueError, match="paths: found"):
        Template.from_dict({"paths": paths})


def test_the_sample_splits_as_before():
    from tests.conftest import rows_of

    paths = {row["category_path"] for row in rows_of("train_QC.txt")}
    form = find_form(dict.fromkeys(paths, 100))
    assert all(form.split(path) == PLAIN.split(path) for path in paths)
