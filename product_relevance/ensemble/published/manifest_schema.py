"""The form of ensemble.json: every key, type and range, checked before anything is loaded or downloaded by it."""

import math
import re
from pathlib import PurePath

from product_relevance.data.sources.labels import MAX_GRADES
from product_relevance.evaluation.decision_rule import check_decision, is_threshold
from product_relevance.evaluation.grade_calibration import check_grade_calibration
from product_relevance.models.arguments import MAX_LENGTH
from product_relevance.models.loading.packaged_bases import is_embedded
from product_relevance.text.templates import Template
from product_relevance.utils.run_folder import ATTENTION
from product_relevance.utils.run_record import PublicRunRecord
from product_relevance.utils.tasks import BOTH, CHOICES, task_names

FORMAT, KIND = 1, "relevance-ensemble"
KEYS = ("format", "kind", "name", "run", "folds", "files", "canaries")
# What loading reads of a run.json, whatever its version.
LOADED_KEYS = ("task", "base", "adapter", "pooling", "max_length", "template", "labels", "thresholds", "folds")
BASE_KEYS = ("name", "revision", "fingerprint", "config_sha256")
FOLD_KEYS = ("name", "repo_id", "revision", "path", "files")
CANARY_KEYS = ("pairs", "scores", "folds", "dtype")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
MODEL_FILES = ("model.safetensors",)
PICKLES = {".bin", ".pt", ".pt2", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill"}
MAX_CANARIES, MAX_TEXT = 100, 1000  # pairs, and characters of each text: they are scored at every load
_SHA256, _COMMIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_FOLD = re.compile(r"[A-Za-z0-9_-]{1,80}")
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
# No dot in front, no backslash, none of the characters that a download pattern would read as a wildcard.
_FILE = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*")


def check_manifest(manifest, pinned: bool) -> None:
    """Raise ValueError if a manifest has a defect.

    Args:
        manifest: what ensemble.json held.
        pinned: whether the folds' commits must be there.

    Raises:
        ValueError: the key, what was found, what was expected.
    """
    _keys(manifest, KEYS, "manifest")
    _need(manifest["kind"] == KIND, "kind", manifest["kind"], KIND)
    _need(manifest["format"] == FORMAT, "format", manifest["format"], f"{FORMAT}, the one that this version reads")
    _need_repo(manifest["name"], "name")
    _check_run(manifest["run"])
    names = _check_folds(manifest["folds"], manifest["run"], pinned)
    _hashes(manifest["files"], "files")
    trained, lies = manifest["run"].get("taxonomy_sha256"), manifest["files"].get("taxonomy.json")
    _need(trained in (None, lies), "files.taxonomy.json", lies, f"{trained}, the taxonomy of this run")
    _check_canaries(manifest["canaries"], names)


def _check_run(run) -> None:
    _keys(run, PublicRunRecord.ALWAYS, "run", PublicRunRecord.OPTIONAL)
    _keys(run["base"], BASE_KEYS, "run.base")
    base = run["base"]
    _need(is_public_base(base["name"]), "run.base.name", base["name"], "a Hub id org/name, or embedded:NAME")
    if not is_embedded(base["name"]):
        _need_commit(base["revision"], "run.base.revision")
    for key in ("fingerprint", "config_sha256"):
        _need(_matches(_SHA256, base[key]), f"run.base.{key}", base[key], "64 hexadecimal digits")
    for key in ("columns", "data", "recipe"):
        _need(isinstance(run[key], dict), f"run.{key}", run[key], "a dict")
    _probabilities(run["data"].get("positive"), "run.data.positive")
    _need(run["task"] != BOTH, "run.task", run["task"], "one task: `relevance take` takes it out of a run of both")
    _check_loaded(run)
    _check_recipe(run)
    _check_division(run, "run")
    for key in ("first_stage", "teacher"):
        _check_parent(run.get(key), f"run.{key}")


def _check_division(run: dict, where: str) -> None:
    by = run.get("folds_by", {})
    _need(isinstance(by, dict), f"{where}.folds_by", by, "a dict")
    digests = by.get("valid_sha256", {})
    good = isinstance(digests, dict) and all(isinstance(of_tasks, dict) for of_tasks in digests.values())
    _need(good, f"{where}.folds_by.valid_sha256", digests, "a sha256 by fold and task")


def _check_parent(parent, where: str) -> None:
    """Check what a run says of the runs it was built on: who builds on it compares their folds too."""
    if parent is None:
        return
    runs = parent.get("runs", [parent]) if isinstance(parent, dict) else [parent]
    _need(isinstance(runs, list), where, runs, "a list of runs")
    for run in runs:
        good = isinstance(run, dict) and run.get("task") in CHOICES and isinstance(run.get("name"), str)
        good = good and isinstance(run.get("data"), dict) and isinstance(run["data"].get("sha256"), str)
        good = good and isinstance(run.get("files", {}), dict) and isinstance(run.get("parents", []), list)
        good = good and isinstance(run.get("folds"), list) and all(_matches(_FOLD, fold) for fold in run["folds"])
        _need(good, where, run, "name, task, folds and data of each run")
        _check_division(run, where)
        for older in run.get("parents", ()):
            _check_parent(older, where)


def check_run_file(run: dict) -> None:
    """Raise ValueError if run.json has a defect in what loading reads; those of older versions pass.

    Args:
        run: content of run.json.

    Raises:
        ValueError: the key, what was found, what was expected.
    """
    missing = [key for key in LOADED_KEYS if key not in run]
    _need(not missing, "run", f"no {missing[0] if missing else ''}", f"the keys {', '.join(LOADED_KEYS)}")
    base = run["base"]
    named = isinstance(base, dict) and isinstance(base.get("name"), str)
    _need(named and _is_text(base.get("revision")), "base", base, "name and revision")
    for key in ("fingerprint", "config_sha256"):  # ZeRO-3 takes no fingerprint
        _need(_is_text(base.get(key)), f"base.{key}", base.get(key), "64 hexadecimal digits")
    _check_loaded(run)
    folds = run["folds"]
    good = isinstance(folds, list) and folds and all(isinstance(fold, dict) for fold in folds)
    _need(good and all(_matches(_FOLD, fold.get("name")) for fold in folds), "folds", folds, "folds with their names")


def _check_loaded(run: dict) -> None:
    """Check what loading reads of a run, be it published or not."""
    _need(run["task"] in CHOICES, "run.task", run["task"], f"one of {', '.join(CHOICES)}")
    length = run["max_length"]
    good = type(length) is int and 8 <= length <= MAX_LENGTH
    _need(good, "run.max_length", length, f"from 8 to {MAX_LENGTH} tokens")
    _need(run["adapter"] is None or isinstance(run["adapter"], dict), "run.adapter", run["adapter"], "a dict or null")
    attention = run.get("attn_implementation", "eager")
    _need(attention in ATTENTION, "run.attn_implementation", attention, ", ".join(ATTENTION))
    known = ("auto", "mean", "pair", "sides")
    _need(run["pooling"] in known, "run.pooling", run["pooling"], "auto, mean, pair or sides")
    for key in ("template", "thresholds", "labels"):
        _need(isinstance(run[key], dict), f"run.{key}", run[key], "a dict")
    of_tasks = run["thresholds"] if run["task"] == BOTH else {run["task"]: run["thresholds"]}
    _need(of_tasks.keys() == set(task_names(run["task"])), "run.thresholds", of_tasks, f"those of {run['task']}")
    for chosen in of_tasks.values():
        good = isinstance(chosen, dict) and {"f1", "macro_f1"} <= chosen.keys()
        _need(good, "run.thresholds", chosen, "f1 and macro_f1")
        for kind, value in chosen.items():
            good = is_threshold(kind, value)
            _need(good, f"run.thresholds.{kind}", value, "a number from 0 to 1, without the two")
    _check_grades(run)
    if "decision" in run:
        check_decision(run["decision"])
    if "grade_calibration" in run:
        check_grade_calibration(run["grade_calibration"])
    tree = run.get("taxonomy_sha256")
    _need(tree is None or _matches(_SHA256, tree), "run.taxonomy_sha256", tree, "64 hexadecimal digits")
    template = Template.from_dict(run["template"])
    for key in ("language_tag", "lowercase", "task_tag"):
        value = getattr(template, key)
        _need(type(value) is bool, f"run.template.{key}", value, "true or false")
    _need(template.task == run["task"], "run.template.task", template.task, run["task"])


def _check_grades(run: dict) -> None:
    """Check what a run of more than two grades has beside its labels."""
    count, least, chosen = len(run["labels"]), run.get("relevant_from"), run.get("grade_thresholds")
    _need(2 <= count <= MAX_GRADES, "run.labels", run["labels"], f"from 2 to {MAX_GRADES}")
    good = least is None if count == 2 else type(least) is int and 0 < least < count
    _need(good, "run.relevant_from", least, f"a grade from 1 to {count - 1}, where there are more than two")
    if chosen is not None:
        numbers = isinstance(chosen, list) and all(is_threshold("f1", value) for value in chosen)
        good = numbers and len(chosen) == count - 1 and sorted(set(chosen)) == chosen
        _need(good, "run.grade_thresholds", chosen, f"{count - 1} rising numbers between 0 and 1")


def _check_recipe(run: dict) -> None:
    template = Template.from_dict(run["template"])
    for key in ("input_style", "language_tag", "path_style", "lowercase"):
        trained = run["recipe"].get(key, getattr(template, key))
        _need(
            getattr(template, key) == trained, f"run.template.{key}", getattr(template, key), f"{trained}, as trained"
        )


def _check_folds(folds, run: dict, pinned: bool) -> list[str]:
    _need(isinstance(folds, list) and folds, "folds", folds, "a list of at least one")
    wanted = set(MODEL_FILES if run["adapter"] is None else ADAPTER_FILES)
    for fold in folds:
        _keys(fold, FOLD_KEYS, "fold")
        _need(_matches(_FOLD, fold["name"]), "fold name", fold["name"], "as fold-0")
        where = f"fold {fold['name']}"
        if fold["repo_id"] is None:
            _need(fold["revision"] is None, f"{where}: revision", fold["revision"], "null, as repo_id is")
        else:
            _need_repo(fold["repo_id"], f"{where}: repo_id")
            if pinned or fold["revision"] is not None:
                _need_commit(fold["revision"], f"{where}: revision")
        if fold["path"] != ".":
            check_name(fold["path"])
        _hashes(fold["files"], f"{where}: files")
        _need(fold["files"].keys() == wanted, f"{where}: files", sorted(fold["files"]), f"{sorted(wanted)}")
    names = [fold["name"] for fold in folds]
    _need(isinstance(run["folds"], list), "run.folds", run["folds"], "a list")
    trained = [fold.get("name") if isinstance(fold, dict) else fold for fold in run["folds"]]
    _need(
        names == trained and len(set(names)) == len(names),
        "folds",
        names,
        f"{trained}, as run.folds has them",
    )
    return names


def _check_canaries(canaries, names: list[str]) -> None:
    _keys(canaries, CANARY_KEYS, "canaries")
    pairs, scores, folds = canaries["pairs"], canaries["scores"], canaries["folds"]
    few = isinstance(pairs, list) and 0 < len(pairs) <= MAX_CANARIES
    _need(few, "canaries.pairs", pairs, f"a list of 1 to {MAX_CANARIES}")
    for pair in pairs:
        good = isinstance(pair, list) and len(pair) == 3 and all(isinstance(text, str) for text in pair)
        good = good and all(len(text) <= MAX_TEXT for text in pair)
        _need(good, "canaries.pairs", pair, f"[query, target, language] of at most {MAX_TEXT} characters each")
    _keys(folds, names, "canaries.folds")
    for key, values in ({"scores": scores} | folds).items():
        _need(
            isinstance(values, list) and len(values) == len(pairs), f"canaries {key}", values, "a score for each pair"
        )
        _probabilities(values, f"canaries {key}")
    known = ("float32", "bfloat16", "float16")
    _need(canaries["dtype"] in known, "canaries.dtype", canaries["dtype"], ", ".join(known))


def _need(good, what: str, found, expected: str) -> None:
    if not good:
        raise ValueError(f"{what}: found {str(found)[:120]!r}, expected {expected}")


def _keys(found, expected, what: str, optional=()) -> None:
    _need(isinstance(found, dict), what, found, "a dict")
    missing, unknown = sorted(set(expected) - found.keys()), sorted(found.keys() - {*expected, *optional})
    _need(not missing, what, f"no {missing[0] if missing else ''}", f"the keys {', '.join(expected)}")
    _need(not unknown, what, unknown[0] if unknown else "", "no such key; was it written by a newer version?")


def _is_text(value) -> bool:
    return value is None or isinstance(value, str)


def _matches(pattern: re.Pattern, value) -> bool:
    return isinstance(value, str) and bool(pattern.fullmatch(value))


def _need_repo(value, what: str) -> None:
    _need(isinstance(value, str) and is_repo_id(value), what, value, "a Hub id org/name")


def _need_commit(value, what: str) -> None:
    _need(_matches(_COMMIT, value), what, value, "a commit of 40 hexadecimal digits: every load is pinned")


def is_repo_id(name: str) -> bool:
    """Return whether a name has the form of a Hub repository, `org/name`."""
    return bool(_REPO.fullmatch(name)) and ".." not in name and "--" not in name


def is_public_base(name) -> bool:
    """Return whether others can load a base of this name."""
    return isinstance(name, str) and (is_embedded(name) or is_repo_id(name))


def check_name(name) -> None:
    """Raise ValueError if a file name is no plain relative path, or is a pickle's."""
    good = _matches(_FILE, name) and len(name) < 300
    _need(good, "file name", name, "a plain relative path: no .., no backslash, no wildcard")
    _need(not is_pickle(name), "file name", name, "safetensors, not a pickle")


def is_pickle(name: str) -> bool:
    """Return whether a file's name is that of a pickle, in any case, also compressed."""
    return not PICKLES.isdisjoint(suffix.lower() for suffix in PurePath(name).suffixes[-2:])


def _hashes(files, what: str) -> None:
    _need(isinstance(files, dict), what, files, "a dict of sha256 by path")
    for name, value in files.items():
        check_name(name)
        _need(_matches(_SHA256, value), f"{what} {name}", value, "64 hexadecimal digits")


def _probabilities(value, what: str) -> None:
    """Check numbers from 0 to 1, at any depth: per-language thresholds lie one deeper."""
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _probabilities(part, what)
        return
    good = type(value) in (int, float) and math.isfinite(value) and 0 <= value <= 1
    _need(good, what, value, "finite numbers from 0 to 1")
