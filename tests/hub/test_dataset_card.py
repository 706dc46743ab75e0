"""The card of a prepared file counts its rows, tells how they were made, and holds none of them."""

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard

from product_relevance.data.provenance import read_prepared
from product_relevance.hub.card_template import CardPlace
from product_relevance.hub.dataset_card import dataset_card, prepared_card, prepared_values
from product_relevance.preparation.arguments import PreparationArguments
from product_relevance.preparation.pipeline import prepare
from product_relevance.preparation.steps.recipe import read_steps
from tests.conftest import rows_of, write_rows
from tests.helpers.card_runs import RUN, record

STEPS = [{"noise": {"rate": 0.3, "seed": 9}}, {"easy_negatives": {"negative_share": 0.5}}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("card")
    file = write_rows(place / "train_QC.txt", rows_of("train_QC.txt")[:150])
    options = {"file": str(file), "task": "QC", "output": str(place / "rows.parquet"), "language_fix": "none"}
    prepare(PreparationArguments(**options, steps=read_steps(STEPS, "recipe")))
    return place


def test_the_card_counts_rows_by_method_fold_and_language_and_tells_options_and_seeds(folder):
    card, frame = (folder / "rows.md").read_text(encoding="utf-8"), read_prepared(folder / "rows.parquet", "QC")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in card.splitlines() if line.startswith("|")]
    table = {line[0]: line for line in cells}
    for method, rows in frame.groupby("method"):
        folds = [f"{(rows['fold'] == fold).sum():,}" for fold in range(3)]
        assert table[method][1] == f"{len(rows):,}" and table[method][3:] == folds
    for code, rows in frame.groupby("language"):
        assert table[code][1:3] == [f"{len(rows):,}", f"{(rows['method'] != 'original').sum():,}"]
    assert any(line[0] == "noise" and "seed 9" in line[1] and "rate 0.3" in line[1] for line in cells)
    assert all(name in card for name in ("source_row", "seed", "detail", "train_QC.txt"))


def test_the_card_and_the_file_hold_no_row_and_no_path_of_this_machine(folder):
    frame = pd.read_parquet(folder / "rows.parquet")
    card = (folder / "rows.md").read_text(encoding="utf-8")
    published = dataset_card(
        record(RUN), CardPlace(repo_id="acme/rows", path="train.parquet"), [], prepared=values(folder)
    )
    texts = {text for name in ("origin_query", "query", "category_path", "clean_target") for text in frame[name]}
    for text in (text for text in texts if len(text) > 5):
        assert text not in card and text not in published, text
    assert str(folder).encode() not in (folder / "rows.parquet").read_bytes()
    assert str(folder) not in card and str(folder) not in published


def values(folder) -> dict:
    return prepared_values(folder / "rows.parquet")


def test_the_card_comes_from_the_file_alone_and_has_metadata(folder, tmp_path):
    (tmp_path / "rows.parquet").write_bytes((folder / "rows.parquet").read_bytes())
    card = prepared_card(tmp_path / "rows.parquet")
    assert card == (folder / "rows.md").read_text(encoding="utf-8")
    data = DatasetCard(card).data.to_dict()
    assert data["configs"][0]["data_files"] == "rows.parquet" and set(data["language"]) >= {"en", "es", "ja"}


def test_the_published_card_tells_the_steps_of_the_file(folder):
    columns = pq.read_schema(folder / "rows.parquet").names
    card = dataset_card(
        record(RUN), CardPlace(repo_id="acme/rows", path="train.parquet"), columns, prepared=values(folder)
    )
    assert "easy_negative" in card and "seed 9" in card and "source_row" in card and "acme/rows" in card
    with pytest.raises(ValueError, match="prepared for QC, expected QI"):
        dataset_card(
            record(RUN | {"task": "QI"}), CardPlace(repo_id="a/b", path="x"), columns, prepared=values(folder)
        )
    plain = dataset_card(record(RUN), CardPlace(repo_id="acme/rows", path="train.parquet"), columns)
    assert "easy_negative" not in plain and "as in the source" in plain


def test_rows_that_were_changed_since_are_not_described_as_prepared(folder, tmp_path):
    table = pq.read_table(folder / "rows.parquet")
    pq.write_table(table.slice(0, 40), tmp_path / "cut.parquet")
    with pytest.raises(ValueError, match="holds 40 rows, but its facts say .* prepare it again"):
        prepared_values(tmp_path / "cut.parquet")
    pd.read_parquet(folder / "rows.parquet").to_parquet(tmp_path / "plain.parquet")
    assert prepared_values(tmp_path / "plain.parquet") is None
    with pytest.raises(ValueError, match="does not say how it was made"):
        prepared_card(tmp_path / "plain.parquet")


def test_a_hostile_name_is_shown_and_not_obeyed(tmp_path):
    file = write_rows(tmp_path / "x|<script>`.txt", rows_of("train_QC.txt")[:60])
    options = {"file": str(file), "task": "QC", "output": str(tmp_path / "rows.parquet"), "language_fix": "none"}
    prepare(PreparationArguments(**options))
    card = (tmp_path / "rows.md").read_text(encoding="utf-8")
    assert "<script>" not in card and yaml.safe_load(card.split("---")[1])["license"] == "unknown"
