"""ONNX graphs: scores of the model they were made of, in batches of any shape, or a refusal."""

import os
import re
import sys

import numpy as np
import pytest
import torch

from product_relevance import RelevanceEnsemble
from product_relevance.cli.main import main as relevance
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.onnx_export import score_logits
from product_relevance.serving.export.transformers_export import export_classifier
from tests.conftest import SAMPLE
from tests.helpers.published import PAIRS, tiny_run

pytest.importorskip("onnxruntime")
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


@pytest.fixture(scope="module")
def yes_no(run_of, tmp_path_factory):
    """The run of a language model whose answer is yes or no: one logit once it is a classifier."""
    prompt = tmp_path_factory.mktemp("prompt") / "short.txt"
    prompt.write_text("{query}\n{target}\n{y/n}\n")
    return run_of("qwen3", f"--head yes_no --prompt {prompt}")


def batches_of(folder, ensemble, size: int):
    """Yield the tensors of the pairs, in batches of a size."""
    from transformers import AutoTokenizer

    texts, targets = ensemble.encoder.template.render([q for q, _ in PAIRS], [t for _, t in PAIRS])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for i in range(0, len(texts), size):
        part = slice(i, i + size)
        yield dict(tokenizer(texts[part], targets[part], truncation=True, padding=True, return_tensors="np"))


def scores(folder, name: str, ensemble, size: int) -> np.ndarray:
    from onnxruntime import InferenceSession

    session = InferenceSession(folder / "onnx" / name)
    logits = np.concatenate([session.run(["logits"], batch)[0] for batch in batches_of(folder, ensemble, size)])
    return score_logits(logits)


def merged(run):
    mean = LoadingArguments(merge="weights", max_disagreement=1.0)
    return RelevanceEnsemble.from_pretrained(run, device="cpu", loading=mean)


# Gemma 3's window is 16 tokens here, so that longer pairs cross it.
@pytest.mark.parametrize("kind", ["xlm-roberta", "gemma3_text"])
def test_a_graph_in_float32_scores_as_the_merged_ensemble_in_batches_of_any_size(kind, run_of, tmp_path, capsys):
    run, out = run_of(kind), tmp_path / "out"
    command = ["export", str(run), "--output", str(out), "--max_disagreement", "1", "--onnx", "float32"]
    relevance(command)
    assert "onnx/model.onnx, whose probabilities of the canaries differ by" in capsys.readouterr().out
    ensemble = merged(run)
    for size in (1, 5, len(PAIRS)):
        assert np.allclose(scores(out, "model.onnx", ensemble, size), ensemble.predict(PAIRS), atol=1e-5), size
    assert os.listdir(out / "onnx") == ["model.onnx"]


def test_a_graph_in_int8_is_smaller_and_scores_within_what_is_told(run_of, tmp_path):
    run, out = run_of("qwen3"), tmp_path / "out"
    said = export_classifier(str(run), str(out), ExportOptions(max_disagreement=1.0, onnx="int8"))
    assert os.listdir(out / "onnx") == ["model_quantized.onnx"]
    told = float(re.search(r"differ by (\S+) at most", said).group(1))
    ensemble = merged(run)
    moved = np.abs(scores(out, "model_quantized.onnx", ensemble, 4) - ensemble.predict(PAIRS)).max()
    assert 0 < moved < max(3 * told, 0.01)  # other pairs than the canaries
    content = (out / "onnx/model_quantized.onnx").read_bytes()
    assert b"DynamicQuantizeLinear" in content
    assert b"site-packages" not in content and b"product_relevance" not in content  # no paths of this machine


def test_weights_too_large_for_a_graph_lie_beside_it(run_of, tmp_path, monkeypatch):
    monkeypatch.setattr("product_relevance.serving.export.onnx_export.LARGE", 0)
    run, out = run_of("xlm-roberta"), tmp_path / "out"
    export_classifier(str(run), str(out), ExportOptions(max_disagreement=1.0, onnx="int8"))
    assert sorted(os.listdir(out / "onnx")) == ["model_quantized.onnx", "model_quantized.onnx.data"]
    ensemble = merged(run)
    assert np.allclose(scores(out, "model_quantized.onnx", ensemble, 5), ensemble.predict(PAIRS), atol=0.02)


