"""Models: a two-label head on an encoder or decoder base, and LoRA adapters on top of it."""

import hashlib
import re
from contextlib import contextmanager

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from product_relevance import embedded
from product_relevance.arguments import ModelArguments

NUM_LABELS = 2
LABELS = {0: "irrelevant", 1: "relevant"}
# Modules that are new in a classifier: trained in full, and saved beside the adapter.
HEAD = re.compile(r"(^|\.)(score|classifier|pooler|head)(\.|$)")
# Checkpoint parts that a text classifier has no use for: language-model heads, vision towers, position buffers.
LEFT_OUT = re.compile(r"(^|\.)(lm_head|cls|vision_tower|multi_modal_projector|pooler|decoder|position_ids|mask_predictions)(\.|$)|^head\.")  # fmt: skip
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "query", "key", "value", "attention.output.dense", "Wqkv", "Wo")
# Gemma 3 on the Hub is multimodal; its text weights lie under one of two prefixes, by age of the checkpoint.
GEMMA3_TEXT_KEYS = {r"^language_model\.model\.": "model.", r"^model\.language_model\.": "model."}


def load_tokenizer(name: str, revision: str | None = None):
    """Load the tokenizer of a base, with a pad token that is not the end token, padding on the right.

    Decoder heads read the last token that is not the pad token, so a pad token that texts can hold is refused,
    and words such as `<pad>` inside a query are read as plain text.

    Raises:
        ValueError: no usable pad token.
    """
    folder = embedded.resolve(name)
    tokenizer = AutoTokenizer.from_pretrained(folder, revision=revision, trust_remote_code=False)
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        spare = [t for t in ("<pad>", "<|fim_pad|>", "<|finetune_right_pad_id|>") if t in tokenizer.get_vocab()]
        if not spare:
            raise ValueError(f"{name}: the tokenizer has no pad token apart from its end token; set one and save it")
        tokenizer.pad_token = spare[0]
    tokenizer.padding_side = "right"  # XLM-R counts positions from the left edge: left padding changes its scores
    tokenizer.split_special_tokens = True
    return tokenizer


def load_config(name: str, revision: str | None = None):
    """Load the config of a base, text part only, set for two labels.

    Raises:
        ValueError: the config asks for code from the repository (`auto_map`).
    """
    config = AutoConfig.from_pretrained(embedded.resolve(name), revision=revision, trust_remote_code=False)
    if getattr(config, "auto_map", None):
        raise ValueError(f"{name}: its config has auto_map, code from the repository; this package runs none")
    text = getattr(config, "text_config", None)
    config = text if text is not None else config
    config.num_labels, config.id2label = NUM_LABELS, dict(LABELS)
    config.label2id = {label: i for i, label in LABELS.items()}
    return config


def load_classifier(name: str, tokenizer, revision=None, *, pooling="auto", dtype="auto", attn_implementation=None):
    """Load a base with a new two-label head; the class comes from the config's `model_type`.

    Args:
        name: Hub id, folder, or embedded base.
        tokenizer: from `load_tokenizer`; its pad token tells decoder heads where a text ends.
        revision: commit, tag or branch on the Hub.
        pooling: `auto`, `mean` or `pair` (see ModelArguments).
        dtype: of the base weights: "auto" (bfloat16 on a GPU that has it, else float32) or a torch dtype's name.
        attn_implementation: as in transformers.

    Returns:
        A PreTrainedModel whose forward gives logits of shape (batch, 2).

    Raises:
        ValueError: weights that the architecture needs are missing, or weights are left that it does not know.
    """
    config = load_config(name, revision)
    config.pad_token_id = tokenizer.pad_token_id
    options = {"config": config, "dtype": torch_dtype(dtype), "revision": revision, "output_loading_info": True}
    options |= {"trust_remote_code": False, "use_safetensors": True}
    if attn_implementation:
        options["attn_implementation"] = attn_implementation
    if config.model_type == "gemma3_text":
        options["key_mapping"] = GEMMA3_TEXT_KEYS
    kind = AutoModelForSequenceClassification if pooling == "auto" else AutoModel
    model, info = kind.from_pretrained(embedded.resolve(name), **options)
    _check_keys(name, model, info)
    return model if pooling == "auto" else PooledClassifier(model, pooling, tokenizer.sep_token_id or tokenizer.eos_token_id)


