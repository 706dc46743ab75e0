"""Yes/no scoring: two logits of a whole language model, trained, resumed, stored, exported with the same scores."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import train_relevance
from product_relevance import RelevanceEnsemble
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.ensemble.published import manifest
from product_relevance.evaluation.probabilities import to_probabilities
from product_relevance.models.adapters import add_adapter
from product_relevance.models.arguments import ModelArguments
from product_relevance.models.batching import pad_rows
from product_relevance.models.classifier_options import ClassifierOptions
from product_relevance.models.heads.prompt_tokens import use_prompt
from product_relevance.models.modeling import load_classifier, load_tokenizer
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.models.predictor import predict_logits
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.transformers_export import export_classifier
from product_relevance.text.prompt import load_prompt
from product_relevance.utils.run_record import FinishedRunRecord
from tests.helpers.tiny_prompt import PAIRS, PROMPT, ROWS, TEXT, arguments, encoded, save_strong_base, write_inputs

KINDS = ["qwen2", "qwen3", "gemma2", "gemma3_text"]


@pytest.fixture(scope="session")
def strong_of(tmp_path_factory):
    """Return a function from an architecture to a random base whose logits are far from zero."""
    made = {}

    def get(kind: str):
        if kind not in made:
            made[kind] = save_strong_base(tmp_path_factory.mktemp("strong"), kind)
        return made[kind]

    return get


def prepared(folder, prompt=PROMPT, max_length=96, **options):
    tokenizer = load_tokenizer(str(folder))
    answers = use_prompt(tokenizer, prompt, "QC", max_length)
    model = load_classifier(str(folder), tokenizer, ClassifierOptions(answers=answers, **options))
    return tokenizer, answers, model.eval()


def by_hand(folder, ids, answers):
    """Softmax over two of the logits that the whole language model gives at the last position of one row."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = [model(input_ids=torch.tensor([row])).logits[0, -1] for row in ids]
    return torch.stack(logits)[:, [answers.no, answers.yes]]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_a_hand_computation_over_the_whole_vocabulary(kind, strong_of):
    tokenizer, answers, model = prepared(strong_of(kind))
    assert tokenizer.convert_ids_to_tokens(answers[:2]) == ["n", "y"]
    ids = encoded(tokenizer)
    logits = predict_logits(model, ids, tokenizer.pad_token_id)
    expected = by_hand(strong_of(kind), ids, answers)
    assert np.allclose(logits, expected, rtol=1e-5, atol=1e-4)
    assert np.allclose(to_probabilities(logits), expected.softmax(-1)[:, 1], atol=1e-5)
    assert np.ptp(logits[:, 1] - logits[:, 0]) > 0.5  # the rows do differ
    if kind == "gemma2":
        model.cap = None
        assert not np.allclose(predict_logits(model, ids, tokenizer.pad_token_id), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_alone_has_the_score_it_has_in_a_batch_whatever_the_padding(kind, strong_of):
    tokenizer, _, model = prepared(strong_of(kind))
    ids = encoded(tokenizer)
    together = predict_logits(model, ids, tokenizer.pad_token_id)
    assert np.allclose([predict_logits(model, [row], 1)[0] for row in ids], together, atol=1e-3)
    batch = {name: value.flip(1) for name, value in pad_rows([row[::-1] for row in ids], 1).items()}
    assert batch["attention_mask"][:, 0].sum() < len(ids)  # padded on the left
    with torch.inference_mode():
        assert np.allclose(model(**batch).logits, together, atol=1e-3)


def test_the_vocabulary_is_left_behind_and_nothing_new_is_learnt(strong_of):
    _, _, model = prepared(strong_of("qwen3"))  # its output embedding is a matrix of its own
    assert [name for name, value in model.named_parameters() if 400 in value.shape] == ["model.embed_tokens.weight"]
    model = add_adapter(model, ModelArguments("x", lora_r=2))
    assert all("lora_" in name for name, value in model.named_parameters() if value.requires_grad)


@pytest.mark.parametrize("kind", KINDS)
def test_each_family_overfits_32_rows(kind, strong_of):
    tokenizer, _, model = prepared(strong_of(kind))
    labels = torch.tensor([row["label"] for row in ROWS[:32]])
    assert 0.2 < labels.float().mean() < 0.8
    batch = pad_rows(encoded(tokenizer, PAIRS[:32]), tokenizer.pad_token_id) | {"labels": labels}
    torch.manual_seed(0)
    model = add_adapter(model, ModelArguments("x", lora_r=8, lora_dropout=0.0)).train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        found = model(**batch)
        found.loss.backward()
        optimizer.step()
        if found.loss < 0.05:
            break
    assert (found.logits.argmax(1) == labels).all() and found.loss < 0.1


def test_gradient_checkpointing_gives_the_same_gradients(base_of):
    tokenizer, _, model = prepared(base_of("gemma3_text"))
    batch = pad_rows(encoded(tokenizer, PAIRS[:4]), 1) | {"labels": torch.tensor([0, 1, 1, 0])}
    torch.manual_seed(0)
    model = add_adapter(model, ModelArguments("x", lora_r=2, lora_dropout=0.0)).train()

    def gradients():
        model.zero_grad()
        model(**batch).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.requires_grad]

    plain = gradients()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(plain, gradients(), strict=True))


