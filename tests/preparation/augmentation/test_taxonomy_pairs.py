"""Rows made of a tree of categories: any form of tree, no wrong negative, the target's spelling, the same bytes."""

import json
import lzma
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import taxonomy_pairs as program

from product_relevance.data.records import read_records
from product_relevance.preparation.augmentation.category_tree import TreeReading, read_tree
from product_relevance.preparation.augmentation.taxonomy_pairs import PairOptions, PathStyle, make_pairs

ROOTS = {"Garden": "Garten", "Toys": "Spielzeug", "Shoes & Bags": "Schuhe & Taschen"}
GROUPS = {"Tools": "Werkzeug", "Large Sets": "Große Sets"}
THINGS = {"Rakes": "Harken", "Spades": "Spaten", "Red Gloves": "Rote Handschuhe"}


def tree() -> list[tuple[str, str, str]]:
    """(id, English path, German path) of 3 roots, 6 groups and 18 leaves with names of their own."""
    rows = []
    for a, (root, wurzel) in enumerate(ROOTS.items()):
        rows.append((f"{a}", root, wurzel))
        for b, (group, gruppe) in enumerate(GROUPS.items()):
            rows.append((f"{a}-{b}", f"{root} > {group} {a}", f"{wurzel} > {gruppe} {a}"))
            for c, (thing, ding) in enumerate(THINGS.items()):
                number = f"{a}{b}"
                english, german = rows[-1 - c][1:]
                rows.append((f"{a}-{b}-{c}", f"{english} > {thing} {number}", f"{german} > {ding} {number}"))
    return rows


def last(path: str) -> str:
    return path.split(" > ")[-1]


def table(folder, name="tree.csv"):
    rows = [{"id": i, "path": path, "de": last(german)} for i, path, german in tree()]
    rows[2]["en"], rows[2]["de"] = "Leaf Rakes|Garden Rakes", "Harken 00|Laubrechen"
    pd.DataFrame(rows).to_csv(folder / name, index=False, sep="\t" if ".tsv" in name else ",")
    return str(folder / name)


def published(folder, line: str) -> list[str]:
    """Write the tree as text files, one per language; `line` has places for a number, an id and a path."""
    for name, place in (("en.txt", 1), ("de.txt", 2)):
        lines = ["# Version: 2025", "", *(line.format(100 + i, row[0], row[place]) for i, row in enumerate(tree()))]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [str(folder / "en.txt"), f"de-DE={folder / 'de.txt'}"]


def pairs(categories, languages=("en", "de"), style=None, **options):
    asked = PairOptions(languages=list(languages), **options)
    return make_pairs(categories, asked, style or asked.style)


def test_a_table_has_names_and_synonyms_in_the_languages_of_its_columns(tmp_path):
    rake = read_tree([table(tmp_path)], ["en", "de"])[2]
    assert rake.levels == ("Garden", "Tools 0", "Rakes 00")
    assert rake.names == {"en": ("Rakes 00", "Leaf Rakes", "Garden Rakes"), "de": ("Harken 00", "Laubrechen")}


@pytest.mark.parametrize("line", ["gid://shopify/TaxonomyCategory/{1:9}: {2}", "gid://a/b/{1}: {2}", "{0} - {2}"])
def test_published_text_files_are_joined_by_their_ids(tmp_path, line):
    found = read_tree(published(tmp_path, line), ["en", "de"])
    assert [category.levels for category in found] == [tuple(path.split(" > ")) for _, path, _ in tree()]
    assert [category.names["de"] for category in found] == [(last(german),) for *_, german in tree()]


def test_a_text_file_without_ids_is_a_tree_of_one_language(tmp_path):
    files = published(tmp_path, "{2}")
    assert [c.names for c in read_tree(files[:1], ["en"])] == [{"en": (last(path),)} for _, path, _ in tree()]
    with pytest.raises(ValueError, match=r"en\.txt:3: found no id, expected one in each line"):
        read_tree(files, ["en", "de"])


