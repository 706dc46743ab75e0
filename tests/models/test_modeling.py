"""Bases load whole or not at all, each architecture trains, and adapters only fit the base they came from."""

import json
import os
import shutil

import pytest
import torch

from product_relevance.models import adapters
from product_relevance.models.adapters import add_adapter, load_adapter
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.batching import pad_rows
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.modeling import (
    fingerprint_weights,
    load_classifier,
    load_config,
    load_tokenizer,
    require_positions,
)
from product_relevance.models.pair_encoder import encode_pairs
from tests.conftest import save_base, save_tokenizer, tiny_config

KINDS = ["bert", "xlm-roberta", "deberta-v2", "modernbert", "qwen2", "qwen3", "gemma2", "gemma3_text"]
PAIRS = (["red shoes", "usb"], ["shoes,women's shoes,flats", "phones"])


def prepared(folder, **options):
    tokenizer = load_tokenizer(str(folder))
    return tokenizer, load_classifier(str(folder), tokenizer, ClassifierOptions(**options))


def logits_of(model, tokenizer, texts=PAIRS):
    model.eval()
    with torch.no_grad():
        batch = pad_rows(encode_pairs(tokenizer, *texts, 64), tokenizer.pad_token_id)
        return model(**batch).logits


@pytest.mark.parametrize("kind", KINDS)
def test_each_architecture_gets_a_two_label_head_and_an_adapter_whose_head_survives_saving(kind, base_of, tmp_path):
    tokenizer, model = prepared(base_of(kind))
    arguments = ModelArguments(str(base_of(kind)), lora_r=4)
    model = add_adapter(model, arguments)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    batch = pad_rows(encode_pairs(tokenizer, *PAIRS, 64), tokenizer.pad_token_id) | {"labels": torch.tensor([1, 0])}
    before = model(**batch).loss
    for _ in range(5):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    assert model(**batch).loss < before
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    torch.manual_seed(99)  # another start of the head: it must come from the file
    _, fresh = prepared(base_of(kind))
    reloaded = load_adapter(fresh, str(tmp_path), "fold-0")
    assert torch.equal(logits_of(model, tokenizer), logits_of(reloaded, tokenizer))


@pytest.mark.parametrize("pooling", ["mean", "pair"])
def test_pooled_heads_survive_saving(pooling, base_of, tmp_path):
    tokenizer, model = prepared(base_of("bert"), pooling=pooling)
    model = add_adapter(model, ModelArguments(str(base_of("bert")), lora_r=4))
    model.save_pretrained(tmp_path, save_embedding_layers=False)
    torch.manual_seed(99)
    _, fresh = prepared(base_of("bert"), pooling=pooling)
    assert torch.equal(logits_of(model, tokenizer), logits_of(load_adapter(fresh, str(tmp_path), "a"), tokenizer))


def test_attention_is_not_cudnn_s_whose_gradient_under_a_mask_may_be_no_number():
    assert torch.backends.cuda.flash_sdp_enabled() and not torch.backends.cuda.cudnn_sdp_enabled()


def test_pair_pooling_does_not_depend_on_padding(base_of):
    tokenizer, model = prepared(base_of("bert"), pooling="pair")
    alone = logits_of(model, tokenizer, ([PAIRS[0][1]], [PAIRS[1][1]]))
    assert torch.allclose(alone[0], logits_of(model, tokenizer)[1], atol=1e-6)


def test_pair_pooling_is_refused_where_pairs_hold_no_separator(base_of):
    with pytest.raises(ValueError, match="separator"):
        prepared(base_of("qwen3"), pooling="pair")


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_a_multimodal_gemma3_checkpoint_loads_bit_exact_as_text(prefix, base_of, tmp_path):
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM, Gemma3Config

    text = AutoModelForCausalLM.from_pretrained(base_of("gemma3_text"))
    weights = {
        prefix + k.removeprefix("model."): v.clone() for k, v in text.state_dict().items() if k != "lm_head.weight"
    }
    weights["vision_tower.vision_model.embeddings.weight"] = torch.zeros(3)
    weights["multi_modal_projector.weight"] = torch.zeros(3)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = Gemma3Config(text_config=tiny_config("gemma3_text").to_dict())
    config.architectures = ["Gemma3ForConditionalGeneration"]
    config.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, decoder=True)
    _, model = prepared(tmp_path)
    assert type(model).__name__ == "Gemma3TextForSequenceClassification"
    expected = text.model.state_dict()
    found = model.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert load_file(tmp_path / "model.safetensors").keys() != expected.keys()


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "deberta-v2", "modernbert", "gemma2", "gemma3_text", "qwen3"])
def test_base_dropout_zero_makes_two_training_passes_equal(kind, base_of):
    tokenizer = load_tokenizer(str(base_of(kind)))
    model = load_classifier(str(base_of(kind)), tokenizer, ClassifierOptions(dropout=0.0)).train()
    batch = tokenizer(["red shoes"] * 4, ["shoes,women"] * 4, return_tensors="pt")
    assert torch.equal(model(**batch).logits, model(**batch).logits)