def test_bases_that_are_no_language_model_are_refused(base_of):
    tokenizer, answers, _ = prepared(base_of("qwen3"))
    with pytest.raises(ValueError, match="needs a causal language model, found bert"):
        load_classifier(str(base_of("bert")), tokenizer, ClassifierOptions(answers=answers))


@pytest.mark.parametrize(
    "flags, told", [({"head": "yes_no", "pooling": "mean"}, "--pooling"), ({"prompt": "plain"}, "belong to --head")]
)
def test_arguments_that_do_not_fit_the_head_are_refused(flags, told):
    with pytest.raises(ValueError, match=told):
        ModelArguments("x", **flags)


@pytest.fixture(scope="module")
def run(strong_of, tmp_path_factory):
    """Two folds of a base with an output embedding of its own; their prompt file has changed since."""
    folder = tmp_path_factory.mktemp("yes_no")
    write_inputs(folder)
    train_relevance.main(arguments(strong_of("qwen3"), folder))
    (folder / "own.txt").write_text("Other: {query}\n{target}\n{a/s}")
    return folder / "run"


def test_a_loaded_run_gives_its_out_of_fold_scores_whatever_became_of_the_prompt_file(run):
    stored = json.loads((run / "run.json").read_text())["template"]["prompt"]
    assert stored == {"name": "own", "text": TEXT, "chat": False}
    ensemble, rows = RelevanceEnsemble.from_pretrained(run, device="cpu"), {row["id"]: row for row in ROWS}
    for k in (0, 1):
        oof = pd.read_parquet(run / f"fold-{k}/oof.parquet")
        pairs = [(rows[i]["origin_query"], rows[i]["category_path"]) for i in oof["id"]]
        assert np.allclose(ensemble.predict_folds(pairs)[:, k], oof["score"], atol=2e-5)


def test_a_run_with_another_prompt_takes_no_folds_of_this_one(run, strong_of):
    with pytest.raises(SystemExit, match="trained with template"):
        train_relevance.main(arguments(strong_of("qwen3"), run.parent, "--fold", "0", "--overwrite", "true"))


def test_resumed_equals_uninterrupted(run, strong_of, tmp_path):
    shutil.copytree(run / "checkpoints/fold-0/checkpoint-6", tmp_path / "run/checkpoints/fold-0/checkpoint-6")
    shutil.copy(run.parent / "train_QC.txt", tmp_path)
    (tmp_path / "own.txt").write_text(TEXT)
    train_relevance.main(arguments(strong_of("qwen3"), tmp_path, "--fold", "0", "--resume_from_checkpoint", "last"))
    one, two = (load_file(folder / "fold-0/adapter_model.safetensors") for folder in (run, tmp_path / "run"))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_an_adapter_fits_the_plain_causal_model(run, strong_of):
    from peft import PeftModel

    ensemble = RelevanceEnsemble.from_pretrained(run, device="cpu")
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(strong_of("qwen3")), run / "fold-0").eval()
    texts, targets = ensemble.encoder.template.render(*zip(*PAIRS[:5], strict=True))
    answers = use_prompt(load_tokenizer(str(strong_of("qwen3"))), PROMPT, "QC", 96)
    with torch.inference_mode():
        rows = [torch.tensor([row]) for row in encode_pairs(ensemble.encoder.tokenizer, texts, targets, 96)]
        logits = torch.cat([model(input_ids=row).logits[:, -1, [answers.no, answers.yes]] for row in rows])
    assert np.allclose(ensemble.predict_folds(PAIRS[:5])[:, 0], logits.softmax(-1)[:, 1], atol=1e-5)


