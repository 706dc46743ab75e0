"""Recipes fit the cards that they name; training steps of true shapes are launched in fake tensors and counted."""

import estimate_recipes
import fake_launch
import pytest
import torch
import transformers
import yaml
from estimate_recipes import Start

from product_relevance.models import memory
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.loading.packaged_bases import is_embedded
from tests.conftest import ROOT

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
if not hasattr(transformers, "GteConfig"):  # before 5.19
    RECIPES = [path for path in RECIPES if not path.name.startswith("gte-")]


def keys_of(name: str) -> dict:
    return yaml.safe_load((ROOT / f"recipes/{name}.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    return estimate_recipes.estimate_all(RECIPES)


def test_each_recipe_fits_the_cards_that_it_names(rows):
    assert not [row for row in rows if not row["fits"]]
    assert {row["engine"] for row in rows} == {"one process", "DDP", "zero3"}


def test_no_recipe_of_a_base_with_weights_to_download_is_left_out(rows):
    names = {path.stem for path in RECIPES if not is_embedded(keys_of(path.stem)["model_name_or_path"])}
    assert names == {row["recipe"] for row in rows}


def test_a_forward_pass_of_a_large_base_takes_a_thousand_tokens_or_more(rows):
    assert all(row["tokens"] >= 1024 for row in rows)


@pytest.mark.parametrize(
    ("recipe", "engine", "cards", "gb", "fit"),
    [
        ("gemma-3-12b-qc-reported", "one process", 1, 24, False),
        ("gemma-3-12b-qc-reported", "one process", 1, 141, True),
        ("qwen3-14b-qc", "zero3", 4, 24, False),
        ("qwen3-14b-qc", "zero2", 4, 40, False),
        ("qwen3-14b-qc", "zero2_offload", 4, 80, True),
    ],
)
def test_a_card_that_is_too_small_is_found(recipe, engine, cards, gb, fit):
    start = Start(recipe, engine, cards, gb)
    assert estimate_recipes.fits(start, estimate_recipes.estimate_start(start, keys_of(recipe))) is fit


def test_a_larger_card_takes_more_tokens_at_a_time():
    need = [estimate_recipes.estimate_start(Start("x", "one process", 1, gb), keys_of("gemma-3-12b-qc-reported"))
            for gb in (80, 141)]  # fmt: skip
    assert need[0].tokens == 2048 and need[1].tokens >= 2 * need[0].tokens


def test_a_recipe_without_a_card_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# On a large card:\n#   python train_relevance.py recipes/mine.yaml\ntask: QC\n")
    with pytest.raises(ValueError, match="mine.yaml.*expected 'one card of N GB'"):
        estimate_recipes.starts_of(path)


LAUNCHES = {
    "gemma-3-12b": {},
    "gemma-2-9b": {"attn_implementation": "eager"},
    "qwen3-14b": {"head": "yes_no", "lora_r": 32},
}


@pytest.mark.parametrize("shape", LAUNCHES)
def test_a_true_shape_launches_and_keeps_what_the_estimate_says(shape):
    """On a CPU the masks of dropout are as wide as what they mask, so that it keeps more than a GPU does."""
    model = fake_launch.build_on_meta(shape, ModelArguments("base", **LAUNCHES[shape]), torch.bfloat16)
    need = memory.estimate_memory(model, 8 * 192, half=True)
    found = fake_launch.launch(model, 8, 192)
    assert (found.weights, found.gradients) == (need["weights"], need["gradients"])
    assert found.optimiser == need["optimiser"]
    estimated = need["activations"] + need["copies"]
    assert estimated / memory.BEYOND < found.kept < estimated * memory.BEYOND
