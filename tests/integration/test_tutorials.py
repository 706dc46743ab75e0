"""Every command of the tutorials runs in the order of its page: on a tiny base, a few rows, and a Hub on loopback."""

import re
import shlex
import sys
from pathlib import Path

import estimate_winner
import pandas as pd
import pytest
import yaml

import push_to_hub
import train_relevance
from product_relevance import RelevanceEnsemble
from product_relevance.cli.main import main as relevance
from product_relevance.utils.run_folder import load_run
from tests.conftest import ROOT, rows_of, write_rows
from tests.helpers.programs import module_of
from tests.helpers.serving import get, live, post, tiny_run
from tests.helpers.shop_export import ESCI, write_export
from tests.helpers.staged import BASE, base_files, base_pin
from tests.helpers.tiny_translators import save_translator
from tests.integration.test_documented_trainings import save_tiny

pytest_plugins = ["tests.hub.loopback.fixture"]
TINY = "--use_cpu true --bf16 false --num_folds 2 --max_steps 2 --lora_r 2 --eval_strategy no --save_strategy no"
TINY += " --load_best_model_at_end false"


def page(name: str) -> str:
    return (ROOT / "docs" / ("." if "/" in name else "tutorials") / f"{name}.md").read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page(name), re.S)


def commands(name: str) -> list[list[str]]:
    lines = "".join(blocks(name, "sh")).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines]


