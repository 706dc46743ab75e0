"""Any two of head, objective and base learn 32 rows by heart or are refused, and so is what does not fit."""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, PrinterCallback, TrainerCallback, TrainingArguments

from product_relevance.data.arguments import DataArguments
from product_relevance.models.adapters import add_adapter
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.prompt_tokens import use_prompt
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.models.predictor import predict_logits
from product_relevance.text.prompt import Prompt
from product_relevance.training.arguments import OBJECTIVES, ObjectiveArguments, parse_arguments
from product_relevance.training.batches.dataset import PairDataset
from product_relevance.training.run_config import RunConfig
from product_relevance.training.trainer import make_trainer
from tests.conftest import rows_of, save_tokenizer, tiny_config
from tests.helpers.pairwise import pairwise

ENCODERS = ("xlm-roberta", "bert")  # multilingual-e5-small is a BERT
DECODERS = ("gemma2", "gemma3_text", "qwen2", "qwen3")
HEADS = ("auto", "mean", "pair", "yes_no")
SHORTEST = sorted(rows_of("train_QC.txt"), key=lambda row: len(row["origin_query"] + row["category_path"]))
ROWS = [row for label in (0, 1) for row in [row for row in SHORTEST if int(row["label"]) == label][:16]]
LABELS = np.array([int(row["label"]) for row in ROWS])
SHORT = Prompt("short", "{query}\n{target}\n{y/n}\n")
LENGTH = 40
SEED = 0


@pytest.fixture(scope="module")
def base_of(tmp_path_factory):
    """Return a function from an architecture to a random base whose tokens differ enough to be learnt fast."""
    made = {}

    def get(kind: str) -> str:
        if kind not in made:
            torch.manual_seed(0)
            folder, config = tmp_path_factory.mktemp("bases") / kind, tiny_config(kind)
            config.initializer_range = 0.2
            auto = AutoModelForCausalLM if kind in DECODERS else AutoModel
            auto.from_config(config).save_pretrained(folder)
            save_tokenizer(folder, kind in DECODERS)
            made[kind] = str(folder)
        return made[kind]

    return get


class StopWhenLearnt(TrainerCallback):
    def __init__(self, objective):
        # the loss of early_learning falls below 0 before the rows are known
        self.limit = -2.0 if objective == "early_learning" else 0.05

    def on_log(self, args, state, control, logs=None, **_):
        control.should_training_stop = logs.get("loss", 1.0) < self.limit


def classifier(base: str, head: str, dropout: float = 0.0):
    """Load a base with one of the four heads, and tokenise the rows for it."""
    tokenizer = load_tokenizer(base)
    answers = use_prompt(tokenizer, SHORT, "QC", LENGTH) if head == "yes_no" else None
    pooling = "auto" if head == "yes_no" else head
    model = load_classifier(base, tokenizer, ClassifierOptions(pooling=pooling, answers=answers, dropout=dropout))
    sides = [(row["origin_query"], row["category_path"]) for row in ROWS]
    if answers:
        sides = [SHORT.sides(*pair) for pair in sides]
    return tokenizer, model, encode_pairs(tokenizer, *zip(*sides, strict=True), LENGTH)


def config_of(objective: ObjectiveArguments, training: TrainingArguments) -> RunConfig:
    return RunConfig(ModelArguments("base"), DataArguments(train_file="train_QC.txt", task="QC"), objective, training)


def options(folder, **changes) -> TrainingArguments:
    fixed = {"output_dir": str(folder), "max_steps": 90, "per_device_train_batch_size": 32, "learning_rate": 1e-2}
    fixed |= {"lr_scheduler_type": "linear", "use_cpu": True, "report_to": "none", "save_strategy": "no"}
    fixed |= {"logging_steps": 1, "disable_tqdm": True, "remove_unused_columns": False, "weight_decay": 0.0}
    return TrainingArguments(**(fixed | {"train_sampling_strategy": "group_by_length"} | changes))


def objective_of(name: str) -> ObjectiveArguments:
    return ObjectiveArguments(objective=name, teacher="x" if name == "distill" else None, dpo_beta=1.0)


def refused_because(kind: str, head: str, objective: str) -> str | None:
    if head == "yes_no" and kind in ENCODERS:
        return "needs a causal language model.*use --head classifier"
    if head == "pair" and kind in DECODERS:
        return "needs an encoder .*use auto or mean"
    if objective == "dpo" and head != "yes_no":
        return "use --head yes_no and --adapter lora"
    return None


def trained(base, head, objective, folder):
    torch.manual_seed(SEED)  # of the head and of LoRA, whatever ran before
    tokenizer, model, ids = classifier(base, head)
    dropout = 0.1 if objective == "r_drop" else 0.0
    model = add_adapter(model, ModelArguments(base, lora_r=8, lora_dropout=dropout))
    teacher = np.where(LABELS == 1, 0.99, 0.01) if objective == "distill" else None
    rows = PairDataset(ids, LABELS, teacher=teacher)
    fitter = make_trainer(model, tokenizer, rows, None, config_of(objective_of(objective), options(folder)))
    fitter.pop_callback(PrinterCallback)
    fitter.add_callback(StopWhenLearnt(objective))
    fitter.train()
    losses = [entry["loss"] for entry in fitter.state.log_history if "loss" in entry]
    return losses, predict_logits(fitter.model, ids, tokenizer.pad_token_id)


PRODUCT = list(product(ENCODERS + DECODERS, HEADS, OBJECTIVES))
REFUSED = [combination for combination in PRODUCT if refused_because(*combination)]
TRAINABLE = [combination for combination in PRODUCT if not refused_because(*combination)]
TRAINED = pairwise(TRAINABLE)


