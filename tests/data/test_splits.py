"""Given folds are taken as they are, and rows made from others never leave the side of their source."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.data.arguments import DataArguments
from product_relevance.data.leakage import LeakageError
from product_relevance.data.splits import make_splits
from tests.conftest import rows_of


def prepared(made: int = 40, seed: int = 0) -> pd.DataFrame:
    """Sample rows with folds by query, and rows made from random ones of them."""
    frame = pd.DataFrame(rows_of("train_QC.txt")[:120]).rename(columns={"category_path": "target"})
    frame["fold"] = pd.factorize(frame["origin_query"])[0] % 3
    frame = frame.assign(method="original", source_row=frame["id"].astype(str))
    rows = frame.iloc[np.random.default_rng(seed).integers(0, len(frame), made)]
    rows = rows.assign(method="translated", language="de", origin_query=[f"neu {i}" for i in range(made)])
    rows = rows.assign(id=[f"{source}#de{i}" for i, source in enumerate(rows["source_row"])])
    return pd.concat([frame, rows], ignore_index=True)


def arguments(**changes) -> DataArguments:
    return DataArguments(train_file="prepared.parquet", task="QC", **changes)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60), st.integers(0, 1000))
def test_a_made_row_is_trained_on_where_its_source_is_and_never_validated_on(made, seed):
    frame = prepared(made, seed)
    for k, split in enumerate(make_splits(frame, arguments())):
        valid, train = frame.iloc[split.valid], frame.iloc[split.train]
        assert (valid["method"] == "original").all() and (valid["fold"] == k).all()
        assert not set(train["source_row"]) & set(valid["id"].astype(str))
        assert len(train) == (frame["fold"] != k).sum()


def test_rows_made_from_a_held_out_language_are_not_trained_on():
    frame = prepared()
    split = make_splits(frame, arguments(held_out_languages=["es"]))[0]
    train, valid = frame.iloc[split.train], frame.iloc[split.valid]
    assert set(valid["language"]) == {"es"} and "es" not in set(train["language"])
    assert not set(train["source_row"]) & set(valid["id"].astype(str))
    assert (train["method"] == "translated").any()


def test_given_folds_that_leak_stop_the_training():
    frame = prepared()
    frame.loc[frame.index[-1], ["origin_query", "fold"]] = [frame["origin_query"][0], (frame["fold"][0] + 1) % 3]
    with pytest.raises(LeakageError, match="queries"):
        make_splits(frame, arguments())


def test_given_folds_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"field 'fold': found 0, 1, 2, expected each of 0 to 4"):
        make_splits(prepared(), arguments(num_folds=5))


def test_made_rows_without_folds_are_refused():
    with pytest.raises(ValueError, match="made rows"):
        make_splits(prepared().drop(columns="fold"), arguments())
