"""Planted flips are found, the table tells why, and nothing changes without being asked for."""

import importlib.util

import filter as program
import numpy as np
import pandas as pd
import pytest

from product_relevance.data.records import read_records
from product_relevance.preparation.labels import corrections, label_errors
from product_relevance.preparation.steps.filter import ACTIONS
from product_relevance.utils import run_folder as run
from tests.conftest import SAMPLE

needs_cleanlab = pytest.mark.skipif(
    not importlib.util.find_spec("cleanlab"), reason="extra [prepare] is not installed"
)
METHODS = {
    "self": lambda scored: label_errors.self_validation(scored, {"*": 0.8}),
    "cleanlab": lambda scored: label_errors.confident_learning(scored),
}


def planted(name: str = "train_QC.txt", share: float = 0.08, seed: int = 0):
    """Records with flipped labels, and scores that know the true ones but for a few rows."""
    frame = read_records(SAMPLE / name)
    rng = np.random.default_rng(seed)
    truth = frame["label"].to_numpy(dtype=int)
    # Under Beta(4, .5) the true label gets over .5 in 98% of the rows and over .8 in 80%, over .9 in 63%.
    sure = rng.beta(4, 0.5, len(frame))
    scores = np.where(truth == 1, sure, 1 - sure)
    flipped = rng.random(len(frame)) < share
    frame["label"] = pd.array(np.where(flipped, 1 - truth, truth), dtype="Int8")
    oof = frame[["id", "language"]].assign(label=frame["label"].astype(int), score=scores)
    return frame, oof.assign(fold=[f"fold-{n % 3}" for n in range(len(frame))]), set(frame["id"][flipped])


@pytest.fixture(scope="module")
def noisy():
    return planted()


@pytest.fixture(scope="module")
def scored(noisy):
    return label_errors.join_scores(noisy[0], noisy[1])


@pytest.fixture
def run_folder(tmp_path, noisy):
    for name, part in noisy[1].groupby("fold"):
        (tmp_path / "run" / name).mkdir(parents=True)
        part.to_parquet(tmp_path / "run" / name / "oof.parquet")
        run.write_json(tmp_path / "run" / name / "fold.json", {})
    columns = ["id", "task", "language", "origin_query", "target", "label"]
    noisy[0][columns].rename(columns={"target": "category_path"}).to_parquet(tmp_path / "noisy.parquet")
    return tmp_path / "run", tmp_path / "noisy.parquet"


@pytest.mark.parametrize("method", ["self", pytest.param("cleanlab", marks=needs_cleanlab)])
@pytest.mark.parametrize("file, seed", [("train_QC.txt", 0), ("train_QI.txt", 1)])
def test_planted_flips_are_found(method, file, seed):
    frame, oof, flipped = planted(file, seed=seed)
    table = METHODS[method](label_errors.join_scores(frame, oof))
    found = set(table["id"])
    recall, precision = len(found & flipped) / len(flipped), len(found & flipped) / len(found)
    told = f"{len(flipped)} flips, {len(found)} rows listed, recall {recall:.3f}, precision {precision:.3f}"
    print(f"\n{method} {file}: {told}")
    assert recall > 0.7 and precision > 0.8


def test_the_table_says_which_row_what_the_model_says_and_what_is_suggested(noisy, scored):
    table = label_errors.self_validation(scored)
    rows = noisy[0].set_index("id")
    assert list(table) == list(label_errors.TABLE_COLUMNS) and table["rank"].tolist() == list(range(1, len(table) + 1))
    assert (table["suggested_label"] == 1 - table["label"]).all()
    assert (table["query"].to_numpy() == rows.loc[table["id"], "origin_query"].to_numpy()).all()
    other = table["probability"].where(table["label"] == 0, 1 - table["probability"])
    assert other.is_monotonic_decreasing and other.min() >= label_errors.THRESHOLD
    assert set(table["reason"]) == {"self-validation: labelled relevant", "self-validation: labelled irrelevant"}


def test_the_most_specific_cut_counts(scored):
    cuts = {"*": 0.6, "1": 0.7, "fr": 0.8, "fr/1": 0.9}
    table = label_errors.self_validation(scored, cuts)
    contradicted = label_errors.contradiction(scored)
    french, relevant = scored["language"] == "fr", scored["label"] == 1
    cut = np.select([french & relevant, french, relevant], [0.9, 0.8, 0.7], 0.6)
    assert set(table["id"]) == set(scored["id"][contradicted >= cut])
    assert len(set(table["id"])) < (contradicted >= 0.6).sum()


@pytest.mark.parametrize("thresholds", [{"*": 0}, {"xx": 0.9}, {"fr/2": 0.9}, {"*": 1.5}])
def test_a_threshold_that_means_nothing_is_refused(scored, thresholds):
    with pytest.raises(ValueError, match="threshold of"):
        label_errors.self_validation(scored, thresholds)


@needs_cleanlab
def test_noise_of_one_language_is_estimated_for_itself(scored):
    # French scores are pulled to .5: over all rows they never look confident, among themselves they do
    dull = scored.assign(score=scored["score"].where(scored["language"] != "fr", 0.4 + 0.2 * scored["score"]))
    whole = label_errors.confident_learning(dull, "confident_learning")
    apart = label_errors.confident_learning(dull, "confident_learning", by_language=True)
    french = [(table["language"] == "fr").sum() for table in (whole, apart)]
    assert french[1] > french[0]


