"""One way from pairs to tokens: for raw pairs and for records, with a boundary, a prompt and a greatest length."""

from dataclasses import FrozenInstanceError, replace

import pytest

from product_relevance.data import loading
from product_relevance.data.pairs import Pairs
from product_relevance.data.records import read_records
from product_relevance.models.modeling import load_tokenizer
from product_relevance.models.pair_encoder import PairEncoder, encode_pairs
from product_relevance.text.taxonomy import Taxonomy
from product_relevance.text.templates import Template
from tests.conftest import rows_of, write_rows
from tests.helpers.tiny_prompt import PROMPT, encoded


@pytest.fixture(scope="module")
def frame(tmp_path_factory):
    """Records with columns; texts that need cleaning, translations, paths in both renderings."""
    rows = rows_of("train_QC.txt")[:60]
    for place, row in enumerate(rows):
        row["origin_query"] = f"&amp; {row['origin_query'].title()} *" if place % 2 else row["origin_query"]
        row["translated_query"] = f" “{row['origin_query']}” now%" if place % 3 else None
        row["category_path"] = row["category_path"].replace(",", ", ") if place % 4 == 0 else row["category_path"]
    records = read_records(write_rows(tmp_path_factory.mktemp("pairs") / "a.txt", rows), task="QC", role="train")
    return loading.add_all_columns(records, False, "identify", "column", max_missing=1)


@pytest.mark.parametrize("style", ["raw", "markers"])
def test_records_with_clean_columns_get_the_tokens_of_their_raw_texts(base_of, frame, style):
    template = Template(input_style="both", language_tag=True, language_fix="identify", path_style=style)
    known = Taxonomy.from_paths([row["category_path"] for row in rows_of("train_QC.txt")])
    encoder = PairEncoder.from_tokenizer(load_tokenizer(str(base_of("bert"))), template, 96, known)
    columns = ("origin_query", "target", "given_language", "translated_query")
    raw = encoder.encode(Pairs(*(frame[name].tolist() for name in columns)))
    assert encoder.encode_frame(frame) == raw == encoder.encode_frame(frame.drop(columns="clean_target"))
    assert replace(encoder, taxonomy=None).encode_frame(frame) != raw  # some paths are in the other rendering


def test_an_encoder_puts_pairs_into_the_prompt_of_its_template(base_of):
    encoder = PairEncoder.from_tokenizer(load_tokenizer(str(base_of("qwen3"))), Template(prompt=PROMPT), 96)
    rows = [("red shoes", "shoes"), ("usb", "phones,cables")]
    ids = encoder.encode(Pairs(*map(list, zip(*rows, strict=True)), None, None))
    assert ids == encoded(encoder.tokenizer, rows) and encoder.answers.yes != encoder.answers.no
    with pytest.raises(FrozenInstanceError):
        encoder.max_length = 12


def test_pairs_without_a_boundary_of_their_own_get_one(base_of):
    tokenizer = load_tokenizer(str(base_of("qwen3")))  # joins both sides with nothing between
    (apart,) = encode_pairs(tokenizer, ["case"], ["phones"], 64)
    assert "case\nphones" in tokenizer.decode(apart).replace(" ", "")
    encoder = load_tokenizer(str(base_of("bert")))
    (pair,) = encode_pairs(encoder, ["case"], ["phones"], 64)
    assert "\n" not in encoder.decode(pair)


def test_a_pair_never_exceeds_the_maximal_length_and_keeps_both_sides(base_of):
    tokenizer = load_tokenizer(str(base_of("bert")))
    (ids,) = encode_pairs(tokenizer, ["red shoes " * 100], ["shoes"], 32)
    assert len(ids) == 32 and "shoes</s>" in tokenizer.decode(ids).replace(" ", "")


def test_unequal_sides_are_refused(base_of):
    with pytest.raises(ValueError, match="2 first texts but 1"):
        encode_pairs(load_tokenizer(str(base_of("bert"))), ["a", "b"], ["c"], 32)
