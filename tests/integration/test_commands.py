"""Every command in README, docs and recipes is understood by its program, with the files that it names."""

import argparse
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from product_relevance.cli import main
from product_relevance.cli.scripts import SCRIPTS
from product_relevance.data import loading
from product_relevance.data.splits import make_splits
from product_relevance.training.arguments import parse_arguments
from product_relevance.utils.extras import how_to_install
from tests.conftest import ROOT, rows_of, write_rows
from tests.helpers.pages import pages
from tests.helpers.programs import module_of, scripts
from tests.helpers.shop_export import GRADES, write_export

# What cannot run here: what it needs. The first words of the command.
ELSEWHERE = {
    "make": "makes a virtual environment of its own; its targets are looked up",
    ". .venv/bin/activate": "enters the environment that make quickstart makes",
    "pip install": "changes the environment; the extra is looked up",
    "pip wheel": "builds for minutes: tests/integration/test_wheel.py",
    "cp -r": "copies the sample, which is there",
    "python train_relevance.py --help": "prints and ends: tests/ensemble/test_ensemble.py",
    "curl": "needs the server of the line before: tests/serving/test_server.py asks the same",
    "relevance train shop.yaml": "needs the recipe of the line before: tests/integration/test_tutorials.py trains it",
    "export": "sets a secret of the shell: tests/serving/test_access.py sets one",
    "docker": "needs a container engine: tests/serving/test_container.py reads the files that it is given",
    "hf download": "needs the Hub: tests/hub/loopback/test_loopback_hub.py downloads from a server on loopback",
    "hf-serve": "needs the Hub: tests/serving/test_hf_serve.py starts it on a folder",
}
# Files that a reader has: these of the sample stand in for them.
SAMPLES = {
    "train_QC.txt": ("train_QC.txt", 120),
    "train_QI.txt": ("train_QI.txt", 120),
    "queries.txt": ("train_QC.txt", 60),
    "pairs.txt": ("train_QC.txt", 60),
    "half_of_dev_QC.txt": ("dev_QC.txt", 40),
}


def listed(text: str) -> list[str]:
    """The commands in the sh blocks of a page, and those in backticks that start a script."""
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S)).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip()] + re.findall(r"`(python [\w/]+\.py [^`]*)`", text)


def commands() -> list[tuple[str, str]]:
    """(page, command) of all pages, and of the comments at the head of the recipes."""
    found = [(page, line) for page in pages() for line in listed((ROOT / page).read_text(encoding="utf-8"))]
    for path in sorted(ROOT.glob("recipes/*.yaml")):
        lines = re.findall(r"#\s+((?:python|torchrun|deepspeed) .*)", path.read_text(encoding="utf-8"))
        found += [(f"recipes/{path.name}", line) for line in lines]
    return found


