"""Security by default: no remote code, no pickles, no token in arguments, no path of a machine in what is written."""

import re

from tests.conftest import ROOT

SOURCES = [*ROOT.glob("*.py"), *(ROOT / "product_relevance").rglob("*.py"), *(ROOT / "dataset_scripts").glob("*.py")]


def test_remote_code_is_never_switched_on():
    for path in SOURCES:
        assert not re.search(r"trust_remote_code\s*[=:]\s*True", path.read_text(encoding="utf-8")), path


def test_every_pretrained_load_refuses_remote_code():
    text = (ROOT / "product_relevance/models/modeling.py").read_text(encoding="utf-8")
    calls = re.findall(r"Auto(?:Config|Tokenizer)\.from_pretrained\(.*", text)
    assert len(calls) >= 2 and all("trust_remote_code=False" in call for call in calls)
    assert '"trust_remote_code": False, "use_safetensors": True' in text


def test_nothing_unpickles():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bpickle\.load|torch\.load\(|joblib\.load", text), path


def test_no_argument_takes_a_token():
    for path in SOURCES:
        # a number of tokens is no secret
        assert not re.search(r"add_argument\([^)]*token(?!s)", path.read_text(encoding="utf-8")), path


def test_exceptions_are_never_swallowed_bare():
    for path in SOURCES:
        assert not re.search(r"except\s*:", path.read_text(encoding="utf-8")), path
