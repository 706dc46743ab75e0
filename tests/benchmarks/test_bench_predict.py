"""The benchmark of scoring: equal tokens, equal scores, and figures that are kept without a trace of the machine."""

import json
import socket

import bench_predict
import implementations
import measurement
import numpy as np
import pytest
import torch

from tests.conftest import ROOT, rows_of, write_rows


@pytest.fixture(scope="module")
def figures(base_of, tmp_path_factory):
    """What the benchmark gives for 200 pairs of a tiny encoder, the sample's rows repeated."""
    folder = tmp_path_factory.mktemp("bench")
    rows = write_rows(folder / "rows.txt", rows_of("train_QC.txt")[:120])
    command = ["--model", str(base_of("bert")), "--rows", str(rows), "--pairs", "50", "200", "--device", "cpu"]
    return bench_predict.run(bench_predict.make_parser().parse_args([*command, "--repeats", "1"]))


def of(figures: dict, side: str, pairs: int = 200) -> dict:
    return next(row for row in figures["results"] if row["side"] == side and row["pairs"] == pairs)


def test_all_sides_score_alike(figures):
    assert {row["side"] for row in figures["results"]} == set(bench_predict.SIDES)
    assert max(row["max_difference"] for row in figures["results"]) < 1e-5


def test_ours_pads_less_than_the_order_of_arrival(figures):
    assert 1 <= of(figures, "ours")["padding"] < of(figures, "first_team")["padding"]


def test_a_random_model_of_a_shape_is_scored_without_a_tokenizer():
    command = ["--shape", "tiny", "--pairs", "60", "--repeats", "1", "--device", "cpu"]
    found = bench_predict.run(bench_predict.make_parser().parse_args(command))
    assert {row["side"] for row in found["results"]} == {"ours", "first_team"}
    assert max(row["max_difference"] for row in found["results"]) < 1e-5


def test_figures_are_kept_with_their_environment_and_no_path_or_host_name(figures, tmp_path):
    text = measurement.keep("predict-tiny", figures, tmp_path).read_text()
    kept = json.loads(text)
    assert kept["figures"] == figures
    assert {"commit", "device", "cores", "versions", "date"} <= kept["environment"].keys()
    assert str(ROOT) not in text and str(tmp_path) not in text and socket.gethostname() not in text


@pytest.mark.parametrize("name", ["", "../other", "a b", "a/b"])
def test_a_name_that_is_no_file_name_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="result"):
        measurement.keep(name, {}, tmp_path)


def test_repeated_rows_are_distinct(tmp_path):
    rows = write_rows(tmp_path / "rows.txt", rows_of("train_QC.txt")[:30])
    pairs = list(zip(*bench_predict.distinct_pairs(rows, 100, None), strict=True))
    assert len(pairs) == len(set(pairs)) == 100


class Constant(torch.nn.Module):
    """Gives every pair the same logits."""

    def __init__(self, logit: float):
        super().__init__()
        self.embeddings = torch.nn.Embedding(3, 1)
        self.logits = torch.tensor([0.0, logit])

    def get_input_embeddings(self):
        return self.embeddings


def way_of(model, tokens: int):
    def way(scorer, texts, targets):
        model.embeddings(torch.zeros(len(texts), tokens, dtype=torch.long))
        return np.full(len(texts), model.logits.softmax(-1)[1].item())

    return way, model


@pytest.mark.parametrize(("logit", "tokens"), [(1.1, 4), (1.0, 3), (1.0, 5)])
def test_a_side_with_other_scores_or_other_tokens_is_refused(logit, tokens, base_of):
    tokenizer = bench_predict.modeling.load_tokenizer(str(base_of("bert")))
    first = Constant(1.0)
    scorer = implementations.Scorer(first, tokenizer, 4)
    sides = {"ours": way_of(first, 4), "other": way_of(Constant(logit), tokens)}
    texts = ["one two three four"] * 3
    with pytest.raises(ValueError, match="other: .* expected 12 tokens"):
        bench_predict.compare(scorer, sides, texts, texts, 1, 1e-3)
