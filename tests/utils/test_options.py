"""Flags of all programs: lists take commas, an unknown name gets the nearest of ours or what replaced it."""

import re
import subprocess
import sys
from dataclasses import dataclass

import pytest

from product_relevance.cli.main import make_parser
from product_relevance.training.arguments import parse_arguments
from product_relevance.utils.options import Parser, RaisingParser, option, read_options
from product_relevance.utils.other_names import suggest_name
from tests.conftest import ROOT

NEEDED = ["--model_name_or_path", "x", "--task", "QC", "--train_file", "t", "--use_cpu", "true"]


@dataclass
class Options:
    """Options of a program."""

    names: list[str] = option([], "of things")
    numbers: list[float] = option([], "of things")
    overwrite: bool = option(False, "replace")


def trained_with(*flags: str):
    return parse_arguments([*NEEDED, *flags])


@pytest.mark.parametrize("flags", [["--names", "a,b", "c"], ["--names=a,b,c"], ["--names", "a, b,", "c"]])
def test_a_list_flag_of_a_program_takes_commas(flags):
    parser = Parser((Options,))
    assert parser.parse_args(flags).names == ["a", "b", "c"]


def test_a_text_of_a_list_without_a_comma_stays_as_it_is():
    assert read_options((Options,), {"names": ["q: ", "t: "]}, "here")["names"] == ["q: ", "t: "]


def test_numbers_behind_commas_are_read_as_numbers():
    parser = Parser((Options,))
    assert parser.parse_args(["--numbers", "0.5,2"]).numbers == [0.5, 2.0]


@pytest.mark.parametrize("value", ["a,b", "a b", "a, b", ["a", "b"]])
def test_a_list_of_a_recipe_may_be_one_text(value):
    assert read_options((Options,), {"names": value}, "here")["names"] == ["a", "b"]


@pytest.mark.parametrize(
    "flags", [["--lora_target_modules", "q_proj,v_proj"], ["--lora_target_modules=q_proj,v_proj"]]
)
def test_a_list_flag_of_training_takes_commas(flags):
    assert trained_with(*flags)[0].lora_target_modules == ["q_proj", "v_proj"]


@pytest.mark.parametrize("text", ["q_proj,v_proj", "q_proj v_proj"])
def test_a_list_of_a_training_recipe_may_be_one_text(tmp_path, text):
    (tmp_path / "r.yaml").write_text(f"lora_target_modules: {text}\n")
    assert parse_arguments([str(tmp_path / "r.yaml"), *NEEDED])[0].lora_target_modules == ["q_proj", "v_proj"]


@pytest.mark.parametrize("values", [["wandb,tensorboard"], ["wandb", "tensorboard"]])
def test_a_list_of_the_trainer_takes_commas_and_spaces(values):
    from transformers import TrainingArguments

    flags = ["--output_dir", "x", "--use_cpu", "true", "--report_to", *values]
    parser = RaisingParser((TrainingArguments,))
    (found,) = parser.parse_dict(vars(parser.parse_args(flags)))
    assert found.report_to == ["wandb", "tensorboard"]


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--lora_rank", "here it is --lora_r"),
        ("--lora-rank", "here it is --lora_r"),
        ("--overwrite_output_dir", "here it is --overwrite"),
        ("--num_labels=2", "there are always two labels"),
        ("--seed_everything", "here it is --seed"),
        ("--lora_dropout_rate", "here it is --lora_dropout"),
        ("--evaluation_strategy", "here it is --eval_strategy"),
        ("--warmup_ratio", "here it is --warmup_steps, which takes a share"),
        ("--max_seq_length", "here it is --max_length"),
        ("--validation_file", "each fold validates on rows of the training file"),
        ("--lora_alfa", r"did you mean --lora_alpha\?"),
        ("--learning_rat", r"did you mean --learning_rate\?"),
    ],
)
def test_an_unknown_flag_of_training_gets_ours_or_the_reason(flag, told):
    with pytest.raises(ValueError, match=f"unknown flag {flag.split('=')[0]}.*; {told}"):
        trained_with(flag, "1")


