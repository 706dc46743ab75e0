"""Paired intervals of finished predictions: none where there is no difference, beyond zero where it is planted."""

import json

import compare_predictions
import numpy as np
import pandas as pd
import pytest

from tests.conftest import rows_of, write_rows


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Labelled records, noise as scores, and scores that know the labels; rows in another order than the records."""
    folder, rows = tmp_path_factory.mktemp("paired"), rows_of("answers_QC.txt")[:200]
    rng, labels = np.random.default_rng(0), np.array([row["label"] for row in rows])
    noise = rng.random(len(rows))
    for name, scores in (("noise", noise), ("knows", 0.5 * noise + 0.4 * labels)):
        table = pd.DataFrame({"id": [row["id"] for row in rows], "score": scores, "fold-0": noise})
        table["prediction"] = (table["score"] >= 0.5).astype(int)
        table.sample(frac=1, random_state=1).to_parquet(folder / f"{name}.parquet")
    return write_rows(folder / "dev.txt", rows), folder / "noise.parquet", folder / "knows.parquet"


def run(capsys, *arguments) -> list[dict]:
    compare_predictions.main([*map(str, arguments)])
    return json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]


def test_a_planted_difference_is_found_and_equal_scores_have_none(files, capsys):
    labelled, noise, knows = files
    first, better, same, fold = run(capsys, labelled, noise, knows, noise, f"{knows}:fold-0")
    assert not any(name.endswith("difference") for name in first)
    for figure in ("auc", "f1", "macro_f1"):
        middle, low, high = better[f"{figure}_difference"]
        assert 0 < low < middle < high and middle == pytest.approx(better[figure] - first[figure])
        assert same[f"{figure}_difference"] == [0, 0, 0]
    assert fold["auc"] == first["auc"] and "f1" not in fold


def test_one_cut_can_decide_for_all(files, capsys):
    labelled, noise, knows = files
    (found,) = run(capsys, labelled, knows, "--threshold", "0")
    share = np.mean([json.loads(line)["label"] for line in labelled.open()])
    assert found["f1"] == pytest.approx(2 * share / (1 + share))  # all called relevant
    cut = run(capsys, labelled, noise, f"{knows}:fold-0", "--threshold", "0.5")
    assert cut[1]["f1_difference"] == [0, 0, 0]


def test_scores_that_miss_a_record_or_a_column_are_refused(files, tmp_path, capsys):
    labelled, noise, _ = files
    pd.read_parquet(noise).iloc[1:].to_parquet(tmp_path / "short.parquet")
    for name, told in (
        (tmp_path / "short.parquet", "1 of 200 records"),
        (f"{noise}:fold-9", "fold-9"),
        ("no", "Parquet"),
    ):
        with pytest.raises(SystemExit, match=told):
            run(capsys, labelled, name)


def test_out_of_fold_scores_are_compared_on_the_rows_of_their_fold(files, tmp_path, capsys):
    labelled, noise, knows = files
    rows = labelled.read_text().splitlines()
    half = [json.loads(line)["id"] for line in rows[:100]]
    for file in (noise, knows):
        table = pd.read_parquet(file)[["id", "score"]]
        table[table["id"].isin(half)].to_parquet(tmp_path / file.name)
    (tmp_path / "half.txt").write_text("\n".join(rows[:100]))
    names = [tmp_path / file.name for file in (noise, knows)]
    found = run(capsys, labelled, *names, "--scored_rows")
    expected = run(capsys, tmp_path / "half.txt", *names)
    assert [row | {"scores": ""} for row in found] == [row | {"scores": ""} for row in expected]
    assert "auc_difference" in found[1] and "f1" not in found[1]
