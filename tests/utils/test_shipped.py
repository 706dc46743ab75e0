"""Shipped files are found by their names in a clone, from any folder, after files of the working folder."""

import pytest

from product_relevance.training.arguments import read_arguments
from product_relevance.utils.recipes import find_recipe, load_recipe, split_recipe
from product_relevance.utils.shipped import NAMES, find_input, shipped_path
from tests.conftest import ROOT


@pytest.mark.parametrize("name", [*NAMES, "recipes/quickstart.yaml", "dataset_scripts/prepare.py"])
def test_what_ships_is_found(name):
    assert shipped_path(name) == ROOT / name


@pytest.mark.parametrize("name", ["", "recipes/none.yaml", "pyproject.toml", "recipes/../pyproject.toml", "/etc"])
def test_what_does_not_ship_is_an_error_that_lists_what_does(name):
    with pytest.raises(ValueError, match=r"found no such shipped file; expected one of.*train_relevance.py"):
        shipped_path(name)


def test_a_recipe_has_a_name_and_its_sample_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, flags = split_recipe(["quickstart", "--fold", "0"])
    assert (recipe, flags) == (ROOT / "recipes/quickstart.yaml", ["--fold", "0"])
    assert load_recipe(recipe)["train_file"] == str(ROOT / "sample/train_QC.txt")
    assert load_recipe(recipe)["output_dir"] == "runs/quickstart"
    assert find_recipe("recipes/quickstart.yaml") == recipe
    _, data, *_ = read_arguments("quickstart", {})
    assert data.train_file == str(ROOT / "sample/train_QC.txt")


def test_a_file_of_the_working_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample").mkdir()
    (tmp_path / "sample/train_QC.txt").write_text("mine")
    (tmp_path / "quickstart").write_text("train_file: sample/train_QC.txt,sample/dev_QC.txt\ndeepspeed: {zero: 1}")
    recipe, _ = split_recipe(["quickstart"])
    files = f"sample/train_QC.txt,{ROOT / 'sample/dev_QC.txt'}"
    assert load_recipe(recipe) == {"train_file": files, "deepspeed": {"zero": 1}}


def test_inputs_inside_lists_of_steps_are_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, words = split_recipe(["third-team-qc", "mine.txt"], "recipes/data", files_first=True)
    assert words == ["mine.txt"]
    assert load_recipe(recipe)["steps"][0]["translate"]["model"] == str(ROOT / "sample/into_english.csv")


@pytest.mark.parametrize(
    "name", ["sample", "sample/none.txt", "train_QC.txt", "../sample/train_QC.txt", "org/name", ""]
)
def test_other_words_stay(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_input(name) == name


def test_an_unknown_name_is_an_error_that_lists_the_recipes():
    recipe, _ = split_recipe(["--local_rank=0", "quickstrat", "--fold", "0"])
    with pytest.raises(ValueError, match="quickstrat: no such recipe; expected a .yaml file, or a name: .*quickstart"):
        load_recipe(recipe)


def test_a_file_of_records_may_come_first_where_recipes_are_optional():
    assert split_recipe(["mine.txt", "--task", "QC"], "recipes/data", files_first=True) == (
        None,
        ["mine.txt", "--task", "QC"],
    )
