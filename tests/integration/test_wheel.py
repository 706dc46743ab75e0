"""The wheel is enough: in a fresh environment and an empty folder it trains, predicts and stages for the Hub."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from product_relevance.utils.shipped import NAMES
from tests.conftest import ROOT
from tests.helpers import warm

TINY = """
task: QC
train_file: sample/train_QC.txt
pooling: auto
num_folds: 2
max_steps: 2
lora_r: 2
language_fix: none
eval_strategy: "no"
save_strategy: "no"
load_best_model_at_end: false
use_cpu: true
output_dir: run
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """Install the wheel into a fresh environment, which borrows other packages from this one."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    pip("--python", folder / "bin/python", "install", "--no-deps", wheel)
    (site,) = folder.glob("lib/python*/site-packages")
    # Files .pth in a folder that a .pth adds are not read: the editable install of this project stays out.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return site


@pytest.fixture(scope="module")
def place(site, base_of, tmp_path_factory) -> Path:
    """A folder with a tiny recipe only, and the run that two processes of torchrun trained by it."""
    folder = tmp_path_factory.mktemp("empty")
    (folder / "tiny.yaml").write_text(f"model_name_or_path: {base_of('qwen3')}{TINY}")
    script = installed(site, folder, "relevance", "path", "train_relevance.py").strip()
    assert Path(script).is_relative_to(site)
    torchrun = ["python", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    installed(site, folder, *torchrun, script, "tiny.yaml")
    return folder


def pip(*words) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def environment(**more: str) -> dict[str, str]:
    return (
        {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"} | more
    )


def installed(site: Path, folder: Path, program: str, *words: str) -> str:
    """Run a program of the fresh environment."""
    command = [site.parents[2] / "bin" / program, *words]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=420)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


def run_warm(site: Path, folder: Path, *words: str) -> str:
    """Run a program on the wheel's files, in a process that has imported the packages it needs."""
    done = warm.run(list(words), cwd=folder, env=environment(PYTHONPATH=str(site)))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout


def test_the_wheel_holds_the_package_and_what_ships_with_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name.removeprefix("product_relevance/") for name in archive.namelist()}
    for name in NAMES:
        files = [ROOT / name] if (ROOT / name).is_file() else [p for p in (ROOT / name).rglob("*") if p.is_file()]
        wanted = {f"shipped/{path.relative_to(ROOT)}" for path in files if "__pycache__" not in path.parts}
        assert wanted and wanted <= held, wanted - held
    package = [path for path in (ROOT / "product_relevance").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {str(path.relative_to(ROOT / "product_relevance")) for path in package} <= held
    assert not [name for name in held if name.endswith(".pyc") or name.startswith(("tests", "docs"))]


def test_the_package_comes_from_the_wheel(site, place):
    code = (
        "import product_relevance as p; from importlib.metadata import version; print(p.__file__, version(p.__name__))"
    )
    for told in (installed(site, place, "python", "-c", code), run_warm(site, place, "python", "-c", code)):
        assert told.split()[0] == str(site / "product_relevance/__init__.py")


def test_help_and_path_answer_without_torch(site, place):
    listed = installed(site, place, "relevance", "--help")
    assert {"train", "push", "prepare", "mine-negatives", "predict", "path"} <= set(listed.split())
    code = "import sys; from product_relevance.cli.main import main; main(['train', '--help'])"
    told = installed(site, place, "python", "-c", f"{code}; print('torch' in sys.modules)")
    assert told.startswith("usage: relevance train [RECIPE]") and told.endswith("False\n")
    assert (Path(installed(site, place, "relevance", "path", "sample").strip()) / "train_QC.txt").is_file()


def test_a_run_is_trained_scored_and_staged_in_an_empty_folder(site, place):
    run_warm(site, place, "relevance", "train", "tiny.yaml", "--output_dir", "again")
    test = run_warm(site, place, "relevance", "path", "sample/test_QC.txt").strip()
    for run in ("run", "again"):  # of torchrun, and of the command
        run_warm(site, place, "relevance", "predict", run, test, "--output", f"{run}.txt")
        assert len((place / f"{run}.txt").read_text().splitlines()) == len(Path(test).read_text().splitlines())
    pin = ["--base_model_id", "org/base", "--base_revision", "0" * 40]
    told = run_warm(site, place, "relevance", "push", "again", "--repo_id", "org/name", "--dry_run", *pin)
    assert "dry run: nothing was sent" in told
    (code,) = place.glob("again/hub/**/code")
    assert (code / "LICENSE").is_file() and not (code / "product_relevance/shipped").exists()


def test_a_recipe_is_known_by_its_name_and_data_scripts_are_commands(site, place):
    told = run_warm(site, place, "relevance", "prepare", "noise-and-easy-qc", "--output", "prepared.parquet")
    assert (place / "prepared.parquet").is_file() and "prepared.md" in told
    assert run_warm(site, place, "relevance", "mine-negatives", "hard", "--help").startswith(
        "usage: relevance mine-negatives hard"
    )


def test_an_unknown_recipe_is_an_error_that_lists_the_recipes(site, place):
    done = warm.run(["relevance", "train", "quickstrat"], cwd=place, env=environment(PYTHONPATH=str(site)))
    assert (
        done.returncode == 1
        and "quickstrat: no such recipe; expected a .yaml file, or a name: best-small" in done.stderr
    )
