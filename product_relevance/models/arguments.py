"""Flags and recipe keys of the base, its two-label head and its adapter."""

from dataclasses import dataclass

from product_relevance.utils.options import option, required

MAX_LENGTH = 32_768  # tokens of a pair; no query, title or path comes near


@dataclass
class ModelArguments:
    """The base, its two-label head, and the adapter on it."""

    _argument_group_name = "the base, its two-label head, and the adapter on it"

    model_name_or_path: str = required("the base: Hub id, folder, embedded:e5-small or embedded:gemma-3-270m")
    model_revision: str | None = option(None, "commit, tag or branch of the base on the Hub")
    pooling: str = option(
        "auto",
        "what the head sees. auto: the architecture's own choice (first or last token). mean: all tokens. pair: mean, "
        "product and difference of the two sides (encoders only). sides: each side by itself, for --adapter kernel",
        ["auto", "mean", "pair", "sides"],
    )
    head: str = option(
        "classifier",
        "classifier: a new head with two labels. yes_no: the logits of two words that a language model answers with",
        ["classifier", "yes_no"],
    )
    prompt: str | None = option(
        None, "yes_no: prompt around query and target: plain (the default), breakdown, qwen3-reranker, or a file"
    )
    chat_template: bool = option(False, "yes_no: put the prompt into the tokenizer's chat template")
    max_length: int = option(192, "tokens per pair at most; the longer side is truncated first")
    base_dropout: float | None = option(None, "dropout inside the base while training; by default that of its config")
    dtype: str = option("auto", "precision of the base; auto: bfloat16 on a GPU that has it, else float32")
    attn_implementation: str | None = option(None, "how attention is computed: sdpa, eager, flash_attention_2, ...")
    adapter: str = option(
        "lora",
        "lora trains an adapter, none all weights of the base. kernel trains neither: it fits a kernel ridge "
        "regression to vectors of the base, in seconds",
        ["lora", "none", "kernel"],
    )
    lora_r: int = option(16, "rank of the adapter")
    lora_alpha: int = option(32, "scale of the adapter: its update is multiplied by alpha / r")
    lora_dropout: float = option(0.01, "dropout in front of the adapter")
    lora_target_modules: list[str] = option(
        ["all-linear"], "modules with an adapter: all-linear, attention, or a list of names"
    )
    lora_layers: int | None = option(None, "adapters on the top N layers only; the folds then share the other layers")
    use_rslora: bool = option(False, "scale the adapter by alpha / sqrt(r) instead")
    use_dora: bool = option(False, "weight-decomposed LoRA (DoRA)")
    init_lora_weights: str = option(
        "default", "start values of the adapter", ["default", "pissa", "olora", "gaussian"]
    )
    quantization: str = option("none", "precision of the frozen base while training; nf4: QLoRA", ["none", "nf4"])
    kernel_scale: float = option(2.0, "kernel: how fast likeness falls with the angle between two vectors")
    kernel_ridge: float = option(0.1, "kernel: strength of the ridge; larger is smoother")
    kernel_rows: int = option(16_000, "kernel: pairs that it remembers at most; of more, whole queries are drawn")
    init_adapter: str | None = option(None, "warm start: parent run whose adapters and heads this one continues from")

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
        if self.lora_layers is not None and (self.lora_layers < 1 or self.adapter != "lora"):
            raise ValueError(f"--lora_layers {self.lora_layers}: expected at least 1, and --adapter lora")
        self._check_quantization()
        self._check_kernel()

    def _check_quantization(self):
        if self.quantization == "none":
            return
        if self.adapter != "lora":
            raise ValueError(f"--quantization {self.quantization}: a frozen base only; take --adapter lora")
        if self.init_lora_weights in ("pissa", "olora"):
            raise ValueError(
                f"--init_lora_weights {self.init_lora_weights} moves a part of the base into the adapter, and a base "
                f"in {self.quantization} cannot give it up exactly; take default or gaussian"
            )

    def _check_kernel(self):
        if (self.adapter == "kernel") != (self.pooling == "sides"):
            raise ValueError("--adapter kernel and --pooling sides go together: add the other, or leave both out")
        if self.adapter == "kernel" and self.init_adapter:
            raise ValueError("--init_adapter: a kernel has no start that its solution depends on; leave it out")
        for name in ("kernel_scale", "kernel_ridge", "kernel_rows"):
            if (value := getattr(self, name)) <= 0:
                raise ValueError(f"--{name} {value}: expected more than 0")
