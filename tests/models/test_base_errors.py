"""Bases that cannot be used: each gives one line that says why and what to do, before anything trains."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import train_relevance
from product_relevance.models.loading import checkpoints
from product_relevance.models.loading.base_errors import UnusableBaseError, check_tokens, refuse_code
from product_relevance.models.modeling import load_classifier, load_config, load_tokenizer
from tests.conftest import save_tokenizer, tiny_config


def copy_of(base, folder):
    return shutil.copytree(base, folder / "base")


def put(folder, name, **content):
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def slow_tokenizer(folder, kind, **options):
    """Leave the vocabulary files of a tokenizer without tokenizer.json."""
    (folder / "tokenizer.json").unlink()
    put(folder, "tokenizer_config.json", tokenizer_class=kind, pad_token="<pad>", **options)
    (folder / "vocab.txt").write_text("a\nb\n", encoding="utf-8")


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def more_tokens(folder):
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_tokens(["zapatos"])
    tokenizer.save_pretrained(folder)


def adapter(folder):
    put(folder, "adapter_config.json", peft_type="LORA", base_model_name_or_path="org/big")


def new_architecture(folder):
    put(folder, "config.json", **json.loads((folder / "config.json").read_text()) | {"model_type": "new"})


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def pointer(name):
    """Let a file be what a clone without Git LFS leaves in its place."""
    return lambda folder: (folder / name).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\n"
    )


FAULTS = {
    "pickled": (pickled, r"weights are pickled \(pytorch_model.bin\).*expected safetensors"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "it has no weights.*expected safetensors"),
    "cut weights": (cut, "weights cannot be read: .*model.safetensors: .*incomplete or broken.*get it again"),
    "pointer to weights": (pointer("model.safetensors"), "model.safetensors: a Git LFS pointer, not the file itself"),
    "pointer to a tokenizer": (pointer("tokenizer.json"), "tokenizer.json: a Git LFS pointer.*git lfs pull"),
    "more tokens than rows": (more_tokens, "1 tokens beyond the 400 rows of its embedding, as 'zapatos'; take the"),
    "adapter": (adapter, "it is an adapter on org/big; give its base"),
    "run": (lambda f: put(f, "run.json"), "it is a finished run, by its run.json; give the base"),
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json in it; give the folder"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "config cannot be read.*check its files"),
    "new architecture": (new_architecture, "has no architecture 'new'; take another base, or a transformers"),
    "package": (lambda f: slow_tokenizer(f, "FlaubertTokenizer"), "needs a package: .*sacremoses.*; install it"),
    "no vocabulary": (lambda f: slow_tokenizer(f, "LlamaTokenizer"), "reads nothing in 'red shoes 42'; put its"),
    "no such class": (lambda f: slow_tokenizer(f, "NoTokenizer"), "no tokenizer.json.*pip install sentencepiece"),
    "broken tokenizer": (lambda f: put(f, "tokenizer.json", version="1.0"), "tokenizer cannot be loaded.*check its"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_base_that_cannot_be_used_says_why_and_what_to_do_in_one_line(fault, base_of, tmp_path):
    folder = copy_of(base_of("qwen3"), tmp_path)
    spoil, expected = FAULTS[fault]
    spoil(folder)
    with pytest.raises(UnusableBaseError, match=f"this base cannot be used because .*{expected}") as caught:
        load_classifier(str(folder), load_tokenizer(str(folder)))
    assert "\n" not in str(caught.value)


def test_a_base_that_is_nowhere_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no such folder; give a folder, or a Hub id"):
        load_config(str(tmp_path / "none"))
    with pytest.raises(ValueError, match="config cannot be had: .*check the name, HF_TOKEN and the network"):
        load_config("org/none")


def test_training_on_an_adapter_ends_in_one_line_before_anything_is_written(base_of, tmp_path, train_file):
    folder = copy_of(base_of("qwen3"), tmp_path)
    adapter(folder)
    out = tmp_path / "run"
    flags = ["--task", "QC", "--use_cpu", "true", "--language_fix", "none", "--fold", "0"]
    names = ["--model_name_or_path", str(folder), "--train_file", str(train_file), "--output_dir", str(out)]
    with pytest.raises(SystemExit, match=r"^error: .*it is an adapter on org/big"):
        train_relevance.main([*flags, *names])
    assert not (out / "fold-0").exists()


def test_a_special_token_that_no_text_can_hold_may_lie_beyond_the_rows(base_of, tmp_path):
    """Gemma 3's text models have no row for the token that stands for a picture."""
    folder = copy_of(base_of("qwen3"), tmp_path)
    tokenizer = load_tokenizer(str(folder))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(folder)
    assert len(load_tokenizer(str(folder))) == 401


def test_a_pad_token_beyond_the_rows_is_refused(base_of):
    tokenizer = load_tokenizer(str(base_of("qwen3")))
    tokenizer.add_special_tokens({"pad_token": "<new pad>"})
    with pytest.raises(ValueError, match="beyond the 400 rows"):
        check_tokens("a-base", tokenizer, tiny_config("qwen3"))


def test_weights_of_another_size_than_the_config_says_are_refused(base_of, tmp_path):
    folder = copy_of(base_of("qwen3"), tmp_path)
    put(folder, "config.json", **json.loads((folder / "config.json").read_text()) | {"vocab_size": 500})
    with pytest.raises(ValueError, match=r"differs in shape at 1 tensors .*embed_tokens"):
        load_classifier(str(folder), load_tokenizer(str(folder)))


def test_a_repository_with_code_names_the_same_weights_without(base_of, tmp_path):
    config = tiny_config("bert")
    config.auto_map = {"AutoConfig": "configuration.NewConfig"}
    with pytest.raises(ValueError, match="auto_map.*take alibaba-nlp-community/gte-multilingual-reranker-base"):
        refuse_code("Alibaba-NLP/gte-multilingual-reranker-base", config)
    with pytest.raises(ValueError, match="auto_map.*take a base that transformers has itself"):
        refuse_code("org/other", config)


def test_translators_are_opened_by_the_same_checks(tmp_path):
    adapter(tmp_path)
    with pytest.raises(UnusableBaseError, match="it is an adapter on org/big"):
        checkpoints.open_checkpoint(str(tmp_path))
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(UnusableBaseError, match=r"no config.json in it"):
        checkpoints.open_checkpoint(str(tmp_path))


def test_a_base_of_pictures_is_refused(tmp_path):
    import transformers as t

    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    t.ViTModel(t.ViTConfig(**sizes)).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(ValueError, match="no text classifier on vit; take another base"):
        load_classifier(str(tmp_path), load_tokenizer(str(tmp_path)))


def test_a_tensor_that_is_missing_is_still_named(base_of, tmp_path):
    folder = copy_of(base_of("qwen3"), tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="no weights for 1 tensors"):
        load_classifier(str(folder), load_tokenizer(str(folder)))
