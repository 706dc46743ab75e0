"""Every training command of README, docs and recipes trains to its end, on a tiny base of the same architecture."""

import shutil

import pytest
import transformers

import train_relevance
from product_relevance.cli.main import main as relevance
from product_relevance.training.arguments import parse_arguments
from tests.conftest import save_tokenizer, tiny_config
from tests.integration.test_commands import commands, flags_of, place, trains, words_of  # noqa: F401

# By a part of the base's name: its architecture.
KINDS = {
    "e5-small": "bert", "gemma-3": "gemma3_text", "gemma-2": "gemma2", "Qwen3": "qwen3", "xlm-roberta": "xlm-roberta",
    "bge-reranker": "xlm-roberta", "gte-": "gte",
}  # fmt: skip
TINY = (
    "--use_cpu true --bf16 false --overwrite true --num_folds 2 --max_steps 1 --eval_steps 1 --save_steps 1 --lora_r 2"
    " --folds_parallel 1"  # in turn: a CPU has no cards to count
)
STACKS = {  # teacher -> its runs, which commands before it train
    "runs/stack-qc": ["runs/e5-small-qc", "runs/gemma-3-270m-qc"],
    "runs/stack-tree": ["runs/best-small-e5", "runs/best-small"],
    "runs/stack": ["runs/best-small-e5", "runs/best-small", "runs/kernel-qc"],
}
# Those of the tutorials are trained in test_tutorials.py.
PRINTED = [line for page, line in commands() if not page.startswith("docs/tutorials/")]
# Students after all runs that a teacher may have; last what replaces a run of all folds that others start from.
PRINTED.sort(key=lambda line: 2 * ("--fold 0" in line) + ("--teacher" in line))
LINES = {" ".join(words_of(line)): words_of(line) for line in PRINTED if trains(words_of(line))}


def save_tiny(folder, kind: str):
    """Save a tiny base whose tokenizer has the answers and control tokens of the prompts that the package ships."""
    decoder = kind in ("gemma2", "gemma3_text", "qwen3")
    save_tokenizer(folder, decoder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["yes", "no", " yes", " no", "<|im_start|>", "<|im_end|>", "<think>", "</think>"])
    tokenizer.save_pretrained(folder)
    config = tiny_config(kind)
    config.vocab_size, config.max_position_embeddings = len(tokenizer), 2050
    auto = transformers.AutoModelForCausalLM if decoder else transformers.AutoModel
    auto.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def outcomes(place, tmp_path_factory):  # noqa: F811
    """Train by one command after the other in one folder, as some start from runs of others; line to its error."""
    bases, found = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("ACCELERATE_USE_CPU", "true")
        for line, words in LINES.items():
            model, *_, training = parse_arguments([*flags_of(words), "--bf16", "false"])
            kind = next(kind for part, kind in KINDS.items() if part in model.model_name_or_path)
            if kind == "gte" and not hasattr(transformers, "GteConfig"):
                continue
            if kind not in bases:
                bases[kind] = save_tiny(tmp_path_factory.mktemp(kind), kind)
            try:
                if "--fold" in words:  # the folds beside it would be of the command before, made otherwise
                    shutil.rmtree(training.output_dir, ignore_errors=True)
                for teacher in STACKS.keys() & set(words):
                    relevance(["stack", *STACKS[teacher], "--output", teacher, "--overwrite"])
                train_relevance.main([*flags_of(words), *TINY.split(), "--model_name_or_path", str(bases[kind])])
                found[line] = None
            except (SystemExit, ValueError) as error:
                found[line] = str(error)
    return found


@pytest.mark.parametrize("line", LINES)
def test_a_documented_command_trains_to_its_end(line, outcomes):
    if line not in outcomes:
        pytest.skip("transformers has no GTE before 5.19")
    assert outcomes[line] is None
