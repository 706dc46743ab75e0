"""ensemble.json: what is written reads back, nothing private goes in, and every defect is a clear ValueError."""

import copy
import fnmatch
import json
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.ensemble.published import manifest
from product_relevance.ensemble.published.manifest_record import Manifest
from product_relevance.ensemble.published.manifest_schema import check_manifest, check_name, is_repo_id
from product_relevance.utils.files import sha256_of
from product_relevance.utils.run_record import FinishedRunRecord, PublicRunRecord

SHA, COMMIT = "a" * 64, "b" * 40
TEMPLATE = {"task": "QC", "input_style": "both", "language_tag": False, "language_fix": "none"}
TEMPLATE |= {"path_style": "raw", "lowercase": False}
ADAPTER = {"peft_type": "LORA", "task_type": "SEQ_CLS", "r": 4, "lora_alpha": 8, "target_modules": ["query"]}
ADAPTER |= {"use_rslora": False, "use_dora": False}
ARGUMENTS = {
    "model": {"model_name_or_path": "/home/me/base", "model_revision": "main", "lora_r": 4},
    "data": {"train_file": "/home/me/secret.txt", "translation": "/home/me/table.csv", "input_style": "both"},
    "training": {"output_dir": "/home/me/runs/x", "hub_model_id": "me/private", "seed": 7, "run_name": "me-on-box"},
}
RUN = {
    "format": 1,
    "task": "QC",
    "base": {"name": "org/base", "revision": COMMIT, "fingerprint": SHA},
    "adapter": {"r": 4},
    "pooling": "auto",
    "max_length": 64,
    "template": TEMPLATE,
    "columns": {"translation": "/home/me/table.csv"},
    "labels": {"0": "irrelevant", "1": "relevant"},
    "folds_by": {"num_folds": 3},
    "data": {"source": "train.txt", "positive": 0.6},
    "thresholds": {"f1": 0.4, "macro_f1": 0.5},
    "thresholds_from": "9 out-of-fold rows",
    "metrics": None,
    "versions": {"python": "3.11.9"},
    "device": "cpu",
    "processes": 1,
    "seconds": 60.0,
    "finished": "2026-11-21T05:39:27+00:00",
    "folds": [{"name": "fold-0", "base": {"name": "/home/me/base"}, "metrics": {"f1": 0.7}}],
    "arguments": ARGUMENTS,
}


def public(run: dict) -> PublicRunRecord:
    return manifest.public_run(FinishedRunRecord.from_json(run))


def whole() -> dict:
    """A manifest without a defect."""
    run = public(copy.deepcopy(RUN)).to_json()
    run["base"]["config_sha256"] = SHA
    files = {"adapter_config.json": SHA, "adapter_model.safetensors": SHA}
    folds = [{"name": "fold-0", "repo_id": "org/x-fold-0", "revision": COMMIT, "path": ".", "files": files}]
    canaries = {"pairs": [["q", "t", "en"]], "scores": [0.5], "folds": {"fold-0": [0.5]}, "dtype": "float32"}
    files = {"taxonomy.json": SHA, "code/a/b.py": SHA}
    parts = {"name": "org/x", "run": run, "folds": folds, "files": files, "canaries": canaries}
    return {"format": 1, "kind": "relevance-ensemble"} | parts


def test_what_is_written_reads_back(tmp_path):
    manifest.write_manifest(tmp_path, Manifest.from_json(whole()))
    assert json.loads((tmp_path / "ensemble.json").read_text(encoding="utf-8")) == whole()
    assert manifest.read_manifest(tmp_path) == Manifest.from_json(whole())
    assert list(Manifest.from_json(whole()).to_json()) == list(whole())


def test_the_public_run_holds_no_path_and_no_name_of_an_account_or_machine():
    text = json.dumps(public(RUN).to_json())
    for private in ("/home", "secret.txt", "me/private", "me-on-box", "output_dir"):
        assert private not in text
    assert public(RUN).recipe == {
        "lora_r": 4,
        "translation": "table.csv",
        "input_style": "both",
        "seed": 7,
    }


def test_a_base_that_is_a_folder_here_is_not_published(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="base: a folder of this machine"):
        public(RUN | {"base": RUN["base"] | {"name": "/home/me/base"}})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models/gemma").mkdir(parents=True)  # looks like a Hub id
    with pytest.raises(ValueError, match="a folder of this machine"):
        public(RUN | {"base": RUN["base"] | {"name": "models/gemma"}})


