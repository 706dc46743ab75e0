"""A data set with several splits is read by --split wherever records are named."""

import datasets
import explore
import filter as filter_rows
import prepare
import pytest
import translate

from product_relevance.cli.main import main
from product_relevance.data import loading
from product_relevance.data.arguments import DataArguments
from product_relevance.data.records import RecordError, read_records
from product_relevance.data.sources.tables import Source
from product_relevance.data.submission import write_submission
from tests.helpers.record_rows import rows_of


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved data set of two splits."""
    folder = tmp_path_factory.mktemp("splits") / "saved"
    splits = {"train": rows_of(*[{}, {"label": 0}] * 6), "dev": rows_of({}, {}, {})}
    data_set = datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in splits.items()})
    data_set.save_to_disk(folder)
    return folder


def test_training_reads_the_split_that_it_is_given(saved):
    arguments = DataArguments(train_file=str(saved), task="QC", split="dev", language_fix="none")
    assert len(loading.load_columns(arguments)) == 3


def test_training_without_a_split_is_told_the_flag(saved):
    with pytest.raises(RecordError, match="expected one of train, dev; name one with --split"):
        loading.load_columns(DataArguments(train_file=str(saved), task="QC"))


def test_a_check_reads_the_split_that_it_is_given(saved, tmp_path, capsys):
    submission = write_submission(read_records(Source(str(saved), split="dev")), [1, 0, 1], tmp_path / "submit_QC.txt")
    main(["check", str(saved), str(submission), "--split", "dev"])
    assert "passed" in capsys.readouterr().out


def test_another_split_is_another_preparation(saved, tmp_path):
    output, rows = tmp_path / "out.parquet", []
    for split in ("train", "dev"):
        words = ["--task", "QC", "--role", "test", "--language_fix", "none", "--split", split]
        prepare.main([str(saved), *words, "--output", str(output)])
        rows.append(len(read_records(output, role="test")))
    assert rows == [12, 3]


@pytest.mark.parametrize("program", [explore, filter_rows, translate], ids=lambda program: program.__name__)
def test_each_program_that_reads_records_has_the_flags(program):
    words = {"explore": ["saved"], "filter": ["run", "saved"], "translate": ["saved"]}[program.__name__]
    flags = ["--output", "out", "--split", "dev", "--data_revision", "v1"]
    arguments = program.make_parser().parse_args([*words, *flags])
    assert (arguments.split, arguments.data_revision) == ("dev", "v1")


@pytest.mark.parametrize("way", ["predict", "prepare"])
def test_shards_are_cut_from_files_only(saved, tmp_path, way):
    words = [str(saved), "--output", str(tmp_path / "out"), "--shards", "2", "--split", "dev"]
    with pytest.raises(SystemExit, match="--shards.*: only files are (cut|split); leave --split"):
        if way == "predict":
            main(["predict", "run", *words])
        else:
            prepare.main([*words, "--task", "QC", "--role", "test"])
