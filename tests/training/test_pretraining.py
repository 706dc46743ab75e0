"""A first stage on texts alone: it learns them, its adapter is where the second stage starts, and the head is new."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import train_relevance
from product_relevance.cli.info import run_lines
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.language_model import IGNORED, LanguageModel, TextCollator, encode_texts
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.training.pretraining import distinct_texts
from product_relevance.utils.run_folder import load_record, load_run
from tests.conftest import rows_of, save_base, write_rows
from tests.helpers.tiny_prompt import TEXT

TINY = "--use_cpu true --lora_r 4 --language_fix none --per_device_train_batch_size 32 --num_folds 2 --max_steps 2"
TINY += " --eval_strategy no --save_strategy no --load_best_model_at_end false --learning_rate 1e-3"
STAGE = ["--stage", "language_model"]


def train(base, file, output, *more, task: str = "QC") -> None:
    names = ["--model_name_or_path", str(base), "--train_file", str(file), "--task", task, "--output_dir", str(output)]
    train_relevance.main([*TINY.split(), *names, *more])


def refused(*arguments, **options) -> str:
    with pytest.raises(SystemExit) as stopped:
        train(*arguments, **options)
    return str(stopped.value)


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    """Records without labels, and a first stage of two folds on them."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("staged")
    base = AutoModelForCausalLM.from_pretrained(save_base(folder / "base", "qwen3"))
    base.lm_head.weight.data *= 5  # of random words so short that no state could tell them apart
    base.save_pretrained(folder / "base")
    rows = [{k: v for k, v in row.items() if k != "label"} for row in rows_of("train_QC.txt")[:120]]
    write_rows(folder / "texts.txt", rows)
    write_rows(folder / "train.txt", rows_of("train_QC.txt")[120:280])
    more = ["--max_steps", "40", "--learning_rate", "5e-3", "--logging_steps", "5"]
    train(folder / "base", folder / "texts.txt", folder / "stage", *STAGE, *more)
    return folder


def test_the_loss_on_texts_falls_below_that_of_a_blind_guess(staged):
    history = json.loads((staged / "stage/fold-0/fold.json").read_text())["history"]
    losses = [row["loss"] for row in history if "loss" in row]
    assert losses[0] > math.log(400) > losses[-1] + 0.1
    run = load_run(staged / "stage")
    assert run["stage"] == "language_model" and run["data"]["positive"] is None and "thresholds" not in run
    assert "first stage" in "\n".join(run_lines(load_record(staged / "stage")))


def test_the_loss_is_that_of_the_plain_causal_model(base_of):
    from transformers import AutoModelForCausalLM

    for kind in ("qwen3", "gemma2"):  # gemma2 caps its logits
        name = str(base_of(kind))
        tokenizer = load_tokenizer(name)
        batch = TextCollator(tokenizer.pad_token_id)(
            [{"input_ids": row} for row in encode_texts(tokenizer, ["usb kabel 2m", "red shoes"], 32)]
        )
        assert (batch["labels"][:, 0] == IGNORED).all() and (batch["labels"] != IGNORED).any()
        model = load_classifier(name, tokenizer, ClassifierOptions(language=True)).eval()
        plain = AutoModelForCausalLM.from_pretrained(name).eval()
        assert isinstance(model, LanguageModel)
        with torch.no_grad():
            assert model(**batch)["loss"].item() == pytest.approx(plain(**batch).loss.item(), abs=1e-4)


