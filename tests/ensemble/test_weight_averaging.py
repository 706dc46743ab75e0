"""The mean of the folds' weights: exact as weights, gated as probabilities, refused where it does not exist."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from product_relevance import RelevanceEnsemble
from product_relevance.ensemble import weight_averaging
from product_relevance.ensemble.loading_arguments import LoadingArguments
from tests.conftest import save_base
from tests.helpers.published import PAIRS, tiny_run

KINDS = {
    "lora": ("qwen3", ""),
    "rslora": ("bert", "--use_rslora true"),
    "pissa": ("qwen3", "--init_lora_weights pissa"),
    "full": ("bert", "--adapter none --learning_rate 3e-4"),
}


@pytest.fixture(scope="module")
def run_of(base_of, tmp_path_factory):
    """Return a function from a kind of training to a tiny run."""
    made = {}

    def get(kind: str):
        if kind not in made:
            base, flags = KINDS[kind]
            made[kind] = tiny_run(base_of(base), tmp_path_factory.mktemp(kind), flags)
        return made[kind]

    return get


def load(run, merge="weights", limit=1.0):
    return RelevanceEnsemble.from_pretrained(
        run, device="cpu", loading=LoadingArguments(merge=merge, max_disagreement=limit)
    )


@pytest.mark.parametrize("kind", ["lora", "rslora", "pissa"])
def test_the_mean_adapter_adds_the_mean_of_what_the_folds_add(kind, run_of):
    exact, merged = load(run_of(kind), "probabilities"), load(run_of(kind))
    modules, checked = dict(merged.model.named_modules()), 0
    for name, module in exact.model.named_modules():
        if hasattr(module, "get_delta_weight"):
            mean = torch.stack([module.get_delta_weight(fold) for fold in exact.folds]).mean(dim=0)
            assert torch.allclose(modules[name].get_delta_weight("weights"), mean, atol=1e-6)
            assert mean.abs().max() > 1e-5
            checked += 1
    assert checked >= 12


def test_the_merged_head_is_the_mean_of_the_heads(run_of):
    folds = [
        load_file(path / "adapter_model.safetensors") for path in load(run_of("lora"), "probabilities").folds.values()
    ]
    merged = load(run_of("lora")).model.base_model.model.score
    mean = torch.stack([state["base_model.model.score.weight"] for state in folds]).mean(dim=0)
    assert torch.allclose(merged.modules_to_save["weights"].weight, mean, atol=1e-7)


def test_merged_full_models_are_the_mean_of_all_their_weights(run_of):
    exact = load(run_of("full"), "probabilities")
    states = [load_file(path / "model.safetensors") for path in exact.folds.values()]
    for name, value in load(run_of("full")).model.state_dict().items():
        assert torch.allclose(value, torch.stack([state[name] for state in states]).mean(dim=0), atol=1e-6)


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_disagreement_told_is_the_one_on_the_canaries(kind, run_of, caplog):
    from product_relevance.ensemble.published import canaries

    with caplog.at_level(logging.WARNING):
        merged = load(run_of(kind))
    expected = canaries.measure_canaries(load(run_of(kind), "probabilities")).scores
    assert merged.disagreement == pytest.approx(
        canaries.largest_difference(canaries.measure_canaries(merged).scores, expected)
    )
    assert f"up to {merged.disagreement:.4f} on 8 canary pairs" in caplog.text
    assert merged.disagreement > 0
    with pytest.raises(ValueError, match="differ from the mean of the 3 folds.*max_disagreement"):
        load(run_of(kind), limit=merged.disagreement / 2)


@pytest.mark.parametrize("kind", ["lora", "rslora", "full"])
def test_folds_that_are_alike_merge_to_what_each_of_them_is(kind, run_of, tmp_path):
    run = shutil.copytree(run_of(kind), tmp_path / "run")
    for name in ("fold-1", "fold-2"):
        for file in run.glob("fold-0/*.safetensors"):
            shutil.copy(file, run / name)
    exact, merged = load(run, "probabilities"), load(run, limit=1e-5)
    assert np.allclose(merged.predict(PAIRS), exact.predict(PAIRS), atol=1e-5)


def test_one_pass_and_one_adapter_are_left(run_of):
    merged = load(run_of("lora"))
    assert list(merged.model.peft_config) == ["weights"] and merged.predict_folds(PAIRS).shape == (len(PAIRS), 1)
    with pytest.raises(ValueError, match="without folds to vote"):
        merged.predict(PAIRS, vote="majority")


def test_a_single_fold_merges_to_itself(run_of, tmp_path):
    run = shutil.copytree(run_of("lora"), tmp_path / "run")
    for name in ("fold-1", "fold-2"):
        shutil.rmtree(run / name)
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(content | {"folds": content["folds"][:1]}))
    assert np.allclose(load(run, limit=1e-6).predict(PAIRS), load(run, "probabilities").predict(PAIRS), atol=1e-6)


def test_dora_is_refused_with_the_reason(base_of, tmp_path):
    run = tiny_run(base_of("qwen3"), tmp_path, "--use_dora true")
    with pytest.raises(ValueError, match="DoRA scales each fold's update"):
        load(run)


def edited(run, tmp_path, **changes):
    folder = shutil.copytree(run, tmp_path / "run")
    file = folder / "fold-1/adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return [folder / "fold-0", folder / "fold-1"]


@pytest.mark.parametrize("changes", [{"lora_alpha": 8}, {"r": 2}])
def test_folds_of_unlike_kind_are_refused(changes, run_of, tmp_path):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} differs"):
        weight_averaging.mean_adapter(edited(run_of("lora"), tmp_path, **changes), tmp_path)


def test_unlike_tensors_are_refused(run_of, tmp_path):
    folders = edited(run_of("lora"), tmp_path)
    state = load_file(folders[1] / "adapter_model.safetensors")
    save_file({name: state[name] for name in list(state)[1:]}, folders[1] / "adapter_model.safetensors")
    with pytest.raises(ValueError, match="unlike tensors"):
        weight_averaging.mean_adapter(folders, tmp_path)
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    save_file({"a": torch.zeros(3)}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="other tensors"):
        weight_averaging.mean_state([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])


def test_the_mean_state_keeps_dtypes_and_counts(tmp_path):
    for name, value in (("a", 1.0), ("b", 2.0)):
        state = {"w": torch.full((2,), value, dtype=torch.bfloat16), "ids": torch.arange(3)}
        save_file(state, tmp_path / f"{name}.safetensors")
    mean = weight_averaging.mean_state([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    assert mean["w"].dtype == torch.bfloat16 and mean["w"].tolist() == [1.5, 1.5]
    assert mean["ids"].tolist() == [0, 1, 2]


def test_a_base_that_changed_is_refused_before_anything_is_merged(run_of, tmp_path):
    run = shutil.copytree(run_of("lora"), tmp_path / "run")
    content = json.loads((run / "run.json").read_text())
    content["base"]["name"] = str(save_base(tmp_path / "other", "qwen3", seed=5))
    (run / "run.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="another base"):
        load(run)
