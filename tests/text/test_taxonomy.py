import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from product_relevance.text.taxonomy import Taxonomy, join_path, path_prefix, render_path, split_path

PATHS = ["food,grocery,flour, baking and cooking,dry ingredients", "food,grocery,tea", "home,lamps", "toys"]
LEVEL = st.text("ab ,&", min_size=1, max_size=6).filter(lambda s: s == s.strip(", ") and len(split_path(s)) == 1)


def test_a_comma_with_a_blank_belongs_to_the_level():
    assert split_path(PATHS[0]) == ["food", "grocery", "flour, baking and cooking", "dry ingredients"]


@given(st.lists(LEVEL, min_size=1, max_size=5))
def test_splitting_undoes_joining(levels):
    assert split_path(join_path(levels)) == levels


@given(st.lists(st.lists(LEVEL, min_size=2, max_size=4), min_size=1, max_size=6))
def test_the_second_rendering_of_a_known_path_is_found_or_left_whole(paths):
    tree = Taxonomy.from_paths(map(join_path, paths))
    for levels in paths:
        text = ", ".join(levels)
        assume(len(split_path(text)) == 1)
        same = {tuple(other) for other in paths if ", ".join(other) == text}
        assert split_path(text, tree) == (levels if len(same) == 1 else [text])


def test_the_second_rendering_is_never_guessed():
    tree = Taxonomy.from_paths(["a,b, c", "a, b,c", "x,y"])
    assert split_path("a, b, c", tree) == ["a, b, c"]
    assert split_path("x, z", tree) == ["x, z"]
    assert split_path("x, y", tree) == ["x", "y"]
    assert split_path("x, y") == ["x, y"]


def test_paths_match_completely_partly_or_not():
    tree = Taxonomy.from_paths(PATHS)
    assert tree.match("food,grocery") == ("complete", 2)
    assert tree.match("home, lamps") == ("complete", 2)
    assert tree.match("food,grocery,coffee,beans") == ("partial", 2)
    assert tree.match("garden,lamps") == ("none", 0)


def test_the_report_counts_rows_of_each_distinct_path():
    report = Taxonomy.from_paths(PATHS).report(["garden", "home,lamps", "home,lamps", "food,tea"])
    assert report["path"].tolist() == ["home,lamps", "food,tea", "garden"]
    assert report["rows"].tolist() == [2, 1, 1]
    assert report["match"].tolist() == ["complete", "partial", "none"]
    assert report["matched_levels"].tolist() == [2, 1, 0]


def test_the_tree_knows_its_levels_and_depths():
    tree = Taxonomy.from_paths(PATHS)
    assert tree.levels[0] == ["food", "home", "toys"]
    assert tree.depths == {1: 1, 2: 1, 3: 1, 4: 1}


@pytest.mark.parametrize(
    ("style", "expected"),
    [
        ("raw", "a,b, c,d"),
        ("markers", "a > b, c > d"),
        ("level_tags", "[L1] a [L2] b, c [L3] d"),
        ("leaf_first", "d < b, c < a"),
    ],
)
def test_paths_render_in_every_style(style, expected):
    assert render_path("a,b, c,d", style) == expected


def test_prefixes_stop_at_the_end_and_unknown_styles_are_told():
    assert [path_prefix("a,b,c", n) for n in (1, 2, 9)] == ["a", "a,b", "a,b,c"]
    with pytest.raises(ValueError, match="at least 1"):
        path_prefix("a", 0)
    with pytest.raises(ValueError, match="found 'tree', expected one of raw"):
        render_path("a", "tree")


DEEP = '[["a"' + ', "a"' * 100 + "]]"


@pytest.mark.parametrize("content", ["{}", '["shoes"]', "[[]]", "[[1]]", "[[null]]", DEEP])
def test_what_save_did_not_write_is_refused_with_the_name_of_the_file(content, tmp_path):
    (tmp_path / "taxonomy.json").write_text(content)
    with pytest.raises(ValueError, match="taxonomy.json: found"):
        Taxonomy.load(tmp_path / "taxonomy.json")


def test_more_paths_than_can_be_read_back_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("product_relevance.utils.json_files.MAX_ITEMS", 10)
    with pytest.raises(ValueError, match="20 category paths: about .* values, expected at most 10: are these titles"):
        Taxonomy((str(n),) for n in range(20)).save(tmp_path / "taxonomy.json")
    assert not (tmp_path / "taxonomy.json").exists()