@pytest.mark.parametrize("more", [[], ["--pooling", "mean"], ["--head", "yes_no"]], ids=["auto", "mean", "yes_no"])
def test_a_second_stage_starts_from_its_adapter_under_a_new_head(more, staged, tmp_path):
    if "yes_no" in more:
        (tmp_path / "prompt.txt").write_text(TEXT)
        more = [*more, "--prompt", str(tmp_path / "prompt.txt")]
    still = ["--learning_rate", "0", *more]
    train(staged / "base", staged / "train.txt", tmp_path / "run", "--init_adapter", str(staged / "stage"), *still)
    train(staged / "base", staged / "train.txt", tmp_path / "plain", *still)
    for fold in ("fold-0", "fold-1"):
        first = load_file(staged / f"stage/{fold}/adapter_model.safetensors")
        second, plain = (load_file(tmp_path / f"{run}/{fold}/adapter_model.safetensors") for run in ("run", "plain"))
        assert all("lora_" in name for name in first) and any(value.abs().max() > 0 for value in first.values())
        for name, value in first.items():
            assert torch.equal(second[name], value) and not torch.equal(plain[name], value), name
        head = second.keys() - first.keys()
        assert bool(head) == ("yes_no" not in more) and all(torch.equal(second[n], plain[n]) for n in head)
    assert load_run(tmp_path / "run")["first_stage"]["name"] == str(staged / "stage")


def test_a_fold_reads_the_texts_of_its_own_training_rows_only(staged, tmp_path, monkeypatch):
    from product_relevance.training import pretraining

    seen = []
    monkeypatch.setattr(pretraining, "encode_texts", lambda _, texts, __: seen.append(set(texts)) or [[5, 6, 7]])
    file = staged / "train.txt"
    train(staged / "base", file, tmp_path / "stage", *STAGE)
    train(staged / "base", file, tmp_path / "run")
    oof = pd.read_parquet(tmp_path / "run/oof.parquet")
    queries = {row["id"]: row["origin_query"] for row in rows_of("train_QC.txt")}
    for fold, texts in zip(("fold-0", "fold-1"), seen, strict=True):
        held_out, trained = (
            {queries[i] for i in oof.loc[rows, "id"]} for rows in (oof["fold"] == fold, oof["fold"] != fold)
        )
        assert not texts & (held_out - trained) and len(texts & trained) > 20


def test_texts_are_read_once_and_one_by_one():
    sides = (["red cup", "red cup", "usb"], ["cups", "phones", ""])
    assert distinct_texts(sides, [0, 1, 2]) == ["red cup", "cups", "phones", "usb"]
    assert distinct_texts(sides, np.array([2])) == ["usb"]


def test_the_same_rows_in_other_folds_are_refused_as_a_first_stage(staged, tmp_path):
    train(staged / "base", staged / "train.txt", tmp_path / "stage", *STAGE, "--fold", "full")
    first = ["--init_adapter", str(tmp_path / "stage")]
    assert "saw rows" in refused(staged / "base", staged / "train.txt", tmp_path / "run", *first)


@pytest.mark.parametrize(
    ("kind", "more", "told"),
    [
        ("bert", [], "needs a causal language model, found bert"),
        ("qwen3", ["--adapter", "none"], "found --adapter none, expected lora"),
        ("qwen3", ["--head", "yes_no"], "found --head yes_no, expected classifier"),
        ("qwen3", ["--objective", "r_drop"], "reads no labels"),
        ("qwen3", ["--random_levels", "0.5"], "reads each text once and whole"),
    ],
)
def test_what_does_not_go_with_texts_alone_is_refused(kind, more, told, staged, base_of, tmp_path):
    assert told in refused(base_of(kind), staged / "texts.txt", tmp_path / "stage", *STAGE, *more)


def test_a_stage_without_a_head_scores_nothing_and_fits_no_other_base(staged, tmp_path):
    with pytest.raises(ValueError, match="--init_adapter goes on"):
        RelevanceEnsemble.from_pretrained(str(staged / "stage"))
    first = ["--init_adapter", str(staged / "stage")]
    other = save_base(tmp_path / "base", "qwen3", seed=5)
    assert "trained on another base" in refused(other, staged / "train.txt", tmp_path / "run", *first)
    shutil.copytree(staged / "stage", tmp_path / "stage")
    file = tmp_path / "stage/fold-0/adapter_model.safetensors"
    save_file(dict(list(load_file(file).items())[1:]), file)
    first = ["--init_adapter", str(tmp_path / "stage")]
    assert "1 tensors differ" in refused(staged / "base", staged / "train.txt", tmp_path / "run", *first)