def test_a_fold_may_lack_its_commit_while_it_is_filled_but_not_when_it_is_read(tmp_path):
    content = whole()
    content["folds"][0]["revision"] = None
    manifest.write_manifest(tmp_path, Manifest.from_json(content))
    with pytest.raises(ValueError, match="fold-0: revision.*pinned"):
        manifest.read_manifest(tmp_path)


DEFECTS = [
    (["kind"], "other", "kind.*relevance-ensemble"),
    (["format"], 2, "format.*found '2'"),
    (["name"], "no-organisation", "name.*org/name"),
    (["extra"], 1, "extra.*newer version"),
    (["run", "extra"], 1, "extra.*newer version"),
    (["run", "recipe"], ..., "no recipe"),
    (["run", "base", "revision"], "main", "run.base.revision.*40 hex"),
    (["run", "base", "name"], "../base", "run.base.name"),
    (["run", "base", "config_sha256"], None, "config_sha256.*64"),
    (["run", "max_length"], 0, "max_length"),
    (["run", "template", "casing"], 1, "template.*unknown keys casing"),
    (["run", "template", "input_style"], "original", "input_style.*both, as trained"),
    (["run", "template", "task"], "QI", "template.task"),
    (["run", "thresholds", "f1"], 1.5, "thresholds.*0 to 1"),
    (["run", "thresholds", "f1"], ..., "thresholds.*f1 and macro_f1"),
    (["run", "first_stage"], {"task": "QC"}, "run.first_stage"),
    (["run", "teacher"], {"runs": "all"}, "run.teacher"),
    (["run", "folds_by"], {"valid_sha256": {"fold-0": SHA}}, "valid_sha256"),
    (["run", "attn_implementation"], "someone/kernels", "attn_implementation"),
    (["folds"], [], "folds"),
    (["folds", 0, "repo_id"], "org/../x", "repo_id"),
    (["folds", 0, "revision"], "v1", "revision.*40 hex"),
    (["folds", 0, "path"], "../..", "file name.*plain relative"),
    (["folds", 0, "path"], "/etc", "file name.*plain relative"),
    (["folds", 0, "name"], "../x", "fold name"),
    (["folds", 0, "name"], "fold-1", "as run.folds has them"),
    (["folds", 0, "files", "adapter_model.bin"], SHA, "not a pickle"),
    (["folds", 0, "files", "adapter_model.safetensors"], ..., "files.*adapter_model.safetensors"),
    (["folds", 0, "files", "adapter_model.safetensors"], "abc", "64 hex"),
    (["files", "..\\evil"], SHA, "no backslash"),
    (["files", "*"], SHA, "no wildcard"),
    (["files", "a/../../b"], SHA, "file name"),
    (["files", ".hidden"], SHA, "file name"),
    (["canaries", "pairs"], [["q", "t"]], "query, target, language"),
    (["canaries", "scores"], [0.5, 0.5], "a score for each pair"),
    (["canaries", "folds", "fold-1"], [0.5], "canaries.folds"),
    (["canaries", "dtype"], "int8", "dtype"),
]


@pytest.mark.parametrize("path, value, told", DEFECTS)
def test_every_defect_is_named(path, value, told, tmp_path):
    content = whole()
    (tmp_path / "ensemble.json").write_text(json.dumps(changed(content, path, value)), encoding="utf-8")
    with pytest.raises(ValueError, match=f"ensemble.json: .*{told}"):
        manifest.read_manifest(tmp_path)