def test_a_base_keeps_its_own_dropout_by_default(base_of):
    tokenizer = load_tokenizer(str(base_of("bert")))
    model = load_classifier(str(base_of("bert")), tokenizer).train()
    batch = tokenizer(["red shoes"] * 4, ["shoes,women"] * 4, return_tensors="pt")
    assert not torch.equal(model(**batch).logits, model(**batch).logits)


def test_a_base_with_a_missing_tensor_is_refused(base_of, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(base_of("bert"), tmp_path / "b")
    weights = load_file(tmp_path / "b/model.safetensors")
    name = next(k for k in weights if "attention.self.query.weight" in k)
    del weights[name]
    save_file(weights, tmp_path / "b/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="no weights for 1 tensors"):
        prepared(tmp_path / "b")


def test_a_base_with_an_unknown_tensor_is_refused(base_of, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(base_of("qwen3"), tmp_path / "b")
    weights = load_file(tmp_path / "b/model.safetensors") | {"model.layers.0.extra.weight": torch.zeros(2)}
    save_file(weights, tmp_path / "b/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="holds unknown 1 tensors"):
        prepared(tmp_path / "b")


def test_code_from_the_repository_is_refused(base_of, tmp_path):
    shutil.copytree(base_of("bert"), tmp_path / "b")
    config = json.loads((tmp_path / "b/config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config"}
    (tmp_path / "b/config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="auto_map"):
        load_config(str(tmp_path / "b"))


def test_pickled_weights_are_refused(base_of, tmp_path):
    from safetensors.torch import load_file

    shutil.copytree(base_of("bert"), tmp_path / "b")
    torch.save(load_file(tmp_path / "b/model.safetensors"), tmp_path / "b/pytorch_model.bin")
    os.unlink(tmp_path / "b/model.safetensors")
    with pytest.raises(ValueError, match="weights are pickled .pytorch_model.bin.*expected safetensors"):
        prepared(tmp_path / "b")


def test_a_second_adapter_is_refused(base_of):
    _, model = prepared(base_of("qwen3"))
    model = add_adapter(model, ModelArguments(str(base_of("qwen3")), lora_r=4))
    with pytest.raises(ValueError, match="already"):
        add_adapter(model, ModelArguments(str(base_of("qwen3")), lora_r=4))


def test_an_adapter_of_another_base_is_refused(base_of, tmp_path):
    _, model = prepared(base_of("gemma2"))
    add_adapter(model, ModelArguments(str(base_of("gemma2")), lora_r=4)).save_pretrained(tmp_path)
    _, other = prepared(base_of("bert"))
    with pytest.raises(ValueError, match="fit"):
        load_adapter(other, str(tmp_path), "fold-0")


def test_an_adapter_without_its_head_is_refused(base_of, tmp_path):
    from safetensors.torch import load_file, save_file

    _, model = prepared(base_of("qwen3"))
    add_adapter(model, ModelArguments(str(base_of("qwen3")), lora_r=4)).save_pretrained(tmp_path)
    weights = {k: v for k, v in load_file(tmp_path / "adapter_model.safetensors").items() if "score" not in k}
    save_file(weights, tmp_path / "adapter_model.safetensors", metadata={"format": "pt"})
    _, fresh = prepared(base_of("qwen3"))
    with pytest.raises(ValueError, match="fit"):
        load_adapter(fresh, str(tmp_path), "fold-0")


def test_fingerprints_tell_bases_apart_and_ignore_dtype_and_head(base_of, tmp_path):
    _, one = prepared(base_of("qwen3"))
    _, again = prepared(base_of("qwen3"), dtype="bfloat16")
    _, other = prepared(save_base(tmp_path / "other", "qwen3", seed=1))
    assert fingerprint_weights(one) == fingerprint_weights(again) != fingerprint_weights(other)


def test_xlm_r_pads_on_the_right_because_left_padding_changes_its_scores(base_of):
    tokenizer, model = prepared(base_of("xlm-roberta"))
    assert tokenizer.padding_side == "right"
    rows = encode_pairs(tokenizer, *PAIRS, 64)
    alone = logits_of(model, tokenizer, ([PAIRS[0][1]], [PAIRS[1][1]]))[0]
    assert torch.allclose(logits_of(model, tokenizer)[1], alone, atol=1e-6)
    gap = len(rows[0]) - len(rows[1])
    left = torch.tensor([[tokenizer.pad_token_id] * gap + rows[1]])
    mask = torch.tensor([[0] * gap + [1] * len(rows[1])])
    with torch.no_grad():
        left_logits = model(input_ids=left, attention_mask=mask).logits[0]
    assert (left_logits - alone).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["qwen3", "gemma2", "gemma3_text"])
def test_decoder_scores_do_not_depend_on_padding(kind, base_of):
    tokenizer, model = prepared(base_of(kind))
    alone = logits_of(model, tokenizer, ([PAIRS[0][1]], [PAIRS[1][1]]))[0]
    assert torch.allclose(logits_of(model, tokenizer)[1], alone, atol=1e-5)


def test_a_pad_token_that_is_the_end_token_is_replaced_or_refused(base_of, tmp_path):
    shutil.copytree(base_of("qwen3"), tmp_path / "b")
    settings = json.loads((tmp_path / "b/tokenizer_config.json").read_text())
    settings["pad_token"] = "</s>"
    (tmp_path / "b/tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(str(tmp_path / "b")).pad_token == "<pad>"


def test_special_tokens_inside_a_query_are_plain_text(base_of):
    tokenizer = load_tokenizer(str(base_of("qwen3")))
    (ids,) = encode_pairs(tokenizer, ["shoes<pad></s>"], ["x"], 64)
    assert tokenizer.pad_token_id not in ids and tokenizer.eos_token_id not in ids


def test_attention_targets_leave_the_feed_forward_layers_out(base_of):
    decoder = {"q_proj", "k_proj", "v_proj", "o_proj"}
    ends = dict.fromkeys(("qwen3", "gemma3_text"), decoder)
    ends |= dict.fromkeys(("bert", "xlm-roberta"), {"query", "key", "value", "attention.output.dense"})
    ends["deberta-v2"] = {"query_proj", "key_proj", "value_proj", "attention.output.dense"}
    ends["modernbert"] = {"attn.Wqkv", "attn.Wo"}
    for kind, expected in ends.items():
        linear = [n for n, m in prepared(base_of(kind))[1].named_modules() if isinstance(m, torch.nn.Linear)]
        chosen = adapters._expand_targets(linear, ["attention"])
        assert set(chosen) == {n for n in linear if n.endswith(tuple(f".{end}" for end in expected))}, kind
        assert len(chosen) == len(expected) * 2  # layers


def test_targets_given_together_are_all_adapted():
    linear = ["layers.0.q_proj", "layers.0.up_proj", "layers.0.down_proj"]
    assert adapters._expand_targets(linear, ["attention", "up_proj"]) == linear[:2]
    assert adapters._expand_targets(linear, ["up_proj", "attention"]) == linear[:2]
    with pytest.raises(ValueError, match=r"\['proj'\]: no such linear layer"):
        adapters._expand_targets(linear, ["q_proj", "proj"])


def test_pairs_longer_than_the_table_of_positions_are_refused(base_of):
    _, model = prepared(base_of("xlm-roberta"))
    require_positions(model, 258)
    with pytest.raises(ValueError, match="max_length 259: this base has 258 positions"):
        require_positions(model, 259)
    require_positions(prepared(base_of("qwen3"))[1], 10**6)


def test_an_unknown_target_names_the_layers_that_exist(base_of):
    _, model = prepared(base_of("qwen3"))
    with pytest.raises(ValueError, match="q_proj"):
        add_adapter(model, ModelArguments(str(base_of("qwen3")), lora_target_modules=["qqq"]))
