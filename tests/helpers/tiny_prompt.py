"""A prompt whose answers are single tokens of the tiny tokenizer, pairs for it, and a training on both."""

from pathlib import Path

from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.text.prompt import Prompt
from tests.conftest import rows_of, save_tokenizer, tiny_config, write_rows

TEXT = "Search: {query}\nEnglish: {translation}\nFound {target_kind}: {target}\nSteps:{reasoning}\nRight?\n{y/n}\n"
PROMPT = Prompt("test", TEXT)
ROWS = rows_of("train_QC.txt")[:240]
PAIRS = [(row["origin_query"], row["category_path"]) for row in ROWS]


def encoded(tokenizer, pairs=PAIRS[:24], prompt=PROMPT, max_length=96):
    """Tokenise pairs with a tokenizer that stands in a prompt."""
    sides = [prompt.sides(text, target) for text, target in pairs]
    return encode_pairs(tokenizer, *zip(*sides, strict=True), max_length)


def save_strong_base(folder: Path, kind: str) -> Path:
    """Save a random language model whose logits are far from zero."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = tiny_config(kind)
    config.initializer_range, config.tie_word_embeddings = 0.4, kind != "qwen3"
    if kind == "gemma3_text":
        config.sliding_window = 64  # through two such layers the last token still sees the query
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    save_tokenizer(folder, decoder=True)
    return folder


def write_inputs(folder: Path) -> None:
    """Write the records and the prompt file that `arguments` name."""
    write_rows(folder / "train_QC.txt", ROWS)
    (folder / "own.txt").write_text("# a remark\n" + TEXT)


def arguments(base: Path, folder: Path, *more: str) -> list[str]:
    """Flags of a training with the inputs of a folder and its run in it."""
    fixed = "--task QC --use_cpu true --max_steps 12 --eval_steps 6 --save_steps 6 --lora_r 4 --num_folds 2"
    fixed += " --per_device_train_batch_size 16 --learning_rate 1e-2 --lora_dropout 0.1 --language_fix none"
    fixed += " --head yes_no --max_length 96 --keep_checkpoints true"
    names = ["--model_name_or_path", str(base), "--prompt", str(folder / "own.txt")]
    names += ["--train_file", str(folder / "train_QC.txt"), "--output_dir", str(folder / "run")]
    return [*fixed.split(), *names, *more]
