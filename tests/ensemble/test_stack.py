"""A stack scores as its regression says, keeps the order of a lone member, and refuses runs that do not fit."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import train_relevance
from product_relevance import RelevanceEnsemble
from product_relevance.cli.info import stack_lines
from product_relevance.cli.main import main as relevance
from product_relevance.data.records import read_records
from product_relevance.data.submission import check_submission
from product_relevance.ensemble import fit_stack
from product_relevance.ensemble import stack as stacking
from product_relevance.ensemble.retrieval import first_stage
from product_relevance.ensemble.stack_features import KINDS, group_features, lexical_features
from product_relevance.evaluation.blending import blend_scores, fit_blend
from product_relevance.evaluation.calibration import to_logit
from product_relevance.evaluation.decision_rule import stretch_scores
from product_relevance.sharding.jobs import Score
from product_relevance.utils.files import sha256_of
from product_relevance.utils.run_folder import load_record
from tests.conftest import rows_of, write_rows
from tests.helpers.made_rows import encode


def made(rows: int = 800, seed: int = 0, noise: tuple[float, ...] = (0.7, 1.0)) -> tuple[np.ndarray, np.ndarray]:
    """Scores of several members, shape (n, members), and labels (n,)."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0.4, 1.3, rows)
    scores = expit(np.stack([truth + rng.normal(0, n, rows) for n in noise], axis=1))
    return scores, (rng.random(rows) < expit(truth)).astype(int)


def write_run(folder, scores, labels, folds=3, **changes):
    """A run folder with out-of-fold scores and no weights."""
    names = [f"fold-{k}" for k in range(folds)]
    columns = {"id": np.arange(len(labels)), "language": "en", "given_language": "en", "label": labels}
    oof = pd.DataFrame(columns | {"score": scores, "fold": [names[i % folds] for i in range(len(labels))]})
    for name, part in oof.groupby("fold"):
        (folder / name).mkdir(parents=True)
        part.sample(frac=1, random_state=1).to_parquet(folder / name / "oof.parquet", index=False)
    by = {"num_folds": folds, "group_by": "query", "prefix_levels": 2, "fold_seed": 42, "held_out_languages": []}
    content = {"format": 1, "task": "QC", "data": {"sha256": "ab", "positive": 0.6, "languages": ["en"]}}
    content |= {"folds_by": by, "folds": [{"name": n} for n in names], "finished": "then"}
    content |= {"thresholds": {"f1": 0.4, "macro_f1": 0.5}} | changes
    (folder / "run.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def two(tmp_path):
    scores, labels = made()
    return [write_run(tmp_path / name, scores[:, i], labels) for i, name in enumerate("ab")]


@pytest.fixture(scope="module")
def trained(base_of, tmp_path_factory):
    """Two tiny runs on the same rows and folds, on bases of two kinds."""
    folder = tmp_path_factory.mktemp("stack")
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:160])
    flags = (
        "--task QC --use_cpu true --max_steps 4 --eval_strategy no --save_strategy no --load_best_model_at_end false"
    )
    flags += " --num_folds 2 --lora_r 4 --learning_rate 3e-3"
    for name, kind in (("a", "qwen3"), ("b", "xlm-roberta")):
        names = ["--model_name_or_path", str(base_of(kind)), "--train_file", str(file)]
        train_relevance.main([*flags.split(), *names, "--output_dir", str(folder / name)])
    relevance(["stack", str(folder / "a"), str(folder / "b"), "--output", str(folder / "stack")])
    return folder


def test_the_regression_is_scikit_learns_where_no_coefficient_would_be_negative():
    scores, labels = made()
    coefficients, intercept = fit_blend(scores, labels)
    known = LogisticRegression(C=1e6, max_iter=1000).fit(to_logit(scores), labels)
    assert np.allclose(coefficients, known.coef_[0], atol=5e-3) and np.isclose(
        intercept, known.intercept_[0], atol=5e-3
    )


