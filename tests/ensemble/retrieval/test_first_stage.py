"""Candidates are the nearest targets, or those of another engine's run; what does not fit is named."""

import logging

import numpy as np
import pytest

from product_relevance.data.catalogue import Catalogue, Queries
from product_relevance.ensemble.retrieval import first_stage
from product_relevance.ensemble.retrieval.first_stage import FirstStage, find_candidates, split_revision
from product_relevance.models import sentence_encoder
from tests.helpers.made_rows import encode

TITLES = [
    f"{kind} {colour} {number}" for number in range(7) for kind in ("lampe", "gürtel") for colour in ("rot", "x")
]
CATALOGUE = Catalogue("c.csv", [f"s{i}" for i in range(len(TITLES))], TITLES)
QUERIES = Queries("q.csv", ["1", "2"], ["lampe rot", "gürtel x 3"], ["de", "de"], None)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch, tmp_path):
    """The stand-in encoder with a real memory on disk; counts the texts that it encodes."""
    asked = []

    def load_encoder(*names, **options):
        def counting(texts, side):
            asked.extend(texts)
            return encode(texts, side)

        return sentence_encoder.cached(counting, tmp_path / "vectors")

    monkeypatch.setattr(first_stage, "load_encoder", load_encoder)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return asked


@pytest.mark.parametrize("index", ["exact", "usearch"])
def test_candidates_are_the_nearest_targets_in_the_order_of_the_catalogue(index):
    pytest.importorskip("usearch")
    found = find_candidates(QUERIES, CATALOGUE, "QI", FirstStage(index=index, count=6))
    table = encode(QUERIES.texts, "query") @ encode(TITLES, "passage").T
    for row, (places, scores) in enumerate(zip(found.places, found.scores, strict=True)):
        assert len(places) == 6 and (np.diff(places) > 0).all()
        assert np.allclose(np.sort(scores), np.sort(table[row])[-6:], atol=1e-6)  # of equal ones any
        assert np.allclose(scores, table[row][places], atol=1e-6)


def test_kept_vectors_give_what_fresh_ones_give_and_only_a_changed_text_is_encoded_again(stand_in):
    fresh = find_candidates(QUERIES, CATALOGUE, "QI", FirstStage(count=6))
    stand_in.clear()
    again = find_candidates(QUERIES, CATALOGUE, "QI", FirstStage(count=6))
    assert not stand_in
    assert all(map(np.array_equal, fresh.places + fresh.scores, again.places + again.scores))
    changed = Catalogue("c.csv", CATALOGUE.ids, ["lampe rot neu", *TITLES[1:]])
    find_candidates(QUERIES, changed, "QI", FirstStage(count=6))
    assert stand_in == ["lampe rot neu"]


def test_all_targets_are_candidates_where_there_are_no_more():
    found = find_candidates(QUERIES, CATALOGUE, "QI", FirstStage(count=200))
    assert all(places.tolist() == list(range(len(TITLES))) for places in found.places)


def test_the_run_of_another_engine_takes_the_place_of_the_first_stage(tmp_path, stand_in, caplog):
    path = tmp_path / "bm25.run"
    path.write_text("1 Q0 s5 1 9.5 bm25\n1 Q0 s2 2 7 bm25\n1 Q0 s9 3 8 bm25\n7 Q0 s1 1 1 bm25\n")
    with caplog.at_level(logging.WARNING):
        found = find_candidates(QUERIES, CATALOGUE, "QI", FirstStage(count=2, run_file=str(path)))
    assert [places.tolist() for places in found.places] == [[5, 9], []] and not stand_in
    assert found.scores[0].tolist() == [9.5, 8.0] and "1 queries have no candidate, as 2" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 Q0 other 1 9 bm25", "found the document 'other', expected ids of c.csv"),
        ("7 Q0 s1 1 9 x", "found no query"),
    ],
)
def test_a_run_of_another_catalogue_is_named(tmp_path, line, message):
    (tmp_path / "bm25.run").write_text(line)
    with pytest.raises(ValueError, match=message):
        find_candidates(QUERIES, CATALOGUE, "QI", FirstStage(run_file=str(tmp_path / "bm25.run")))


def test_a_model_of_the_hub_needs_its_revision(tmp_path):
    assert split_revision("org/name@abc") == ("org/name", "abc")
    assert split_revision(str(tmp_path)) == (str(tmp_path), None)
    with pytest.raises(ValueError, match="org/name@revision"):
        FirstStage(encoder="org/name")


def test_a_missing_index_is_named_before_anything_is_encoded(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="usearch is not installed: pip install"):
        FirstStage(index="usearch")
    assert FirstStage().index == "exact"
    with pytest.raises(ValueError, match="--candidates 0: expected a whole number from 1"):
        FirstStage(count=0)
    with pytest.raises(ValueError, match="--index faiss: expected one of exact, usearch"):
        FirstStage(index="faiss")
