"""An exported folder loads in vLLM, and its probabilities of the canary pairs are those of the export.

`make test-engines` installs vLLM for the CPU into an environment of its own and runs this; see docs/how-to/engines.md.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import train_relevance
from product_relevance.data.pairs import Pairs
from product_relevance.ensemble.ensemble import RelevanceEnsemble
from product_relevance.ensemble.published.canaries import canary_pairs
from product_relevance.serving.export.export_options import ExportOptions
from product_relevance.serving.export.transformers_export import export_classifier
from tests.conftest import ROOT, rows_of, save_tokenizer, tiny_config, write_rows

ENGINE = Path(os.environ.get("RELEVANCE_ENGINES", ROOT / ".venv-engines")) / "bin/python"
DECODERS = ("gemma3_text", "gemma2", "qwen2", "qwen3")
# What vLLM needs beside the folder; see docs/how-to/engines.md.
OPTIONS = {"gemma3_text": {"hf_overrides": {"architectures": ["Gemma3ForCausalLM"]}, "convert": "classify"}}
pytestmark = pytest.mark.skipif(not ENGINE.is_file(), reason="vLLM is not installed: make test-engines")


def save_base(folder: Path, kind: str) -> Path:
    """Save a tiny base whose heads have a size that vLLM's attention knows."""
    torch.manual_seed(0)
    config = tiny_config(kind)
    config.hidden_size, config.num_attention_heads, config.max_position_embeddings = 128, 2, 514
    if kind in DECODERS:
        config.head_dim, config.num_key_value_heads = 64, 1
    auto = transformers.AutoModelForCausalLM if kind in DECODERS else transformers.AutoModel
    auto.from_config(config).save_pretrained(folder)
    save_tokenizer(folder, kind in DECODERS)
    return folder


@pytest.mark.parametrize("kind", [*DECODERS, "xlm-roberta", "bert"])
def test_vllm_gives_the_probabilities_of_the_export(kind, tmp_path):
    file = write_rows(tmp_path / "train_QC.txt", rows_of("train_QC.txt")[:120])
    flags = "--task QC --use_cpu true --max_steps 4 --lora_r 2 --learning_rate 3e-3 --num_folds 2 --pooling auto"
    flags += " --save_strategy no --eval_strategy no --load_best_model_at_end false --max_length 64"
    flags += f" --model_name_or_path {save_base(tmp_path / 'base', kind)} --train_file {file}"
    train_relevance.main([*flags.split(), "--output_dir", str(tmp_path / "run")])
    folder = tmp_path / "plain"
    export_classifier(tmp_path / "run", folder, ExportOptions(fold="fold-0"))
    ensemble = RelevanceEnsemble.from_pretrained(tmp_path / "run", device="cpu", dtype="float32")
    queries, targets, languages = map(list, zip(*canary_pairs("QC"), strict=True))
    ids = ensemble.encoder.encode(Pairs(queries, targets, languages, None))
    expected = score_by_transformers(folder, ids)
    for name, content in (("ids", ids), ("options", {"max_model_len": 64} | OPTIONS.get(kind, {}))):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    names = [tmp_path / f"{name}.json" for name in ("ids", "options", "scores")]
    command = [str(ENGINE), str(ROOT / "tests/engines/vllm_classify.py"), str(folder), *map(str, names)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((tmp_path / "scores.json").read_text())
    assert np.std(expected) > 0.01 and np.allclose(found, expected, atol=1e-3), (found, expected)


def score_by_transformers(folder: Path, ids: list[list[int]]) -> list[float]:
    """The probabilities of the exported folder, one row at a time."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return [model(torch.tensor([row])).logits.softmax(-1)[0, 1].item() for row in ids]