def test_an_archive_and_another_separator_are_read(tmp_path):
    file = table(tmp_path, "tree.tsv")
    (tmp_path / "tree.tsv.xz").write_bytes(lzma.compress(Path(file).read_bytes().replace(b" > ", b" / ")))
    assert read_tree([str(tmp_path / "tree.tsv.xz")], ["de"]) == read_tree([file], ["de"])


def test_negatives_are_kin_as_asked_and_never_a_name_or_a_relative(tmp_path):
    categories = read_tree([table(tmp_path)], ["en", "de"])
    paths = {name: c.levels for c in categories for names in c.names.values() for name in names}
    for kind, shares in {
        "sibling": {"siblings": 1, "cousins": 0, "strangers": 0},
        "cousin": {"siblings": 0, "cousins": 1, "strangers": 0},
        "stranger": {"siblings": 0, "cousins": 0, "strangers": 1},
    }.items():
        rows = pairs(categories, noise=0, lowercase=False, target_separator=">", **shares)
        for row in rows:
            own, target = paths[row["origin_query"]], tuple(row["category_path"].split(" > "))
            assert (own == target) == (row["label"] == 1)
            if row["label"] == 0:
                together = 0 if own[0] != target[0] else 2 if own[:-1] == target[:-1] else 1
                assert {"sibling": together == 2, "cousin": together == 1, "stranger": together == 0}[kind]
                assert target != own[: len(target)] and own != target[: len(own)]


def test_a_name_that_several_categories_have_gets_none_of_them_as_a_negative(tmp_path):
    lines = ["A", "A > B", "A > B > Cables", "A > C", "A > C > Cables", "A > C > Plugs", "D", "D > Cables", "D > E"]
    (tmp_path / "tree.txt").write_text("\n".join(lines))
    rows = pairs(read_tree([str(tmp_path / "tree.txt")], ["en"]), ["en"], noise=0, positive_share=0.25, rows=50)
    wrong = [row["category_path"] for row in rows if row["origin_query"] == "cables" and row["label"] == 0]
    assert wrong and not any("cables" in path for path in wrong) and set(wrong) <= {"d,e", "a,c,plugs"}


def test_rows_are_in_the_asked_shares_and_languages_take_turns(tmp_path):
    categories = read_tree([table(tmp_path)], ["en", "de"])
    rows = pairs(categories, rows=64, positive_share=0.25, noise=0)
    assert Counter(row["label"] for row in rows) == {1: 16, 0: 48}
    assert Counter(row["language"] for row in rows) == {"en": 32, "de": 32}
    assert len({(row["origin_query"], row["category_path"]) for row in rows}) == 64
    assert {row["origin_query"] for row in rows}.isdisjoint(map(str.lower, ROOTS))


def test_noise_changes_its_share_of_the_queries(tmp_path):
    categories = read_tree([table(tmp_path)], ["en", "de"])
    clean = [row["origin_query"] for row in pairs(categories, noise=0)]
    noisy = [row["origin_query"] for row in pairs(categories, noise=0.5)]
    assert len(clean) == len(noisy) and 0.2 < sum(a != b for a, b in zip(clean, noisy, strict=True)) / len(clean) < 0.8


