"""A Space to try an ensemble: staged with what it needs, pinned when it is published, started from its own files."""

import json
import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from product_relevance.hub import publish, space, staging
from product_relevance.hub.places import StagingOptions
from tests.conftest import free_port
from tests.helpers.serving import get, wait_until_healthy
from tests.helpers.staged import BASE, NAME, base_files, base_pin, plain_run

pytest.importorskip("gradio", reason="extra [demo] is not installed")
pytest_plugins = ["tests.hub.loopback.fixture"]
PAGE = f"{NAME}-demo"


@pytest.fixture
def parts(base, tmp_path):
    options = StagingOptions(layout="one", base=base_pin(base), space=True)
    return staging.stage_run(plain_run(base), tmp_path / "hub", NAME, options)


def test_the_space_holds_its_metadata_its_needs_and_the_sources(parts):
    page, ensemble = parts
    assert (page.role, page.repo_id, page.repo_type, ensemble.role) == ("demo", PAGE, "space", "ensemble")
    found = {path.relative_to(page.folder).parts[0] for path in page.folder.rglob("*") if path.is_file()}
    assert found == {"LICENSE", "README.md", "app.py", "requirements.txt", "product_relevance", space.MODEL}
    card = (page.folder / "README.md").read_text(encoding="utf-8")
    head = dict(line.split(": ") for line in card.split("---")[1].strip().splitlines())
    assert head["sdk"] == "gradio" and head["sdk_version"] == version("gradio") and head["app_file"] == "app.py"
    assert head["models"] == f"[{NAME}]" and re.search(r"^torch", (page.folder / "requirements.txt").read_text())


def test_the_space_needs_gradio(monkeypatch, base, tmp_path):
    def missing(name: str) -> str:
        raise space.PackageNotFoundError(name)

    monkeypatch.setattr(space, "version", missing)
    options = StagingOptions(layout="one", base=base_pin(base), space=True)
    with pytest.raises(ValueError, match=r"--space needs gradio: pip install .*\[demo\]"):
        staging.stage_run(plain_run(base), tmp_path / "other", NAME, options)


def test_a_published_space_starts_from_its_files_and_answers(hub, base, parts, tmp_path):
    from gradio_client import Client
    from huggingface_hub import snapshot_download

    hub.put(BASE, base_files(base))
    commits = publish.publish_staged(parts, private=True)
    assert list(commits) == [f"{NAME}@main", f"{PAGE}@main"] and hub.repo(PAGE, "space").private
    pinned = json.loads(hub.repo(PAGE, "space").read(space.MODEL))
    assert pinned == {"model": NAME, "revision": commits[f"{NAME}@main"]}
    assert publish.publish_staged(parts, private=True) == commits

    folder, port, log = tmp_path / "space", free_port(), tmp_path / "log.txt"
    snapshot_download(PAGE, repo_type="space", local_dir=folder)
    environment = hub.environment(tmp_path / "home", GRADIO_SERVER_PORT=str(port), PYTHONDONTWRITEBYTECODE="1")
    environment.pop("PYTHONPATH", None)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_until_healthy(process, port, log, "/")
        client = Client(f"http://127.0.0.1:{port}", verbose=False, analytics_enabled=False)
        found = client.predict("red shoes", ["shoes", "cables"], api_name="/score")
        assert len(found["places"]) == 2 and f"Try {NAME}" in get(f"http://127.0.0.1:{port}", "/")
    finally:
        process.kill()
        process.wait()