def words_of(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S+", words[0]):  # variables in front
        words = words[1:]
    return words


def of(kind) -> list:
    return [
        pytest.param(words, id=f"{page}: {line[:60]}") for page, line in commands() if kind(words := words_of(line))
    ]


def trains(words: list[str]) -> bool:
    named = "train_relevance.py" in words or words[:2] == ["relevance", "train"]
    return named and "--help" not in words and not elsewhere(words)


def is_ours(words: list[str]) -> bool:
    ours = words[0] == "relevance" or (words[0] == "python" and "--help" not in words)
    return ours and not trains(words) and not elsewhere(words)


def elsewhere(words: list[str]) -> bool:
    return any(shlex.join(words).startswith(first) for first in ELSEWHERE)


def test_every_command_is_trained_parsed_or_listed_with_a_reason():
    other = [line for _, line in commands() if not any(kind(words_of(line)) for kind in (trains, is_ours, elsewhere))]
    assert not other


def test_every_reason_is_needed():
    lines = [shlex.join(words_of(line)) for _, line in commands()]
    assert all(any(line.startswith(first) for line in lines) for first in ELSEWHERE)


@pytest.mark.parametrize("words", of(elsewhere))
def test_what_runs_elsewhere_names_targets_and_extras_that_exist(words):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    if words[0] == "make":
        assert words[1] in targets
    elif words[:2] == ["pip", "install"] and words[2].startswith("product_relevance-"):
        version, extra = re.fullmatch(r"product_relevance-([\d.]+)-py3-none-any\.whl\[(\w+)\]", words[2]).groups()
        assert version == project["version"] and extra in extras
    elif words[:2] == ["pip", "install"]:
        assert any(
            " ".join(words) == how_to_install(extra).split(" in a clone")[0].replace("'", "") for extra in extras
        )
    else:
        assert len(words) > 1


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the files that a reader would bring."""
    folder = tmp_path_factory.mktemp("reader")
    for name in ("recipes", "ds_configs", "sample", "benchmarks", "dataset_scripts"):
        (folder / name).symlink_to(ROOT / name)
    for name, (source, rows) in SAMPLES.items():
        write_rows(folder / name, rows_of(source)[:rows])
    table = {row["origin_query"]: row for name in ("train_QC.txt", "train_QI.txt") for row in rows_of(name)}
    columns = {"query": [*table], "language": [row["language"] for row in table.values()], "translation": [*table]}
    import pandas

    pandas.DataFrame(rows_of("train_QC.txt")[:120]).to_csv(folder / "train.csv", index=False)
    pandas.DataFrame(rows_of("train_QI.txt")[:120]).to_parquet(folder / "mixed-qi.parquet")
    shop = write_export(folder / "shop.csv", rows=120, labels=GRADES)
    pandas.read_csv(shop, sep=";").rename(columns={"judgement": "grade"}).to_csv(shop, index=False)
    for name in ("translations", "translations_train_QC", "translations_train_QI"):
        pandas.DataFrame(columns).to_parquet(folder / f"{name}.parquet")
    return folder


def flags_of(words: list[str]) -> list[str]:
    """The flags of a training as printed, but for DeepSpeed's, which wants a launcher (see test_launchers.py)."""
    flags = words[words.index("train" if words[0] == "relevance" else "train_relevance.py") + 1 :]
    if "--deepspeed" in flags:
        at = flags.index("--deepspeed")
        assert Path(flags[at + 1]).is_file()
        flags = flags[:at] + flags[at + 2 :]
    return flags


@pytest.mark.parametrize("words", of(trains))
def test_a_training_command_is_parsed_and_its_records_are_read_and_folded(words, place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    model, asked, *_ = parse_arguments([*flags_of(words), "--bf16", "false"])
    assert model.model_name_or_path
    frame = loading.load_columns(asked)
    splits = make_splits(frame, asked)
    assert splits and all(len(split.train) for split in splits)


@pytest.mark.parametrize("words", of(is_ours))
def test_a_command_is_parsed_and_its_recipe_exists(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    parsed = parse_own(words)
    assert parsed
    for word in words:
        if word.startswith(("recipes/", "benchmarks/", "dataset_scripts/", "sample/", "ds_configs/")):
            assert Path(word).exists(), word


def parse_own(words: list[str]) -> argparse.Namespace | object:
    """Parse a command by the parser of its program."""
    if words[0] == "relevance" and words[1] in SCRIPTS:
        words = ["python", SCRIPTS[words[1]][0], *words[2:]]
    if words[0] == "relevance":
        return main.make_parser().parse_args(words[1:])
    script, rest = Path(words[1]), words[2:]
    module = module_of(str(script.parent), script.stem)
    if script.name == "push_to_hub.py":
        return module.parse_arguments(rest)
    if script.name == "prepare.py":
        from product_relevance.preparation.pipeline import read_arguments

        return read_arguments(rest, module.make_parser())
    assert script.stem in scripts(str(script.parent)), script
    return module.make_parser().parse_args(rest)