def test_a_member_that_counts_against_itself_is_left_out():
    scores, labels = made()
    coefficients, _ = fit_blend(np.column_stack([scores[:, 0], 1 - scores[:, 1]]), labels)
    assert coefficients[0] > 0 and coefficients[1] == 0


def test_two_members_are_better_than_each_and_a_copy_adds_nothing():
    scores, labels = made(4000)
    auc = roc_auc_score(labels, blend_scores(scores, *fit_blend(scores, labels)))
    assert auc > max(roc_auc_score(labels, scores[:, i]) for i in (0, 1)) + 0.005
    twice = scores[:, [0, 0]]
    assert np.allclose(
        blend_scores(twice, *fit_blend(twice, labels)),
        blend_scores(scores[:, :1], *fit_blend(scores[:, :1], labels)),
        atol=1e-3,
    )


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000))
def test_a_stack_of_one_run_ranks_as_the_run(seed):
    scores, labels = made(60, seed, (0.7,))
    fitted = fit_blend(scores, labels)
    if fitted[0][0] > 0:  # else the run ranks worse than chance on its own rows
        order = np.argsort(scores[:, 0], kind="stable")
        assert (np.diff(blend_scores(scores[order], *fitted)) > 0).all()


def test_members_that_divide_the_labels_have_finite_coefficients():
    coefficients, intercept = fit_blend(np.array([[0.1], [0.2], [0.8], [0.9]]), np.array([0, 0, 1, 1]))
    assert np.isfinite(coefficients).all() and np.isfinite(intercept) and coefficients[0] > 1


def test_rows_are_joined_by_id_and_those_of_a_missing_fold_are_left_out(two, tmp_path):
    shutil.rmtree(two[1] / "fold-2")
    content = json.loads((two[1] / "run.json").read_text())
    (two[1] / "run.json").write_text(json.dumps(content | {"folds": content["folds"][:2]}))
    table = fit_stack.join_scores(two, [load_record(f) for f in two])
    scores, _ = made()
    assert set(table["fold"]) == {"fold-0", "fold-1"} and len(table) == 534
    assert np.allclose(table[["member-0", "member-1"]], scores[table["id"]])


def test_unlabelled_records_move_the_cuts_of_a_stack_to_where_its_means_lie(two, tmp_path):
    rng, scored = np.random.default_rng(0), []
    for _ in two:
        folds = expit(rng.normal(0.3, 1, (500, 1)) + rng.normal(0, 1, (500, 3)))
        scored.append({"scores": folds.mean(axis=1), "folds": folds, "source": "new.txt"})
    plain, moved = tmp_path / "plain", tmp_path / "moved"
    fit_stack.stack_runs(two, plain)
    fit_stack.stack_runs(two, moved, unlabelled=scored)
    before, after = (json.loads((f / "stack.json").read_text())["decision"] for f in (plain, moved))
    spread = after["spread"]
    assert spread["slope"] > 1.05 and (spread["match"], spread["rows"]) == ("folds", 500)
    assert stretch_scores(spread, [after["thresholds"]["f1"]])[0] == pytest.approx(before["thresholds"]["f1"])
    scored[1]["folds"] = scored[1]["folds"][:, :2]
    with pytest.raises(ValueError, match=r"\[2, 3\] folds, expected as many in each"):
        fit_stack.stack_runs(two, moved, fit_stack.StackOptions(overwrite=True), scored)


def teach(trained, stack: str, output) -> None:
    """Train a run with a stack as its teacher."""
    flags = "--task QC --use_cpu true --max_steps 1 --num_folds 2 --objective distill"
    flags += " --eval_strategy no --save_strategy no --load_best_model_at_end false"
    names = ["--train_file", str(trained / "train_QC.txt"), "--teacher", str(trained / stack)]
    names += ["--model_name_or_path", load_record(trained / "a").base["name"], "--output_dir", str(output)]
    train_relevance.main([*flags.split(), *names])