def test_targets_look_like_those_of_the_records(tmp_path):
    records = [
        {"id": i, "task": "QC", "language": "en", "origin_query": f"q {i}", "category_path": path, "label": i % 2}
        for i, path in enumerate(["Home / Lamps / Desk", "Home / Beds", "Toys / Cars", "Toys / Cars / Red"])
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    style = PathStyle.from_records(read_records(tmp_path / "train.jsonl", task="QC"))
    assert style == PathStyle("/", False, 3)
    assert style.write_path(("Bags/Cases", "Red & Blue")) == "Bags Cases / Red & Blue"
    assert PathStyle(",", True, 0).write_path(("Bags,Cases", "Arts, Crafts")) == "bags, cases,arts, crafts"
    categories = read_tree([table(tmp_path)], ["en"])
    short = pairs(categories, ["en"], PathStyle(",", True, 2), noise=0)
    assert {row["category_path"].count(",") for row in short} <= {0, 1}
    own = {row["origin_query"]: row["category_path"] for row in short if row["label"] == 1}
    assert own["rakes 00"] == "garden,tools 0"
    wrong = [row["category_path"] for row in short if row["origin_query"] == "rakes 00" and not row["label"]]
    assert "garden,tools 0" not in wrong


def test_the_command_writes_records_with_the_same_bytes_for_the_same_seed(tmp_path, capsys):
    tree_file, first = table(tmp_path), tmp_path / "a.txt"
    words = [tree_file, "--languages", "en", "de", "--rows", "40", "--output"]
    for path, more in ((first, []), (tmp_path / "b.txt", []), (tmp_path / "c.txt", ["--seed", "1"])):
        program.main([*words, str(path), *more])
    assert first.read_bytes() == (tmp_path / "b.txt").read_bytes() != (tmp_path / "c.txt").read_bytes()
    frame = read_records(first, task="QC", role="train")
    assert len(frame) == 40 and frame["label"].mean() == 0.5 and set(frame["language"]) == {"en", "de"}
    assert "40 rows from 27 categories; de 20, en 20" in capsys.readouterr().out


def test_fewer_names_than_rows_is_said(tmp_path, caplog):
    rows = pairs(read_tree([table(tmp_path)], ["en"]), ["en"])
    assert len(rows) == 52 and "names for 52 rows only, of 8,000 that were asked for" in caplog.text


BAD = {
    "no levels": ("tree.txt", "A\nA >  > B\n", [], r"tree\.txt:2: path: found 'A >  > B', expected levels"),
    "twice": ("tree.txt", "A\nA > B\nA > B\n", [], r"tree\.txt:3: path: found 'A > B', which line 2 has too"),
    "a language": ("tree.txt", "A\nA > B\n", ["--languages", "fr"], "found no names in fr, expected some, as in en"),
    "no category": ("tree.txt", "# nothing\n", [], "found no category, expected at least one"),
    "no path": ("tree.csv", "name,de\na,b\n", [], "found the columns name, de, expected path or .*path_column"),
    "no separator": ("tree.csv", "path\na\nb\n", [], "separators of levels: none; expected one; .*path_separator"),
    "a share": ("tree.txt", "A\n", ["--siblings", "0.9"], "found siblings 0.9, cousins 0.3, strangers 0.2, expected"),
    "an ending": ("tree.txt", "A\n", ["--output", "a.csv"], r"expected a name that ends in \.txt or \.jsonl"),
}


@pytest.mark.parametrize(("name", "content", "more", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_one_line(tmp_path, name, content, more, message):
    (tmp_path / name).write_text(content)
    words = [str(tmp_path / name), "--languages", "en", "--output", str(tmp_path / "a.txt"), *more]
    with pytest.raises(SystemExit) as stopped:
        program.main(words)
    assert pd.Series([str(stopped.value)]).str.contains(message).all(), stopped.value
    assert not (tmp_path / "a.txt").exists()


def test_encoding_and_delimiter_of_the_tree_and_columns_of_the_records_can_be_named(tmp_path):
    (tmp_path / "tree.csv").write_bytes("path#de\nA>B>Töpfe#Kochtöpfe\nA>B>Hüte#Mützen\nA>C#Ärmel\n".encode("cp437"))
    (tmp_path / "train.csv").write_text("q,p\nx,A/B\ny,A/C\n")
    words = ["--languages", "de", "--noise", "0", "--encoding", "cp437", "--output", str(tmp_path / "a.txt")]
    more = ["--delimiter", "#"]
    program.main([str(tmp_path / "tree.csv"), *words, *more])
    assert "kochtöpfe" in (tmp_path / "a.txt").read_text(encoding="utf-8")
    like = ["--like", str(tmp_path / "train.csv"), "--columns", "query=q", "target=p"]
    program.main([table(tmp_path), "--languages", "de", *like, "--output", str(tmp_path / "b.txt")])
    rows = [json.loads(line) for line in (tmp_path / "b.txt").read_text(encoding="utf-8").splitlines()]
    assert {row["category_path"].count(" / ") for row in rows} == {1}


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="found no such file, expected a tree of categories"):
        read_tree([str(tmp_path / "none.txt")], ["en"], TreeReading())
