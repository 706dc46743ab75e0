"""ONNX graphs: scores of the model they were made of, in batches of any shape, or a refusal."""

import os
import re
import sys

import numpy as np
import pytest
from conftest import ROOT, SAMPLE
from published import PAIRS, tiny_run

from product_relevance import RelevanceEnsemble
from product_relevance.cli import main as relevance
from product_relevance.export import export

pytest.importorskip("onnxruntime")
sys.path.insert(0, str(ROOT / "benchmarks"))
import bench_backends


@pytest.fixture(scope="module")
def run_of(base_of, tmp_path_factory):
    """Return a function from an architecture to a tiny run."""
    made = {}

    def get(kind: str, flags: str = ""):
        if (kind, flags) not in made:
            made[kind, flags] = tiny_run(base_of(kind), tmp_path_factory.mktemp(kind), f"--max_length 48 {flags}")
        return made[kind, flags]

    return get


def batches_of(folder, ensemble, size: int):
    """Yield the tensors of the pairs, in batches of a size."""
    from transformers import AutoTokenizer

    texts, targets = ensemble.template.render([q for q, _ in PAIRS], [t for _, t in PAIRS], None, None, None)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for i in range(0, len(texts), size):
        part = slice(i, i + size)
        yield dict(tokenizer(texts[part], targets[part], truncation=True, padding=True, return_tensors="np"))


def scores(folder, name: str, ensemble, size: int) -> np.ndarray:
    from onnxruntime import InferenceSession

    session = InferenceSession(folder / "onnx" / name)
    logits = np.concatenate([session.run(["logits"], batch)[0] for batch in batches_of(folder, ensemble, size)])
    return 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))


def merged(run):
    return RelevanceEnsemble.from_pretrained(run, device="cpu", merge="weights", max_disagreement=1.0)


# Gemma 3's window is 16 tokens here, so that longer pairs cross it.
@pytest.mark.parametrize("kind", ["xlm-roberta", "gemma3_text"])
def test_a_graph_in_float32_scores_as_the_merged_ensemble_in_batches_of_any_size(kind, run_of, tmp_path, capsys):
    run, out = run_of(kind), tmp_path / "out"
    command = ["export", str(run), "--merged", "--output", str(out), "--max_disagreement", "1", "--onnx", "float32"]
    relevance(command)
    assert "onnx/model.onnx, whose probabilities of the canaries differ by" in capsys.readouterr().out
    ensemble = merged(run)
    for size in (1, 5, len(PAIRS)):
        assert np.allclose(scores(out, "model.onnx", ensemble, size), ensemble.predict(PAIRS), atol=1e-5), size
    assert os.listdir(out / "onnx") == ["model.onnx"]


def test_a_graph_in_int8_is_smaller_and_scores_within_what_is_told(run_of, tmp_path):
    run, out = run_of("qwen3"), tmp_path / "out"
    said = export(str(run), str(out), max_disagreement=1.0, onnx="int8")
    assert os.listdir(out / "onnx") == ["model_quantized.onnx"]
    told = float(re.search(r"differ by (\S+) at most", said).group(1))
    ensemble = merged(run)
    moved = np.abs(scores(out, "model_quantized.onnx", ensemble, 4) - ensemble.predict(PAIRS)).max()
    assert 0 < moved < max(3 * told, 0.01)  # other pairs than the canaries
    content = (out / "onnx/model_quantized.onnx").read_bytes()
    assert b"DynamicQuantizeLinear" in content
    assert b"site-packages" not in content and b"product_relevance" not in content  # no paths of this machine


def test_weights_too_large_for_a_graph_lie_beside_it(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr("product_relevance.onnx_graph.LARGE", 0)
    run, out = run_of("xlm-roberta"), tmp_path / "out"
    export(str(run), str(out), max_disagreement=1.0, onnx="int8")
    assert sorted(os.listdir(out / "onnx")) == ["model_quantized.onnx", "model_quantized.onnx.data"]
    ensemble = merged(run)
    assert np.allclose(scores(out, "model_quantized.onnx", ensemble, 5), ensemble.predict(PAIRS), atol=0.02)


def test_openvino_reads_the_graph(run_of, tmp_path):
    openvino = pytest.importorskip("openvino")
    run, out = run_of("xlm-roberta"), tmp_path / "out"
    export(str(run), str(out), max_disagreement=1.0, onnx="float32")
    model, ensemble = openvino.Core().compile_model(out / "onnx/model.onnx", "CPU"), merged(run)
    logits = np.concatenate([model(batch)[0] for batch in batches_of(out, ensemble, 5)])
    found = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert np.allclose(found, ensemble.predict(PAIRS), atol=1e-3)


def test_the_example_in_the_folder_runs(run_of, tmp_path, monkeypatch):
    export(str(run_of("xlm-roberta")), str(tmp_path / "out"), max_disagreement=1.0, onnx="float32")
    *_, code = re.findall(r"```python\n(.*?)```", (tmp_path / "out/README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path / "out")
    *lines, last = code.strip().splitlines()
    names = {}
    exec("\n".join(lines), names)
    (logits,) = eval(last, names)
    assert logits.shape == (1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"onnx": "int4"}, "--onnx int4: expected one of float32, int8"),
        ({"onnx": "int8", "dtype": "bfloat16"}, "a graph is made of float32; leave --dtype out"),
        ({"onnx": "int8", "max_disagreement": 1e-12, "fold": "fold-0"}, "larger --max_disagreement takes it"),
    ],
)
def test_what_cannot_be_written_is_refused_and_leaves_nothing(options, message, run_of, tmp_path):
    with pytest.raises(ValueError, match=message):
        export(str(run_of("xlm-roberta")), str(tmp_path / "out"), **options)
    assert os.listdir(tmp_path) == []


def test_a_missing_package_is_named_before_anything_is_loaded(run_of, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"--onnx needs onnxruntime: pip install 'product-relevance\[onnx\]'"):
        export(str(run_of("xlm-roberta")), str(tmp_path / "out"), onnx="float32")


def test_the_benchmark_holds_every_backend_against_torch(run_of):
    arguments = [str(run_of("xlm-roberta")), str(SAMPLE / "answers_QC.txt"), "--rows", "40", "--repeats", "1"]
    results = bench_backends.measure(bench_backends.make_parser().parse_args(arguments))["results"]
    moved = {line["way"]: line["max_difference"] for line in results}
    assert list(moved)[:4] == ["torch float32", "torch bfloat16", "onnx float32", "onnx int8"]
    assert moved["torch float32"] == 0 and moved["onnx float32"] < 1e-5
    assert 0 < moved["torch bfloat16"] < 0.05 and 0 < moved["onnx int8"] < 0.05