def with_rivals(folder, rows=800, size=4, **features):
    """Two runs on rows of four targets per query, where most relevant targets share a word with the query."""
    scores, labels = made(rows)
    records = [
        {"id": i, "task": "QC", "language": "en", "origin_query": f"q{i // size} lamp", "category_path": f"a,{i}"}
        for i in range(rows)
    ]
    for record, label in zip(records, labels, strict=True):
        record["category_path"] += " lamp" if label and record["id"] % 5 else ""
    file = write_rows(folder / "train_QC.txt", records)
    data = {"sha256": sha256_of(file), "source": str(file), "positive": 0.6, "languages": ["en"]}
    return [write_run(folder / name, scores[:, i], labels, data=data) for i, name in enumerate("ab")]


def test_features_are_fitted_beside_the_scores_and_named_with_their_coefficients(tmp_path, capsys):
    runs = list(map(str, with_rivals(tmp_path)))
    relevance(["stack", *runs, "--features", "group", "lexical", "--output", str(tmp_path / "stack")])
    shown, content = capsys.readouterr().out, json.loads((tmp_path / "stack" / "stack.json").read_text())
    figures = {(row["scores"], row["fitted on"]): row["auc"] for row in content["decision"]["figures"]}
    assert figures["stack with features", "other folds"] > figures["stack", "other folds"] + 0.05
    assert {kind: list(found) for kind, found in content["features"].items()} == {
        kind: list(names) for kind, names in KINDS.items()
    }
    gain = figures["stack with features", "other folds"] - figures["stack", "other folds"]
    assert f"{gain:+.4f}" in shown and "95% interval" in shown
    assert content["features"]["lexical"]["covered_words"] != 0 and "covered_words" in shown
    stack = stacking.RelevanceStack.from_pretrained(tmp_path / "stack")
    assert stack.reads_rivals and "covered_words" in "\n".join(stack_lines(stack.run))


def test_a_stack_without_features_is_what_it_was(tmp_path):
    runs = with_rivals(tmp_path)
    fit_stack.stack_runs(runs, tmp_path / "stack")
    content = json.loads((tmp_path / "stack" / "stack.json").read_text())
    scores, labels = made()
    coefficients, intercept = fit_blend(scores, labels)
    assert "features" not in content and np.isclose(content["intercept"], intercept)
    assert np.allclose([member["coefficient"] for member in content["members"]], coefficients)


def test_features_need_the_records_of_the_runs(tmp_path):
    runs = with_rivals(tmp_path)
    options = fit_stack.StackOptions(features=("group",))
    (tmp_path / "train_QC.txt").write_text((tmp_path / "train_QC.txt").read_text() + "\n")
    with pytest.raises(ValueError, match="other records than the runs were trained on; name those with --records"):
        fit_stack.stack_runs(runs, tmp_path / "stack", options)
    with pytest.raises(ValueError, match="--features: found words, expected among group, lexical"):
        fit_stack.StackOptions(features=("words",))
    with pytest.raises(ValueError, match="--features: found --unlabelled too"):
        fit_stack.stack_runs(runs, tmp_path / "stack", options, [{}])


def test_a_stack_with_features_scores_a_file_whole_and_pairs_alike(trained, tmp_path):
    runs, rows = [str(trained / "a"), str(trained / "b")], rows_of("test_QC.txt")[:30]
    relevance(["stack", *runs, "--features", "group,lexical", "--output", str(trained / "featured")])
    file, output = write_rows(tmp_path / "test_QC.txt", rows), tmp_path / "submit_QC.txt"
    relevance(["predict", str(trained / "featured"), str(file), "--output", str(output), "--chunk_rows", "7"])
    stack = stacking.RelevanceStack.from_pretrained(trained / "featured", device="cpu")
    expected = stack.predict([(row["origin_query"], row["category_path"]) for row in rows])
    assert np.allclose(pd.read_parquet(f"{output}.scores.parquet")["score"], expected, atol=1e-6)
    answers = write_rows(tmp_path / "answers_QC.txt", rows_of("answers_QC.txt")[:30])
    relevance(["evaluate", str(trained / "featured"), str(answers)])
    with pytest.raises(ValueError, match="found a stack that compares the pairs of a query"):
        Score(model=str(trained / "featured")).key()
    with pytest.raises(SystemExit, match="found a stack with features, expected one of scores alone"):
        teach(trained, "featured", tmp_path / "student")


