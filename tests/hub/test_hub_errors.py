"""What goes wrong with the Hub is told in one line, with the way out, and never with a token."""

import re
from dataclasses import replace

import pytest
from huggingface_hub import errors

from product_relevance import RelevanceEnsemble
from product_relevance.hub import publish as publishing
from product_relevance.utils.hub_errors import explain_error, stay_offline
from tests.helpers.staged import BASE, NAME, base_files

pytest_plugins = ["tests.hub.loopback.fixture"]


def told(hub, parts, capsys, **options) -> str:
    """The one line that a failed publication ends with; it holds no token, and nothing else was printed with one."""
    with pytest.raises(ValueError) as caught:
        publishing.publish_staged(parts, **options)
    text, shown = str(caught.value), capsys.readouterr()
    assert len(text.splitlines()) == 1 and caught.value.__cause__ is None
    assert not re.search(r"hf_\w{4}", text + shown.out + shown.err)
    return text


@pytest.mark.parametrize("token, message", [("hf_wrongWrongWrong", "does not accept the token"), ("", "no token")])
def test_a_wrong_or_missing_token_is_told_before_anything_is_made(hub, parts, token, message, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", token)
    assert re.search(f"{message}.*HF_TOKEN.*hf auth login", told(hub, parts, capsys))
    assert hub.repos == {}


@pytest.mark.parametrize("who", ["read_token", "stranger_token"])
def test_a_token_that_may_not_write_is_told(hub, parts, who, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", getattr(hub, who))
    assert "your token may not write" in told(hub, parts, capsys)
    assert hub.repos == {}


def test_a_namespace_of_someone_else_is_told(hub, parts, capsys):
    other = [replace(part, repo_id=part.repo_id.replace("org/", "stranger/")) for part in parts]
    assert "check that the namespace is right" in told(hub, other, capsys)


@pytest.mark.parametrize("kind", ["closed", "offline"])
def test_a_missing_connection_is_told(hub, parts, kind, monkeypatch, capsys):
    from huggingface_hub import constants

    if kind == "closed":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        assert "not reached" in told(hub, parts, capsys)
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE is set" in told(hub, parts, capsys)
    assert hub.requests == []


def test_a_name_that_holds_something_else_is_left_alone(hub, parts, capsys):
    hub.put(f"{NAME}-fold-1", {"model.safetensors": b"another model", "README.md": b"# Another\n"})
    text = told(hub, parts, capsys, private=True)
    assert not hub.repo(f"{NAME}-fold-1").private
    assert "holds something else already, as model.safetensors" in text and "--repo_id" in text
    assert hub.count("POST", "/commit/") == 0


def test_a_change_by_someone_else_meanwhile_is_not_mixed_with_ours(hub, parts, capsys, monkeypatch):
    publishing.publish_staged(parts)
    real = publishing.pin_commits

    def meanwhile(*given):
        hub.put(NAME, {"README.md": b"# of another\n"})
        return real(*given)

    monkeypatch.setattr(publishing, "pin_commits", meanwhile)
    assert "changed by someone else" in told(hub, parts, capsys)
    assert hub.repo(NAME).read("README.md") == b"# of another\n"


@pytest.mark.parametrize(
    "status, message", [(500, r"the Hub failed \(500\)"), (429, "fewer requests"), (409, "taken"), (418, "refused")]
)
def test_an_error_of_the_hub_is_told_with_the_place(hub, parts, status, message, capsys):
    hub.fail(f"{NAME}-fold-0/preupload", status=status, times=100)
    text = told(hub, parts, capsys)
    assert re.search(message, text) and (f"{NAME}-fold-0" in text or status == 429)


def test_a_broken_transfer_is_told_with_the_way_out(hub, parts, capsys):
    hub.fail("^/upload/", status=500, times=1000)
    assert "run the same command again" in told(hub, parts, capsys)


def test_readers_of_closed_or_missing_repositories_are_told_what_to_do(hub, base, parts, monkeypatch):
    hub.put(BASE, base_files(base))
    publishing.publish_staged(parts)
    repo = hub.repo(NAME)
    cases = [
        ("private", True, "private and your token may not read it"),
        ("gated", "manual", "is gated: ask for access"),
    ]
    monkeypatch.setenv("HF_TOKEN", hub.stranger_token)
    for key, value, message in cases:
        before = getattr(repo, key)
        setattr(repo, key, value)
        with pytest.raises(ValueError, match=message) as caught:
            RelevanceEnsemble.from_pretrained(NAME)
        assert hub.stranger_token not in str(caught.value)
        setattr(repo, key, before)
    with pytest.raises(ValueError, match="no such repository"):
        RelevanceEnsemble.from_pretrained("org/nowhere")
    with pytest.raises(ValueError, match="no such revision"):
        RelevanceEnsemble.from_pretrained(NAME, revision="v9")


@pytest.mark.parametrize("kind", [RuntimeError, OSError, ConnectionError, errors.LocalEntryNotFoundError])
def test_no_message_shows_a_token_of_any_form(hub, kind, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "plain-secret-words")
    text = explain_error(kind("bad header Bearer hf_abcDEF123 and plain-secret-words\nmore"))
    assert "abcDEF" not in text and "plain-secret" not in text and len(text.splitlines()) == 1


def test_offline_lets_nothing_through_and_ends_with_its_block(hub):
    from huggingface_hub import HfApi

    with stay_offline(True), pytest.raises(errors.OfflineModeIsEnabled):
        HfApi().whoami()
    with stay_offline(False):
        assert HfApi().whoami()["name"] == "tester"
    assert HfApi().whoami()["name"] == "tester"
