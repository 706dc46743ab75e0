"""Adapters of others: what training does not write is refused before anything is built on the base."""

import json
import resource
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from product_relevance.models import adapter_schema, adapters, modeling
from product_relevance.models.adapter_fit import check_fit, load_whole
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.loading import safetensors_files

WEIGHTS = "adapter_model.safetensors"


def base_model(base_of, kind="qwen3", pooling="auto"):
    folder = str(base_of(kind))
    return modeling.load_classifier(folder, modeling.load_tokenizer(folder), ClassifierOptions(pooling=pooling))


@pytest.fixture(scope="module")
def model(base_of):
    """A bare base with its head; nothing here may build on it."""
    return base_model(base_of)


@pytest.fixture(scope="module")
def saved(base_of, tmp_path_factory):
    """An adapter as training saves it."""
    folder = tmp_path_factory.mktemp("saved")
    fresh = adapters.add_adapter(base_model(base_of), ModelArguments(model_name_or_path="org/base", lora_r=4))
    fresh.save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def edit(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


WAYS = [{}, {"use_dora": True}, {"use_rslora": True, "lora_layers": 1}, {"lora_target_modules": ["attention"]}]


@pytest.mark.parametrize("pooling", ["auto", "mean"])
@pytest.mark.parametrize("kind", ["xlm-roberta", "deberta-v2", "modernbert", "qwen3"])
def test_what_training_saves_fits_in_every_way_and_architecture(kind, pooling, base_of, tmp_path):
    for way in WAYS:
        model = base_model(base_of, kind, pooling)
        fresh = adapters.add_adapter(model, ModelArguments(model_name_or_path="org/base", lora_r=4, **way))
        fresh.save_pretrained(tmp_path, save_embedding_layers=False)
        loaded = adapters.load_adapter(base_model(base_of, kind, pooling), str(tmp_path), "one")
        adapters.load_adapter(loaded, str(tmp_path), "two")  # beside the first
        assert set(loaded.peft_config) == {"one", "two"}


def test_the_part_that_is_published_builds_the_same_adapter(saved, folder, base_of):
    config = adapter_schema.own_part(adapter_schema.read_config(saved))
    (folder / "adapter_config.json").write_text(json.dumps(config))
    full, short = (adapters.load_adapter(base_model(base_of), str(place), "a") for place in (saved, folder))
    assert full.peft_config["a"].to_dict() == short.peft_config["a"].to_dict()


SLOW = [  # one that backtracks, and what built gigabytes before it was refused
    ({"target_modules": "(.*a){25}b"}, "target_modules.*a list of names"),
    ({"target_modules": ["(.*a){25}b"]}, "target_modules.*a list of names"),
    ({"target_modules": [f"m{i}" for i in range(99_000)]}, "target_modules: 'm0' is no linear layer"),
    ({"rank_pattern": {"(.*a){25}b": 2}}, "rank_pattern.*no other"),
    ({"alpha_pattern": {"(.*a){25}b": 2}}, "alpha_pattern.*no other"),
    ({"exclude_modules": "(.*a){25}b"}, "exclude_modules.*no other"),
    ({"layers_pattern": "(.*a){25}b", "layers_to_transform": [0]}, "layers_.*no other"),
    ({"r": 50_000}, "lora_A.weight has the shape \\[4, .*expected \\[50000,"),
    ({"r": 10**9}, "r: found '1000000000', expected a rank"),
    ({"layer_replication": [[0, 2]] * 10_000}, "layer_replication.*no other"),
    ({"modules_to_save": ["model"]}, "modules_to_save: found .'model'., expected the head of this base: score"),
    ({"modules_to_save": ["score", "layers"]}, "modules_to_save.*expected the head"),
    ({"modules_to_save": []}, "modules_to_save.*expected the head"),
    ({"init_lora_weights": "pissa"}, "init_lora_weights.*true or gaussian"),
    ({"target_modules": ["embed_tokens"]}, "'embed_tokens' is no linear layer"),
    ({"target_modules": ["score"]}, "'score' is no linear layer"),
    ({"target_parameters": ["weight"]}, "target_parameters.*no other"),
    ({"trainable_token_indices": [0]}, "trainable_token_indices.*no other"),
    ({"use_dora": True}, "adapter and base do not fit: 14 tensors missing"),
    ({"peft_type": "IA3"}, "peft_type.*LORA"),
    ({"task_type": "FEATURE_EXTRACTION"}, "task_type.*SEQ_CLS"),
    ({"lora_alpha": 1e300}, "lora_alpha"),
    ({"bias": "all"}, "bias.*no other"),
    ({"lora_bias": True}, "lora_bias.*no other"),
    ({"use_qalora": 0}, "use_qalora.*no other"),
    ({"a_new_key": None}, "'a_new_key': no such key"),
]


@pytest.mark.parametrize("changes, told", SLOW)
def test_a_config_of_others_is_refused_at_once_and_nothing_is_built(changes, told, folder, model):
    edit(folder, **changes)
    names = [name for name, _ in model.named_modules()]
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=told):
        adapters.load_adapter(model, str(folder), "a")
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    assert [name for name, _ in model.named_modules()] == names