def test_a_pair_is_compared_with_the_pairs_of_its_query_alone():
    found = group_features(np.array([1.0, 3.0, 2.0, 5.0, 3.0]), ["Red  lamp", "red lamp", "hat", "bag", "red lamp "])
    assert np.allclose(found[:, 0], [-4 / 3, 2 / 3, 0, 0, 2 / 3]) and np.allclose(found[:, 1], [-2, 0, 0, 0, 0])
    assert np.allclose(found[:, 2], [1, 0.25, 0, 0, 0.25]) and np.allclose(found[:, 3], np.log([3, 3, 1, 1, 3]))


def test_common_words_and_letters_are_counted_without_case():
    found = lexical_features(["Red lamp", "lamps", "", "赤い靴"], ["lamp, red & old", "lamp", "a", "shoes"])
    assert np.allclose(found[:, :2], [[2 / 3, 1], [0, 0], [0, 0], [0, 0]])
    assert found[0, 2] == 1 and 0 < found[1, 2] < 1 and not found[2:].any()
    assert lexical_features([], []).shape == (0, 3)


def test_the_table_judges_each_run_their_mean_and_the_stack(two, tmp_path):
    told = fit_stack.stack_runs(two, tmp_path / "stack", fit_stack.StackOptions(by="language"))
    content = json.loads((tmp_path / "stack" / "stack.json").read_text())
    assert [row["scores"] for row in content["decision"]["figures"][::2]] == ["a", "b", "mean", "stack"]
    assert [m["path"] for m in content["members"]] == ["../a", "../b"] and "optimistic" in told
    assert set(content["decision"]["languages"]) == {"en"}
    with pytest.raises(ValueError, match="--overwrite"):
        fit_stack.stack_runs(two, tmp_path / "stack")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": {"sha256": "cd"}}, "data sha256 cd, but .* has ab"),
        ({"task": "QI"}, "task QI, but .* has QC"),
        ({"folds_by": {"num_folds": 3, "group_by": "query", "prefix_levels": 2, "fold_seed": 7}}, "fold_seed 7"),
    ],
)
def test_runs_of_another_task_data_or_folds_are_refused(two, tmp_path, change, words):
    scores, labels = made()
    other = write_run(tmp_path / "other", scores[:, 0], labels, **change)
    with pytest.raises(ValueError, match=words):
        fit_stack.stack_runs([two[0], other], tmp_path / "stack")


def test_runs_whose_labels_or_folds_differ_row_by_row_are_refused(two, tmp_path):
    scores, labels = made()
    other = write_run(tmp_path / "other", scores[:, 0], 1 - labels)
    with pytest.raises(ValueError, match="no row that all have scored"):
        fit_stack.stack_runs([two[0], other], tmp_path / "stack")
    oof = [pd.read_parquet(two[1] / f"fold-{k}/oof.parquet") for k in (0, 1)]
    oof[1].assign(fold="fold-0").to_parquet(two[1] / "fold-0/oof.parquet")
    oof[0].assign(fold="fold-1").to_parquet(two[1] / "fold-1/oof.parquet")
    with pytest.raises(ValueError, match="534 of 800 rows lie in other folds"):
        fit_stack.stack_runs(two, tmp_path / "stack")


