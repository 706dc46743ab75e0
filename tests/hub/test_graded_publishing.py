"""A run with grades on the Hub: its card, its manifest, its snippets, and the same scores and grades once loaded."""

import re

import numpy as np
import pytest
from huggingface_hub import ModelCard

from product_relevance import RelevanceEnsemble
from product_relevance.ensemble.published import manifest
from product_relevance.hub import publish as publishing
from product_relevance.hub import staging
from product_relevance.hub.places import StagingOptions
from product_relevance.utils.run_folder import load_run, read_json
from tests.helpers.card_runs import blocks
from tests.helpers.graded import GRADES, graded_run
from tests.helpers.serving import PAIRS
from tests.helpers.staged import BASE, NAME, base_files, base_pin

pytest_plugins = ["tests.hub.loopback.fixture"]


@pytest.fixture(scope="module")
def bert(base_of):
    return base_of("bert")


@pytest.fixture(scope="module")
def parts(bert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graded-hub") / "staged"
    return staging.stage_run(graded_run(bert), folder, NAME, StagingOptions(base=base_pin(bert)))


@pytest.fixture(scope="module")
def card(parts):
    return (parts[-1].folder / "README.md").read_text(encoding="utf-8")


def test_a_published_run_loads_with_the_same_scores_grades_and_distributions(hub, bert, parts):
    hub.put(BASE, base_files(bert))
    publishing.publish_staged(parts)
    local = RelevanceEnsemble.from_pretrained(graded_run(bert), device="cpu")
    found = RelevanceEnsemble.from_pretrained(NAME, device="cpu")
    scores = local.predict(PAIRS)
    assert np.allclose(found.predict(PAIRS), scores, atol=1e-6)
    assert (found.decide_grades(scores) == local.decide_grades(scores)).all()
    assert np.allclose(found.predict_shares(PAIRS), local.predict_shares(PAIRS), atol=1e-6)


def test_manifest_and_metrics_hold_grades_and_their_thresholds(parts, bert):
    run, folder = load_run(graded_run(bert)), parts[-1].folder
    published = manifest.read_manifest(folder, pinned=False).run
    for key in ("labels", "relevant_from", "grade_thresholds"):
        assert getattr(published, key) == run[key]
    measured = read_json(folder / "metrics.json")
    assert measured["grade_thresholds"] == run["grade_thresholds"] and measured["relevant_from"] == 2
    assert measured["out_of_fold"]["grades"]["kappa"] == run["metrics"]["grades"]["kappa"]


def test_the_card_shows_the_grades(card, bert):
    run = load_run(graded_run(bert))
    kappa = run["metrics"]["grades"]["kappa"]
    for words in (
        "from 0 to 3, with the probability of each grade",
        "| grades | 0 to 3, the best one last; from 2 up relevant |",
        f"| quadratic kappa of the grades | {kappa:.4f} |", "a new 4-label head", "`grade_probabilities`",
        ", ".join(f"{limit:.4f}" for limit in run["grade_thresholds"]), "figures/grades.png",
        "Rows from grade 2 up count as relevant",
    ):  # fmt: skip
        assert words in re.sub(" +", " ", card), words
    (found,) = [r.metric_value for r in ModelCard(card).data.eval_results if r.metric_type == "kappa"]
    assert found == kappa


def test_the_card_shows_the_measures_of_the_ranking(card, bert):
    value = load_run(graded_run(bert))["metrics"]["ranking"]["measures"]["nDCG@10"]["value"]
    assert f"| nDCG@10 of the validation rows of each query | {value:.4f} |" in re.sub(" +", " ", card)
    (found,) = [each.metric_value for each in ModelCard(card).data.eval_results if each.metric_type == "ndcg@10"]
    assert found == value


def test_the_snippets_of_the_cards_run_and_agree(parts, card, bert, capsys):
    folder = graded_run(bert)
    (code,) = blocks(card)
    exec(re.sub(rf'"{NAME}", revision="\w+"', repr(str(folder)), code), {})
    printed = capsys.readouterr().out.strip().splitlines()
    ensemble = RelevanceEnsemble.from_pretrained(folder, device="cpu")
    pairs = re.findall(r"^    \('(.*?)', [\"'](.*?)[\"']\),$", code, re.M)
    scores = ensemble.predict(pairs)
    assert [float(line.split()[0]) for line in printed] == pytest.approx(scores, abs=1e-4)
    assert [int(line.split()[2]) for line in printed] == ensemble.decide_grades(scores).tolist()
    plain = blocks((parts[0].folder / "README.md").read_text(encoding="utf-8"))[1]
    assert f"num_labels={GRADES}" in plain
    plain = re.sub(r'base, revision = ".*?", ".*?"', f"base, revision = {str(bert)!r}, None", plain)
    plain = re.sub(rf'"{NAME}-fold-0", revision="\w+"', repr(str(folder / "fold-0")), plain)
    exec(plain, {})
    last = float(capsys.readouterr().out.strip().splitlines()[-1])
    assert last == pytest.approx(ensemble.predict_folds(pairs[:1])[0, 0], abs=1e-5)