def _check_keys(name: str, model, info: dict) -> None:
    missing = sorted(k for k in info["missing_keys"] if not HEAD.search(k))
    unknown = sorted(k for k in info["unexpected_keys"] if not LEFT_OUT.search(k))
    mismatched = sorted(str(k) for k in info.get("mismatched_keys", []))
    for what, keys in (("has no weights for", missing), ("holds unknown", unknown), ("differs in shape at", mismatched)):
        if keys:
            raise ValueError(
                f"{name}: the checkpoint {what} {len(keys)} tensors of {type(model).__name__}, as {keys[0]}; "
                "a partly random base is never what one wants: check the model id and its revision"
            )


def resolve_revision(name: str, revision: str | None = None) -> str | None:
    """Return the commit of a base on the Hub, so that a run is pinned to it; `revision` itself for local bases."""
    config = AutoConfig.from_pretrained(embedded.resolve(name), revision=revision, trust_remote_code=False)
    return getattr(config, "_commit_hash", None) or revision


def torch_dtype(name: str) -> torch.dtype:
    """Return the dtype for a name; "auto" is bfloat16 on a GPU that has it, else float32."""
    if name == "auto":
        return torch.bfloat16 if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else torch.float32
    return getattr(torch, name)


class PooledClassifier(nn.Module):
    """A head on pooled token states of an encoder, for bases whose first token was never trained to sum up a text.

    `mean` pools all tokens. `pair` also pools both sides of the separator by themselves and adds their product,
    absolute difference and cosine (Sentence-BERT, arXiv 1908.10084, section 3; here on jointly encoded sides).
    """

    def __init__(self, backbone, pooling: str, separator: int):
        super().__init__()
        self.config, self.pooling, self.model, self.separator = backbone.config, pooling, backbone, separator
        if pooling == "pair" and self.config.model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
            raise ValueError("--pooling pair needs an encoder whose pairs hold a separator token; use auto or mean")
        width = self.config.hidden_size
        self.dropout = nn.Dropout(getattr(self.config, "hidden_dropout_prob", 0.1))
        self.classifier = nn.Linear(3 * width + 1 if pooling == "pair" else width, NUM_LABELS)
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, input_ids=None, attention_mask=None, labels=None, **_):
        """Return logits of shape (batch, 2) for token ids and mask of shape (batch, length)."""
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = self._pool(states, input_ids, attention_mask)
        logits = self.classifier(self.dropout(pooled.to(self.classifier.weight.dtype)))
        loss = None if labels is None else nn.functional.cross_entropy(logits.float(), labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _pool(self, states, ids, mask):
        mean = _masked_mean(states, mask)
        if self.pooling == "mean":
            return mean
        separators = (ids == self.separator).cumsum(1)  # <s> q </s></s> t </s>: 0 on the query, 2 on the target
        content = (ids != self.separator) & mask.bool()
        content[:, 0] = False  # <s>
        left = nn.functional.normalize(_masked_mean(states, content & (separators == 0)), dim=-1)
        right = nn.functional.normalize(_masked_mean(states, content & (separators > 0)), dim=-1)
        scale = states.shape[-1] ** 0.5  # brings unit vectors to the size of token states
        product = left * right * scale**1.5
        cosine = (left * right).sum(-1, keepdim=True) * 10
        return torch.cat([mean, product, (left - right).abs() * scale, cosine], dim=-1)

    def get_input_embeddings(self):
        """Return the backbone's embeddings (used for gradient checkpointing)."""
        return self.model.get_input_embeddings()

    def gradient_checkpointing_enable(self, **options):
        """Trade compute for memory in the backbone."""
        self.model.gradient_checkpointing_enable(**options)


def _masked_mean(states, mask):
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1).clamp(min=1)


def head_names(model) -> list[str]:
    """Return the top-level modules of the new head, as PEFT's `modules_to_save` takes them."""
    names = {HEAD.search(name).group(2) for name, _ in model.named_parameters() if HEAD.search(name)}
    return sorted(names)


def lora_config(model, arguments: ModelArguments):
    """Build the PEFT configuration; the head is never put under LoRA but trained in full.

    Raises:
        ValueError: a target matches no linear layer.
    """
    from peft import LoraConfig

    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and not HEAD.search(n)]
    targets = _expand_targets(linear, arguments.lora_target_modules)
    start = {"default": True, "pissa": "pissa", "olora": "olora", "gaussian": "gaussian"}
    return LoraConfig(
        task_type="SEQ_CLS",
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        target_modules=targets,
        modules_to_save=head_names(model),
        use_rslora=arguments.use_rslora,
        use_dora=arguments.use_dora,
        init_lora_weights=start[arguments.init_lora_weights],
    )