def test_an_export_is_a_classifier_with_one_label_and_the_same_scores(run, tmp_path):
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    print(export_classifier(str(run), str(tmp_path / "out"), ExportOptions(fold="fold-1")))
    ensemble = RelevanceEnsemble.from_pretrained(run, device="cpu")
    texts, targets = ensemble.encoder.template.render(*zip(*PAIRS[:20], strict=True))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    batch = tokenizer(texts, targets, truncation=True, padding=True, return_tensors="pt")
    with torch.inference_mode():
        scores = model(**batch).logits.sigmoid()[:, 0]
    assert np.allclose(scores, ensemble.predict_folds(PAIRS[:20])[:, 1], atol=1e-4)
    assert model.config.id2label == {0: "relevant"}


def test_capped_logits_are_no_linear_head(strong_of):
    _, _, model = prepared(strong_of("gemma2"))
    with pytest.raises(ValueError, match="gemma2 caps each answer's logit at 30.0"):
        model.as_classifier()


def test_a_published_run_keeps_its_prompt_to_the_letter(run):
    content = json.loads((run / "run.json").read_text())
    content["base"] |= {"name": "tester/base", "revision": "b" * 40}
    content["template"]["prompt"]["text"] = "</think> a/b {query}\n{target}\n{y/n}"
    assert manifest.public_run(FinishedRunRecord.from_json(content)).template == content["template"]


def test_reasoning_is_what_the_model_writes_greedily_before_the_forced_answer(run, strong_of):
    ensemble = RelevanceEnsemble.from_pretrained(run, device="cpu", loading=LoadingArguments(reasoning_tokens=3))
    ensemble.fold_models.select("fold-1")
    texts, targets = ensemble.encoder.template.render(*zip(*PAIRS[:6], strict=True))
    ids = encode_pairs(ensemble.encoder.tokenizer, texts, targets, 96)
    stem = use_prompt(load_tokenizer(str(strong_of("qwen3"))), PROMPT, "QC", 96).stem
    whole = ensemble.model.get_base_model()._writer[0]
    expected = []
    for row in ids:
        row = row[: -len(stem)]
        for _ in range(3):
            with torch.inference_mode():
                following = whole(input_ids=torch.tensor([row])).logits[0, -1].argmax().item()
            if following in (1, 2):  # a pad or an end
                break
            row = [*row, following]
        expected.append([*row, *stem])
    assert ensemble.model.reason(ids, 1, 3) == expected
    plain = RelevanceEnsemble.from_pretrained(run, device="cpu")
    assert not np.allclose(ensemble.predict(PAIRS[:6]), plain.predict(PAIRS[:6]), atol=1e-3)


def test_reasoning_without_a_place_for_it_is_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    content = json.loads((run / "run.json").read_text())
    content["template"]["prompt"]["text"] = "{query}\n{target}\nRight?\n{y/n}"
    (tmp_path / "run/run.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="--reasoning_tokens needs .*{reasoning}"):
        RelevanceEnsemble.from_pretrained(tmp_path / "run", device="cpu", loading=LoadingArguments(reasoning_tokens=5))


@pytest.mark.embedded
def test_a_real_language_model_answers_yes_or_no():
    try:
        tokenizer, answers, model = prepared("embedded:gemma-3-270m", load_prompt("plain"))
    except ValueError as error:
        pytest.skip(str(error))
    assert tokenizer.convert_ids_to_tokens(answers[:2]) == ["▁no", "▁yes"]
    ids = encoded(tokenizer, PAIRS[:2], load_prompt("plain"))
    found = predict_logits(model, ids, tokenizer.pad_token_id)
    from product_relevance.models.loading.packaged_bases import resolve_base

    assert np.allclose(found, by_hand(resolve_base("embedded:gemma-3-270m"), ids, answers), atol=1e-3)
