"""Paths that the category tree of a run does not know, named in a file of predictions."""

import pandas as pd
import pytest

import train_relevance
from product_relevance.cli.main import main as relevance
from product_relevance.text.taxonomy import Taxonomy
from tests.conftest import rows_of, write_rows


@pytest.fixture(scope="module")
def run(base_of, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:60])
    flags = "--task QC --use_cpu true --language_fix none --num_folds 2 --max_steps 2 --eval_strategy no"
    flags += " --save_strategy no --load_best_model_at_end false"
    names = [
        "--model_name_or_path",
        str(base_of("bert")),
        "--train_file",
        str(file),
        "--output_dir",
        str(folder / "r"),
    ]
    train_relevance.main([*flags.split(), *names, "--output_dir", str(folder / "r")])
    return folder / "r"


def test_predict_names_unknown_paths_over_all_chunks_of_a_file(run, tmp_path, capsys):
    known = max(Taxonomy.load(run / "taxonomy.json").paths, key=len)
    row = rows_of("test_QC.txt")[0]
    paths = [",".join(known[:depth]) for depth in range(len(known), 0, -1)]
    paths += [",".join([*known[:-1], "no such leaf"]), "no such root"]
    rows = [row | {"id": i, "category_path": path} for i, path in enumerate(paths)]
    rows.append(row | {"id": len(rows), "category_path": None})
    file, output = write_rows(tmp_path / "test_QC.txt", rows), tmp_path / "submit_QC.txt"
    relevance(["predict", str(run), str(file), "--output", str(output), "--device", "cpu", "--chunk_rows", "1"])
    found = pd.read_parquet(f"{output}.scores.parquet")["path_known"]
    assert found.iloc[:-1].tolist() == ["complete"] * len(known) + ["partial", "none"]
    assert found.isna().iloc[-1] and "paths unknown to the training records" in capsys.readouterr().out
