"""A catalogue comes out in the order of the model: all of it as one ranking, and nothing half-written."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import train_relevance
from product_relevance import RelevanceEnsemble
from product_relevance.cli.main import main as relevance
from product_relevance.ensemble.retrieval import first_stage, rank_catalogue
from product_relevance.evaluation.trec import read_run
from product_relevance.text.cleaning import clean_text
from tests.conftest import rows_of, write_rows
from tests.helpers.made_rows import encode

FLAGS = "--task QC,QI --use_cpu true --lora_r 4 --language_fix none --num_folds 2 --max_steps 4 --learning_rate 1e-3"
FLAGS += " --eval_strategy no --save_strategy no --load_best_model_at_end false"


@pytest.fixture(scope="module")
def shop(base_of, tmp_path_factory):
    """A run of both tasks, a catalogue of its own columns, queries and judgements."""
    folder = tmp_path_factory.mktemp("shop")
    files = [str(write_rows(folder / f"{task}.txt", rows_of(f"train_{task}.txt")[:120])) for task in ("QC", "QI")]
    names = ["--model_name_or_path", str(base_of("xlm-roberta")), "--train_file", ",".join(files)]
    train_relevance.main([*FLAGS.split(), *names, "--output_dir", str(folder / "run")])
    rows = rows_of("train_QI.txt")[:60]
    titles = list(dict.fromkeys(row["item_title"] for row in rows))
    pd.DataFrame({"sku": [f"s{i}" for i in range(len(titles))], "title": titles}).to_csv(folder / "c.csv", index=False)
    asked = {row["origin_query"]: row["language"] for row in rows[:5]}
    pd.DataFrame({"query_id": range(5), "q": [*asked], "language": [*asked.values()]}).to_csv(
        folder / "q.csv", index=False
    )
    write_rows(folder / "judged.txt", rows)
    return folder


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    monkeypatch.setattr(first_stage, "load_encoder", lambda *names, **options: encode)


def rank(shop, output: str, *more: str) -> pd.DataFrame | None:
    columns = ["--columns", "id=sku", "target=title", "query=q"]
    command = ["rank", str(shop / "run"), "--task", "QI", "--queries", str(shop / "q.csv"), *columns]
    relevance([*command, "--catalogue", str(shop / "c.csv"), "--output", str(shop / output), *more])
    return pd.read_csv(shop / output) if output.endswith(".csv") else None


def similarities(queries, titles) -> np.ndarray:
    """What the first stage goes by, (queries, titles)."""
    return encode(list(map(clean_text, queries)), "query") @ encode(list(map(clean_text, titles)), "passage").T


def refused(shop, *words: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        relevance(["rank", str(shop / "run"), *words])
    return str(stopped.value)


def test_candidates_of_the_whole_catalogue_are_ranked_as_all_of_it(shop):
    found = rank(shop, "all.csv", "--candidates", "500", "--top_k", "500")
    catalogue, queries = pd.read_csv(shop / "c.csv"), pd.read_csv(shop / "q.csv")
    model = RelevanceEnsemble.from_pretrained(shop / "run").of_task("QI")
    for number, (text, language) in enumerate(zip(queries["q"], queries["language"], strict=True)):
        own = found[found["query_id"] == number]
        expected = model.rank(text, catalogue["title"], language=language)
        assert own["id"].tolist() == [catalogue["sku"][each["index"]] for each in expected]
        assert own["rank"].tolist() == list(range(1, len(catalogue) + 1))
        assert np.allclose(own["score"], [each["score"] for each in expected], atol=1e-6)


def test_the_table_holds_the_best_of_the_candidates(shop):
    found = rank(shop, "few.csv", "--candidates", "10", "--top_k", "3")
    assert list(found) == ["query_id", "query", "rank", "id", "target", "score", "first_stage_score"]
    table = similarities(pd.read_csv(shop / "q.csv")["q"], pd.read_csv(shop / "c.csv")["title"])
    for number, own in found.groupby("query_id"):
        nearest = np.argsort(-table[number], kind="stable")[:10]
        assert len(own) == 3 and set(own["id"]) <= {f"s{i}" for i in nearest}
        assert (np.diff(own["score"]) <= 0).all()


@pytest.mark.parametrize("ending", ["parquet", "tsv", "run"])
def test_other_formats_hold_the_same_ranking(shop, ending):
    table = rank(shop, "same.csv", "--candidates", "10", "--top_k", "4", "--overwrite")
    rank(shop, f"same.{ending}", "--candidates", "10", "--top_k", "4")
    if ending == "run":
        other = read_run(shop / "same.run").rename(columns={"doc_id": "id"})
    else:
        other = (
            pd.read_parquet(shop / "same.parquet") if ending == "parquet" else pd.read_csv(shop / "same.tsv", sep="\t")
        )
    assert other["id"].tolist() == table["id"].tolist() and np.allclose(other["score"], table["score"])


def test_labelled_records_and_trec_judgements_give_the_recall_of_the_first_stage(shop, capsys):
    pytest.importorskip("ir_measures")
    rank(shop, "judged.csv", "--candidates", "8", "--top_k", "2", "--qrels", str(shop / "judged.txt"), "--json")
    figures = json.loads(capsys.readouterr().out)
    titles = {title: f"s{i}" for i, title in enumerate(pd.read_csv(shop / "c.csv")["title"])}
    queries = {text: number for number, text in enumerate(pd.read_csv(shop / "q.csv")["q"])}
    known = [row for row in rows_of("train_QI.txt")[:60] if row["origin_query"] in queries]
    lines = {f"{queries[r['origin_query']]} 0 {titles[r['item_title']]} {r['label']}" for r in known}
    (shop / "qrels.txt").write_text("\n".join(sorted(lines)))
    rank(shop, "judged2.csv", "--candidates", "8", "--top_k", "2", "--qrels", str(shop / "qrels.txt"), "--json")
    assert json.loads(capsys.readouterr().out)["first_stage"] == figures["first_stage"]
    table = similarities(queries, titles)
    relevant = {(queries[row["origin_query"]], titles[row["item_title"]]) for row in known if row["label"]}
    shares = []
    for number in {number for number, _ in relevant}:
        own = {name for query, name in relevant if query == number}
        shares.append(len(own & {f"s{i}" for i in np.argsort(-table[number])[:8]}) / len(own))
    judged = len({row["origin_query"] for row in known})
    assert figures["first_stage"]["measures"]["R@8"]["value"] == pytest.approx(sum(shares) / judged)
    assert figures["ensemble"]["measures"]["R@8"] == figures["first_stage"]["measures"]["R@8"]
    rank(shop, "shown.csv", "--candidates", "8", "--top_k", "2", "--qrels", str(shop / "qrels.txt"))
    assert "first stage" in capsys.readouterr().out


def test_an_interrupted_ranking_goes_on_where_it_stopped(shop, monkeypatch):
    whole = rank(shop, "whole.csv", "--candidates", "10")
    monkeypatch.setattr(rank_catalogue, "CHUNK_PAIRS", 10)
    score, calls = rank_catalogue._score_chunk, []

    def stop_at_third(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(*arguments)

    monkeypatch.setattr(rank_catalogue, "_score_chunk", stop_at_third)
    with pytest.raises(SystemExit):
        rank(shop, "again.csv", "--candidates", "10")
    assert not (shop / "again.csv").exists() and (shop / "again.csv.parts").is_dir()
    found = rank(shop, "again.csv", "--candidates", "10")
    assert len(calls) == 6 and not (shop / "again.csv.parts").exists()
    assert found["id"].tolist() == whole["id"].tolist() and np.allclose(found["score"], whole["score"], atol=1e-6)


def test_what_cannot_be_ranked_says_why(shop):
    lists = ["--queries", str(shop / "q.csv"), "--catalogue", str(shop / "c.csv"), "--output", str(shop / "no.csv")]
    columns = ["--columns", "id=sku", "target=title", "query=q"]
    assert "add --task QC or --task QI" in refused(shop, *lists, *columns)
    assert "give more --candidates" in refused(shop, *lists, "--top_k", "9", "--candidates", "5")
    assert "--queries with --catalogue and --output" in refused(shop, "--query", "x", *lists)
    assert "expected one of .csv" in refused(shop, *lists[:-1], str(shop / "no.txt"), *columns, "--task", "QI")
    twice = shop / "twice.csv"
    twice.write_text("sku,title\na,belt\na,hat\n")
    lists[3] = str(twice)
    assert "expected each id once" in refused(shop, *lists, *columns, "--task", "QI")
    lists[3] = str(shop / "gone.csv")
    assert "no such file" in refused(shop, *lists)
    shutil.copy(shop / "q.csv", shop / "there.csv")
    lists[3], lists[5] = str(shop / "c.csv"), str(shop / "there.csv")
    assert "add --overwrite" in refused(shop, *lists)
    blank = shop / "blank.csv"
    blank.write_text("sku,title\na b,belt\n")
    lists[3], lists[5] = str(blank), str(shop / "no.run")
    assert "without white space" in refused(shop, *lists, *columns, "--task", "QI")
    assert not (shop / "no.csv").exists() and not (shop / "no.run").exists()


def test_one_query_is_ranked_by_a_run_of_two_tasks(shop, capsys):
    lines = shop / "lines.txt"
    lines.write_text("red belt\n\nhat\n")
    relevance(["rank", str(shop / "run"), "--task", "QI", "--query", "belt", "--targets", str(lines), "--json"])
    assert sorted(row["line"] for row in json.loads(capsys.readouterr().out)) == [1, 3]
