"""The fixture `hub`: a loopback Hub that this process's client, and its subprocesses, take for the real one."""

import os
from pathlib import Path

import pytest

from tests.hub.loopback.server import LoopbackHub


def point_client_at(hub: LoopbackHub, home: Path, patch: pytest.MonkeyPatch) -> None:
    """Make the client's defaults mean the loopback Hub."""
    from huggingface_hub.utils import _http

    environment = hub.environment(home)
    for name in os.environ.keys() - environment.keys():
        patch.delenv(name)
    for name, value in environment.items():
        patch.setenv(name, value)
    read_environment(patch)
    for repeats in (_http.http_backoff, _http.http_stream_backoff.__wrapped__):
        patch.setitem(repeats.__kwdefaults__, "base_wait_time", 0.01)  # it repeats, but without seconds of wait


def read_environment(patch: pytest.MonkeyPatch) -> None:
    """Let the client follow LoopbackHub.environment in this process: it reads its variables once, when imported."""
    from huggingface_hub import constants, hf_api

    url, home = os.environ["HF_ENDPOINT"], Path(os.environ["HF_HOME"])
    told = {"ENDPOINT": url, "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}"}
    told |= {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": os.environ["HF_HUB_DISABLE_XET"] == "1"}
    told |= {"HF_HUB_DISABLE_TELEMETRY": True, "HF_HOME": str(home), "HF_HUB_CACHE": str(home / "hub")}
    told |= {"HF_XET_CACHE": str(home / "xet"), "HF_TOKEN_PATH": str(home / "token")}
    told |= {"HF_STORED_TOKENS_PATH": str(home / "stored_tokens"), "HF_ASSETS_CACHE": str(home / "assets")}
    for name, value in told.items():
        patch.setattr(constants, name, value)
    patch.setattr(hf_api.api, "endpoint", url)  # of huggingface_hub.create_repo and its like


@pytest.fixture
def parts(base):
    """The staged run, a repository for each fold."""
    from tests.helpers.staged import staged

    return staged(base)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A loopback Hub; the client of this process is logged in to it as its owner, with an empty cache."""
    from huggingface_hub.utils import close_session

    close_session()  # a client made before has read another environment
    with LoopbackHub() as server:
        point_client_at(server, tmp_path / "hf-home", monkeypatch)
        yield server
        close_session()
        assert server.leaks() == [], "a token was sent to a place that may hold none"
