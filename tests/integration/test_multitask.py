"""One adapter for both tasks: each keeps its thresholds and its texts, and no query is on both sides of a fold."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import task_transfer
from hypothesis import given, settings
from hypothesis import strategies as st

import train_relevance
from product_relevance.cli.info import run_lines
from product_relevance.cli.main import make_parser
from product_relevance.cli.serving import serve_run
from product_relevance.data.arguments import DataArguments
from product_relevance.data.folds import query_groups
from product_relevance.data.leakage import LeakageError
from product_relevance.data.loading import load_columns
from product_relevance.data.splits import make_splits
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.extract_task import take_task
from product_relevance.ensemble.files.evaluate_file import evaluate_file
from product_relevance.ensemble.files.predict_file import predict_file
from product_relevance.ensemble.fit_stack import stack_runs
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.evaluation.decision import decide_run
from product_relevance.evaluation.metrics import best_threshold
from product_relevance.evaluation.out_of_fold import compute_metrics_by_task
from product_relevance.hub.staging import stage_run
from product_relevance.preparation.labels.label_errors import read_scores
from product_relevance.serving.handler import EndpointHandler
from product_relevance.text.templates import PairFacts, Template
from product_relevance.utils import tasks
from product_relevance.utils.run_folder import load_record, load_run
from tests.conftest import rows_of, write_rows

TINY = "--use_cpu true --lora_r 4 --language_fix none --per_device_train_batch_size 32 --num_folds 2 --max_steps 4"
TINY += " --eval_strategy no --save_strategy no --load_best_model_at_end false --learning_rate 1e-3"


def train(base, folder, output, *more, task: str = "QC,QI") -> None:
    file = ",".join(str(folder / f"{one}.txt") for one in task.split(","))
    names = ["--model_name_or_path", str(base), "--train_file", file, "--task", task, "--output_dir", str(output)]
    train_relevance.main([*TINY.split(), *names, *more])


def refused(*arguments, **options) -> str:
    with pytest.raises(SystemExit) as stopped:
        train(*arguments, **options)
    return str(stopped.value)


@pytest.fixture(scope="module")
def both(base_of, tmp_path_factory):
    """Files of both tasks, of unlike size, and a run of two folds on them."""
    folder = tmp_path_factory.mktemp("both")
    for task, rows in (("QC", 160), ("QI", 80)):
        write_rows(folder / f"{task}.txt", rows_of(f"train_{task}.txt")[:rows])
    train(base_of("bert"), folder, folder / "run", "--task_mixing", "equal")
    return folder


def test_thresholds_and_figures_are_those_of_each_tasks_own_rows(both):
    run, oof = load_run(both / "run"), pd.read_parquet(both / "run/oof.parquet")
    for task, rows in (("QC", 160), ("QI", 80)):
        part = oof[oof["task"] == task]
        assert len(part) == rows == run["metrics"][task]["rows"] == run["data"]["tasks"][task]["rows"]
        for kind, cut in run["thresholds"][task].items():
            assert cut == best_threshold(part["label"], part["score"], kind)[0]
        assert (both / f"run/{task}/report.md").is_file() and f"{task}/report.md" in (
            both / "run/report.md"
        ).read_text()
    assert run["template"]["task_tag"] and run["thresholds"]["QC"] != run["thresholds"]["QI"]
    shares = [json.loads((both / f"run/fold-{k}/fold.json").read_text())["tasks"] for k in (0, 1)]
    assert all(part[task]["share"] == 0.5 for part in shares for task in ("QC", "QI"))
    lines = "\n".join(run_lines(load_record(both / "run")))
    assert "thresholds  QC: f1" in lines and "out of fold QI: f1" in lines


def test_no_query_is_trained_on_for_one_task_and_held_out_for_the_other(both):
    oof = pd.read_parquet(both / "run/oof.parquet")
    text = {task: {row["id"]: row["origin_query"] for row in rows_of(f"train_{task}.txt")} for task in ("QC", "QI")}
    oof["query"] = [text[task][row] for task, row in zip(oof["task"], oof["id"], strict=True)]
    shared = set(oof.loc[oof["task"] == "QC", "query"]) & set(oof.loc[oof["task"] == "QI", "query"])
    assert shared and (oof.groupby("query")["fold"].nunique() == 1).all()


def with_cuts(both, folder, **cuts):
    """Copy the run with F1 cuts put in place of its own."""
    shutil.copytree(both / "run", folder)
    run = load_run(folder)
    for task, cut in cuts.items():
        run["thresholds"][task]["f1"] = cut
    (folder / "run.json").write_text(json.dumps(run))
    return RelevanceEnsemble.from_pretrained(str(folder))


def test_a_file_is_decided_by_the_cuts_of_its_own_task(both, tmp_path):
    ensemble = with_cuts(both, tmp_path / "run", QC=1e-9, QI=1 - 1e-9)
    for task, expected in (("QC", 1), ("QI", 0)):
        predict_file(ensemble, str(both / f"{task}.txt"), str(tmp_path / f"{task}.txt"))
        table = pd.read_parquet(tmp_path / f"{task}.txt.scores.parquet")
        assert (table["prediction"] == expected).all()
        figures = evaluate_file(ensemble, str(both / f"{task}.txt"))
        measured = figures["ensemble"]
        assert measured["threshold"] == pytest.approx(1 - expected, abs=1e-6) and measured["rows"] == len(table)


def test_pairs_need_a_task_and_views_of_both_share_one_model(both):
    ensemble = RelevanceEnsemble.from_pretrained(str(both / "run"))
    pair = [("zapatos rojos", "shoes,women's shoes")]
    for call in (lambda: ensemble.predict(pair), lambda: ensemble.threshold, lambda: ensemble.rank("a", ["b"])):
        with pytest.raises(ValueError, match="trained on QC and QI.*name one"):
            call()
    one, two = ensemble.predict_folds(pair, tasks=["QC"]), ensemble.predict_folds(pair, tasks=["QI"])
    assert np.abs(one - two).max() > 1e-6
    category, title = ensemble.of_task("QC"), ensemble.of_task("QI")
    for _ in range(2):  # one after the other, since they switch the same model's folds
        np.testing.assert_allclose(category.predict_folds(pair), one, atol=1e-6)
        np.testing.assert_allclose(title.predict(pair), two.mean(1), atol=1e-6)
    np.testing.assert_allclose(ensemble.of_task("QI").predict(pair), two.mean(1), atol=1e-6)
    assert category.threshold == load_run(both / "run")["thresholds"]["QC"]["f1"]
    with pytest.raises(ValueError, match="task XX"):
        ensemble.of_task("XX")


def test_a_task_taken_out_scores_as_before_and_can_be_decided(both, tmp_path):
    take_task(str(both / "run"), "QI", str(tmp_path / "qi"))
    alone = RelevanceEnsemble.from_pretrained(str(tmp_path / "qi"))
    whole = RelevanceEnsemble.from_pretrained(str(both / "run")).of_task("QI")
    pairs = [(row["origin_query"], row["item_title"]) for row in rows_of("dev_QI.txt")[:20]]
    np.testing.assert_allclose(alone.predict_folds(pairs), whole.predict_folds(pairs), atol=1e-6)
    assert alone.thresholds == whole.thresholds and alone.run.metrics == whole.run.metrics
    own = json.loads((both / "run/fold-0/fold.json").read_text())["tasks"]["QI"]["rows"]
    assert alone.run.folds[0]["train_rows"] == own == 80 - alone.run.folds[0]["valid_rows"]
    assert not (tmp_path / "qi/taxonomy.json").exists()
    assert "isotonic" in decide_run(str(tmp_path / "qi")) and (tmp_path / "qi/report.md").is_file()
    with pytest.raises(ValueError, match="already"):
        take_task(str(both / "run"), "QI", str(tmp_path / "qi"))
    shutil.copytree(both / "run", tmp_path / "runs/both")
    for output in ("runs/both", "runs"):
        with pytest.raises(ValueError, match="name another one"):
            take_task(str(tmp_path / "runs/both"), "QI", str(tmp_path / output), overwrite=True)
    assert load_run(tmp_path / "runs/both")["task"] == "QC,QI"
    with pytest.raises(ValueError, match="nothing to take out"):
        take_task(str(tmp_path / "qi"), "QI", str(tmp_path / "again"))


def test_the_transfer_matrix_measures_runs_on_tasks_that_they_were_not_trained_on(both, tmp_path, capsys):
    take_task(str(both / "run"), "QC", str(tmp_path / "qc"))  # the same weights and texts, but of one task
    files = [str(both / "QC.txt"), str(both / "QI.txt")]
    task_transfer.main([str(both / "run"), str(tmp_path / "qc"), "--files", *files, "--rows", "60", "--device", "cpu"])
    table, *_, line = capsys.readouterr().out.strip().splitlines()
    cells = {(cell["run"], cell["task"]): cell for cell in json.loads(line)["cells"]}
    assert "QC AUC" in table and [cell["trained_on"] for cell in cells.values()] == ["QC,QI"] * 2 + ["QC"] * 2
    for task in ("QC", "QI"):
        assert cells["qc", task]["auc"] == pytest.approx(cells["run", task]["auc"]) and cells["qc", task]["rows"] >= 60
    with pytest.raises(ValueError, match="task QI: this run was trained on QC only"):
        RelevanceEnsemble.from_pretrained(str(tmp_path / "qc")).of_task("QI")


def test_what_takes_one_task_refuses_a_run_of_both_and_says_how_to_take_one_out(both, tmp_path):
    run = str(both / "run")
    calls = [lambda: decide_run(run), lambda: stack_runs([run, run], str(tmp_path / "stack"))]
    calls += [lambda: stage_run(run, str(tmp_path / "out"), "org/name")]
    mean = LoadingArguments(merge="weights")
    calls += [lambda: RelevanceEnsemble.from_pretrained(run, loading=mean), lambda: EndpointHandler(run)]
    calls += [lambda: read_scores(run), lambda: serve_run(make_parser().parse_args(["serve", run, "--port", "0"]))]
    for call in calls:
        with pytest.raises(ValueError, match="relevance take"):
            call()


def test_a_second_stage_on_rows_that_the_first_saw_is_refused(both, base_of, tmp_path):
    first = ["--init_adapter", str(both / "run")]
    assert "saw rows" in refused(base_of("bert"), both, tmp_path / "qc", *first, task="QC")
    train(base_of("bert"), both, tmp_path / "again", *first, "--fold", "1")
    assert load_run(tmp_path / "again")["first_stage"]["task"] == "QC,QI"


@pytest.mark.parametrize(("kind", "pooling"), [("bert", "mean"), ("qwen3", "auto")])
def test_one_adapter_learns_opposite_answers_to_the_same_pairs_from_the_tag(kind, pooling, base_of, tmp_path):
    rows = rows_of("train_QC.txt")[:16]
    write_rows(tmp_path / "QC.txt", [row | {"label": 1} for row in rows])
    titles = [{k: v for k, v in row.items() if k != "category_path"} | {"task": "QI", "label": 0} for row in rows]
    titles = [row | {"item_title": old["category_path"]} for row, old in zip(titles, rows, strict=True)]
    write_rows(tmp_path / "QI.txt", titles)
    more = [
        "--fold",
        "full",
        "--max_steps",
        "100",
        "--learning_rate",
        "4e-3",
        "--base_dropout",
        "0",
        "--pooling",
        pooling,
    ]
    train(base_of(kind), tmp_path, tmp_path / "run", *more)
    ensemble = RelevanceEnsemble.from_pretrained(str(tmp_path / "run"))
    pairs = [(row["origin_query"], row["category_path"]) for row in rows]
    assert ensemble.of_task("QC").predict(pairs).min() > 0.7 and ensemble.of_task("QI").predict(pairs).max() < 0.3


def test_a_template_of_both_renders_a_row_as_that_of_its_task_with_a_tag():
    queries, targets = ["usb kabel", "red cup"], ["phones,cables, usb", "Cup,red,large"]
    joint = Template(task="QC,QI", task_tag=True, path_style="markers")
    texts, pairs = joint.render(queries, targets, PairFacts(tasks=["QC", "QI"]))
    assert pairs == ["category path: phones > cables, usb", "item title: Cup,red,large"] and texts == queries
    for i, task in enumerate(("QC", "QI")):
        alone = Template(task=task, task_tag=True, path_style="markers")
        assert alone.render([queries[i]], [targets[i]]) == ([texts[i]], [pairs[i]])
        with pytest.raises(ValueError, match="tasks: found"):
            alone.render([queries[i]], [targets[i]], PairFacts(tasks=["QI" if task == "QC" else "QC"]))
    with pytest.raises(ValueError, match="tasks: found none"):
        joint.render(queries, targets)
    assert "task_tag" not in Template().to_dict() and Template.from_dict(joint.to_dict()) == joint


def read(both, **changes) -> pd.DataFrame:
    files = f"{both / 'QC.txt'},{both / 'QI.txt'}"
    arguments = DataArguments(train_file=files, task="QC,QI", language_fix="none", num_folds=2, **changes)
    return load_columns(arguments), arguments


def test_given_folds_that_part_a_query_between_the_tasks_are_refused(both):
    frame, arguments = read(both)
    frame["fold"] = pd.factorize(query_groups(frame))[0] % 2
    assert len(make_splits(frame, arguments)) == 2
    paths, titles = frame["task"] == "QC", frame["task"] == "QI"
    common = next(q for q in frame.loc[paths, "origin_query"] if q in set(frame.loc[titles, "origin_query"]))
    frame.loc[titles & (frame["origin_query"] == common), "fold"] ^= 1
    with pytest.raises(LeakageError, match="queries"):
        make_splits(frame, arguments)


def test_made_rows_of_one_task_do_not_depend_on_ids_of_the_other(both):
    frame, arguments = read(both)
    frame["fold"] = pd.factorize(query_groups(frame))[0] % 2
    frame["method"], frame["source_row"] = "original", None
    made = frame[frame["task"] == "QI"].iloc[:1]
    clash = frame[(frame["task"] == "QC") & (frame["fold"] != made["fold"].item())].iloc[0]
    frame.loc[clash.name, "id"] = made["id"].item()
    made = made.assign(id=10**9, method="translated", source_row=made["id"].item(), origin_query="made anew")
    frame = pd.concat([frame, made], ignore_index=True)
    for k, split in enumerate(make_splits(frame, arguments)):
        assert (len(frame) - 1 in split.train) == (k != made["fold"].item())


@settings(max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["proportional", "equal", "1", "2", "5.5"]))
def test_weights_give_each_task_its_share_of_the_loss(paths, titles, mixing):
    rows = ["QC"] * paths + ["QI"] * titles
    weights = np.array(tasks.mixing_weights(rows, mixing))
    power = {"proportional": 1, "equal": 0}.get(mixing) if mixing in ("proportional", "equal") else 1 / float(mixing)
    expected = paths**power / (paths**power + titles**power)
    assert weights.mean() == pytest.approx(1)
    assert weights[:paths].sum() / weights.sum() == pytest.approx(expected)
    assert tasks.task_shares(rows, mixing)["QC"]["share"] == pytest.approx(expected)


def test_checkpoints_are_compared_by_the_mean_of_both_tasks_at_their_own_cuts():
    class Prediction:
        predictions = np.array([[0.0, x] for x in (-1, 1, 4, 6)])
        label_ids = np.array([0, 1, 0, 1])

    found = compute_metrics_by_task(Prediction, ["QC", "QC", "QI", "QI"])
    assert found["f1"] == found["f1_QC"] == found["f1_QI"] == found["auc"] == 1 and "threshold" not in found
    assert found["threshold_QC"] < found["threshold_QI"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train_file": "QC.txt"}, "found 1 files for --task QC,QI"),
        ({"group_by": "prefix"}, "no category prefix"),
        ({"task_mixing": "0.5"}, "a temperature from 1 up"),
        ({"task_mixing": "often"}, "--task_mixing often"),
        ({"task": "QC", "task_mixing": "equal", "train_file": "a"}, "nothing to mix"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(changes, told):
    with pytest.raises(ValueError, match=told):
        DataArguments(**{"train_file": "QC.txt,QI.txt", "task": "QC,QI"} | changes)
