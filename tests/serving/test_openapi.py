"""docs/how-to/serve.md: its requests are answered in its shapes, its commands and its Python run."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.helpers.serving import live, post, tiny_run

pytest.importorskip("fastapi", reason="extra [serve] is not installed")

from product_relevance import RelevanceEnsemble
from product_relevance.cli.main import make_parser
from product_relevance.serving.http.server import Settings, make_app
from product_relevance.serving.protocol import Limits

PAGE = (ROOT / "docs/how-to/serve.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


@pytest.fixture(scope="module")
def url(base_of):
    ensemble = RelevanceEnsemble.from_pretrained(tiny_run(base_of("qwen3")), device="cpu")
    with live(make_app(ensemble, Settings(timeout=200))) as address:
        yield address


def shape(answer):
    """Keys and types of an answer."""
    first = answer[0]
    return {k: type(v) for k, v in first.items()} if isinstance(first, dict) else [shape(first)]


def test_the_requests_of_the_page_are_answered_in_its_shapes(url):
    requests, pairs, ranking = blocks("json")
    for line in requests.splitlines():
        status, answer, _ = post(url, json.loads(line))
        assert status == 200, line
        expected = json.loads(ranking if "texts" in line else pairs)
        if "return_text" in line:
            expected[0]["text"] = ""
        assert shape(answer) == shape(expected), line


def test_the_commands_of_the_page_name_flags_that_exist(url):
    lines = [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]
    (serve,) = [line for line in lines if line[:2] == ["relevance", "serve"]]
    assert make_parser().parse_args(serve[1:]).port == 8000
    (curl,) = [line for line in lines if line[0] == "curl"]
    assert curl[curl.index("-d") + 1] and post(url, curl[curl.index("-d") + 1].encode(), "/predict")[0] == 200
    named = set(re.findall(r"`(--\w+)( [\d.]+)?`", PAGE))
    known = make_parser().parse_args(["serve", "model"])
    for flag, value in named:
        assert hasattr(known, flag[2:]), flag
        assert not value or getattr(known, flag[2:]) == float(value), flag


def test_the_python_of_the_page_runs(url):
    code, _ = blocks("python")
    code = code.replace("http://127.0.0.1:8000", url)
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"HF_HUB_OFFLINE": "0"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "TextClassificationOutputElement" in done.stdout and "probability=" in done.stdout


def test_the_scorer_of_the_page_runs(base_of):
    _, code = blocks("python")
    names: dict = {}
    exec(code.replace("org/name", str(tiny_run(base_of("qwen3")))), names)
    assert names["scorer"]({"inputs": ["zapatos rojos", "shoes"]})[0][0]["probability"] > 0


def test_the_limits_of_the_page_are_the_defaults():
    told = re.findall(r"\| ([\d,]+) \| `RELEVANCE_MAX_(\w+)` \|", PAGE)
    assert {name.lower(): int(value.replace(",", "")) for value, name in told} == vars(Limits())