def changed(content: dict, path: list, value):
    """Put a value at a place; `...` takes the key away."""
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "Expecting value"),
        ("[]", "a dict"),
        ("[" * 100_000, "recursion"),
        (json.dumps(whole()).replace("0.4", "NaN"), "found NaN"),
        (json.dumps(whole()).replace("0.4", "-Infinity"), "found -Infinity"),
        (json.dumps(whole()).replace("0.4", "1e999"), "found 1e999"),
    ],
)
def test_what_is_no_clean_json_is_refused(text, told, tmp_path):
    (tmp_path / "ensemble.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=told):
        manifest.read_manifest(tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(ValueError, match="ensemble.json: not found"):
        manifest.read_manifest(tmp_path)


def places(value, path=()):
    """All paths into a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=400)
@given(st.sampled_from([p for p in places(whole()) if p]), ANYTHING)
def test_whatever_stands_anywhere_is_accepted_or_a_value_error(path, value):
    try:
        check_manifest(changed(whole(), list(path), value), pinned=True)
    except ValueError as error:
        assert str(error)


@given(st.text(max_size=20) | st.from_regex(r"[a-z./\\*\[\]?~-]{1,12}"))
def test_an_accepted_file_name_stays_below_its_folder_and_matches_itself_alone(name):
    try:
        check_name(name)
    except ValueError:
        return
    parts = PurePosixPath(name).parts
    assert parts and ".." not in parts and "." not in parts and "/".join(parts) == name and "\\" not in name
    assert fnmatch.fnmatch(name, name) and not any(c in name for c in "*?[]:~\0")


@pytest.mark.parametrize("name", ["org/name", "a/b", "Org-1/e5.small_v2"])
def test_hub_ids_are_known(name):
    assert is_repo_id(name)


@pytest.mark.parametrize("name", ["name", "a/b/c", "../b", "a/..", "/a", "a/", "a\\b", "a/b c", "a/b--c", "a/b\n"])
def test_what_is_no_hub_id_is_not_taken_for_one(name):
    assert not is_repo_id(name)


@pytest.fixture
def files(tmp_path):
    """A folder with a small safetensors file and a config, and their sha256."""
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(ADAPTER))
    return tmp_path, {p.name: sha256_of(p) for p in tmp_path.iterdir()}


def test_files_as_published_pass(files):
    manifest.check_files(*files)


def test_a_changed_or_missing_file_is_refused(files):
    folder, hashes = files
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER | {"r": 5}))
    with pytest.raises(ValueError, match="adapter_config.json: sha256.*changed or swapped"):
        manifest.check_files(folder, hashes)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(ValueError, match="adapter_config.json: missing"):
        manifest.check_files(folder, hashes)


@pytest.mark.parametrize("length", [10**12, 101_000_000, 500, 2**64 - 1])
def test_an_oversize_header_is_refused_before_it_is_read(files, length):
    folder, hashes = files
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + content[8:])
    with pytest.raises(ValueError, match=f"header of {length} bytes"):
        manifest.check_files(folder, hashes | {"model.safetensors": sha256_of(folder / "model.safetensors")})


@pytest.mark.parametrize("name", ["adapter_model.bin", "model.pt", "x.pkl"])
def test_a_pickle_beside_or_in_place_of_the_weights_is_refused(files, name):
    folder, hashes = files
    (folder / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=f"{name}.*a pickle"):
        manifest.check_files(folder, hashes)
    with pytest.raises(ValueError, match="not a pickle"):
        manifest.check_files(folder, {name: SHA})


@pytest.mark.parametrize("key", ["auto_map", "auto_mapping"])
def test_a_config_that_brings_code_is_refused(files, key):
    folder, hashes = files
    (folder / "adapter_config.json").write_text(json.dumps({key: {"AutoModel": "evil.Model"}}))
    with pytest.raises(ValueError, match=f"{key}, code from a repository"):
        manifest.check_files(folder, hashes | {"adapter_config.json": sha256_of(folder / "adapter_config.json")})


def test_the_config_hash_sees_the_architecture_and_nothing_else():
    config = {"model_type": "qwen3", "hidden_size": 32, "num_attention_heads": 4, "rms_norm_eps": 1e-6}
    same = {"transformers_version": "9.0", "dtype": "bfloat16", "num_labels": 2, "head_dim": None, **config}
    assert manifest.config_sha256(config) == manifest.config_sha256(same)
    assert manifest.config_sha256(config) != manifest.config_sha256(config | {"num_attention_heads": 8})


CUTS = {"f1": 0.4, "macro_f1": 0.5, "expected_f1": 0.41}
DECISION = {
    "calibration": {"method": "temperature", "temperature": 1.3},
    "thresholds": CUTS,
    "languages": {"en": CUTS},
}
DECISION |= {"shrinkage": 1000.0, "spread": None, "from": "9 out-of-fold rows", "figures": [{"f1": 0.8}]}


def test_a_decision_is_published_with_the_run_and_one_without_is_read_as_before():
    assert public(RUN | {"decision": DECISION}).decision == DECISION
    assert "decision" not in public(RUN).to_json()
    content = whole()
    content["run"]["decision"] = DECISION
    check_manifest(content, pinned=True)


@pytest.mark.parametrize(
    "bad", [{}, DECISION | {"thresholds": {}}, DECISION | {"calibration": {"method": "code"}}, None]
)
def test_a_decision_with_a_defect_is_refused_before_anything_is_loaded(bad):
    content = whole()
    content["run"]["decision"] = bad
    with pytest.raises(ValueError, match="decision|calibration"):
        check_manifest(content, pinned=True)


def test_a_threshold_of_any_size_is_a_value_error():
    for value in (10**30, 10**400, float("inf"), float("nan"), True):
        with pytest.raises(ValueError, match="thresholds"):
            check_manifest(changed(whole(), ["run", "thresholds", "f1"], value), pinned=True)
