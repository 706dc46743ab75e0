"""Paths cut to their last levels in training: anew in each epoch, the same for everyone, never where it is judged."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from product_relevance.data.splits import Split
from product_relevance.models.modeling import load_tokenizer
from product_relevance.models.pair_encoder import PairEncoder, encode_pairs
from product_relevance.text.taxonomy import Taxonomy, split_path
from product_relevance.text.templates import Template
from product_relevance.training.batches.dataset import LengthGroupedSampler, PairDataset, PrefixGroupedSampler
from product_relevance.training.batches.path_truncation import ShortPaths, shorten_paths
from product_relevance.training.run_config import RunConfig
from product_relevance.training.run_data import RunData, prepare_run_data

PATHS = ["food,grocery,flour, baking and cooking,dry ingredients", "home,lamps", "toys", "a,b,c"] * 25
ARGUMENTS = SimpleNamespace(train_sampling_strategy="group_by_length", seed=3, data_seed=None)


def encode(frame) -> list[list[int]]:
    """Stand in for a tokenizer: the characters of the target."""
    return [list(map(ord, target)) for target in frame["target"]]


def rows_of(count=100, task="QC", share=0.5, seed=3):
    frame = pd.DataFrame({"id": range(count), "task": task, "target": PATHS[:count]})
    short = shorten_paths(frame, share, SimpleNamespace(**vars(ARGUMENTS) | {"seed": seed}), encode)
    whole = PairDataset(encode(frame), [0] * count)
    return short.add_to(whole, Split("fold-0", np.arange(count), np.arange(0)))


def epoch_of(rows, epoch, batch=8, shared=False):
    """Return {row: text} as an epoch shows them, through a sampler of its own as after a resume."""
    sampler = LengthGroupedSampler([len(ids) for ids in rows.ids], batch, 3, rows.short)
    sampler = PrefixGroupedSampler(rows.ids, batch, 3, rows.short) if shared else sampler
    sampler.set_epoch(epoch)
    return {i % len(rows): "".join(map(chr, rows[i]["input_ids"])) for i in sampler}


def test_a_row_shows_its_whole_path_or_its_last_levels():
    shown = epoch_of(rows_of(), 0)
    assert sorted(shown) == list(range(len(PATHS)))
    for row, text in shown.items():
        levels = split_path(PATHS[row])
        assert text in [",".join(levels[-n:]) for n in range(1, len(levels) + 1)]
    lengths = {len(split_path(text)) for row, text in shown.items() if row % 4 == 0}
    assert lengths == {1, 2, 3, 4}


def test_a_path_of_one_level_and_an_item_title_are_never_cut():
    assert all(text == "toys" for row, text in epoch_of(rows_of(share=1.0), 0).items() if row % 4 == 2)
    rows = rows_of(task="QI", share=1.0)
    assert epoch_of(rows, 0) == dict(enumerate(PATHS))


@given(st.integers(0, 50), st.integers(0, 5))
def test_an_epoch_is_the_same_whoever_draws_it_and_unlike_the_next(epoch, seed):
    rows = rows_of(seed=seed)
    assert epoch_of(rows, epoch) == epoch_of(rows_of(seed=seed), epoch) != epoch_of(rows, epoch + 1)
    assert epoch_of(rows, epoch) != epoch_of(rows_of(seed=seed + 1), epoch)
    assert epoch_of(rows, epoch, shared=True) == epoch_of(rows, epoch)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_as_many_rows_are_cut_as_asked(share):
    if share == 0:
        rows = PairDataset(encode(pd.DataFrame({"target": PATHS})), [0] * len(PATHS))
    else:
        rows = rows_of(share=share)
    cut = [epoch_of(rows, epoch)[row] != PATHS[row] for epoch in range(20) for row in range(0, len(PATHS), 4)]
    assert abs(np.mean(cut) - share) < 0.06


def test_batches_are_grouped_by_the_lengths_that_an_epoch_shows():
    rows = rows_of(share=1.0)
    for epoch in (0, 1):
        sampler = LengthGroupedSampler([len(ids) for ids in rows.ids], 100, 3, rows.short)
        sampler.set_epoch(epoch)
        assert np.diff([len(rows[i]["input_ids"]) for i in sampler]).max() <= 0


def test_rows_of_a_split_keep_their_own_forms():
    frame = pd.DataFrame({"id": range(8), "task": "QC", "target": PATHS[:8]})
    short, split = shorten_paths(frame, 1.0, ARGUMENTS, encode), Split("fold-1", np.array([1, 5, 0]), np.arange(0))
    rows = short.add_to(PairDataset([encode(frame)[i] for i in split.train], [0] * 3), split)
    assert epoch_of(rows, 0)[0] == epoch_of(rows, 0)[1] == "lamps" and len(rows.short.forms[2]) == 3
    assert rows.short.shown(3, 0) is None  # an unlabelled row behind them
    assert isinstance(short, ShortPaths) and len(short.forms) == 8  # the other splits' are still there


def test_rows_without_short_forms_are_shown_whole():
    """Validation rows and scores never get short forms: only `add_to` brings them, to training rows."""
    rows = PairDataset(encode(pd.DataFrame({"target": PATHS[:4]})), [0] * 4)
    assert [len(rows[i]["input_ids"]) for i in range(4)] == [len(path) for path in PATHS[:4]]


def test_an_order_that_does_not_tell_its_epoch_is_refused():
    other = SimpleNamespace(**vars(ARGUMENTS) | {"train_sampling_strategy": "random"})
    frame = pd.DataFrame({"id": [1], "task": "QC", "target": "a,b"})
    with pytest.raises(ValueError, match="--random_levels needs group_by_length"):
        shorten_paths(frame, 0.5, other, encode)


def test_short_forms_are_rendered_and_tokenised_as_whole_paths_are(base_of):
    tokenizer = load_tokenizer(str(base_of("bert")))
    frame = pd.DataFrame({"id": [1, 2], "task": "QC", "target": ["a,b,c, d", "e"], "origin_query": "tea"})
    frame = frame.assign(language="en", query="tea", translated_query="tea")
    frame["clean_target"] = frame["target"]
    template = Template(path_style="markers")
    encoder = PairEncoder(tokenizer, template, 64, Taxonomy.from_paths(frame["target"]))
    asked = SimpleNamespace(random_levels=1.0), SimpleNamespace(unlabelled_file=None), ARGUMENTS
    data = RunData(frame, [], "proportional", 10)
    short = prepare_run_data(RunConfig(None, *asked), data, [], encoder, None).short
    expected = encode_pairs(tokenizer, ["tea", "tea"], ["c, d", "b > c, d"], 64)
    assert [form.tolist() for form in short.forms[0]] == expected and short.forms[1] == []
    whole = RunConfig(None, SimpleNamespace(random_levels=0.0), *asked[1:])
    assert prepare_run_data(whole, data, [], encoder, None) == data
