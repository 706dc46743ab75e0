"""The grid of kernels prints a line for each setting, with what a run of these settings has out of fold."""

import json

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import train_relevance
from benchmarks.ablation import kernel_grid
from tests.conftest import rows_of, write_rows


def test_a_line_of_the_grid_is_what_a_run_has_out_of_fold(base_of, tmp_path, capsys):
    file = write_rows(tmp_path / "train_QC.txt", rows_of("train_QC.txt")[:150])
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(f"model_name_or_path: {base_of('bert')}\nadapter: kernel\npooling: sides\n")
    kernel_grid.main([str(file), "--recipe", str(recipe), "--scales", "1", "3", "--rows", "60", "16000"])
    *_, last = capsys.readouterr().out.splitlines()
    found = {(row["scale"], row["rows"] > 60): row["auc"] for row in json.loads(last)["rows"]}
    assert len(found) == 4
    flags = f"--train_file {file} --task QC --use_cpu true --fold 0 --kernel_scale 3 --output_dir {tmp_path / 'run'}"
    train_relevance.main([str(recipe), *flags.split()])
    oof = pd.read_parquet(tmp_path / "run/fold-0/oof.parquet")
    assert found[3.0, True] == pytest.approx(roc_auc_score(oof["label"], oof["score"]), abs=1e-3)


def test_bad_records_are_one_line(tmp_path):
    with pytest.raises(SystemExit, match="error: .*nothing.txt"):
        kernel_grid.main([str(tmp_path / "nothing.txt")])
