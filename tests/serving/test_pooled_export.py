"""Pooled heads as graphs: the example of the folder scores with onnxruntime and tokenizers as the package does."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from product_relevance import RelevanceEnsemble
from product_relevance.cli.main import main as relevance
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.models.pair_encoder import encode_pairs
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.transformers_export import export_classifier
from tests.helpers.published import PAIRS, tiny_run

pytest.importorskip("onnxruntime")
POOLED = [("bert", "pair"), ("xlm-roberta", "pair"), ("qwen3", "mean")]
BLOCK = "import sys\nsys.modules |= dict.fromkeys(('product_relevance', 'torch', 'transformers'))\n"
MANY = "women's shoes, " * 40
LONG = [("zapatos rojos " * 40, "shoes"), ("shoes", MANY), ("a b " * 40, MANY), ("", "x </s> y")]


@pytest.fixture(scope="module")
def run_of(base_of, tmp_path_factory):
    """Return a function from an architecture and a pooling to a tiny run."""
    made = {}

    def get(kind: str, pooling: str):
        if (kind, pooling) not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind, pooling] = tiny_run(base_of(kind), folder, f"--max_length 48 --pooling {pooling}")
        return made[kind, pooling]

    return get


def merged(run) -> RelevanceEnsemble:
    mean = LoadingArguments(merge="weights", max_disagreement=1.0)
    return RelevanceEnsemble.from_pretrained(run, device="cpu", loading=mean)


def rendered(ensemble, pairs) -> list[list[str]]:
    texts = ensemble.encoder.template.render([q for q, _ in pairs], [t for _, t in pairs], None, ensemble.taxonomy)
    return [list(pair) for pair in zip(*texts, strict=True)]


def example_of(folder) -> str:
    """The last example of a folder's README."""
    return re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)[-1]


def run_example(folder, pairs) -> dict:
    """Run the example in a process without this package, torch and transformers; score pairs with what it made."""
    *lines, last = example_of(folder).strip().splitlines()
    show = f"""
pairs = json.load(sys.stdin)
alone = [float(score([tuple(pair)])[0]) for pair in pairs]
ids = [[i for i, m in zip(r.ids, r.attention_mask) if m] for r in tokenizer.encode_batch([tuple(p) for p in pairs])]
print(json.dumps({{"example": float({last.split("#")[0]}), "alone": alone, "ids": ids,
    "batch": score([tuple(pair) for pair in pairs]).tolist()}}))
"""
    code, given = BLOCK + "\n".join(lines) + show, json.dumps(pairs)
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=folder, input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"said": float(last.split("#")[1])}


@pytest.mark.parametrize(("kind", "pooling"), POOLED)
def test_the_example_of_a_pooled_export_scores_as_the_merged_ensemble(kind, pooling, run_of, tmp_path, capsys):
    run, out = run_of(kind, pooling), tmp_path / "out"
    relevance(["export", str(run), "--output", str(out), "--max_disagreement", "1", "--onnx", "float32"])
    assert "mean weights of 3 folds as onnx/model.onnx, whose probabilities" in capsys.readouterr().out
    ensemble, pairs = merged(run), [*PAIRS, *LONG]
    texts = rendered(ensemble, pairs)
    found, expected = run_example(out, texts), ensemble.predict(pairs)
    assert np.ptp(expected) > 1e-3  # else equal scores would say nothing
    assert np.allclose(found["batch"], expected, atol=1e-4) and np.allclose(found["alone"], expected, atol=1e-4)
    assert abs(found["example"] - found["said"]) < 1e-4
    own = encode_pairs(ensemble.encoder.tokenizer, *map(list, zip(*texts, strict=True)), 48)
    assert found["ids"] == own and max(map(len, own)) == 48


def test_the_folder_of_a_pooled_export_holds_what_a_caller_needs(run_of, tmp_path):
    run, out = run_of("xlm-roberta", "pair"), tmp_path / "out"
    export_classifier(str(run), str(out), ExportOptions(fold="fold-1", onnx="float32"))
    files = {"README.md", "config.json", "onnx", "scoring.json", "tokenizer.json", "tokenizer_config.json"}
    assert set(os.listdir(out)) == files and os.listdir(out / "onnx") == ["model.onnx"]
    facts, record = json.loads((out / "scoring.json").read_text()), json.loads((run / "run.json").read_text())
    assert facts["graph"] == "onnx/model.onnx" and facts["max_length"] == 48 and facts["pad_id"] == 1
    assert facts["labels"] == {"0": "irrelevant", "1": "relevant"} and facts["task"] == "QC"
    assert facts["thresholds"] == record["thresholds"] and facts["template"] == record["template"]
    readme = (out / "README.md").read_text(encoding="utf-8")
    assert "pair pooling" in readme and "AutoModel" not in readme and "CrossEncoder" not in readme
    example = facts["example"]
    ensemble = RelevanceEnsemble.from_pretrained(run, device="cpu")
    scores = ensemble.predict_folds([(example["query"], example["target"])], ["es"])
    assert abs(scores[0, 1] - example["score"]) < 1e-4
    lines = [line for line in example_of(out).splitlines() if line.strip()]
    assert len(lines) == 15 and not re.search("torch|transformers|product_relevance", "".join(lines))


def test_a_pooled_head_in_int8_scores_within_what_is_said(run_of, tmp_path):
    run, out = run_of("bert", "pair"), tmp_path / "out"
    export_classifier(str(run), str(out), ExportOptions(onnx="int8", max_disagreement=1.0))
    assert os.listdir(out / "onnx") == ["model_quantized.onnx"]
    ensemble = merged(run)
    found = run_example(out, rendered(ensemble, PAIRS))
    assert np.allclose(found["alone"], ensemble.predict(PAIRS), atol=0.02)


def test_a_plain_classifier_has_the_same_example(run_of, tmp_path):
    run, out = run_of("xlm-roberta", "auto"), tmp_path / "out"
    export_classifier(str(run), str(out), ExportOptions(onnx="float32", max_disagreement=1.0))
    ensemble = merged(run)
    pairs = [*PAIRS, *LONG]
    found = run_example(out, rendered(ensemble, pairs))
    assert np.allclose(found["batch"], ensemble.predict(pairs), atol=1e-4) and (out / "model.safetensors").is_file()