def test_the_same_names_are_told_to_a_recipe(tmp_path):
    (tmp_path / "r.yaml").write_text("lora_rank: 8\n")
    with pytest.raises(ValueError, match="unknown key 'lora_rank'; here it is lora_r$"):
        parse_arguments([str(tmp_path / "r.yaml"), *NEEDED])


def test_of_two_near_names_ours_comes_first():
    assert suggest_name("lora_rang", ["local_rank", "lora_r"], first=["lora_r"]) == "; did you mean lora_r?"


def test_a_nearer_name_of_the_trainer_wins_over_a_far_one_of_ours():
    assert suggest_name("eval_stepz", ["eval_rows", "eval_steps"], first=["eval_rows"]) == "; did you mean eval_steps?"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["predict", "run", "file", "--outptu", "x"], r"unknown flag --outptu; did you mean --output\?"),
        (["predict", "run", "file", "--batch_size", "8"], "unknown flag --batch_size; batches are made by tokens"),
        (["serve", "run", "--max-concurrent-requests", "8"], "here it is --max_queue"),
        (["evaluate", "run", "file", "--zzz"], r"unknown flag --zzz$"),
    ],
)
def test_an_unknown_flag_of_a_subcommand_gets_that_commands_own(command, told, capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args(command)
    assert re.search(told, capsys.readouterr().err.strip())


def test_what_follows_two_dashes_is_no_flag():
    parser = Parser()
    parser.add_argument("file")
    assert parser.parse_args(["--", "--names"]).file == "--names"


def test_a_flag_that_is_cut_short_is_known():
    parser = Parser((Options,))
    assert parser.parse_args(["--over"]).overwrite is True


def test_every_parser_of_the_project_suggests():
    folders = (ROOT / name for name in ("dataset_scripts", "benchmarks", "product_relevance"))
    sources = [*ROOT.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    plain = [p.name for p in sources if re.search(r"(argparse\.|[^\w.]Hf)ArgumentParser\(", p.read_text())]
    assert plain == []


def test_a_truth_flag_stands_before_an_argument_without_a_flag_or_takes_a_value():
    parser = Parser((Options,))
    parser.add_argument("file")
    for words, value in ((["--overwrite", "x.txt"], True), (["--overwrite", "no", "x.txt"], False)):
        found = parser.parse_args(words)
        assert (found.overwrite, found.file) == (value, "x.txt")


def test_dashes_stand_for_underscores_in_every_program():
    command = ["predict", "run", "file", "--output", "x", "--chunk-rows", "7"]
    assert make_parser().parse_args(command).chunk_rows == 7


def test_a_namespace_holds_what_was_given_and_the_dataclass_has_the_rest():
    parser = Parser((Options,))
    given = vars(parser.parse_args(["--names", "a"]))
    assert given == {"names": ["a"]} and parser.parse_dict(given) == (Options(names=["a"]),)


def test_two_values_of_a_pair_are_asked_for():
    @dataclass
    class Paired:
        band: tuple[float, float] | None = option(None, "least and greatest")

    assert read_options((Paired,), {"band": [0.5, 1]}, "here") == {"band": [0.5, 1.0]}
    with pytest.raises(ValueError, match="here: argument --band: expected 2 arguments"):
        read_options((Paired,), {"band": [0.5]}, "here")


def test_an_empty_list_and_false_of_a_recipe_are_values_and_null_is_none():
    options = {"names": [], "overwrite": False, "numbers": None}
    assert read_options((Options,), options, "here") == {"names": [], "overwrite": False}


@pytest.mark.parametrize(
    "words", [["train_relevance.py"], ["push_to_hub.py"], ["dataset_scripts/augment.py", "noise"]]
)
def test_help_answers_without_transformers(words):
    code = "import runpy, sys; sys.argv = sys.argv[1:]\ntry: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    code += "except SystemExit: pass\nassert not {'transformers', 'torch'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code, *words, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "usage: " in done.stdout, done.stderr
