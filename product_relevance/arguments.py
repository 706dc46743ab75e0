"""Arguments of a training run: three dataclasses beside the Trainer's own, as flags, as a recipe YAML, or both."""

from dataclasses import MISSING, dataclass, field

from product_relevance import tasks
from product_relevance.language_codes import normal_codes


def option(default, help, choices=None):
    """Make a dataclass field with a default, for HfArgumentParser and `help_line`."""
    metadata = {"help": help} | ({"choices": choices} if choices else {})
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


MAX_MISSING = 0.1  # the wrong table, or one of queries in another form, loses far more
PATH_SEPARATOR_HELP = "between the levels of a path; auto finds one of , > / | ›"
LEVEL_NAMES_HELP = "file of level names that hold the separator, one a line; none: not even known and learned ones"
MISSING_HELP = "of the queries that are not English, the share that may lack a translation"
MAX_LENGTH = 32_768  # tokens of a pair; no query, title or path comes near
# What transformers itself has: any other name is that of code on the Hub, which no published run may name.
ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
# Functions of product_relevance/objectives.py, which imports torch.
OBJECTIVES = ("cross_entropy", "r_drop", "distill", "dpo")


@dataclass
class ModelArguments:
    """The base, its two-label head, and the adapter on it."""

    model_name_or_path: str = field(metadata={"help": "Hub id, folder, embedded:e5-small or embedded:gemma-3-270m"})
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
    max_length: int = option(192, "tokens a pair at most; the longer side is cut first")
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


@dataclass
class ObjectiveArguments:
    """What is minimised; label smoothing is the Trainer's own --label_smoothing_factor."""

    stage: str = option(
        "relevance", "relevance, or language_model: a first stage on the texts alone", ["relevance", "language_model"]
    )
    objective: str = option("cross_entropy", "see docs/training.md", list(OBJECTIVES))
    class_weights: list[str] = option([], "balanced, or the factors of the losses of label 0 and label 1")
    r_drop_strength: float = option(1.0, "r_drop: weight of the disagreement between two passes")
    teacher: str | None = option(None, "distill: run or stack whose folds score the training rows")
    unlabelled_file: str | None = option(None, "distill: records to learn from by the teacher alone, labels unread")
    teacher_share: float = option(0.5, "distill: weight of the teacher; the label has the rest")
    dpo_beta: float = option(0.1, "dpo: how strongly the model is held to the one without adapter")

    def __post_init__(self):
        if self.objective not in OBJECTIVES:
            raise ValueError(f"--objective {self.objective}: expected one of {', '.join(OBJECTIVES)}")
        if self.stage != "relevance" and (self.objective != "cross_entropy" or self.class_weights):
            raise ValueError(f"--stage {self.stage} reads no labels: leave --objective and --class_weights out")
        if (self.objective == "distill") != (self.teacher is not None):
            raise ValueError("--objective distill and --teacher RUN go together")
        if self.unlabelled_file and self.teacher is None:
            raise ValueError("--unlabelled_file needs a teacher: add --objective distill --teacher RUN")
        if not 0 < self.teacher_share <= 1:
            raise ValueError(f"--teacher_share {self.teacher_share}: expected more than 0, and 1 at most")
        if self.r_drop_strength <= 0 or self.dpo_beta <= 0:
            raise ValueError("--r_drop_strength and --dpo_beta: expected more than 0")
        if self.class_weights and self.objective == "dpo":
            raise ValueError("--class_weights: dpo weighs preferences, not classes; leave them out")
        self.factors()

    def factors(self) -> list[float] | None:
        """Return the two factors of --class_weights; None where they are balanced by the data, or not given."""
        if self.class_weights in ([], ["balanced"]):
            return None
        try:
            found = [float(word) for word in self.class_weights]
        except ValueError:
            found = []
        if len(found) != 2 or min(found) < 0:
            raise ValueError(
                f"--class_weights {' '.join(self.class_weights)}: expected balanced, or two numbers from 0"
            )
        return found


