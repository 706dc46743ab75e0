"""Models: a two-label head on an encoder or decoder base, loaded whole or not at all."""

import hashlib
import logging
import re
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.classifier import (
    HEAD,
    LAST,
    adopt_head,
    classifier_class,
    compute_in_float32,
    set_labels,
)
from product_relevance.models.heads.language_model import LanguageModel
from product_relevance.models.heads.pooling import PooledClassifier
from product_relevance.models.heads.yes_no import YesNoModel, require_causal
from product_relevance.models.loading import packaged_bases
from product_relevance.models.loading.base_errors import (
    check_folder,
    check_model,
    check_tokens,
    explain_errors,
    refuse_code,
)
from product_relevance.utils import console

logger = logging.getLogger(__name__)

# On Hopper torch takes cuDNN's attention first; under a mask its backward pass may give NaN (pytorch issue 196678,
# torch 2.11 to 2.13), and each new length costs it a plan.
torch.backends.cuda.enable_cudnn_sdp(False)
# Checkpoint parts that a text classifier has no use for: language-model heads, vision towers, position buffers.
LEFT_OUT = re.compile(
    r"(^|\.)(lm_head|cls|vision_tower|multi_modal_projector|pooler|decoder|position_ids|mask_predictions|qa_outputs)"
    r"(\.|$)|^head\."
)
# The config keys of dropout inside a base, over the architectures.
DROPOUTS = {
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "attention_dropout",
    "embedding_dropout",
    "mlp_dropout",
    "pooler_dropout",
    "classifier_dropout",
}
# Gemma 3 on the Hub is multimodal; its text weights lie under one of two prefixes, by age of the checkpoint.
GEMMA3_TEXT_KEYS = {r"^language_model\.model\.": "model.", r"^model\.language_model\.": "model."}


def load_tokenizer(name: str, revision: str | None = None):
    """Load the tokenizer of a base, with a pad token that is not the end token, padding on the right.

    Decoder heads read the last token that is not the pad token, so a pad token that texts can hold is refused,
    and words such as `<pad>` inside a query are read as plain text.

    Raises:
        ValueError: a base that cannot be used, a tokenizer that does not belong to it, or no usable pad token.
    """
    config, folder = load_config(name, revision), packaged_bases.resolve_base(name)
    with explain_errors(name, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision, trust_remote_code=False)
    check_tokens(name, tokenizer, config)
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        spare = [t for t in ("<pad>", "<|fim_pad|>", "<|finetune_right_pad_id|>") if t in tokenizer.get_vocab()]
        if not spare:
            raise ValueError(f"{name}: the tokenizer has no pad token apart from its end token; set one and save it")
        tokenizer.pad_token = spare[0]
    tokenizer.padding_side = "right"  # XLM-R counts positions from the left edge: left padding changes its scores
    tokenizer.split_special_tokens = True
    return tokenizer


def load_config(name: str, revision: str | None = None):
    """Load the config of a base, text part only.

    Raises:
        ValueError: no model of its own, or a config that asks for code from the repository (`auto_map`).
    """
    folder = packaged_bases.resolve_base(name)
    check_folder(name, folder)
    with explain_errors(name, "config"):
        config = AutoConfig.from_pretrained(folder, revision=revision, trust_remote_code=False)
    refuse_code(name, config)
    text = getattr(config, "text_config", None)
    return text if text is not None else config


def load_classifier(name: str, tokenizer, options: ClassifierOptions | None = None):
    """Load a base with a new head of K labels, or with two answers; the class comes from the config's `model_type`.

    Args:
        name: Hub id, folder, or embedded base.
        tokenizer: from `load_tokenizer`; its pad token shows decoder heads where a text ends.
        options: head, precision and place; a float32 classifier on the CPU if None.

    Returns:
        A model whose forward gives logits of shape (batch, K), or, of a language model, its loss.

    Raises:
        ValueError: weights that the architecture needs are missing, or weights are left that it does not know.
    """
    options = options or ClassifierOptions()
    config = load_config(name, options.revision)
    config.pad_token_id = tokenizer.pad_token_id
    if options.dropout is not None:
        for key in DROPOUTS & config.to_dict().keys():
            setattr(config, key, options.dropout)
    model, new = _read_weights(name, config, options)
    if options.language:
        return LanguageModel(model)
    if options.answers is not None:
        return YesNoModel(model, options.answers, options.writes)
    if options.pooling == "auto":
        adopt_head(name, model, new, options.grades)
    else:
        model = PooledClassifier(model, options.pooling, tokenizer.sep_token_id or tokenizer.eos_token_id)
    return compute_in_float32(model)


