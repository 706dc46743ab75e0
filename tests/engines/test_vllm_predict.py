"""`relevance predict --engine vllm` writes the files of torch, resumes, and leaves nothing behind."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from product_relevance.cli.main import main as relevance
from tests.conftest import SAMPLE
from tests.engines.exports import ENGINE, QUIET, SETTINGS, train_tiny_run
from tests.helpers.interruption import stop_third_score

pytestmark = pytest.mark.skipif(not ENGINE.is_file(), reason="vLLM is not installed: make test-engines")
FILE = str(SAMPLE / "test_QC.txt")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A Gemma that was trained on the sample to answer yes or no, as the recipes' own Gemma is."""
    return train_tiny_run(tmp_path_factory.mktemp("run"), "gemma3_text", "yes_no")


def test_a_file_scored_by_vllm_is_that_of_torch(run, tmp_path, monkeypatch, capsys):
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    weights = ["--merge", "weights", "--max_disagreement", "1", "--dtype", "float32", "--device", "cpu"]
    engine = ["--engine", "vllm", "--engine_python", str(ENGINE), "--engine_options", json.dumps(SETTINGS)]
    torch_file, vllm_file = tmp_path / "torch.txt", tmp_path / "vllm.txt"
    relevance(["predict", str(run), FILE, "--output", str(torch_file), *weights])
    command = ["predict", str(run), FILE, "--output", str(vllm_file), *weights, *engine, "--chunk_rows", "100"]
    calls = stop_third_score(monkeypatch)
    with pytest.raises(SystemExit, match="the same command goes on"):
        relevance(command)
    assert {"vllm.txt.engine", "vllm.txt.parts"} <= set(os.listdir(tmp_path)) and not vllm_file.exists()
    relevance(command)
    names = ["torch.txt", "torch.txt.scores.parquet", "vllm.txt", "vllm.txt.scores.parquet"]
    assert sorted(os.listdir(tmp_path)) == names
    ours, theirs = (pd.read_parquet(f"{path}.scores.parquet") for path in (torch_file, vllm_file))
    assert len(calls) == 3 + -(-len(ours) // 100)  # the first chunk was not scored again; the canaries were
    assert list(ours) == list(theirs) and np.allclose(ours["score"], theirs["score"], atol=1e-3)
    assert (ours["prediction"] == theirs["prediction"]).mean() > 0.98
    ids = [[json.loads(line)["id"] for line in path.read_text().splitlines()] for path in (torch_file, vllm_file)]
    assert ids[0] == ids[1]
    relevance(command)
    assert "complete, nothing to do" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="made with another dtype"):  # scores of two engines are not mixed
        relevance(["predict", str(run), FILE, "--output", str(vllm_file), *weights])