def _expand_targets(linear: list[str], wanted: list[str]) -> list[str]:
    """Turn all-linear, attention or names into full module names, so that nothing of the head can match."""
    suffixes = {"all-linear": ("",), "attention": ATTENTION}.get(wanted[0], tuple(wanted))
    chosen = [n for n in linear if any(s == "" or n == s or n.endswith("." + s) for s in suffixes)]
    unmatched = [s for s in wanted if s not in ("all-linear", "attention") and not any(n.endswith(s) for n in linear)]
    if unmatched or not chosen:
        kinds = sorted({n.rsplit(".", 1)[-1] for n in linear})
        raise ValueError(f"--lora_target_modules {unmatched or wanted}: no such linear layer; this base has {kinds}")
    return chosen


def add_adapter(model, arguments: ModelArguments, *, name: str = "default", autocast: bool = True):
    """Put a fresh adapter on a bare base.

    Raises:
        ValueError: the model carries an adapter already; a second one would re-initialise it and the head.
    """
    from peft import PeftModel, get_peft_model

    if isinstance(model, PeftModel) or getattr(model, "peft_config", None):
        raise ValueError("the model carries an adapter already: merge or unload it first")
    return get_peft_model(model, lora_config(model, arguments), adapter_name=name, autocast_adapter_dtype=autocast)


def load_adapter(model, folder: str, name: str):
    """Load a saved adapter with its head onto a base (or beside other adapters) and require every tensor.

    PEFT only warns of missing tensors, which leaves a random head: here it is an error.

    Returns:
        The PeftModel.

    Raises:
        ValueError: missing, unexpected or wrongly shaped tensors: the adapter belongs to another base.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    try:
        if isinstance(model, PeftModel):
            model.load_adapter(folder, adapter_name=name)
        else:
            model = PeftModel.from_pretrained(model, folder, adapter_name=name)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(f"{folder}: this adapter does not fit the base: {str(error)[:300]}") from None
    with safe_open(f"{folder}/adapter_model.safetensors", "pt") as file:
        found = set(file.keys())
    expected = set(get_peft_model_state_dict(model, adapter_name=name))
    if found != expected:
        one = sorted(found ^ expected)[0]
        raise ValueError(
            f"{folder}: adapter and base do not fit: {len(expected - found)} tensors missing, "
            f"{len(found - expected)} unknown, as {one}"
        )
    return model


def adapter_start(model) -> dict | None:
    """Return the start of an adapter whose method changes the base (PiSSA, OLoRA), None for the others."""
    from peft import get_peft_model_state_dict

    config = getattr(model, "peft_config", {}).get("default")
    if config is None or config.init_lora_weights not in ("pissa", "olora"):
        return None
    return {name: value.detach().cpu().clone() for name, value in get_peft_model_state_dict(model).items()}


def convert_to_plain_lora(folder, start: dict) -> None:
    """Rewrite a saved PiSSA or OLoRA adapter as LoRA of twice the rank on the untouched base, in place.

    W + AB - A0 B0 = W + [A|A0][B|-B0], so folds trained from such a start can share one base. PEFT's own conversion
    (0.21) drops the trained head.
    """
    import json
    from pathlib import Path

    from safetensors.torch import load_file, save_file

    file, settings = Path(folder) / "adapter_model.safetensors", Path(folder) / "adapter_config.json"
    tensors = load_file(file)
    for name, value in tensors.items():
        if "lora_A" in name:
            tensors[name] = torch.cat([value, start[name].to(value.dtype)], dim=0)
        elif "lora_B" in name:
            tensors[name] = torch.cat([value, -start[name].to(value.dtype)], dim=1)
    save_file({name: value.contiguous() for name, value in tensors.items()}, file, metadata={"format": "pt"})
    config = json.loads(settings.read_text(encoding="utf-8"))
    grow = 2**0.5 if config["use_rslora"] else 2  # rsLoRA scales by alpha / sqrt(r)
    config |= {"r": 2 * config["r"], "lora_alpha": grow * config["lora_alpha"], "init_lora_weights": True}
    settings.write_text(json.dumps(config, indent=2), encoding="utf-8")


def fingerprint(model) -> str:
    """Return a sha256 over a sample of the base's weights, to tell two bases of one shape apart.

    Values are rounded to bfloat16 first, so a base has one fingerprint whatever dtype it was loaded in.
    """
    digest = hashlib.sha256()
    for name, value in model.named_parameters():
        if HEAD.search(name) or "lora_" in name:
            continue
        sample = value.detach().reshape(-1)[:64].to(torch.bfloat16).float().cpu().numpy()
        digest.update(f"{name.removeprefix('base_model.model.')}{tuple(value.shape)}".encode() + sample.tobytes())
    return digest.hexdigest()


@contextmanager
def evaluating(model):
    """Switch dropout off for a block, and back to what it was."""
    was_training = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(was_training)