def test_a_stack_predicts_what_its_regression_says(trained, tmp_path, capsys):
    file = write_rows(tmp_path / "test_QC.txt", rows_of("test_QC.txt")[:30])
    output = tmp_path / "submit_QC.txt"
    relevance(["predict", str(trained / "stack"), str(file), "--output", str(output), "--chunk_rows", "20"])
    assert check_submission(file, output) == []
    found = pd.read_parquet(f"{output}.scores.parquet")
    pairs = [(row["origin_query"], row["category_path"]) for row in rows_of("test_QC.txt")[:30]]
    content = json.loads((trained / "stack" / "stack.json").read_text())
    logits = content["intercept"]
    for name, member in zip("ab", content["members"], strict=True):
        mean = RelevanceEnsemble.from_pretrained(trained / name, device="cpu").predict(pairs)
        logits = logits + member["coefficient"] * np.log(mean / (1 - mean))
    assert np.allclose(found["score"], 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert (found["prediction"] == (found["score"] >= content["thresholds"]["f1"])).all()


def test_a_stack_scores_pairs_as_it_scores_a_frame_of_them(trained):
    stack = stacking.RelevanceStack.from_pretrained(trained / "stack", device="cpu")
    rows = rows_of("test_QC.txt")[:9]
    frame = read_records(write_rows(trained / "nine_QC.txt", rows), task="QC", role="test")
    expected = stack.combine(stack.score_folds(frame))
    pairs = iter([(row["origin_query"], row["category_path"]) for row in rows])
    assert np.allclose(stack.predict(pairs), expected, atol=1e-6)


def test_a_stack_is_measured_beside_its_members(trained, tmp_path, capsys):
    file = write_rows(tmp_path / "answers_QC.txt", rows_of("answers_QC.txt")[:60])
    relevance(["evaluate", str(trained / "stack"), str(file), "--json"])
    figures = json.loads(capsys.readouterr().out)
    assert set(figures["folds"]) == {"member-0", "member-1"} and 0 <= figures["ensemble"]["auc"] <= 1
    relevance(["info", str(trained / "stack")])
    assert "../b, coefficient" in capsys.readouterr().out


def test_a_stack_refuses_votes_and_members_that_were_trained_anew(trained, tmp_path):
    stack = stacking.RelevanceStack.from_pretrained(trained / "stack")
    with pytest.raises(ValueError, match="coefficients instead of votes"):
        stack.checked_vote("majority")
    shutil.copytree(trained, tmp_path / "copy")
    content = json.loads((tmp_path / "copy" / "a" / "run.json").read_text())
    (tmp_path / "copy" / "a" / "run.json").write_text(json.dumps(content | {"finished": "later"}))
    with pytest.raises(ValueError, match="finished later, but it was stacked as of"):
        stacking.RelevanceStack.from_pretrained(tmp_path / "copy" / "stack")


def test_a_stack_ranks_a_catalogue_by_its_own_scores(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(first_stage, "load_encoder", lambda *names, **options: encode)
    rows = rows_of("train_QC.txt")
    paths = list(dict.fromkeys(row["category_path"] for row in rows[:20]))
    (tmp_path / "c.txt").write_text("\n".join(paths), encoding="utf-8")
    (tmp_path / "q.txt").write_text("\n".join(row["origin_query"] for row in rows[:2]), encoding="utf-8")
    lists = ["--queries", str(tmp_path / "q.txt"), "--catalogue", str(tmp_path / "c.txt")]
    relevance(["rank", str(trained / "stack"), *lists, "--output", str(tmp_path / "out.csv")])
    found, stack = pd.read_csv(tmp_path / "out.csv"), stacking.RelevanceStack.from_pretrained(trained / "stack")
    first = found[found["query_id"] == 1]
    assert np.allclose(first["score"], stack.predict(list(zip(first["query"], first["target"], strict=True))))
    assert [each["index"] + 1 for each in stack.rank(rows[0]["origin_query"], paths)] == first["id"].tolist()
    with pytest.raises(SystemExit, match="this stack was made of QC runs only"):
        relevance(["rank", str(trained / "stack"), "--task", "QI", *lists, "--output", str(tmp_path / "no.csv")])