@needs_cleanlab
def test_confident_learning_needs_both_labels(scored):
    with pytest.raises(ValueError, match="one label only"):
        label_errors.confident_learning(scored[scored["label"] == 1])


def test_an_unknown_rule_of_cleanlab_is_refused(scored):
    with pytest.raises(ValueError, match="expected one of prune_by_noise_rate"):
        label_errors.confident_learning(scored, "guess")


def test_rows_without_a_score_and_augmented_rows_are_left_out_not_judged(noisy):
    frame, oof, _ = noisy
    second = oof[oof["fold"] == "fold-1"]
    translated = frame.assign(id=frame["id"].astype(str) + "#translated0")
    both = pd.concat([frame.astype({"id": str}), translated], ignore_index=True)
    assert label_errors.join_scores(both, second)["id"].tolist() == second["id"].astype(str).tolist()


def test_labels_other_than_those_of_the_training_are_refused(noisy):
    frame, oof, _ = noisy
    with pytest.raises(ValueError, match="labels differ from those of the training"):
        label_errors.join_scores(frame.assign(label=1 - frame["label"]), oof)


def test_records_of_another_run_are_refused(noisy):
    frame, oof, _ = noisy
    with pytest.raises(ValueError, match="none of the run's ids"):
        label_errors.join_scores(frame.assign(id=frame["id"] + 10**6), oof)


def test_a_run_without_finished_folds_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no out-of-fold scores"):
        label_errors.read_scores(tmp_path)


def test_the_program_lists_rows_and_leaves_the_records_alone(run_folder, tmp_path, capsys):
    before = run_folder[1].read_bytes()
    program.main([*map(str, run_folder), "--output", str(tmp_path / "review.parquet"), "--threshold_of", "en/1=0.99"])
    table = pd.read_parquet(tmp_path / "review.parquet")
    assert list(table) == list(label_errors.TABLE_COLUMNS) and len(table) > 20
    assert f"{len(table):,} rows to review" in capsys.readouterr().out
    assert run_folder[1].read_bytes() == before and not list(tmp_path.glob("filtered*"))


@pytest.mark.parametrize(
    ("flag", "name"), [("--cut=0.9", "--threshold"), ("--cut_of=de=0.9", "--threshold_of")], ids=["all", "some"]
)
def test_the_older_name_of_a_threshold_is_refused_with_the_new_one(flag, name, capsys):
    with pytest.raises(SystemExit):
        program.make_parser().parse_args(["run", "records", "--output", "x", flag])
    assert capsys.readouterr().err.rstrip().endswith(f"unknown flag {flag.split('=')[0]}; here it is {name}")


@pytest.mark.parametrize("action", ACTIONS)
def test_the_program_does_to_every_listed_row_what_it_is_told(run_folder, tmp_path, capsys, noisy, action):
    review, filtered = tmp_path / "review.parquet", tmp_path / "filtered.parquet"
    options = ["--output", str(review), "--apply", action, "--filtered", str(filtered), "--weight", "0.3"]
    program.main([*map(str, run_folder), *options])
    listed = set(pd.read_parquet(review)["id"])
    changed = read_records(filtered, task="QC", on_bad_rows="skip", rejects_path=tmp_path / "rejects.jsonl")
    print(capsys.readouterr().out)
    if action == "drop":
        assert not listed & set(changed["id"]) and len(changed) == len(noisy[0]) - len(listed)
    elif action == "flip":
        kept = changed[changed["id"].isin(listed)]
        assert (kept["label"].to_numpy() == 1 - noisy[0].set_index("id").loc[kept["id"], "label"].to_numpy()).all()
    else:
        assert set(changed["id"][changed["weight"] == 0.3]) == listed


def test_a_persons_decisions_are_applied_and_undecided_rows_kept(run_folder, tmp_path, capsys, noisy):
    review, filtered, made = tmp_path / "review.parquet", tmp_path / "f.parquet", tmp_path / "decisions.jsonl"
    program.main([*map(str, run_folder), "--output", str(review)])
    table = pd.read_parquet(review)
    first = table.iloc[0]
    corrections.append_decisions(made, [corrections.make_decision(first["id"], "drop", first["label"], "anna")])
    program.main([*map(str, run_folder), "--output", str(review), "--apply", str(made), "--filtered", str(filtered)])
    told = capsys.readouterr().out
    assert f"without a decision: {len(table) - 1:,}" in told and "dropped 1" in told
    assert len(pd.read_parquet(filtered)) == len(noisy[0]) - 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--apply", "drop"], "--apply and --filtered go together"),
        (["--apply", "nothing.jsonl", "--filtered", "f.parquet"], "apply: found 'nothing.jsonl'"),
    ],
)
def test_a_half_asked_change_ends_with_one_clear_line(run_folder, tmp_path, options, words):
    with pytest.raises(SystemExit, match=f"error: {words}"):
        program.main([*map(str, run_folder), "--output", str(tmp_path / "review.parquet"), *options])