@pytest.mark.parametrize(("kind", "head", "objective"), TRAINED)
def test_a_combination_learns_32_rows_by_heart(kind, head, objective, base_of, tmp_path):
    losses, logits = trained(base_of(kind), head, objective, tmp_path)
    assert losses[-1] < 0.5 * losses[0], losses
    assert ((logits[:, 1] > logits[:, 0]) == LABELS).mean() > 0.9


@pytest.mark.parametrize(("kind", "head", "objective"), REFUSED)
def test_a_combination_that_cannot_be_says_why_not(kind, head, objective, base_of, tmp_path):
    with pytest.raises(ValueError, match=refused_because(kind, head, objective)):
        trained(base_of(kind), head, objective, tmp_path)


def test_any_two_values_that_can_be_trained_together_are():
    wanted = {pair for combination in TRAINABLE for pair in combinations(enumerate(combination), 2)}
    assert wanted == {pair for combination in TRAINED for pair in combinations(enumerate(combination), 2)}
    assert {*ENCODERS, *DECODERS, *HEADS, *OBJECTIVES} == {value for combination in TRAINED for value in combination}


def parsed(*flags):
    return parse_arguments(
        ["--model_name_or_path", "x", "--task", "QC", "--train_file", "f", "--use_cpu", "true", *flags]
    )


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--head yes_no --pooling mean", "--pooling mean: --head yes_no reads the last token"),
        ("--head yes_no --pooling pair", "--pooling pair: --head yes_no reads the last token"),
        ("--prompt plain", "--prompt and --chat_template belong to --head yes_no"),
        ("--chat_template true", "--prompt and --chat_template belong to --head yes_no"),
        ("--objective distill", "--objective distill and --teacher RUN go together"),
        ("--teacher runs/x", "--objective distill and --teacher RUN go together"),
        ("--objective r_drop --teacher runs/x", "--objective distill and --teacher RUN go together"),
        ("--unlabelled_file f.txt", "--unlabelled_file needs a teacher"),
        ("--objective r_drop --unlabelled_file f.txt", "--unlabelled_file needs a teacher"),
        ("--objective distill --teacher runs/x --teacher_share 0", "expected more than 0, and 1 at most"),
        ("--objective r_drop --r_drop_strength 0", "expected more than 0"),
        ("--objective dpo --dpo_beta 0", "expected more than 0"),
        ("--class_weights balanced", "classes have no weights"),
        ("--adapter none --lora_layers 2", "--lora_layers 2: expected at least 1, and --adapter lora"),
        ("--adapter none --quantization nf4", "a frozen base only; take --adapter lora"),
        ("--quantization nf4 --init_lora_weights pissa", "moves a part of the base into the adapter"),
        ("--lora_r 0", "--adapter none trains all weights"),
        ("--dtype int8", "expected auto, bfloat16, float16 or float32"),
        ("--dtype bfloat16", "give --bf16 true"),
        ("--dtype bfloat16 --adapter none --bf16 true", "kept in 16 bits"),
        ("--eval_rows 0", "--eval_strategy no"),
        ("--base_dropout 1", "expected from 0 up to, not including, 1"),
        ("--max_length 4", "expected at least 8 tokens"),
        ("--fold 3", "expected a number from 0 to 2"),
        ("--fold some", "expected all, full or a number"),
        ("--num_folds 1", "--fold full trains on all rows"),
        ("--random_levels 1.5", "expected a share from 0 to 1"),
        ("--task QI --random_levels 0.5", "an item title has no levels"),
        ("--task QI --group_by prefix", "an item title has no category prefix"),
        ("--task QC,QI", "found 1 files for --task QC,QI"),
        ("--task_mixing equal", "there is nothing to mix"),
        ("--tokens_per_forward 0", "expected at least 1"),
        ("--hub_token abc", "set HF_TOKEN"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused_with_the_way_out(flags, told):
    with pytest.raises(ValueError, match=told):
        parsed(*flags.split())


@pytest.mark.parametrize(
    "flags",
    [
        "--head yes_no --prompt breakdown --chat_template true",
        "--head yes_no --objective dpo --dpo_beta 0.5",
        "--objective distill --teacher runs/x --teacher_share 1 --unlabelled_file f.txt",
        "--objective r_drop --label_smoothing_factor 0.1",
        "--adapter none --pooling pair --base_dropout 0",
        "--use_dora true --use_rslora true --init_lora_weights gaussian",
        "--random_levels 0.3 --path_style leaf_first --fold full",
        "--held_out_languages de pl --language_tag true",
    ],
)
def test_flags_that_fit_together_are_taken(flags):
    assert len(parsed(*flags.split())) == 4


@pytest.mark.parametrize(
    ("head", "flags", "changes", "told"),
    [
        ("auto", {"objective": "r_drop"}, {}, "give --lora_dropout or --base_dropout"),
        ("yes_no", {"objective": "dpo"}, {"label_smoothing_factor": 0.1}, "dpo has no labels to smooth"),
        ("yes_no", {"objective": "dpo", "adapter": "none"}, {}, "use --head yes_no and --adapter lora"),
    ],
)
def test_what_only_the_model_can_tell_is_refused_before_training(head, flags, changes, told, base_of, tmp_path):
    base = base_of("qwen3")
    tokenizer, model, ids = classifier(base, head)
    if flags.pop("adapter", "lora") == "lora":
        model = add_adapter(model, ModelArguments(base, lora_r=2, lora_dropout=0.0))
    with pytest.raises(ValueError, match=told):
        chosen = ObjectiveArguments(**flags)
        make_trainer(model, tokenizer, PairDataset(ids, LABELS), None, config_of(chosen, options(tmp_path, **changes)))
