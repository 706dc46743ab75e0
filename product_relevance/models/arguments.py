"""Flags and recipe keys of the base, its two-label head and its adapter."""

from dataclasses import dataclass

from product_relevance.utils.options import option, required

MAX_LENGTH = 32_768  # tokens of a pair; no query, title or path comes near


@dataclass
class ModelArguments:
    """The base, its two-label head, and the adapter on it."""

    _argument_group_name = "the base, its two-label head, and the adapter on it"

    model_name_or_path: str = required("Hub id, folder, embedded:e5-small or embedded:gemma-3-270m")
    model_revision: str | None = option(None, "commit, tag or branch of the base on the Hub")
    pooling: str = option(
        "auto",
        "what the head sees: auto = the architecture's own (first or last token); mean; pair = mean, and product and "
        "difference of the two sides (encoders only)",
        ["auto", "mean", "pair"],
    )
    head: str = option(
        "classifier",
        "classifier = two new labels; yes_no = the logits of two words that a language model may answer with",
        ["classifier", "yes_no"],
    )
    prompt: str | None = option(None, "of yes_no: a file, or plain (the default), breakdown, qwen3-reranker")
    chat_template: bool = option(False, "of yes_no: put the prompt into the tokenizer's chat template")
    max_length: int = option(192, "tokens per pair at most; the longer side is truncated first")
    base_dropout: float | None = option(None, "dropout inside the base while training; its config's own by default")
    dtype: str = option("auto", "of the base: auto is bfloat16 on a GPU that has it, else float32")
    attn_implementation: str | None = option(None, "sdpa, eager, flash_attention_2, ...")
    adapter: str = option("lora", "lora, or none for full fine-tuning", ["lora", "none"])
    lora_r: int = option(16, "rank")
    lora_alpha: int = option(32, "scale; the update is multiplied by alpha / r")
    lora_dropout: float = option(0.01, "dropout in front of the adapter")
    lora_target_modules: list[str] = option(["all-linear"], "all-linear, attention, or a list of module names")
    lora_layers: int | None = option(None, "adapters on the top so many layers only; folds then share the others")
    use_rslora: bool = option(False, "scale by alpha / sqrt(r)")
    use_dora: bool = option(False, "weight-decomposed LoRA")
    init_lora_weights: str = option("default", "start of the adapter", ["default", "pissa", "olora", "gaussian"])
    quantization: str = option("none", "of the frozen base while training; nf4 = QLoRA", ["none", "nf4"])
    init_adapter: str | None = option(None, "run whose adapters and heads this one continues from (two stages)")

    def __post_init__(self):
        if not 8 <= self.max_length <= MAX_LENGTH:
            raise ValueError(f"--max_length {self.max_length}: expected at least 8 tokens, at most {MAX_LENGTH}")
        if self.base_dropout is not None and not 0 <= self.base_dropout < 1:
            raise ValueError(f"--base_dropout {self.base_dropout}: expected from 0 up to, not including, 1")
        if self.head == "yes_no" and self.pooling != "auto":
            raise ValueError(f"--pooling {self.pooling}: --head yes_no reads the last token; leave it at auto")
        if self.head != "yes_no" and (self.prompt or self.chat_template):
            raise ValueError("--prompt and --chat_template belong to --head yes_no: add it, or leave them out")
        if self.dtype not in ("auto", "bfloat16", "float16", "float32"):
            raise ValueError(f"--dtype {self.dtype}: expected auto, bfloat16, float16 or float32")
        if self.adapter == "lora" and self.lora_r < 1:
            raise ValueError(f"--lora_r {self.lora_r}: expected at least 1; --adapter none trains all weights")
        if self.lora_layers is not None and (self.lora_layers < 1 or self.adapter == "none"):
            raise ValueError(f"--lora_layers {self.lora_layers}: expected at least 1, and --adapter lora")
        self._check_quantization()

    def _check_quantization(self):
        if self.quantization == "none":
            return
        if self.adapter == "none":
            raise ValueError(f"--quantization {self.quantization}: a frozen base only; take --adapter lora")
        if self.init_lora_weights in ("pissa", "olora"):
            raise ValueError(
                f"--init_lora_weights {self.init_lora_weights} moves a part of the base into the adapter, and a base "
                f"in {self.quantization} cannot give it up exactly; take default or gaussian"
            )
