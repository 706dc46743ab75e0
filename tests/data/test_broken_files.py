"""Broken files of a repository or a run folder: each is read or is a ValueError with its name, never anything else."""

import json
import shutil
import time
from pathlib import Path
from random import Random

import pytest

from product_relevance.cli.main import main as relevance
from product_relevance.ensemble.locate import locate_run
from product_relevance.ensemble.published import manifest
from product_relevance.ensemble.published.canaries import CanaryScores
from product_relevance.ensemble.published.manifest_record import Manifest, PublishedFold
from product_relevance.evaluation.decision_rule import DecisionRule
from product_relevance.models import adapters, modeling
from product_relevance.models.adapter_fit import check_fit
from product_relevance.models.arguments import ModelArguments
from product_relevance.text.taxonomy import Taxonomy
from product_relevance.text.templates import Template
from product_relevance.utils.files import sha256_of
from tests.ensemble.test_manifest import RUN, SHA, changed, public

CASES = 400  # of each of five files
FOLD, HASHED = "fold-0", ("taxonomy.json", "fold-0/adapter_config.json", "fold-0/adapter_model.safetensors")


@pytest.fixture(scope="module")
def bare(base_of):
    """The base, with its head."""
    folder = str(base_of("qwen3"))
    return modeling.load_classifier(folder, modeling.load_tokenizer(folder))


@pytest.fixture(scope="module")
def folder(base_of, tmp_path_factory) -> Path:
    """A folder that is a run and, by its ensemble.json, a published ensemble."""
    home = tmp_path_factory.mktemp("fuzz")
    base = str(base_of("qwen3"))
    model = modeling.load_classifier(base, modeling.load_tokenizer(base))
    arguments = ModelArguments(model_name_or_path=base, lora_r=2, lora_target_modules=["attention"])
    adapters.add_adapter(model, arguments).save_pretrained(home / FOLD, save_embedding_layers=False)
    Taxonomy.from_paths(["shoes,women's shoes", "shoes,men's shoes", "pet supplies"]).save(home / "taxonomy.json")
    (home / FOLD / "fold.json").write_text(json.dumps({"name": FOLD}))
    tree = sha256_of(home / "taxonomy.json")
    trained = RUN | {"taxonomy_sha256": tree}
    trained["template"] = RUN["template"] | {"paths": {"separator": ",", "names": ["dining,kitchen"]}}
    (home / "run.json").write_text(json.dumps(trained))
    run = public(trained)
    run.base["config_sha256"] = SHA
    files = {path.name: sha256_of(path) for path in sorted((home / FOLD).glob("adapter_*"))}
    folds = [PublishedFold(name=FOLD, path=FOLD, files=files)]
    scores = CanaryScores(pairs=[["q", "t", "en"]], scores=[0.5], folds={FOLD: [0.5]}, dtype="float32")
    made = Manifest(name="org/x", run=run, folds=folds, files={"taxonomy.json": tree}, canaries=scores)
    manifest.write_manifest(home, made)
    return home


def load(folder: Path, model) -> None:
    """Read everything that loading reads, without the base."""
    found = locate_run(folder)
    if found.taxonomy:
        Taxonomy.load(found.taxonomy)
    check_fit(model, found.folds[FOLD])
    Template.from_dict(found.run.template)
    DecisionRule.from_run(found.run)


def broken(content: bytes, random: Random) -> bytes:
    """One defect: a bit, a stretch of bytes, an end that is missing, or a value of another type."""
    where = random.randrange(len(content))
    kind = random.choice(["bit", "bytes", "cut", "type", "type"])
    if kind == "type" and content[:1] in b"{[":
        return retyped(json.loads(content), random)
    if kind == "cut":
        return content[:where]
    if kind == "bytes":
        return content[:where] + random.randbytes(random.randrange(1, 9)) + content[where + 1 :]
    return content[:where] + bytes([content[where] ^ 1 << random.randrange(8)]) + content[where + 1 :]


OTHERS = [None, True, 0, -1, 10**30, 0.5, "", "a", "../x", [], [[]], {}, {"a": {}}, [None], ["a", 1], [[1, "a"]]]


def retyped(value, random: Random) -> bytes:
    """The same JSON with another value at one place, a key that is missing, or one more."""
    place = parent = value
    while isinstance(place, dict | list) and place and random.random() < 0.8:
        parent, key = place, random.choice(list(place) if isinstance(place, dict) else range(len(place)))
        place = parent[key]
    if parent is place:
        return json.dumps(random.choice(OTHERS)).encode()
    way = random.randrange(6)
    if way == 0 and isinstance(parent, dict):
        del parent[key]
    elif way == 1 and isinstance(parent, dict):
        parent[f"{key}_"] = place
    else:
        parent[key] = random.choice(OTHERS)
    return json.dumps(value).encode()


def refusal(folder: Path, model) -> str | None:
    """The message of the ValueError, None where all is read."""
    try:
        load(folder, model)
    except ValueError as error:
        return str(error)
    return None


def rehash(folder: Path) -> None:
    """Let ensemble.json agree with the broken file, as whoever wants to deceive would."""
    content = json.loads((folder / "ensemble.json").read_text())
    content["files"] = {"taxonomy.json": sha256_of(folder / "taxonomy.json")}
    fold = content["folds"][0]
    fold["files"] = {name: sha256_of(folder / FOLD / name) for name in fold["files"]}
    (folder / "ensemble.json").write_text(json.dumps(content))


