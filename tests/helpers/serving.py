"""What the tests of serving share: one tiny run, plain HTTP, and a service that lives for a block."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from tests.conftest import rows_of, write_rows

PAIRS = [(row["origin_query"], row["category_path"]) for row in rows_of("dev_QC.txt")]
SECRET = "zxqsecretzxq"  # a text that must turn up nowhere


@lru_cache
def tiny_run(base: Path) -> Path:
    """Train two tiny folds, once for all files of tests."""
    import train_relevance

    folder = base.with_name(f"served-{base.name}")
    folder.mkdir()
    file = write_rows(folder / "train_QC.txt", rows_of("train_QC.txt")[:120])
    flags = "--task QC --use_cpu true --max_steps 4 --lora_r 2 --learning_rate 3e-3 --num_folds 2 --save_strategy no"
    flags += " --eval_strategy no --load_best_model_at_end false"
    names = ["--model_name_or_path", str(base), "--train_file", str(file), "--output_dir", str(folder / "run")]
    train_relevance.main([*flags.split(), *names])
    return folder / "run"


def post(url: str, body: object, path: str = "/predict", **headers) -> tuple[int, object, dict]:
    """POST JSON (bytes go as they are); return status, parsed body, headers."""
    host, port = url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=200)
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, content, {"content-type": "application/json"} | headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, json.loads(text), dict(response.getheaders())


def request(url: str, method: str, path: str, headers: dict | None = None) -> tuple[int, bytes, dict]:
    """Send a request without a body; return status, body, headers."""
    connection = http.client.HTTPConnection(*url.removeprefix("http://").split(":"), timeout=200)
    connection.request(method, path, headers=headers or {})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, dict(response.getheaders())


def get(url: str, path: str) -> str:
    """GET a text; an error where the status is not 200."""
    from urllib.request import urlopen

    with urlopen(url + path, timeout=200) as response:
        return response.read().decode()


def classify(url: str, pair, **options) -> list[dict]:
    """Ask with InferenceClient, in a process of its own: tests are offline, and it would refuse to connect."""
    code = "import json, sys; from huggingface_hub import InferenceClient as Client\n"
    code += "url, inputs, options = json.loads(sys.argv[1])\n"
    code += "print(json.dumps([dict(entry) for entry in Client(model=url).text_classification(inputs, **options)]))"
    inputs = {"text": pair[0], "text_pair": pair[1]}
    command = [sys.executable, "-c", code, json.dumps([url, inputs, options])]
    environment = os.environ | {"HF_HUB_OFFLINE": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def live(app, **options):
    """Run an app under uvicorn in a thread, with options of `connections.make_config`; gives its URL."""
    import uvicorn

    from product_relevance.serving.http.connections import log_everything, make_config

    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = uvicorn.Server(make_config(app, log_config=None, **options))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=200)
        listener.close()
        log_everything()


@contextmanager
def started(command: list[str], port: int, log: Path, environment: dict | None = None):
    """Start a server as a process and wait until /health answers; gives the process."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | (environment or {}), cwd=log.parent
        )
        try:
            wait_until_healthy(process, port, log)
            yield process
        finally:
            process.kill()
            process.wait()


def wait_until_healthy(process, port: int, log: Path, path: str = "/health") -> None:
    """Wait up to ten minutes: a loaded machine starts a server slowly."""
    for _ in range(3000):
        assert process.poll() is None, log.read_text()
        try:
            get(f"http://127.0.0.1:{port}", path)
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"no answer on {path}: {log.read_text()}")