def makefile_commands(target: str) -> list[list[str]]:
    """What `make` runs for a target, but for what it prints."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    lines = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.M).group(1).splitlines()
    words = [shlex.split(line.replace("$(BIN)/", "").replace("$(RUN)", "runs/quickstart")) for line in lines]
    return [command for command in words if command[0] in ("python", "relevance")]


def run(words: list[str], base: Path) -> None:
    """Run a command of a page in this process; a training takes a tiny base and two steps."""
    if words[0] == "torchrun":
        words = ["python", *words[3:]]  # without --nproc_per_node N
    if words[:2] == ["make", "quickstart"]:
        for command in makefile_commands("quickstart"):
            run(command, base)
    elif "train_relevance.py" in words[:2] or words[:2] == ["relevance", "train"]:
        train_relevance.main([*words[2:], *TINY.split(), "--model_name_or_path", str(base)])
    elif words[0] == "python":
        script = Path(words[1])
        module_of(str(script.parent), script.stem).main(words[2:])
    elif words[0] == "relevance":
        relevance(words[1:])
    else:
        assert words[0] == "." or words[:2] == ["cp", "-r"], words  # the sample is there


def exit_code(words: list[str], base: Path) -> int:
    """Run a command that may end the process, and return its exit code."""
    try:
        run(words, base)
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder that looks like a clone, as the current one."""
    for name in ("sample", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return tmp_path


def test_the_quickstart_leads_from_training_to_scores(clone, base_of, capsys):
    for command in commands("quickstart"):
        run(command, base_of("bert"))
    assert len((clone / "runs/submit_dev_QC.txt").read_text().splitlines()) == len(rows_of("dev_QC.txt"))
    assert (clone / "runs/submit_dev_QC.txt.scores.parquet").is_file()
    capsys.readouterr()
    (code,) = blocks("quickstart", "python")
    exec(code, {})
    scores, ranked, threshold = capsys.readouterr().out.strip().splitlines()[-3:]
    assert scores.startswith("[") and "score" in ranked and 0 < float(threshold) < 1


def test_the_reference_names_every_file_and_key_of_a_run(base_of):
    folder, text = tiny_run(base_of("qwen3")), (ROOT / "docs/reference/run-folder.md").read_text(encoding="utf-8")
    files = {path.name for path in [*folder.iterdir(), *(folder / "fold-0").iterdir()]} - {"fold-1"}
    for name in {*files, *load_run(folder)}:
        assert f"`{name}`" in text or f"`{name}/`" in text, name
    for column in pd.read_parquet(folder / "oof.parquet"):
        assert f"`{column}`" in (ROOT / "docs/reference/file-formats.md").read_text(encoding="utf-8"), column


def test_a_shop_goes_from_its_export_to_a_served_model_in_six_commands(clone, base_of, monkeypatch, capsys):
    pytest.importorskip("fastapi", reason="extra [serve] is not installed")
    from product_relevance.serving.http.server import Settings, make_app

    monkeypatch.setattr(sys.modules[__name__], "TINY", f"{TINY} --pooling auto")
    write_export(clone / "export.csv")
    write_export(clone / "new.csv", rows=200, seed=1)
    inspect, train, evaluate, predict, serve, curl = commands("own-csv")
    for command in (inspect, train, evaluate, predict):
        run(command, base_of("qwen3"))
    shown = capsys.readouterr().out
    for part in ("export.csv: 3,000 rows, columns with a semicolon between", "labels      false", "languages   "):
        assert part in shown, part
    head, graded = blocks("own-csv", "yaml")
    recipe = yaml.safe_load(Path("shop.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(head).items() <= recipe.items()
    found, scores = load_run(Path("runs/export")), pd.read_csv("scores.csv")
    assert found["data"]["rows"] == 3000 and found["data"]["languages"] == ["de", "en", "tr"]
    assert scores["id"].tolist() == pd.read_csv("new.csv", sep=";")["sku"].tolist()
    assert serve == ["relevance", "serve", "runs/export", "--port", "8000"]
    with live(make_app(RelevanceEnsemble.from_pretrained("runs/export", device="cpu"), Settings(timeout=200))) as url:
        assert post(url, curl[curl.index("-d") + 1].encode())[0] == 200
        assert "/metrics" in page("own-csv") and get(url, "/metrics")
    write_export(clone / "graded.csv", labels=ESCI)
    relevance(["inspect", "graded.csv", "--output", "graded.yaml"])
    assert yaml.safe_load(graded).items() <= yaml.safe_load(Path("graded.yaml").read_text(encoding="utf-8")).items()
    capsys.readouterr()
    follow_graded_recipe(clone, base_of("qwen3"))
    measured = capsys.readouterr().out
    assert "quadratic kappa" in measured and "nDCG@10" in measured and "AP(rel=2)" in measured


def follow_graded_recipe(folder: Path, base: Path) -> None:
    """Train by the recipe with letters as grades, and take the run to another export with letters."""
    run(["relevance", "train", "graded.yaml"], base)
    found = load_run(folder / "runs/graded")
    assert len(found["labels"]) == 4 and len(found["grade_thresholds"]) == 3
    write_export(folder / "graded-new.csv", rows=200, seed=1, labels=ESCI)
    relevance(["predict", "runs/graded", "graded-new.csv", "--output", "grades.csv", "--device", "cpu"])
    assert set(pd.read_csv("grades.csv")["grade"]) <= {0, 1, 2, 3}
    relevance(["evaluate", "runs/graded", "graded-new.csv", "--measures", "nDCG@10", "AP", "--device", "cpu"])


def test_the_table_of_the_page_is_read_as_the_page_says(clone, capsys):
    (shown,) = blocks("own-csv", "csv")
    Path("export.csv").write_text(shown, encoding="utf-8")
    run(commands("own-csv")[0], clone)
    recipe = yaml.safe_load(Path("shop.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(blocks("own-csv", "yaml")[0]).items() <= recipe.items()


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("gemma"), "gemma3_text")


def test_the_winner_is_reproduced_at_toy_size(clone, gemma, tmp_path, monkeypatch):
    for task in ("QC", "QI"):
        write_rows(clone / f"train_{task}.txt", rows_of(f"train_{task}.txt")[:120])
        write_rows(clone / f"test_{task}.txt", rows_of(f"test_{task}.txt")[:30])
    translator = save_translator(tmp_path / "madlad", "madlad")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for command in commands("reproduce-the-winner"):
        run([str(translator) if word == "google/madlad400-10b-mt" else word for word in command], gemma)
    for task, start in (("qc", "winner-qi-full"), ("qi", "winner-qc-full")):
        found = load_run(Path(f"runs/winner-{task}"))
        assert [fold["name"] for fold in found["folds"]] == ["fold-0", "fold-1"]
        assert start in str(found["first_stage"])
    assert Path("submit.zip").is_file()


def test_the_recipes_of_the_page_are_there():
    for name in re.findall(r"gemma-3-12b-q[ci]-[a-z-]+", page("reproduce-the-winner")):
        assert (ROOT / f"recipes/{name}.yaml").is_file(), name


def test_the_estimates_of_the_page_are_those_of_its_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["estimate_winner.py"])
    estimate_winner.main()
    assert capsys.readouterr().out.strip() in page("reproduce-the-winner")
    asked = estimate_winner.make_parser().parse_args([])
    assert f"{asked.tokens} tokens per pair, and {asked.share:.0%}" in page("reproduce-the-winner")
    assert f"query, and {asked.decoding_share:.0%}" in page("reproduce-the-winner")


def test_a_run_is_published_loaded_and_served(hub, base, clone, capsys):
    pytest.importorskip("fastapi", reason="extra [serve] is not installed")
    from product_relevance.serving.http.server import Settings, make_app

    hub.put(BASE, base_files(base))
    (clone / "runs").mkdir()
    (clone / "runs/quickstart").symlink_to(tiny_run(base))
    pin = ["--base_model_id", BASE, "--base_revision", base_pin(base)[1], "--staging_folder", str(clone / "hub")]
    first, *others = commands("publish-and-serve")
    push_to_hub.main([*first[2:], *pin])
    assert hub.repos.keys() == {("model", BASE)}
    push_to_hub.main([*others[0][2:], *pin])
    assert hub.repo("org/name").private and hub.repo("org/name").tags.keys() == {"v1"}
    capsys.readouterr()
    (code,) = blocks("publish-and-serve", "python")
    exec(code, {})
    assert capsys.readouterr().out.startswith("[")
    serve, *curls = others[1:]
    assert serve == ["relevance", "serve", "runs/quickstart", "--port", "8000"]
    ensemble = RelevanceEnsemble.from_pretrained("runs/quickstart", device="cpu")
    with live(make_app(ensemble, Settings(timeout=200))) as url:
        for curl in curls:
            path = next(word for word in curl if word.startswith("http")).removeprefix("http://127.0.0.1:8000")
            assert post(url, curl[curl.index("-d") + 1].encode(), path)[0] == 200


def test_next_month_is_trained_compared_published_and_served(hub, base, clone, monkeypatch, capsys):
    pytest.importorskip("fastapi", reason="extra [serve] is not installed")
    from product_relevance.serving.http.server import Settings, make_app

    hub.put(BASE, base_files(base))
    monkeypatch.setattr(sys.modules[__name__], "TINY", f"{TINY} --pooling auto")
    (clone / "exports").mkdir()
    for seed, name in enumerate(("exports/2026-10.csv", "exports/2026-11.csv", "judged.csv")):
        write_export(clone / name, rows=120, seed=seed)
    inspect, last, anew, warm, *compared, push, serve, curl = commands("how-to/next-month")
    for command in (inspect, last, anew, warm):
        run(command, base)
    both, new = load_run(Path("runs/2026-11")), load_run(Path("runs/2026-11-warm"))
    assert both["data"]["rows"] == 240 and new["data"]["rows"] == 120
    assert set(pd.read_parquet("runs/2026-11/oof.parquet")["id"].str[:8]) == {"2026-10:", "2026-11:"}
    assert {fold["name"] for fold in new["folds"]} == {"fold-0", "fold-1"}
    assert "runs/2026-10" in str(new["first_stage"])
    decide, look = compared
    codes = [exit_code([*decide[:-1], asked], base) for asked in ("0.9", "0")]
    assert codes == [0, 3] and exit_code(look, base) == 0
    assert "B: runs/2026-11-warm" in capsys.readouterr().out
    pin = ["--base_model_id", BASE, "--base_revision", base_pin(base)[1], "--staging_folder", str(clone / "hub")]
    push_to_hub.main([*push[2:], *pin])
    assert hub.repo("org/name").tags.keys() == {"2026-11"}
    assert serve == ["relevance", "serve", "org/name", "--revision", "2026-11", "--port", "8001"]
    with live(make_app(RelevanceEnsemble.from_pretrained("org/name", revision="2026-11"), Settings())) as url:
        assert get(url, curl[-1].removeprefix("http://127.0.0.1:8001"))
