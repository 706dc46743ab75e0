"""Ensemble and prediction: mean of the folds, any order and batch, interrupted files, refused bases."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import train_relevance
from product_relevance import RelevanceEnsemble
from product_relevance.cli.main import main as relevance
from product_relevance.data.submission import check_submission
from product_relevance.ensemble.files import evaluate_file, judge_file, predict_file
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.evaluation import ranking, trec
from product_relevance.models.batching import budget_batches
from product_relevance.models.predictor import predict_logits
from tests.conftest import ROOT, rows_of, save_base, write_rows

PAIRS = [(row["origin_query"], row["category_path"]) for row in rows_of("dev_QC.txt")[:60]]
QC = rows_of("train_QC.txt")


@pytest.fixture(scope="module")
def run(base_of, tmp_path_factory):
    """Three tiny folds."""
    folder = tmp_path_factory.mktemp("ensemble")
    file = write_rows(folder / "train_QC.txt", QC[:240])
    flags = "--task QC --use_cpu true --max_steps 8 --eval_steps 8 --save_steps 8 --lora_r 4 --learning_rate 3e-3"
    names = ["--model_name_or_path", str(base_of("qwen3")), "--train_file", str(file)]
    train_relevance.main([*flags.split(), *names, "--output_dir", str(folder / "run")])
    return folder / "run"


@pytest.fixture(scope="module")
def ensemble(run):
    return RelevanceEnsemble.from_pretrained(run, device="cpu")


def keep_in_run_json(folder, name):
    """Let run.json list one fold only."""
    content = json.loads((folder / "run.json").read_text())
    content["folds"] = [fold for fold in content["folds"] if fold["name"] == name]
    (folder / "run.json").write_text(json.dumps(content))


def test_the_ensemble_is_the_mean_of_its_folds_each_loaded_alone(run, ensemble, tmp_path):
    alone = []
    for k in range(3):
        shutil.copytree(run, tmp_path / str(k))
        for other in {0, 1, 2} - {k}:
            shutil.rmtree(tmp_path / str(k) / f"fold-{other}")
        keep_in_run_json(tmp_path / str(k), f"fold-{k}")
        alone.append(RelevanceEnsemble.from_pretrained(tmp_path / str(k), device="cpu").predict(PAIRS))
    assert np.ptp(np.stack(alone), axis=0).max() > 1e-3  # the folds do differ
    assert np.allclose(ensemble.predict(PAIRS), np.mean(alone, axis=0), atol=1e-6)


def test_scores_do_not_depend_on_order_or_batch(ensemble):
    whole = ensemble.predict(PAIRS)
    order = np.random.default_rng(0).permutation(len(PAIRS))
    assert np.allclose(ensemble.predict([PAIRS[i] for i in order]), whole[order], atol=1e-6)
    assert np.allclose([ensemble.predict([pair])[0] for pair in PAIRS[:10]], whole[:10], atol=1e-6)


def test_the_token_budget_does_not_change_scores(ensemble):
    ids = [[0, 5 + i % 50, 7, 9][: 2 + i % 3] * (1 + i % 4) for i in range(50)]
    one, two = (predict_logits(ensemble.model, ids, 1, max_tokens=t) for t in (8, 4096))
    assert np.allclose(one, two, atol=1e-5)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=200)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 2000), st.integers(1, 64))
def test_budget_batches_hold_every_row_once_and_keep_to_the_budget(lengths, tokens, rows):
    batches = list(budget_batches(lengths, tokens, rows))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert len(batch) <= rows and (padded <= tokens or len(batch) == 1)


def test_votes_are_shares_of_folds(ensemble):
    folds = ensemble.predict_folds(PAIRS)
    majority = ensemble.predict(PAIRS, vote="majority")
    assert np.allclose(majority, (folds >= ensemble.threshold).mean(axis=1))
    weighted = ensemble.predict(PAIRS, vote="weighted")
    assert weighted.min() >= 0 and weighted.max() <= 1 + 1e-9
    with pytest.raises(ValueError, match="mean, majority, weighted"):
        ensemble.predict(PAIRS, vote="median")


def test_a_vote_is_asked_for_when_it_predicts(run, ensemble, capsys):
    assert ensemble.rule.threshold("f1", ensemble.checked_vote("majority")) == 0.5
    with pytest.raises(ValueError, match="give vote='majority' to `predict`"):
        LoadingArguments(merge="vote")
    with pytest.raises(ValueError, match="merge 'mean': expected one of probabilities, weights"):
        LoadingArguments(merge="mean")
    with pytest.raises(SystemExit):
        relevance(["predict", str(run), "test_QC.txt", "--output", "out.txt", "--merge", "vote"])
    assert "give --vote majority instead" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["predict", "run", "file", "--output", "out.txt", "--consistent_ancestors"], "changed no score on real"),
        (["export", "run", "--output", "out", "--merged"], "always one merged model"),
    ],
)
def test_flags_that_are_gone_are_answered_with_the_reason(words, reason, capsys):
    with pytest.raises(SystemExit):
        relevance(words)
    assert reason in capsys.readouterr().err


def test_a_run_with_other_labels_is_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    content = json.loads((tmp_path / "run/run.json").read_text())
    content["labels"] = {"0": "relevant", "1": "irrelevant"}
    (tmp_path / "run/run.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="its labels are .*this version has"):
        RelevanceEnsemble.from_pretrained(tmp_path / "run")


def test_merged_weights_predict_a_file_as_one_model(run, tmp_path):
    file = write_rows(tmp_path / "test_QC.txt", rows_of("test_QC.txt")[:20])
    command = ["predict", str(run), str(file), "--output", str(tmp_path / "submit_QC.txt"), "--device", "cpu"]
    relevance([*command, "--merge", "weights", "--max_disagreement", "1"])
    scores = pd.read_parquet(tmp_path / "submit_QC.txt.scores.parquet")
    assert np.allclose(scores["weights"], scores["score"]) and "fold-0" not in scores
    with pytest.raises(SystemExit, match="differ from the mean .* canary pairs"):
        relevance([*command, "--overwrite", "--merge", "weights", "--max_disagreement", "0"])


def test_rank_orders_by_score_and_cuts(ensemble):
    targets = [target for _, target in PAIRS[:12]]
    ranked = ensemble.rank("red shoes", targets, top_k=5)
    assert len(ranked) == 5 and all(targets[row["index"]] == row["target"] for row in ranked)
    scores = ensemble.predict([("red shoes", target) for target in targets])
    assert [row["index"] for row in ranked] == list(np.argsort(-scores, kind="stable")[:5])


def test_bad_pairs_are_named(ensemble):
    with pytest.raises(ValueError, match="pair 1: found .*expected"):
        ensemble.predict([("a", "b"), ("a", None)])
    with pytest.raises(ValueError, match="languages: found 1, expected 2"):
        ensemble.predict([("a", "b"), ("a", "c")], languages=["en"])
    assert ensemble.predict([]).shape == (0,)


def test_pairs_as_dicts_or_from_an_iterator_have_the_scores_of_tuples(ensemble):
    expected = ensemble.predict(PAIRS[:9])
    queries, targets = zip(*PAIRS[:9], strict=True)
    for pairs in (zip(queries, targets, strict=True), [{"text": q, "text_pair": t} for q, t in PAIRS[:9]]):
        assert np.allclose(ensemble.predict(pairs), expected, atol=1e-6)


@pytest.mark.parametrize("ask", [lambda e: e.predict(["手机", "鞋类"]), lambda e: e.rank("zapatos", "toys")])
def test_texts_in_place_of_pairs_or_targets_are_refused(ensemble, ask):
    with pytest.raises(ValueError, match="found the text '.*expected a list"):
        ask(ensemble)


def test_a_ranking_takes_any_iterable_of_targets(ensemble):
    targets = [target for _, target in PAIRS[:5]]
    assert ensemble.rank("red shoes", iter(targets)) == ensemble.rank("red shoes", targets)


def test_another_base_of_the_same_shape_is_refused(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    other = save_base(tmp_path / "other", "qwen3", seed=5)
    content = json.loads((tmp_path / "run/run.json").read_text())
    content["base"]["name"] = str(other)
    (tmp_path / "run/run.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="another base"):
        RelevanceEnsemble.from_pretrained(tmp_path / "run")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="run.json"):
        RelevanceEnsemble.from_pretrained(tmp_path)


def test_predict_writes_a_submission_that_passes_and_every_id_gets_a_prediction(run, tmp_path, capsys):
    rows = rows_of("test_QC.txt")[:50]
    rows[3]["category_path"], rows[4]["origin_query"] = None, " "
    file = write_rows(tmp_path / "test_QC.txt", rows)
    output = tmp_path / "submit_QC.txt"
    relevance(["predict", str(run), str(file), "--output", str(output), "--device", "cpu"])
    assert check_submission(file, output) == []
    scores = pd.read_parquet(f"{output}.scores.parquet")
    prior = json.loads((run / "run.json").read_text())["data"]["positive"]
    assert len(scores) == 50 and np.allclose(scores["score"].iloc[[3, 4]], prior)
    relevance(["check", str(file), str(output)])
    assert "passed" in capsys.readouterr().out


def predict_to(ensemble, file, output, **options) -> str:
    return predict_file.predict_file(ensemble, str(file), str(output), **options)


@pytest.fixture
def file(tmp_path):
    return write_rows(tmp_path / "test_QC.txt", rows_of("test_QC.txt")[:9])


def test_a_finished_output_of_the_same_inputs_is_success(run, file, tmp_path, capsys):
    words = ["predict", str(run), str(file), "--output", str(tmp_path / "submit_QC.txt"), "--device", "cpu"]
    relevance(words)
    before = (tmp_path / "submit_QC.txt").read_bytes()
    capsys.readouterr()
    relevance(words)
    assert "complete, nothing to do" in capsys.readouterr().out
    assert (tmp_path / "submit_QC.txt").read_bytes() == before


def test_what_a_kill_left_beside_a_finished_output_is_dropped(ensemble, file, tmp_path):
    predict_to(ensemble, file, tmp_path / "out.txt")
    (tmp_path / "out.txt.parts").mkdir()
    assert "complete, nothing to do" in predict_to(ensemble, file, tmp_path / "out.txt")
    assert not (tmp_path / "out.txt.parts").exists()


OTHERS = {
    "file": lambda file, output: write_rows(file, rows_of("test_QC.txt")[9:18]),
    "threshold": lambda file, output: {"threshold": "0.123"},
    "vote": lambda file, output: {"vote": "majority"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_output_of_other_inputs_is_refused_by_their_name(ensemble, file, tmp_path, name):
    output = tmp_path / "out.txt"
    predict_to(ensemble, file, output)
    options = OTHERS[name](file, output)
    with pytest.raises(ValueError, match=f"made with another {name}; add --overwrite"):
        predict_to(ensemble, file, output, **options if isinstance(options, dict) else {})


def test_an_output_that_was_changed_by_hand_is_refused(ensemble, file, tmp_path):
    predict_to(ensemble, file, tmp_path / "out.txt")
    (tmp_path / "out.txt").write_text("mine")
    with pytest.raises(ValueError, match="was changed since it was written; add --overwrite"):
        predict_to(ensemble, file, tmp_path / "out.txt")


def test_an_output_without_its_scores_is_refused(ensemble, file, tmp_path):
    (tmp_path / "out.txt").write_text("mine")
    with pytest.raises(ValueError, match="nothing says what it was made of; add --overwrite"):
        predict_to(ensemble, file, tmp_path / "out.txt")


TABLES = {
    "scores.csv": pd.read_csv,
    "scores.tsv": lambda path: pd.read_csv(path, sep="\t"),
    "scores.parquet": pd.read_parquet,
    "scores.jsonl": lambda path: pd.read_json(path, lines=True),
}


@pytest.mark.parametrize("name", TABLES)
def test_predictions_have_the_format_of_their_name(ensemble, file, tmp_path, name):
    predict_to(ensemble, file, tmp_path / name)
    table, scores = TABLES[name](tmp_path / name), pd.read_parquet(tmp_path / f"{name}.scores.parquet")
    assert table["id"].tolist() == scores["id"].tolist()
    assert table["prediction"].tolist() == scores["prediction"].tolist()
    assert name.endswith(".jsonl") or np.allclose(table["score"], scores["score"])


@pytest.mark.parametrize("name", [name for name in TABLES if not name.endswith(".jsonl")])
def test_a_table_with_texts_has_the_names_that_people_read(ensemble, file, tmp_path, name):
    predict_to(ensemble, file, tmp_path / name, with_texts=True)
    table, scores = TABLES[name](tmp_path / name), pd.read_parquet(tmp_path / f"{name}.scores.parquet")
    assert [*table] == ["id", "language", "query", "target", "score", "decision"]
    given = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert table["query"].tolist() == [row["origin_query"] for row in given]
    assert table["target"].tolist() == [row["category_path"] for row in given]
    assert (table["decision"] == "relevant").tolist() == (scores["prediction"] == 1).tolist()
    assert predict_to(ensemble, file, tmp_path / name, with_texts=True).endswith("nothing to do")
    with pytest.raises(ValueError, match="made with another with_texts; add --overwrite"):
        predict_to(ensemble, file, tmp_path / name)


@pytest.mark.parametrize(
    "options, reason",
    [
        (["--output", "out.txt"], r"--output out\.txt: found the ending \.txt, expected one of \.csv.*--with_texts"),
        (["--output", "out", "--shards", "2"], "leave --with_texts out"),
    ],
)
def test_texts_go_into_a_table_only(file, options, reason):
    with pytest.raises(SystemExit, match=reason):
        relevance(["predict", "no-run", str(file), "--with_texts", *options])


@pytest.mark.parametrize("name", ["scores.xlsx", "scores", "scores.json"])
def test_another_format_is_refused_before_a_model_is_loaded(file, tmp_path, name):
    with pytest.raises(SystemExit, match=r"--output .*expected one of \.txt, \.jsonl, \.csv, \.tsv, \.parquet"):
        relevance(["predict", str(tmp_path / "no-run"), str(file), "--output", str(tmp_path / name)])


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "no-run", "nofile.csv"],
        ["predict", "no-run", "nofile.csv", "--output", "out.txt"],
        ["decide", "no-run", "--unlabelled", "nofile.csv"],
        ["stack", "no-run", "other", "--output", "out", "--unlabelled", "nofile.csv"],
        ["predict", "no-run", str(ROOT / "sample/test_QC.txt"), "--output", "o.txt", "--translation", "nofile.csv"],
    ],
)
def test_a_file_that_is_not_there_is_refused_before_a_model_is_loaded(command):
    with pytest.raises(SystemExit, match="nofile.csv: found no such file"):
        relevance(command)


def test_a_split_is_predicted_and_its_labels_are_not_read(run, tmp_path):
    import datasets

    rows = [row | {"label": "unknown"} for row in rows_of("test_QC.txt")[:9]]
    splits = {"test": datasets.Dataset.from_list(rows), "more": datasets.Dataset.from_list(rows[:1])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "saved")
    words = ["predict", str(run), str(tmp_path / "saved"), "--split", "test", "--output", str(tmp_path / "out.txt")]
    relevance([*words, "--device", "cpu"])
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 9


def test_a_prediction_that_was_interrupted_goes_on_where_it_stopped(ensemble, tmp_path, monkeypatch):
    file = write_rows(tmp_path / "test_QC.txt", rows_of("test_QC.txt")[:50])
    predict_file.predict_file(ensemble, str(file), str(tmp_path / "whole.txt"), chunk_rows=10)
    real, calls = type(ensemble).share_by_fold, []

    def counted(model, ids):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(len(ids))
        return real(model, ids)

    monkeypatch.setattr(type(ensemble), "share_by_fold", counted)
    with pytest.raises(KeyboardInterrupt):
        predict_file.predict_file(ensemble, str(file), str(tmp_path / "out.txt"), chunk_rows=10)
    assert not (tmp_path / "out.txt").exists()
    calls.append(None)
    predict_file.predict_file(ensemble, str(file), str(tmp_path / "out.txt"), chunk_rows=10)
    assert len(calls) == 4 + 2  # three chunks before, two after
    assert (tmp_path / "out.txt").read_bytes() == (tmp_path / "whole.txt").read_bytes()
    assert not (tmp_path / "out.txt.parts").exists()


def test_evaluate_measures_folds_ensemble_and_languages(run, capsys):
    relevance(["evaluate", str(run), str(ROOT / "sample/answers_QC.txt"), "--json", "--device", "cpu"])
    figures = json.loads(capsys.readouterr().out)
    assert set(figures["folds"]) == {"fold-0", "fold-1", "fold-2"}
    assert {"seen", "unseen", "by_language", "auc", "floor_f1"} <= figures["ensemble"].keys()
    relevance(["evaluate", str(run), str(ROOT / "sample/answers_QC.txt"), "--device", "cpu"])
    assert "all positive (floor)" in capsys.readouterr().out


def test_evaluate_measures_the_order_of_each_querys_rows_and_writes_it_for_trec(run, capsys, tmp_path):
    pytest.importorskip("ir_measures")
    asked = ["--measures", "nDCG@10", "AP", "--trec", str(tmp_path / "trec"), "--device", "cpu"]
    relevance(["evaluate", str(run), str(ROOT / "sample/answers_QC.txt"), "--json", *asked])
    found = json.loads(capsys.readouterr().out)["ranking"]
    assert set(found["folds"]) == set(found["ensemble_less_fold"]) == {"fold-0", "fold-1", "fold-2"}
    files = trec.read_qrels(tmp_path / "trec/qrels.txt"), trec.read_run(tmp_path / "trec/run.txt")
    measured = ranking.measure_queries(*files, ranking.parse_measures(["nDCG@10", "AP"])).mean()
    assert measured.to_dict() == pytest.approx({k: v["value"] for k, v in found["ensemble"]["measures"].items()})
    relevance(["evaluate", str(run), str(ROOT / "sample/answers_QC.txt"), *asked])
    assert "nDCG@10 95%" in capsys.readouterr().out


def test_rank_orders_the_lines_of_a_file_as_the_ensemble_does(run, capsys, tmp_path):
    (tmp_path / "targets.txt").write_text("shoes,boots\n\ntoys,puzzles\n garden,hoses \n")
    asked = ["rank", str(run), "--query", "red boots", "--targets", str(tmp_path / "targets.txt"), "--device", "cpu"]
    relevance([*asked, "--json"])
    found = json.loads(capsys.readouterr().out)
    targets = ["shoes,boots", "toys,puzzles", "garden,hoses"]
    expected = RelevanceEnsemble.from_pretrained(run, device="cpu").rank("red boots", targets)
    assert [(r["line"], r["target"]) for r in found] == [((1, 3, 4)[e["index"]], e["target"]) for e in expected]
    assert [r["score"] for r in found] == pytest.approx([e["score"] for e in expected])
    relevance([*asked, "--top_k", "1"])
    assert capsys.readouterr().out.count("\n") == 3
    (tmp_path / "targets.txt").write_text("\n")
    with pytest.raises(SystemExit, match="found no line with text"):
        relevance(asked)


@pytest.fixture(scope="module")
def half_known(run, tmp_path_factory):
    """Figures of a file of 40 training rows, their queries in capitals, and 60 others; and what the log said."""
    known = [row | {"id": f"k{row['id']}", "origin_query": row["origin_query"].upper()} for row in QC[:40]]
    file = write_rows(tmp_path_factory.mktemp("half") / "half.txt", known + rows_of("answers_QC.txt")[:60])
    with pytest.MonkeyPatch.context() as patch:
        told = []
        patch.setattr(judge_file.logger, "warning", lambda text, *values: told.append(text % values))
        return evaluate_file.evaluate_file(RelevanceEnsemble.from_pretrained(run, device="cpu"), str(file)), told


def test_evaluate_says_how_many_rows_have_queries_of_the_training_file(half_known):
    assert len(half_known[1]) == 1 and "40 of 100 rows have one of" in half_known[1][0]


def test_evaluate_measures_known_and_new_queries_apart(half_known):
    whole = half_known[0]["ensemble"]
    assert (whole["known_queries"]["rows"], whole["new_queries"]["rows"]) == (40, 60)
    assert "of the training file" in evaluate_file.evaluation_table(half_known[0])


def test_evaluate_gives_intervals_of_each_language(half_known):
    whole = half_known[0]["ensemble"]
    assert all(group["f1_interval"] for group in (whole, *whole["by_language"].values()))


def test_rows_of_new_queries_alone_are_measured_once(run, capsys):
    relevance(["evaluate", str(run), str(ROOT / "sample/answers_QC.txt"), "--json", "--device", "cpu"])
    assert not {"known_queries", "new_queries"} & json.loads(capsys.readouterr().out)["ensemble"].keys()


def test_info_tells_base_template_and_thresholds(run, capsys):
    relevance(["info", str(run)])
    told = capsys.readouterr().out
    assert "qwen3" in told and "thresholds" in told and "fold-2" in told


def test_importing_the_package_imports_no_torch():
    code = "import sys, product_relevance, product_relevance.data.records, product_relevance.data.folds\n"
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_known_path_in_the_other_rendering_gets_the_same_score(ensemble):
    known = next(row["category_path"] for row in rows_of("train_QC.txt")[:240] if "," in row["category_path"])
    other = ", ".join(known.replace(", ", "\0").split(",")).replace("\0", ", ")
    assert other != known
    one, two, unknown = ensemble.predict([("shoes", known), ("shoes", other), ("shoes", other + ", nowhere")])
    assert one == two != unknown


@pytest.fixture(scope="module")
def decided(run, tmp_path_factory):
    """The run with a calibration and with cuts that call all of one language relevant and none of another."""
    folder = shutil.copytree(run, tmp_path_factory.mktemp("decided") / "run")
    relevance(["decide", str(folder), "--calibration", "temperature", "--threshold_by", "language"])
    content = json.loads((folder / "run.json").read_text())
    kinds = ("f1", "macro_f1", "expected_f1")
    content["decision"]["languages"] = {"es": dict.fromkeys(kinds, 1e-9), "fr": dict.fromkeys(kinds, 1 - 1e-9)}
    content["decision"]["spread"] = {"slope": 2.0, "offset": 0.0, "match": "folds", "rows": 9, "source": "x"}
    content["decision"]["thresholds"]["f1"] = 0.52
    (folder / "run.json").write_text(json.dumps(content))
    return folder


def test_a_decision_changes_no_score_and_no_rank_but_what_is_called_relevant(ensemble, decided):
    other = RelevanceEnsemble.from_pretrained(decided, device="cpu")
    scores = other.predict(PAIRS)
    assert np.allclose(scores, ensemble.predict(PAIRS), atol=1e-6) and other.threshold == 0.52
    assert (np.argsort(other.calibrate(scores)) == np.argsort(scores)).all()
    assert np.abs(other.calibrate(scores) - scores).max() > 1e-3 and (ensemble.calibrate(scores) == scores).all()
    assert (other.decide(scores) == (scores >= 0.52)).all()
    codes = ["es", "fr", "pl"] * 20
    found = other.decide(scores, codes)
    assert found[::3].all() and not found[1::3].any() and (found[2::3] == (scores[2::3] >= 0.52)).all()


def test_votes_are_taken_at_the_cut_of_single_models(run, decided):
    other = RelevanceEnsemble.from_pretrained(decided, device="cpu")
    cut = json.loads((run / "run.json").read_text())["thresholds"]["f1"]
    majority = other.predict(PAIRS, vote="majority")
    assert cut != other.threshold and np.allclose(majority, (other.predict_folds(PAIRS) >= cut).mean(axis=1))


def test_predict_and_evaluate_use_the_decision(decided, tmp_path, capsys):
    rows = rows_of("answers_QC.txt")[:90]
    file = write_rows(tmp_path / "answers_QC.txt", rows)
    output = tmp_path / "submit_QC.txt"
    relevance(["predict", str(decided), str(file), "--output", str(output), "--device", "cpu"])
    found = pd.read_parquet(f"{output}.scores.parquet")
    by = found.groupby("language")["prediction"]
    assert by.get_group("es").all() and not by.get_group("fr").any()
    assert (found["score"].rank() == found["probability"].rank()).all()
    capsys.readouterr()
    relevance(["evaluate", str(decided), str(file), "--json", "--device", "cpu"])
    figures = json.loads(capsys.readouterr().out)["ensemble"]
    assert figures["by_language"]["es"]["recall"] == 1 and figures["by_language"]["fr"]["recall"] == 0
    assert figures["calibrated"]["ece"] != figures["ece"]
    with pytest.raises(SystemExit, match="expected f1, macro_f1, expected_f1, or a number"):
        relevance(["evaluate", str(decided), str(file), "--threshold", "f2", "--device", "cpu"])


def test_unlabelled_records_tell_how_narrow_the_mean_is(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    file = write_rows(tmp_path / "test_QC.txt", rows_of("test_QC.txt")[:40])
    relevance(["decide", str(folder), "--unlabelled", str(file)])
    spread = json.loads((folder / "run.json").read_text())["decision"]["spread"]
    assert spread["slope"] > 1 and (spread["rows"], spread["source"], spread["match"]) == (40, "test_QC.txt", "folds")
    relevance(["info", str(folder)])


@pytest.mark.parametrize(
    "command", ["predict RUN FILE --output out.txt", "evaluate RUN FILE", "decide RUN --unlabelled FILE"]
)
def test_on_bad_rows_skip_is_a_way_out_that_the_command_has(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, tmp_path / "run")
    rows = rows_of("answers_QC.txt")[:30]
    write_rows(tmp_path / "rows.txt", [rows[0] | {"language": 7}, *rows[1:]])
    words = command.replace("RUN", "run").replace("FILE", "rows.txt").split()
    with pytest.raises(SystemExit, match=r"(?s)rows.txt:1: field 'language'.*--on_bad_rows skip"):
        relevance(words)
    relevance([*words, "--on_bad_rows", "skip"])


@pytest.fixture(scope="module")
def one_fold(run, tmp_path_factory):
    """The first fold of the run, as a run of its own."""
    folder = tmp_path_factory.mktemp("one") / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "fold-1")
    shutil.rmtree(folder / "fold-2")
    keep_in_run_json(folder, "fold-0")
    return folder


def compared(capsys, *words) -> tuple[str, int]:
    """What `relevance compare` prints, and its exit code."""
    try:
        relevance(["compare", *map(str, words), "--device", "cpu"])
        code = 0
    except SystemExit as ended:
        code = ended.code
    return capsys.readouterr().out, code


def test_compare_measures_both_runs_as_evaluate_does(run, one_fold, tmp_path, capsys):
    labelled = write_rows(tmp_path / "dev.txt", QC[240:320])
    printed, code = compared(capsys, one_fold, run, labelled, "--json")
    found = json.loads(printed)
    expected = [
        evaluate_file.evaluate_file(RelevanceEnsemble.from_pretrained(folder, device="cpu"), str(labelled))["ensemble"]
        for folder in (one_fold, run)
    ]
    assert code == 0
    for name in ("auc", "f1", "macro_f1"):
        figures = found["measures"][name]
        assert (figures["a"], figures["b"]) == pytest.approx(tuple(part[name] for part in expected))


def test_the_exit_code_of_compare_says_whether_b_may_follow_a(run, tmp_path, capsys):
    labelled = write_rows(tmp_path / "dev.txt", QC[240:320])
    assert compared(capsys, run, run, labelled, "--no_worse_by", "0.01")[1] == 0
    printed, code = compared(capsys, run, run, labelled, "--better_by", "0")
    assert code == 3 and "B is not surely better by more than 0" in printed


def test_compare_writes_the_rows_that_changed_with_their_texts(run, one_fold, tmp_path, capsys):
    labelled = write_rows(tmp_path / "dev.txt", QC[240:320])
    printed, _ = compared(capsys, one_fold, run, labelled, "--threshold", "0.5", "--changed", tmp_path / "changed.csv")
    rows = pd.read_csv(tmp_path / "changed.csv")
    assert f"{len(rows)} of 80 rows changed" in printed and len(rows)
    assert (rows["prediction_a"] != rows["prediction_b"]).all()
    assert set(rows["origin_query"]) <= {row["origin_query"] for row in QC[240:320]}


def test_two_submissions_have_no_labels_to_be_better_on(file, capsys):
    _, code = compared(capsys, file, file, "--better_by", "0")
    assert "name a labelled file too" in code


def test_evaluate_writes_a_page_on_errors_beside_the_same_figures(run, tmp_path, capsys):
    labelled = write_rows(tmp_path / "dev.txt", QC[240:280])
    relevance(["evaluate", str(run), str(labelled), "--device", "cpu"])
    plain = capsys.readouterr().out
    relevance(["evaluate", str(run), str(labelled), "--device", "cpu", "--report", str(tmp_path / "errors")])
    assert capsys.readouterr().out.startswith(plain.rstrip())
    page = (tmp_path / "errors" / "report.html").read_text(encoding="utf-8")
    assert "by first level" in page and "rows whose language was corrected" in page
    assert (tmp_path / "errors" / "figures" / "threshold.png").is_file()
    rows = pd.read_csv(tmp_path / "errors" / "rows.csv")
    assert len(rows) == 40 and rows["loss"].is_monotonic_decreasing
    assert sorted(rows["query"]) == sorted(row["origin_query"] for row in QC[240:280])
    right = rows["score"].where(rows["label"] == "relevant", 1 - rows["score"])
    assert np.allclose(-np.log(right), rows["loss"])
