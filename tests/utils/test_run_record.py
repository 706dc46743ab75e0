"""run.json and fold.json as records: nothing is lost on the way there and back, whatever version wrote it."""

from dataclasses import FrozenInstanceError

import pytest

from product_relevance.utils.run_record import FoldRecord, RunRecord

RUN = {"format": 1, "task": "QC", "base": {"name": "org/base", "revision": "main"}, "adapter": None, "pooling": "auto"}
PARENTS = {"weights": None, "first_stage": None, "teacher": None}


def test_a_run_comes_back_as_it_was_written():
    content = RUN | {"processes": 2} | PARENTS
    assert RunRecord.from_json(content).to_json() == content
    assert list(RunRecord.from_json(content).to_json()) == list(content)


def test_keys_of_a_newer_run_are_kept():
    content = RUN | PARENTS | {"of_a_newer_version": [1, 2]}
    record = RunRecord.from_json(content)
    assert record.more == {"of_a_newer_version": [1, 2]} and record.to_json() == content


def test_a_run_of_an_older_version_loads():
    record = RunRecord.from_json({"format": 1, "task": "QI", "base": {"name": "org/base", "revision": None}})
    assert (record.teacher, record.pairs_per_step, record.task) == (None, None, "QI")


def test_a_fold_says_null_only_where_that_is_a_fact():
    fold = FoldRecord(name="fold-0", train_rows=10, valid_rows=5, steps=3)
    nulls = {"best_step": None, "attn_implementation": None, "starts_from": None}
    assert fold.to_json() == {"name": "fold-0", "train_rows": 10, "valid_rows": 5, "steps": 3} | nulls
    assert FoldRecord.from_json(fold.to_json()) == fold


def test_a_record_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        RunRecord.from_json(RUN).task = "QI"