@pytest.mark.parametrize("name", [*HASHED, "ensemble.json", "run.json"])
def test_whatever_a_file_holds_it_is_read_or_a_value_error_with_its_name(name, folder, bare):
    published, path, random, refused = folder / "ensemble.json", folder / name, Random(name), 0
    whole, kept = path.read_bytes(), published.read_bytes()
    if name == "run.json":
        published.unlink()  # the folder is a run then
    try:
        for _ in range(CASES):
            path.write_bytes(broken(whole, random))
            if name in HASHED:
                rehash(folder)
            told = refusal(folder, bare)
            refused += told is not None
            assert told is None or f"{folder}/" in told, told
    finally:
        path.write_bytes(whole)
        published.write_bytes(kept)
    assert refused > CASES / 5


def test_the_folder_that_is_broken_there_is_whole(folder, bare):
    load(folder, bare)


@pytest.fixture
def run(folder, tmp_path) -> Path:
    """A copy that is a run only."""
    copy = shutil.copytree(folder, tmp_path / "run")
    (copy / "ensemble.json").unlink()
    return copy


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_run_without_one_of_its_folds_is_refused(run):
    edit(run / "run.json", lambda content: content["folds"].append({"name": "fold-1"}))
    with pytest.raises(ValueError, match="run.json lists fold-0, fold-1, but fold-1 is not there: put its"):
        locate_run(run)
    shutil.copytree(run / FOLD, run / "fold-1")
    assert list(locate_run(run).folds) == ["fold-0", "fold-1"]


def test_a_fold_that_run_json_does_not_list_is_left_out(run):
    shutil.copytree(run / FOLD, run / "fold-1")  # trained, but the run was not finished with it
    assert list(locate_run(run).folds) == [FOLD]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9\n"


@pytest.mark.parametrize("content, told", [(POINTER, "a Git LFS pointer"), (None, "the file is incomplete or broken")])
def test_weights_that_are_no_whole_file_are_named_before_the_base_is_loaded(content, told, run):
    path = run / FOLD / "adapter_model.safetensors"
    path.write_bytes(content or path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=f"fold-0/adapter_model.safetensors: .*{told}"):
        locate_run(run)


def test_the_taxonomy_of_another_run_is_refused(run):
    (run / "taxonomy.json").write_text('[["shoes"]]')
    with pytest.raises(ValueError, match="taxonomy.json: found .*the taxonomy of another run"):
        locate_run(run)
    edit(run / "run.json", lambda content: content.pop("taxonomy_sha256"))  # as older versions wrote it
    assert Taxonomy.load(locate_run(run).taxonomy).paths == [("shoes",)]


def test_the_taxonomy_of_another_run_is_refused_though_its_hash_was_changed_too(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "taxonomy.json").write_text('[["shoes"]]')
    digest = sha256_of(copy / "taxonomy.json")
    edit(copy / "ensemble.json", lambda content: content["run"].update(taxonomy_sha256=SHA))
    edit(copy / "ensemble.json", lambda content: content["files"].update({"taxonomy.json": digest}))
    with pytest.raises(ValueError, match="files.taxonomy.json: .*the taxonomy of this run"):
        locate_run(copy)


def test_a_taxonomy_that_the_manifest_does_not_name_is_not_read(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    edit(copy / "ensemble.json", lambda content: content["files"].pop("taxonomy.json"))
    with pytest.raises(ValueError, match="files.taxonomy.json: found 'None'.*the taxonomy of this run"):
        locate_run(copy)
    edit(copy / "ensemble.json", lambda content: content["run"].pop("taxonomy_sha256"))  # as older versions wrote it
    assert locate_run(copy).taxonomy is None


WRONG = [
    (["run", "thresholds", "f1"], 0.0, "thresholds.f1.*without the two"),
    (["run", "thresholds", "macro_f1"], 1, "thresholds.macro_f1.*without the two"),
    (["run", "max_length"], 1_000_000, "max_length.*from 8 to 32768"),
    (["run", "base", "fingerprint"], None, "base.fingerprint.*64 hex"),
    (["run", "template", "lowercase"], "no", "template.lowercase.*true or false"),
    (["canaries", "pairs"], [["q" * 1001, "t", "en"]], "canaries.pairs.*at most 1000 characters"),
    (["canaries", "pairs"], [["q", "t", "en"]] * 101, "canaries.pairs.*1 to 100"),
]


@pytest.mark.parametrize("path, value, told", WRONG)
def test_what_no_run_publishes_is_refused(path, value, told, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    edit(copy / "ensemble.json", lambda content: changed(content, path, value))
    with pytest.raises(ValueError, match=f"ensemble.json: .*{told}"):
        locate_run(copy)


def test_many_canaries_are_refused_before_they_are_parsed(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    edit(copy / "ensemble.json", lambda content: content["canaries"].update(pairs=[["q" * 1000, "t", "en"]] * 19_000))
    started = time.process_time()
    with pytest.raises(ValueError, match="ensemble.json: .* bytes, expected at most 5000000"):
        locate_run(copy)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("name", ["PICKLE.BIN", "Model.Pt", "weights.pkl.gz", "x.joblib"])
def test_a_pickle_of_any_case_beside_the_weights_is_refused(name, folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / FOLD / name).write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=f"fold-0: found {name}, a pickle"):
        locate_run(copy)


def test_info_on_a_run_that_was_changed_is_one_line(run):
    edit(run / "run.json", lambda content: content.update(data=[]))
    with pytest.raises(SystemExit, match="^error: .*its run was changed, or is of another version"):
        relevance(["info", str(run)])
