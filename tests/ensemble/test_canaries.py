"""Canaries: they score alike where nothing changed, and notice what did."""

import copy
import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from product_relevance import RelevanceEnsemble
from product_relevance.ensemble.published import canaries
from product_relevance.ensemble.published.canaries import CanaryScores
from product_relevance.text.languages import LANGUAGES
from tests.helpers.published import PAIRS, tiny_run


@pytest.fixture(scope="module")
def ensemble(base_of, tmp_path_factory):
    run = tiny_run(base_of("qwen3"), tmp_path_factory.mktemp("canaries"))
    return RelevanceEnsemble.from_pretrained(run, device="cpu")


@pytest.mark.parametrize("task", ["QC", "QI"])
def test_the_canaries_are_a_few_pairs_in_several_languages(task):
    rows = canaries.canary_pairs(task)
    assert len(rows) == len(set(rows)) == 8
    assert {code for *_, code in rows} <= LANGUAGES.keys() and len({code for *_, code in rows}) >= 6


def test_a_measurement_is_what_predict_gives_and_passes_its_own_check(ensemble):
    found = canaries.measure_canaries(ensemble)
    pairs = [(query, target) for query, target, _ in found.pairs]
    assert np.allclose(found.scores, ensemble.predict(pairs, [code for *_, code in found.pairs]), atol=1e-7)
    assert found.dtype == "float32" and list(found.folds) == ["fold-0", "fold-1", "fold-2"]
    assert CanaryScores(**json.loads(json.dumps(asdict(found), allow_nan=False))) == found
    canaries.check_canaries(ensemble, found)


def moved(found: CanaryScores, by: float, **changes) -> CanaryScores:
    found = replace(copy.deepcopy(found), **changes)
    found.folds["fold-1"][3] += by
    return found


def test_a_score_that_moved_is_named_with_its_fold(ensemble):
    found = canaries.measure_canaries(ensemble)
    canaries.compare_canaries(found, moved(found, 9e-4))
    with pytest.raises(ValueError, match="canary 3 of fold-1: scored .* as float32, expected"):
        canaries.compare_canaries(found, moved(found, 2e-3))
    with pytest.raises(ValueError, match="canary 3 of fold-1"):
        canaries.compare_canaries(moved(found, float("nan")), found)


def test_sixteen_bits_may_move_a_score_further_but_not_any_distance(ensemble):
    found = canaries.measure_canaries(ensemble)
    canaries.compare_canaries(found, moved(found, 4e-2, dtype="bfloat16"))
    canaries.compare_canaries(replace(found, dtype="bfloat16"), moved(found, 4e-2, dtype="bfloat16"))
    with pytest.raises(ValueError, match="as bfloat16 within 0.05"):
        canaries.compare_canaries(found, moved(found, 6e-2, dtype="bfloat16"))


def test_other_folds_are_refused(ensemble):
    found = canaries.measure_canaries(ensemble)
    with pytest.raises(ValueError, match="found folds .*fold-2.*expected"):
        canaries.compare_canaries(found, replace(found, folds={"fold-0": found.folds["fold-0"]}))


@pytest.mark.parametrize(
    "change", [{"lowercase": True}, {"path_style": "leaf_first"}, {"language_tag": True, "language_fix": "none"}]
)
def test_a_changed_template_changes_a_canary(ensemble, change, monkeypatch):
    expected = canaries.measure_canaries(ensemble)
    other = type(ensemble.encoder.template).from_dict(ensemble.encoder.template.to_dict() | change)
    monkeypatch.setattr(ensemble, "encoder", replace(ensemble.encoder, template=other))
    with pytest.raises(ValueError, match="template"):
        canaries.check_canaries(ensemble, expected)


def test_disagreement_is_the_largest_distance():
    assert canaries.largest_difference([0.1, 0.5, 0.9], [0.2, 0.5, 0.6]) == pytest.approx(0.3)
    assert len(PAIRS) == 40
