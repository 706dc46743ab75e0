"""The loopback Hub under the real client: broken transfers, no connection, leaked tokens, `hf`, and the Xet client."""

import hashlib
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError

from tests.hub.loopback.folder import NAME, WEIGHTS, contents, save_folder, uploaded
from tests.hub.loopback.server import LoopbackHub

pytest_plugins = ["tests.hub.loopback.fixture"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder to upload."""
    return save_folder(tmp_path / "up")


def test_bytes_that_are_not_what_was_announced_are_refused(hub, folder, monkeypatch):
    huggingface_hub.create_repo(NAME)
    monkeypatch.setattr("huggingface_hub.lfs.UploadInfo.sha256", property(lambda self: b"\1" * 32))
    with pytest.raises(RuntimeError, match="adapter_model.safetensors"):
        uploaded(folder)
    assert hub.repo(NAME).uploaded == {} and hub.count("POST", "/commit/") == 0


def test_a_dropped_upload_is_sent_again_and_a_killed_one_resumes(hub, folder):
    (folder / "second.safetensors").write_bytes(WEIGHTS + b"2")
    second = hashlib.sha256(WEIGHTS + b"2").hexdigest()
    hub.drop(r"^/upload/", times=1)
    hub.fail(rf"^/upload/{second}", status=507, times=2)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="second.safetensors"):
            uploaded(folder)
    assert hub.count("POST", "/commit/") == 0 and len(hub.repo(NAME).history("main")) == 1
    assert hub.count("PUT", r"^/upload/") == 4, "both, one of them again after the drop, and the second once more"
    hub.requests.clear()
    uploaded(folder)
    assert hub.count("PUT", r"^/upload/") == hub.count("PUT", second) == 1, "the first file is there already"
    assert contents(Path(snapshot_download(NAME))) == contents(folder)


def test_a_commit_whose_answer_is_lost_was_made(hub, folder):
    huggingface_hub.create_repo(NAME)
    hub.drop("/commit/", after=True)
    with pytest.raises(Exception, match="incomplete|disconnected|peer closed"):
        uploaded(folder)
    head = hub.repo(NAME).branches["main"]
    assert uploaded(folder) == head and len(hub.repo(NAME).history("main")) == 2


def test_a_dropped_download_goes_on_where_it_stopped(hub, folder):
    uploaded(folder)
    hub.drop(r"^/objects/", after=True)
    assert contents(Path(snapshot_download(NAME))) == contents(folder)
    assert hub.count("GET", r"^/objects/") == 2
    place = f"{hub.storage}/objects/{hashlib.sha256(WEIGHTS).hexdigest()}"
    with urllib.request.urlopen(urllib.request.Request(place, headers={"Range": "bytes=100-199"})) as part:
        assert (part.status, part.read()) == (206, WEIGHTS[100:200])


def test_a_second_download_works_offline_and_a_first_does_not(hub, folder, monkeypatch):
    commit = uploaded(folder)
    first = snapshot_download(NAME, revision=commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert snapshot_download(NAME, revision=commit) == first and hub.requests == []
    with pytest.raises(LocalEntryNotFoundError):
        snapshot_download("org/other")


def test_a_leaked_token_is_seen():
    with LoopbackHub() as hub:
        hub.put(NAME, {"a.safetensors": WEIGHTS, "b.txt": f"token: {hub.token}".encode()})
        assert len(hub.leaks()) == 1, "in a file"
        place = f"{hub.storage}/objects/{hashlib.sha256(WEIGHTS).hexdigest()}"
        login = {"Authorization": f"Bearer {hub.token}"}
        urllib.request.urlopen(urllib.request.Request(place, headers=login)).close()
        assert len(hub.leaks()) == 2, "at the server that holds large files"
        urllib.request.urlopen(f"{hub.url}/api/models?token={hub.token}").close()
        assert len(hub.leaks()) == 3, "in an address"


def hf(hub: LoopbackHub, home: Path, *words: str, **more: str) -> subprocess.CompletedProcess:
    """Run the real `hf` with its own home."""
    program = shutil.which("hf", path=str(Path(sys.executable).parent))
    environment = hub.environment(home, **more)
    return subprocess.run([program, *words], env=environment, capture_output=True, text=True, timeout=120)


def test_hf_download_takes_a_tag_and_says_what_is_wrong(hub, folder, tmp_path):
    uploaded(folder)
    HfApi().create_tag(NAME, tag="v1")
    done = hf(hub, tmp_path / "home", "download", NAME, "--revision", "v1", "--local-dir", str(tmp_path / "down"))
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "down") == contents(folder)
    wrong = hf(hub, tmp_path / "home", "download", "org/none")
    assert wrong.returncode != 0 and "not found" in wrong.stderr.lower() and hub.token not in wrong.stderr


def test_files_go_up_and_come_down_through_the_xet_client(tmp_path, folder):
    pytest.importorskip("hf_xet")
    (folder / "second.safetensors").write_bytes(WEIGHTS[::-1] * 10)
    with LoopbackHub(xet=tmp_path / "cas") as hub:
        hub.put(NAME, {})
        for _ in range(2):
            done = hf(hub, tmp_path / "one", "upload", NAME, str(folder))
            assert done.returncode == 0, done.stderr
        done = hf(hub, tmp_path / "two", "download", NAME, "--local-dir", str(tmp_path / "down"))
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / "down") == contents(folder)
        assert hub.count("POST", "/commit/") == 1 and hub.count("GET", "/xet-write-token/") >= 1
        assert hub.count("PUT", "") == hub.count("POST", "lfs/objects") == hub.count("GET", "^/objects/") == 0
        assert hub.count("GET", "/xet-read-token/") >= 1