def test_a_key_that_stands_twice_is_refused(folder):
    path = folder / "adapter_config.json"
    path.write_text(path.read_text().replace('"r": 4', '"r": 4, "r": 4'))
    with pytest.raises(ValueError, match="adapter_config.json: the key 'r' stands twice"):
        adapter_schema.read_config(folder)


@pytest.mark.parametrize("key", adapter_schema.NEEDED)
def test_a_config_without_a_key_that_decides_is_refused(key, saved):
    config = adapter_schema.read_config(saved)
    del config[key]
    with pytest.raises(ValueError, match=f"no {key}"):
        adapter_schema.check_config(config)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["lora_B", "score"])
def test_one_value_that_is_not_finite_is_refused_with_its_tensor(part, value, folder, model):
    state = load_file(folder / WEIGHTS)
    name = next(name for name in state if part in name)
    state[name].view(-1)[3] = value
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(ValueError, match=f"{WEIGHTS}: .*{part}.* has 1 of .* not finite"):
        check_fit(model, folder)


def test_tensors_of_whole_numbers_are_no_adapter(folder, model):
    state = load_file(folder / WEIGHTS)
    name = next(iter(state))
    save_file(state | {name: state[name].int()}, folder / WEIGHTS, {"format": "pt"})
    with pytest.raises(ValueError, match="is I32, expected one of F32"):
        check_fit(model, folder)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9\n"


@pytest.mark.parametrize(
    "content, told",
    [
        (POINTER, "a Git LFS pointer, not the file itself: run `git lfs pull`"),
        (b"", "header of 0 bytes in a file of 0; the file is incomplete or broken"),
        (lambda whole: whole[:-5], "the file is incomplete or broken"),
        (lambda whole: whole[:300], "the file is incomplete or broken"),
        (lambda whole: whole.replace(b"data_offsets", b"data_offsetz"), "the file is incomplete or broken"),
        (lambda whole: whole.replace(b"lora_A", b"lora_\xff"), "the file is incomplete or broken"),
    ],
)
def test_weights_that_are_no_whole_file_are_named_as_such(content, told, folder):
    path = folder / WEIGHTS
    path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    with pytest.raises(ValueError, match=f"{WEIGHTS}: .*{told}"):
        safetensors_files.read_header(path)


def test_a_header_tells_dtypes_and_shapes(tmp_path):
    save_file({"a": torch.zeros(2, 3, dtype=torch.bfloat16)}, tmp_path / "x.safetensors")
    assert safetensors_files.read_header(tmp_path / "x.safetensors") == {"a": ("BF16", (2, 3))}
    assert np.allclose(safetensors_files.load_weights(tmp_path / "x.safetensors")["a"].float(), 0)


def test_a_whole_model_is_taken_whole_or_not_at_all(base_of, tmp_path):
    model, path = base_model(base_of), tmp_path / "fold-0/model.safetensors"
    path.parent.mkdir()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    score, holed = state["score.weight"], state["score.weight"].clone()
    holed[:, 7] = float("nan")  # as the row of one rare token might be
    wrong = {
        "weights and base do not fit: 1 tensors missing": {k: v for k, v in state.items() if k != "score.weight"},
        "weights and base do not fit: 0 tensors missing, 1 unknown": state | {"extra": score.clone()},
        "score.weight has the shape": state | {"score.weight": score[:1].clone()},
        "score.weight has 2 of .* not finite": state | {"score.weight": holed},
    }
    for told, content in wrong.items():
        save_file(content, path)
        with pytest.raises(ValueError, match=told):
            load_whole(model, path)
    save_file(state | {"score.weight": score + 1}, path)
    load_whole(model, path)
    assert torch.equal(model.state_dict()["score.weight"], score + 1)