def test_openvino_reads_the_graph(run_of, tmp_path):
    openvino = pytest.importorskip("openvino")
    run, out = run_of("xlm-roberta"), tmp_path / "out"
    export_classifier(str(run), str(out), ExportOptions(max_disagreement=1.0, onnx="float32"))
    hints = {"INFERENCE_PRECISION_HINT": "f32"}  # as the folder's README says
    model, ensemble = openvino.Core().compile_model(out / "onnx/model.onnx", "CPU", hints), merged(run)
    logits = np.concatenate([model(batch)[0] for batch in batches_of(out, ensemble, 5)])
    assert np.allclose(score_logits(logits), ensemble.predict(PAIRS), atol=1e-5)


def example(folder, monkeypatch) -> float:
    """The score that the last example of a folder's README gives, which is to be the one it tells."""
    *_, code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(folder)
    *lines, last = code.strip().splitlines()
    names = {}
    exec("\n".join(lines), names)
    found = eval(last, names)
    assert abs(found - float(last.split("#")[1])) < 1e-4
    return found


def test_the_example_in_the_folder_gives_the_score_it_tells(run_of, tmp_path, monkeypatch):
    export_classifier(str(run_of("xlm-roberta")), str(tmp_path / "out"), ExportOptions(fold="fold-1", onnx="float32"))
    assert 0 < example(tmp_path / "out", monkeypatch) < 1


def test_a_yes_or_no_has_a_graph_of_one_logit(yes_no, tmp_path, monkeypatch):
    out = tmp_path / "out"
    export_classifier(str(yes_no), str(out), ExportOptions(max_disagreement=1.0, onnx="float32"))
    ensemble = merged(yes_no)
    for size in (1, 5):
        assert np.allclose(scores(out, "model.onnx", ensemble, size), ensemble.predict(PAIRS), atol=1e-5)
    assert 0 < example(out, monkeypatch) < 1


def test_a_base_that_cannot_be_traced_is_named_and_leaves_nothing(run_of, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise torch.onnx.OnnxExporterError("an operator without a translation\nand much more")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(
        ValueError, match="cannot trace XLMRoberta.*: an operator without a translation; export without"
    ):
        export_classifier(
            str(run_of("xlm-roberta")), str(tmp_path / "out"), ExportOptions(max_disagreement=1.0, onnx="float32")
        )
    assert os.listdir(tmp_path) == []


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
        export_classifier(str(run_of("xlm-roberta")), str(tmp_path / "out"), ExportOptions(**options))
    assert os.listdir(tmp_path) == []


def test_a_missing_package_is_named_before_anything_is_loaded(run_of, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"--onnx needs onnxruntime: pip install '\.\[export\]' in a clone"):
        export_classifier(str(run_of("xlm-roberta")), str(tmp_path / "out"), ExportOptions(onnx="float32"))


@pytest.mark.parametrize("head", ["classifier", "yes_no"])
def test_the_benchmark_holds_every_backend_against_torch(head, run_of, yes_no):
    run = yes_no if head == "yes_no" else run_of("xlm-roberta")
    arguments = [str(run), str(SAMPLE / "answers_QC.txt"), "--rows", "40", "--repeats", "1"]
    results = bench_backends.measure(bench_backends.make_parser().parse_args(arguments))["results"]
    assert results[0]["auc"] != 0.5
    moved = {line["way"]: line["max_difference"] for line in results}
    assert list(moved)[:4] == ["torch float32", "torch bfloat16", "onnx float32", "onnx int8"]
    assert moved["torch float32"] == 0 and moved["onnx float32"] < 1e-5
    assert 0 < moved["torch bfloat16"] < 0.05 and 0 < moved["onnx int8"] < 0.05