def _read_weights(name: str, config, options: ClassifierOptions) -> tuple[Any, set[str]]:
    """Return the base in the class that its head needs, and the names of the tensors that it had no weights for."""
    if options.answers is not None or options.language:
        require_causal(name, config, "--stage language_model" if options.language else "--head yes_no")
        kind: Any = AutoModelForCausalLM
    else:
        kind = classifier_class(name, config) if options.pooling == "auto" else AutoModel
    if kind in (AutoModel, AutoModelForCausalLM):  # a classifier gets its labels when its own head is known
        set_labels(config, options.grades)
    # transformers warns of new or dropped tensors; the check is stricter
    with _quiet(), explain_errors(name, "weights"):
        model, info = kind.from_pretrained(packaged_bases.resolve_base(name), **_loading_options(config, options))
    vars(model).pop("hf_device_map", None)  # where it is set, the Trainer leaves what is added to the base on the CPU
    check_model(name, model)
    _check_keys(name, model, info)
    return model, set(info["missing_keys"])


def _loading_options(config, options: ClassifierOptions) -> dict[str, Any]:
    found = {"config": config, "dtype": getattr(torch, options.dtype), "revision": options.revision}
    found |= {"output_loading_info": True, "trust_remote_code": False, "use_safetensors": True}
    found["ignore_mismatched_sizes"] = True  # `_check_keys` looks at them
    if options.device is not None:
        found["device_map"] = {"": options.device}
    if options.attn_implementation:
        found["attn_implementation"] = options.attn_implementation
    if config.model_type == "gemma3_text":
        found["key_mapping"] = GEMMA3_TEXT_KEYS
    return found


@contextmanager
def _quiet():
    before, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    if not console.on_terminal():
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        if bars:
            transformers_logging.enable_progress_bar()


def _check_keys(name: str, model, info: dict) -> None:
    missing = sorted(k for k in info["missing_keys"] if not HEAD.search(k))
    unknown = sorted(k for k in info["unexpected_keys"] if not LEFT_OUT.search(k) and not HEAD.search(k))
    left = sorted(k for k in info["unexpected_keys"] if LAST.search(k))
    if left:
        logger.info("%s: its own head is left out, since another kind is trained: %s", name, ", ".join(left))
    mismatched = sorted(str(k) for k in info.get("mismatched_keys", []))
    for what, keys in (
        ("has no weights for", missing),
        ("holds unknown", unknown),
        ("differs in shape at", mismatched),
    ):
        if keys:
            raise ValueError(
                f"{name}: the checkpoint {what} {len(keys)} tensors of {type(model).__name__}, as {keys[0]}; "
                "a partly random base is never what one wants: check the model id and its revision"
            )


def fingerprint_weights(model) -> str:
    """Return a sha256 over a sample of the base's weights, to distinguish two bases of one shape.

    Values are rounded to bfloat16 first, so a base has one fingerprint whatever dtype it was loaded in.
    """
    digest = hashlib.sha256()
    for name, value in model.named_parameters():
        if HEAD.search(name) or "lora_" in name:
            continue
        sample = value.detach().reshape(-1)[:64].to(torch.bfloat16).float().cpu().numpy()
        digest.update(f"{name.removeprefix('base_model.model.')}{tuple(value.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()


def require_positions(model, max_length: int) -> None:
    """Raise ValueError if pairs are longer than a base's table of positions; the first such pair would fail.

    Raises:
        ValueError: more tokens than positions; bases with rotary positions have no table.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            room = module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
            if max_length > room:
                raise ValueError(f"max_length {max_length}: this base has {room} positions; expected at most so many")


def attention_of(model) -> str | None:
    """Return how a model computes attention, as transformers calls it."""
    return getattr(inner_model(model).config, "_attn_implementation", None)


def inner_model(model):
    """Return the base inside a model, without heads."""
    return model.base_model


@contextmanager
def evaluation_mode(model):
    """Switch dropout off for a block, and back to what it was."""
    was_training = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(was_training)
