"""Three lines of Python train the run that the script trains."""

import numpy as np
import pandas as pd
import pytest

import train_relevance
from product_relevance import RelevanceEnsemble, RunConfig, train
from tests.conftest import rows_of, write_rows

OPTIONS = {"use_cpu": True, "fold": "all", "num_folds": 2, "max_steps": 4, "lora_r": 2, "language_fix": "none"}
OPTIONS |= {"eval_steps": 2, "save_steps": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def recipe(base_of, tmp_path_factory):
    """A recipe of a tiny training, which lacks only where the run is to lie."""
    folder = tmp_path_factory.mktemp("recipe")
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:120])
    keys = OPTIONS | {"model_name_or_path": base_of("bert"), "train_file": file, "task": "QC", "lora_dropout": 0.0}
    (folder / "tiny.yaml").write_text("".join(f"{name}: {value}\n" for name, value in keys.items()))
    return folder / "tiny.yaml"


def test_python_and_the_script_train_the_same_run(recipe, tmp_path):
    config = RunConfig.from_recipe(recipe, output_dir=tmp_path / "python")
    run = train(config)
    train_relevance.main([str(recipe), "--output_dir", str(tmp_path / "script")])
    one, two = (pd.read_parquet(tmp_path / name / "oof.parquet") for name in ("python", "script"))
    assert one["id"].tolist() == two["id"].tolist()
    np.testing.assert_allclose(one["score"], two["score"], rtol=0, atol=1e-6)
    assert "F1" in run.summary
    pairs = [("red shoes", "shoes"), ("usb", "cables")]
    scores = RelevanceEnsemble.from_pretrained(str(run.folder), device="cpu").predict(pairs)
    assert len(scores) == 2


def test_a_training_leaves_its_configuration_as_it_is(recipe, tmp_path):
    config = RunConfig.from_recipe(recipe, output_dir=tmp_path / "run", fold="0", global_batch_size=16)
    before = config.training.gradient_accumulation_steps
    train(config)
    assert config.training.gradient_accumulation_steps == before


def test_an_option_wins_over_the_recipe_and_none_takes_a_key_away(recipe):
    config = RunConfig.from_recipe(recipe, lora_r=16, held_out_languages=["es", "fr"], fold=None)
    assert (config.model.lora_r, config.data.held_out_languages) == (16, ["es", "fr"])
    assert (config.data.fold, config.data.num_folds) == ("all", 2)


def test_options_alone_are_enough():
    config = RunConfig.from_recipe(model_name_or_path="org/base", task="QI", train_file="train_QI.txt", use_cpu=True)
    assert (config.model.model_name_or_path, config.data.task) == ("org/base", "QI")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lora_rang": 8}, "unknown option 'lora_rang'.*lora_r"),
        ({"lora_r": "many"}, "lora_r.*many"),
        ({"hub_token": "hf_x"}, "a token never goes into arguments"),
    ],
)
def test_a_bad_option_is_refused_by_its_name(options, message, recipe):
    with pytest.raises(ValueError, match=message):
        RunConfig.from_recipe(recipe, **options)