@dataclass
class DataArguments:
    """The records, the columns made from them, and the folds."""

    train_file: str = field(
        metadata={"help": "labelled records: .txt .jsonl .csv .tsv .parquet, folder or Hub id; QC,QI: two, by a comma"}
    )
    task: str = field(
        metadata={"help": "QC (category path), QI (item title), or one model for both", "choices": [*tasks.CHOICES]}
    )
    split: str | None = option(None, "of records that have several: a saved data set, or one of the Hub")
    data_revision: str | None = option(None, "commit, tag or branch of records on the Hub")
    task_mixing: str = option(
        "proportional", "of QC,QI: shares of the loss: proportional to the rows, equal, or a temperature from 1 up"
    )
    on_bad_rows: str = option("error", "stop, or put them aside in rejects.jsonl", ["error", "skip"])
    lowercase: bool = option(False, "lower-case both texts")
    language_fix: str = option(
        "identify", "for rows labelled en that are not English", ["none", "identify", "translation"]
    )
    translation: str = option("none", "none, column (translated_query), or a CSV/TSV/Parquet of translations")
    max_missing_translations: float = option(MAX_MISSING, MISSING_HELP)
    input_style: str = option("both", "query side of the pair", ["original", "translation", "both"])
    language_tag: bool = option(False, "put the language in front of the query, as [de]")
    task_tag: bool | None = option(
        None, "put the kind of the target in front of it, as item title: ; by default for QC,QI only"
    )
    path_style: str = option("raw", "rendering of a QC path", ["raw", "markers", "level_tags", "leaf_first"])
    random_levels: float = option(0.0, "share of the QC rows whose path is cut to its last levels, anew in each epoch")
    path_separator: str = option("auto", PATH_SEPARATOR_HELP)
    level_names: str | None = option(None, LEVEL_NAMES_HELP)
    fold: str = option("all", "all, full (no validation), or the number of one fold")
    num_folds: int = option(3, "folds")
    group_by: str = option("query", "what never crosses folds", ["query", "prefix", "query+prefix"])
    prefix_levels: int = option(2, "levels of the path that make a prefix group")
    fold_seed: int = option(42, "seed of the fold assignment")
    held_out_languages: list[str] = option([], "one split instead of folds: validate on these alone, as de pt-BR")
    eval_rows: int = option(2000, "validation rows scored during training; the whole fold is scored at the end")
    global_batch_size: int | None = option(
        None, "pairs a step over all processes; the gradient accumulation follows from it"
    )
    early_stopping_patience: int | None = option(None, "evaluations without a better metric before it stops")
    tokens_per_forward: int | None = option(
        None, "padded tokens a training forward at most: batches are cut into pieces of like length, same gradient"
    )
    share_prefixes: bool = option(
        False, "pairs of a query stand in one batch and forward their prefix once: causal bases without dropout"
    )
    keep_checkpoints: bool = option(False, "keep checkpoints of finished folds")
    overwrite: bool = option(False, "replace a finished fold in output_dir")
    mixed_folds: bool = option(
        False, "join folds of output_dir that were trained with other settings; run.json and report.md say which"
    )
    resume_allow: list[str] = option(
        [], "arguments that may differ from those of the checkpoint that --resume_from_checkpoint goes on from"
    )

    def __post_init__(self):
        self.held_out_languages = normal_codes(self.held_out_languages)
        if self.fold not in ("all", "full") and not self.fold.isdigit():
            raise ValueError(f"--fold {self.fold}: expected all, full or a number from 0 to {self.num_folds - 1}")
        if self.fold.isdigit() and int(self.fold) >= self.num_folds:
            raise ValueError(f"--fold {self.fold}: expected a number from 0 to {self.num_folds - 1}")
        if self.eval_rows < 1:
            raise ValueError(f"--eval_rows {self.eval_rows}: expected at least 1; --eval_strategy no evaluates never")
        if not 0 <= self.random_levels <= 1:
            raise ValueError(f"--random_levels {self.random_levels}: expected a share from 0 to 1")
        if self.random_levels and self.task == "QI":
            raise ValueError("--random_levels cuts category paths: an item title has no levels; leave it out for QI")
        if self.num_folds < 2:
            raise ValueError(f"--num_folds {self.num_folds}: expected at least 2; --fold full trains on all rows")
        if self.tokens_per_forward is not None and self.tokens_per_forward < 1:
            raise ValueError(f"--tokens_per_forward {self.tokens_per_forward}: expected at least 1; 8192 suits a GPU")
        if self.task != "QC" and self.group_by != "query":
            raise ValueError(
                f"--group_by {self.group_by}: an item title has no category prefix; use query for {self.task}"
            )
        if self.global_batch_size is not None and self.global_batch_size < 1:
            raise ValueError(f"--global_batch_size {self.global_batch_size}: expected at least 1 pair a step")
        if not 0 <= self.max_missing_translations <= 1:
            found = self.max_missing_translations
            raise ValueError(f"--max_missing_translations {found}: expected a share from 0 to 1")
        tasks.mixing_exponent(self.task_mixing)
        if self.task_mixing != "proportional" and self.task != tasks.BOTH:
            raise ValueError(f"--task_mixing {self.task_mixing}: there is nothing to mix; it belongs to --task QC,QI")
        self.files()

    def files(self) -> dict[str, str]:
        """Return the file of each task.

        Raises:
            ValueError: not one file a task.
        """
        known = tasks.names(self.task)
        found = [self.train_file] if len(known) == 1 else [name.strip() for name in self.train_file.split(",")]
        if len(found) != len(known) or not all(found):
            raise ValueError(
                f"--train_file {self.train_file}: found {len(found)} files for --task {self.task}, expected one for "
                "each task in this order, as train_QC.txt,train_QI.txt"
            )
        return dict(zip(known, found, strict=True))


def metric_names(task: str) -> list[str]:
    """Return what `--metric_for_best_model` may be: figures of the watched rows, of both tasks also by task."""
    figures = ["f1", "macro_f1", "f1_at_half", "auc"]
    by_task = [f"{name}_{one}" for name in figures for one in tasks.names(task)] if task == tasks.BOTH else []
    return [*figures, *by_task, "loss"]


def accumulation(pairs: int, per_device: int, processes: int) -> int:
    """Return how many batches of a device make its share of a step of `--global_batch_size` pairs.

    Args:
        pairs: of a step, over all processes.
        per_device: `--per_device_train_batch_size`.
        processes: that train.

    Raises:
        ValueError: the pairs are no multiple of what all processes take at a time.
    """
    times, rest = divmod(pairs, per_device * processes)
    if rest == 0 and times:
        return times
    share, rest = divmod(pairs, processes)
    fitting = next((n for n in range(min(per_device, share), 0, -1) if share % n == 0), 0) if rest == 0 else 0
    way_out = f"--per_device_train_batch_size {fitting}" if fitting else "another number of processes"
    raise ValueError(
        f"--global_batch_size {pairs}: found --per_device_train_batch_size {per_device} on {processes} processes, "
        f"which is {per_device * processes} pairs at a time; expected a multiple of that: give {way_out}, or another "
        "--global_batch_size"
    )


def help_line(f) -> str:
    """Return the line of --help on one dataclass field."""
    default = f.default if f.default_factory is MISSING else f.default_factory()
    state = "required" if default is MISSING else f"default {default}"
    choices = f" [{'|'.join(f.metadata['choices'])}]" if "choices" in f.metadata else ""
    return f"  --{f.name:<26}{f.metadata['help']}{choices} ({state})"
