"""Scores that agree with the category tree, and paths that the tree does not know."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import train_relevance
from product_relevance.cli.main import main as relevance
from product_relevance.ensemble.path_consistency import consistent
from product_relevance.text.taxonomy import Taxonomy, split_path
from tests.conftest import rows_of, write_rows

PATHS = ["a", "a,b", "a,b, x", "a,b,c", "a,d", "e", "e,f"]
ROWS = st.lists(
    st.tuples(st.sampled_from(["shoe", "Shoe ", "bag"]), st.sampled_from(["en", "de"]), st.sampled_from(PATHS)),
    min_size=1,
    max_size=12,
)


def records(rows, task="QC"):
    frame = pd.DataFrame(rows, columns=["origin_query", "language", "target"])
    return frame.assign(task=task, defect="")


def is_below(frame, child, parent) -> bool:
    one, two = frame.iloc[child], frame.iloc[parent]
    same = (
        one["language"] == two["language"]
        and one["origin_query"].strip().lower() == two["origin_query"].strip().lower()
    )
    levels = [split_path(row["target"]) for row in (one, two)]
    return same and len(levels[1]) < len(levels[0]) and levels[0][: len(levels[1])] == levels[1]


@given(ROWS, st.randoms(use_true_random=False))
def test_no_path_scores_below_a_path_under_it_and_only_those_above_move(rows, random):
    frame = records(rows)
    before = np.array([random.random() for _ in rows])
    after, pairs, raised = consistent(frame, before)
    below = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if is_below(frame, i, j)]
    assert pairs == len(below) and all(after[j] >= after[i] for i, j in below)
    for j in range(len(rows)):
        assert after[j] == max([before[j], *(before[i] for i, parent in below if parent == j)])
    assert raised == (after != before).sum()
    again, _, none = consistent(frame, after)
    assert none == 0 and (again == after).all()


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(rows, random):
    scores = np.array([random.random() for _ in rows])
    order = np.array(random.sample(range(len(rows)), len(rows)))
    frame = records(rows)
    mixed = frame.iloc[order].reset_index(drop=True)
    assert (consistent(mixed, scores[order])[0] == consistent(frame, scores)[0][order]).all()


def test_item_titles_and_rows_without_a_target_stay_as_they_are():
    rows = [("shoe", "en", "a"), ("shoe", "en", "a,b")]
    assert consistent(records(rows, task="QI"), np.array([0.1, 0.9]))[0].tolist() == [0.1, 0.9]
    broken = records(rows).assign(defect=["", "no category_path"])
    assert consistent(broken, np.array([0.1, 0.9]))[0].tolist() == [0.1, 0.9]


def test_a_path_in_the_other_rendering_has_its_place_in_the_tree():
    frame = records([("shoe", "en", "a"), ("shoe", "en", "a, b")])
    assert consistent(frame, np.array([0.1, 0.9]))[0].tolist() == [0.1, 0.9]
    assert consistent(frame, np.array([0.1, 0.9]), Taxonomy.from_paths(["a,b"]))[0].tolist() == [0.9, 0.9]


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


def test_predict_joins_the_chunks_of_a_file_and_names_unknown_paths(run, tmp_path, capsys):
    known = max(Taxonomy.load(run / "taxonomy.json").paths, key=len)
    row = rows_of("test_QC.txt")[0]
    paths = [",".join(known[:depth]) for depth in range(len(known), 0, -1)]
    paths += [",".join([*known[:-1], "no such leaf"]), "no such root"]
    rows = [row | {"id": i, "category_path": path} for i, path in enumerate(paths)]
    rows.append(row | {"id": len(rows), "category_path": None})
    file, output = write_rows(tmp_path / "test_QC.txt", rows), tmp_path / "submit_QC.txt"
    command = ["predict", str(run), str(file), "--output", str(output), "--device", "cpu", "--chunk_rows", "1"]
    relevance(command)
    plain = pd.read_parquet(f"{output}.scores.parquet")
    relevance([*command, "--overwrite", "--consistent_ancestors"])
    agreed = pd.read_parquet(f"{output}.scores.parquet")
    told = capsys.readouterr().out
    depth = len(known)
    assert agreed["path_known"].iloc[:-1].tolist() == ["complete"] * depth + ["partial", "none"]
    assert agreed["path_known"].isna().iloc[-1] and "paths unknown to the training records" in told
    chain = agreed["score"].to_numpy()[:depth]
    assert (np.diff(chain) >= 0).all() and "scores raised by" in told
    leaves = [0, depth, depth + 1, depth + 2]
    assert (agreed["score"] >= plain["score"]).all() and np.allclose(agreed["score"][leaves], plain["score"][leaves])
    assert (agreed["fold-0"] == plain["fold-0"]).all()
