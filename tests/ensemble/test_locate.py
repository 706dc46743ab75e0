"""Ensembles are found by folder or Hub id, downloaded by manifest at pinned commits, and refused where they differ."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from product_relevance import RelevanceEnsemble
from product_relevance.cli.main import main as relevance
from product_relevance.ensemble.loading_arguments import LoadingArguments
from product_relevance.ensemble.locate import find_manifest, locate_run
from product_relevance.utils.files import sha256_of
from tests.conftest import ROOT, save_base
from tests.helpers.published import BASE, NAME, PAIRS, edit, files_of, publish, tiny_run, upload

pytest_plugins = ["tests.hub.loopback.fixture"]


@pytest.fixture(scope="module")
def run(base_of, tmp_path_factory):
    return tiny_run(base_of("qwen3"), tmp_path_factory.mktemp("locate"))


@pytest.fixture(scope="module")
def expected(run):
    """Fold scores of the run itself."""
    return RelevanceEnsemble.from_pretrained(run, device="cpu").predict_folds(PAIRS)


@pytest.fixture
def folder(run, hub, base_of, tmp_path) -> Path:
    """The published ensemble as one folder, its base on the Hub."""
    commit = hub.put(BASE, files_of(base_of("qwen3")))
    return publish(run, tmp_path / "published", commit)


def load(name, **options):
    return RelevanceEnsemble.from_pretrained(name, device="cpu", **options)


def test_a_run_is_found_as_it_lies(run):
    found = locate_run(run)
    assert found.manifest is None and found.folder == run and found.run.task == "QC"
    assert found.folds == {f"fold-{k}": run / f"fold-{k}" for k in range(3)}


def test_what_is_no_ensemble_is_refused(tmp_path, run):
    with pytest.raises(ValueError, match="neither run.json .* nor ensemble.json"):
        locate_run(tmp_path)
    with pytest.raises(ValueError, match="no such folder, and no Hub id"):
        locate_run(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a folder: a revision applies"):
        locate_run(run, "v1")
    shutil.copy(run / "run.json", tmp_path)
    with pytest.raises(ValueError, match="no finished fold"):
        locate_run(tmp_path)


def test_a_fold_alone_says_how_it_is_loaded(run, folder, hub, tmp_path):
    with pytest.raises(ValueError, match=f"one fold of a run, .*: give {run}"):
        locate_run(run / "fold-0")
    files = files_of(run / "fold-0")
    summary = json.loads(files["fold.json"]) | {"ensemble": NAME, "base": {"name": BASE, "revision": "b" * 40}}
    files["fold.json"] = json.dumps(summary).encode()
    hub.put(f"{NAME}-fold-0", files)
    told = f"one fold of the ensemble {NAME}, .*load {NAME}; or .*PEFT, on the base {BASE} at revision bbbb"
    with pytest.raises(ValueError, match=told):
        load(f"{NAME}-fold-0")
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit, match=told):
        relevance(["info", str(tmp_path)])


def test_a_published_folder_scores_as_the_run(folder, expected):
    ensemble = load(folder)
    assert np.allclose(ensemble.predict_folds(PAIRS), expected, atol=1e-6)
    assert ensemble.manifest.name == NAME and ensemble.taxonomy is not None


def test_a_published_folder_merges_and_votes_too(folder, run):
    weights = LoadingArguments(merge="weights", max_disagreement=1.0)
    for loading, vote in ((weights, None), (None, "majority")):
        one, two = (load(name, loading=loading) for name in (folder, run))
        assert np.allclose(one.predict(PAIRS, vote=vote), two.predict(PAIRS, vote=vote), atol=1e-6)


def test_from_the_hub_each_fold_comes_at_its_pinned_commit_and_only_named_files_come(folder, hub, expected):
    upload(hub, folder)
    for k in range(3):  # whatever main holds by now
        hub.put(f"{NAME}-fold-{k}", {"adapter_model.safetensors": b"newer", "adapter_config.json": b"{}"})
    assert np.allclose(load(NAME).predict_folds(PAIRS), expected, atol=1e-6)
    found = [re.fullmatch(rf"/{NAME}[^/]*/resolve/[^/]*/(.*)", path) for _, path in hub.requests]
    fetched = {match.group(1) for match in found if match}
    assert fetched == {"ensemble.json", "taxonomy.json", "adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize("layout", ["one", "branches"])
def test_the_other_layouts_load_alike(layout, folder, hub, expected):
    upload(hub, folder, layout)
    assert set(hub.repos) == {("model", NAME), ("model", BASE)}
    assert np.allclose(load(NAME).predict_folds(PAIRS), expected, atol=1e-6)
    assert hub.count("GET", "extra.txt") == 0


def test_a_revision_chooses_the_ensemble(folder, hub, expected):
    upload(hub, folder)
    hub.api().create_tag(NAME, tag="v1")
    hub.put(NAME, {"ensemble.json": b"{}"})
    assert np.allclose(load(NAME, revision="v1").predict_folds(PAIRS), expected, atol=1e-6)
    with pytest.raises(ValueError, match="ensemble.json: manifest"):
        load(NAME)
    with pytest.raises(ValueError, match="no such revision"):
        load(NAME, revision="v2")


SCORE = """
import json, sys
from product_relevance import RelevanceEnsemble
pairs = json.loads(sys.argv[2])
print(json.dumps(RelevanceEnsemble.from_pretrained(sys.argv[1], device="cpu").predict_folds(pairs).tolist()))
"""


def test_after_one_download_no_connection_is_needed(folder, hub, expected, tmp_path):
    upload(hub, folder)
    load(NAME)
    hub.requests.clear()
    environment = hub.environment(tmp_path / "hf-home", HF_HUB_OFFLINE="1", PYTHONPATH=str(ROOT))
    command = [sys.executable, "-W", "ignore", "-c", SCORE, NAME, json.dumps(PAIRS)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.allclose(json.loads(done.stdout), expected, atol=1e-6) and hub.requests == []


def test_without_a_download_offline_says_so(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=f"{NAME}: no folder of that name here, and from the Hub: .*HF_HUB_OFFLINE"):
        locate_run(NAME)


def test_a_folder_made_by_hf_download_loads(folder, hub, expected, tmp_path):
    upload(hub, folder)
    command = [Path(sys.executable).parent / "hf", "download", NAME, "--local-dir", tmp_path / "down"]
    environment = hub.environment(tmp_path / "hf-home")
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert np.allclose(load(tmp_path / "down").predict_folds(PAIRS), expected, atol=1e-6)


def test_folds_laid_below_the_folder_are_taken_from_there(folder, hub, run):
    upload(hub, folder)
    for k in range(3):
        shutil.copytree(run / f"fold-{k}", folder / f"fold-{k}")
    hub.requests.clear()
    assert set(locate_run(folder).folds.values()) == {folder / f"fold-{k}" for k in range(3)}
    assert hub.requests == []


def test_find_reads_the_manifest_and_no_fold(folder, hub):
    upload(hub, folder)
    assert find_manifest(NAME)[1].name == NAME and hub.count("GET", "fold-") == 0


@pytest.mark.parametrize("token", ["hf_wrong", ""])
def test_a_private_ensemble_needs_the_right_token_and_no_message_shows_one(token, folder, hub, monkeypatch):
    upload(hub, folder)
    hub.repo(NAME).private = True
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ValueError, match=NAME) as error:
        locate_run(NAME)
    assert "hf_w" not in str(error.value) and hub.token not in str(error.value)


def test_a_missing_fold_repository_is_named(folder, hub):
    upload(hub, folder)
    del hub.repos["model", f"{NAME}-fold-1"]
    with pytest.raises(ValueError, match=f"{NAME}-fold-1"):
        locate_run(NAME)


def rehash(folder: Path, name: str) -> None:
    """Let the manifest agree with what lies in a fold now."""

    def change(content):
        fold = next(fold for fold in content["folds"] if fold["name"] == name)
        fold["files"] = {file: sha256_of(folder / name / file) for file in fold["files"]}

    edit(folder, change)


def test_a_swapped_adapter_is_refused(folder):
    weights = "adapter_model.safetensors"
    shutil.copy(folder / "fold-1" / weights, folder / "fold-0" / weights)
    with pytest.raises(ValueError, match="fold-0/adapter_model.safetensors: sha256.*swapped"):
        load(folder)
    rehash(folder, "fold-0")
    with pytest.raises(ValueError, match="canary . of fold-0"):
        load(folder)


def test_missing_and_extra_tensors_are_refused(folder):
    import torch
    from safetensors.torch import load_file, save_file

    file = folder / "fold-0/adapter_model.safetensors"
    state = load_file(file)
    for changed in ({k: v for k, v in state.items() if "score" not in k}, state | {"base_model.x": torch.zeros(2)}):
        save_file(changed, file, {"format": "pt"})
        rehash(folder, "fold-0")
        with pytest.raises(ValueError, match="fold-0: .* fit"):
            load(folder)


def test_pickled_weights_in_place_of_safetensors_are_refused(folder):
    import torch

    file = folder / "fold-0/adapter_model.safetensors"
    torch.save({"x": torch.zeros(1)}, file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(ValueError, match="adapter_model.bin, a pickle"):
        load(folder)


def test_a_pickle_that_a_repository_holds_is_not_even_downloaded(folder, hub):
    upload(hub, folder)
    commit = hub.put(f"{NAME}-fold-0", {"adapter_model.bin": b"\x80\x04."})

    edit(folder, lambda content: content["folds"][0].update(revision=commit))
    hub.put(NAME, files_of(folder))
    hub.requests.clear()
    locate_run(NAME)
    assert hub.count("GET", "adapter_model.bin") == hub.count("HEAD", "adapter_model.bin") == 0


def test_path_tricks_in_the_manifest_reach_no_file(folder, hub):
    upload(hub, folder)

    edit(folder, lambda content: content["files"].update({"../../../../evil": "a" * 64}))
    hub.put(NAME, files_of(folder))
    hub.requests.clear()
    with pytest.raises(ValueError, match="file name.*evil"):
        locate_run(NAME)
    assert hub.count("GET", "evil") == 0


def test_an_oversize_header_is_refused(folder):
    file = folder / "fold-2/adapter_model.safetensors"
    file.write_bytes((2**62).to_bytes(8, "little") + file.read_bytes()[8:])
    rehash(folder, "fold-2")
    with pytest.raises(ValueError, match="safetensors header of"):
        load(folder)


def test_a_base_that_asks_for_code_is_refused(folder, hub, base_of):
    config = json.loads((base_of("qwen3") / "config.json").read_text()) | {"auto_map": {"AutoConfig": "evil.Config"}}
    commit = hub.put(BASE, {"config.json": json.dumps(config).encode(), "evil.py": b"raise SystemExit('ran')"})
    edit(folder, lambda content: content["run"]["base"].update(revision=commit))
    with pytest.raises(ValueError, match="auto_map"):
        load(folder)
    assert hub.count("GET", "evil.py") == 0


def test_another_base_or_revision_is_refused(folder, hub, base_of, tmp_path):
    other = hub.put(BASE, files_of(save_base(tmp_path / "other", "qwen3", seed=7)))
    edit(folder, lambda content: content["run"]["base"].update(revision=other))
    with pytest.raises(ValueError, match="another base than tester/base.*weights"):
        load(folder)
    edit(folder, lambda content: content["run"]["base"].update(revision="c" * 40))
    with pytest.raises(ValueError, match=f"its base tester/base at revision {'c' * 40} cannot be loaded"):
        load(folder)


def test_a_base_whose_config_changed_is_refused(folder, hub, base_of):
    config = json.loads((base_of("qwen3") / "config.json").read_text()) | {"rms_norm_eps": 1e-3}
    commit = hub.put(BASE, {"config.json": json.dumps(config).encode()})
    edit(folder, lambda content: content["run"]["base"].update(revision=commit))
    with pytest.raises(ValueError, match="another base.*config"):
        load(folder)


def test_a_changed_template_is_refused_even_where_the_recipe_agrees(folder):
    edit(folder, lambda content: content["run"]["template"].update(lowercase=True))
    with pytest.raises(ValueError, match="template.lowercase: found 'True', expected False, as trained"):
        load(folder)
    edit(folder, lambda content: content["run"]["recipe"].update(lowercase=True))
    with pytest.raises(ValueError, match="canary .*template"):
        load(folder)


def test_a_canary_that_differs_is_refused(folder):
    def change(content):
        content["canaries"]["folds"]["fold-1"][2] += 2e-3

    edit(folder, change)
    with pytest.raises(ValueError, match="canary 2 of fold-1"):
        load(folder)
    with pytest.raises(ValueError, match="canary 2 of fold-1"):
        load(folder, loading=LoadingArguments(merge="weights", max_disagreement=1.0))


def test_the_commands_take_hub_ids(folder, hub, tmp_path, capsys):
    upload(hub, folder)
    hub.api().create_tag(NAME, tag="v1")
    relevance(["info", NAME, "--revision", "v1"])
    assert "tester/base (revision" in capsys.readouterr().out
    file = str(ROOT / "sample/dev_QC.txt")
    relevance(["evaluate", NAME, file, "--revision", "v1", "--vote", "majority", "--device", "cpu", "--json"])
    assert set(json.loads(capsys.readouterr().out)["folds"]) == {"fold-0", "fold-1", "fold-2"}
    with pytest.raises(SystemExit, match="no such revision"):
        relevance(["info", NAME, "--revision", "v9"])
