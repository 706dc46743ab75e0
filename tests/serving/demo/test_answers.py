"""What the demo page answers is what the ensemble says, and what it cannot answer is said in one sentence."""

import numpy as np
import pytest

from product_relevance import RelevanceEnsemble
from product_relevance.serving.demo.answers import DemoAnswers
from product_relevance.serving.demo.questions import DemoQuestion, read_catalogue
from product_relevance.serving.limits import Limits
from product_relevance.training.run_config import RunConfig
from product_relevance.training.train import train
from tests.helpers.serving import PAIRS, tiny_run
from tests.training.test_graded_training import GRADES, options_of

QUERY, TARGETS = PAIRS[0][0], [target for _, target in PAIRS[:30]]


@pytest.fixture(scope="module")
def ensemble(base_of):
    return RelevanceEnsemble.from_pretrained(tiny_run(base_of("qwen3")), device="cpu")


@pytest.fixture(scope="module")
def answers(ensemble):
    return DemoAnswers(ensemble, Limits(documents=40, characters=100))


def test_scores_decisions_and_order_are_those_of_the_ensemble(ensemble, answers):
    found = answers.answer(DemoQuestion(QUERY, TARGETS, top_k=30))
    scores = ensemble.predict([(QUERY, target) for target in TARGETS])
    order = np.argsort(-scores, kind="stable")
    assert [place.target for place in found.places] == [TARGETS[i] for i in order] and found.count == 30
    assert np.allclose([place.score for place in found.places], scores[order], atol=1e-6)
    for place in found.places:
        assert list(place.folds) == list(ensemble.folds)
        assert np.mean(list(place.folds.values())) == pytest.approx(place.score)
        assert place.threshold == ensemble.threshold and place.grade is None
        assert place.decision == ("relevant" if place.score >= place.threshold else "irrelevant")


def test_the_best_are_shown_with_the_text_as_the_model_read_it(ensemble, answers):
    found = answers.answer(DemoQuestion("Rote  SCHUHE", ["shoes", "  ", "a\t b"], top_k=1))
    (place,) = found.places
    queries, targets = ensemble.encoder.template.render(["Rote  SCHUHE"], [place.target], None, None)
    assert found.count == 2 and queries[0] in place.read and targets[0] in place.read and not place.shortened
    assert place.tokens == len(ensemble.encoder.tokenizer(queries[0], targets[0])["input_ids"])


def test_a_pair_that_is_too_long_is_said_to_be_shortened(ensemble):
    (place,) = DemoAnswers(ensemble).answer(DemoQuestion(QUERY, ["shoe and " * 300])).places
    assert place.shortened and place.tokens == ensemble.encoder.max_length


@pytest.mark.parametrize(
    "query, given, code, identified",
    [("rote schuhe für damen", "", "de", True), ("12345", "", "unk", True), (QUERY, "pt-BR", "pt", False)],
)
def test_the_language_is_found_or_given(answers, query, given, code, identified):
    found = answers.answer(DemoQuestion(query, ["shoes"], language=given))
    assert (found.language, found.identified) == (code, identified)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"query": " \n"}, "Query: found no text, expected what a person searches for"),
        ({"query": "x" * 101}, "Query: found 101 characters, expected at most 100"),
        ({"targets": []}, "Targets: found no text, expected at least one, one per line"),
        ({"targets": ["a"] * 41}, "Targets: found 41 lines, expected at most 40. Take fewer here"),
        ({"targets": ["a", "x" * 101]}, "Target 2: found 101 characters, expected at most 100"),
        ({"language": "no code"}, "Language: found 'no code', expected a code of ISO 639"),
        ({"task": "QI"}, "Task: found QI, expected one of QC"),
        ({"translation": "x" * 101}, "English translation: found 101 characters"),
        ({"top_k": 0}, "Targets shown: found 0, expected a whole number from 1"),
    ],
)
def test_what_cannot_be_answered_is_said(answers, change, message):
    with pytest.raises(ValueError) as said:
        answers.answer(DemoQuestion(**({"query": QUERY, "targets": TARGETS} | change)))
    assert str(said.value).startswith(message)


def test_too_many_tokens_are_said(ensemble):
    with pytest.raises(ValueError, match="Targets: found .* tokens, expected at most 5"):
        DemoAnswers(ensemble, Limits(tokens=5)).answer(DemoQuestion(QUERY, TARGETS))


def test_a_model_of_grades_shows_the_grade_and_its_distribution(base_of, tmp_path):
    run = train(RunConfig.from_recipe(**options_of(tmp_path, base_of("bert"))))
    ensemble = RelevanceEnsemble.from_pretrained(str(run.folder), device="cpu")
    found = DemoAnswers(ensemble).answer(DemoQuestion(QUERY, TARGETS))
    pairs = [(QUERY, place.target) for place in found.places]
    assert np.allclose([place.shares for place in found.places], ensemble.predict_shares(pairs), atol=1e-6)
    assert [place.grade for place in found.places] == ensemble.decide_grades(ensemble.predict(pairs)).tolist()
    assert len(found.places[0].shares) == GRADES and len(found.places) == 20


def test_a_catalogue_has_a_target_per_line(tmp_path):
    file = tmp_path / "catalogue.txt"
    file.write_bytes("\ufeffshoes\r\n\r\nkabel für usb\n".encode())
    assert read_catalogue(file) == ["shoes", "kabel für usb"]
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="catalogue.txt: cannot be read as text in UTF-8, expected a text file"):
        read_catalogue(file)
