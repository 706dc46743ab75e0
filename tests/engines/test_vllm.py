"""An exported folder loads in vLLM as it is, and its probabilities of the canary pairs are those of the export.

`make test-engines` installs vLLM for the CPU into an environment of its own and runs this; see docs/how-to/engines.md.
"""

import json
import os
import subprocess
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
import transformers

from product_relevance.utils.run_folder import write_json
from tests.conftest import ROOT
from tests.engines.exports import DECODERS, ENGINE, QUIET, SETTINGS, export_fold, train_tiny_run

RESULT = ROOT / "benchmarks/results/engines-vllm-cpu.json"
CASES = [(kind, "classifier") for kind in (*DECODERS, "xlm-roberta", "bert")]
CASES += [(kind, "yes_no") for kind in DECODERS if kind != "gemma2"]  # it caps its logits: no linear head
pytestmark = pytest.mark.skipif(not ENGINE.is_file(), reason="vLLM is not installed: make test-engines")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The export of each case, scored by vLLM, all in one process and its children."""
    home = tmp_path_factory.mktemp("exports")
    folders = {}
    for kind, head in CASES:
        case = home / f"{kind}-{head}"
        case.mkdir()
        folders[kind, head] = export_fold(train_tiny_run(case, kind, head), case / "plain")
    (home / "settings.json").write_text(json.dumps(SETTINGS))
    command = [str(ENGINE), str(ROOT / "tests/engines/vllm_scores.py"), str(home / "settings.json")]
    command += map(str, folders.values())
    done = subprocess.run(
        command, cwd=home, env=os.environ | QUIET, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folders


@pytest.fixture(scope="module")
def differences():
    """Collect what was measured; write the result file once every case has passed."""
    found: dict = {"bases": []}
    yield found
    if len(found["bases"]) == len(CASES):
        write_json(RESULT, {"date": datetime.now(UTC).date().isoformat()} | found)


@pytest.mark.parametrize(("kind", "head"), CASES)
def test_vllm_gives_the_probabilities_of_the_export(kind, head, differences, scored):
    folder = scored[kind, head]
    found = json.loads((folder / "vllm.json").read_text())
    assert "error" not in found, found["error"]
    rows = json.loads((folder / "canaries.json").read_text())["pairs"]
    assert found["tokens"] == [row["token_ids"] for row in rows]  # of plain texts, through the folder's tokenizer
    expected = score_by_transformers(folder, [row["token_ids"] for row in rows])
    assert np.allclose(expected, [row["score"] for row in rows], atol=1e-5)
    largest = {name: float(np.abs(np.subtract(found[name], expected)).max()) for name in ("classify", "score")}
    # tiny encoders give all pairs nearly one score: the difference must be small beside their spread, too
    assert max(largest.values()) < min(1e-3, np.std(expected) / 20), (found, expected)
    differences |= {name: found[name] for name in ("versions", "device")} | {"pairs": len(rows), "dtype": "float32"}
    differences["bases"].append({"model_type": kind, "head": head, "largest_difference": largest})


def score_by_transformers(folder, ids: list[list[int]]) -> list[float]:
    """The probabilities of the exported folder, one row at a time."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return [model(torch.tensor([row])).logits.sigmoid()[0, 0].item() for row in ids]


def test_gemma_2_that_answers_yes_or_no_is_refused(tmp_path):
    run = train_tiny_run(tmp_path, "gemma2", "yes_no")
    with pytest.raises(ValueError, match="gemma2 caps each answer's logit at 30.0, so their difference is no linear"):
        export_fold(run, tmp_path / "plain")
    assert not (tmp_path / "plain").exists()
