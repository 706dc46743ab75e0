"""The form of ensemble.json: every key, type and range, checked before anything is loaded or downloaded by it."""

import math
import re
from pathlib import PurePath

from product_relevance import thresholds
from product_relevance.embedded import is_embedded
from product_relevance.templates import Template

FORMAT, KIND = 1, "relevance-ensemble"
KEYS = ("format", "kind", "name", "run", "folds", "files", "canaries")
RUN_KEYS = (
    *("format", "task", "base", "adapter", "pooling", "max_length", "template", "columns", "labels", "folds_by"),
    *("data", "thresholds", "thresholds_from", "metrics", "folds", "versions", "device", "processes", "seconds"),
    "finished",
)
# Of runs that have them; a manifest without is read as before.
OPTIONAL_RUN_KEYS = ("decision", "first_stage", "teacher")
BASE_KEYS = ("name", "revision", "fingerprint", "config_sha256")
FOLD_KEYS = ("name", "repo_id", "revision", "path", "files")
CANARY_KEYS = ("pairs", "scores", "folds", "dtype")
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
MODEL_FILES = ("model.safetensors",)
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
_SHA256, _COMMIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_REPO = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}/[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
# No dot in front, no backslash, none of the characters that a download pattern would read as a wildcard.
_FILE = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*")


def check(manifest, pinned: bool) -> None:
    """Refuse a manifest with a defect.

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
    _check_canaries(manifest["canaries"], names)


def _check_run(run) -> None:
    _keys(run, (*RUN_KEYS, "recipe"), "run", OPTIONAL_RUN_KEYS)
    _keys(run["base"], BASE_KEYS, "run.base")
    base = run["base"]
    _need(is_public_base(base["name"]), "run.base.name", base["name"], "a Hub id org/name, or embedded:NAME")
    if not is_embedded(base["name"]):
        _need_commit(base["revision"], "run.base.revision")
    for key in ("fingerprint", "config_sha256"):
        optional = key == "fingerprint" and base[key] is None  # not taken under ZeRO-3
        _need(optional or _matches(_SHA256, base[key]), f"run.base.{key}", base[key], "64 hexadecimal digits")
    length = run["max_length"]
    _need(type(length) is int and 8 <= length <= 1_000_000, "run.max_length", length, "8 tokens or more")
    _need(run["adapter"] is None or isinstance(run["adapter"], dict), "run.adapter", run["adapter"], "a dict or null")
    _need(run["pooling"] in ("auto", "mean", "pair"), "run.pooling", run["pooling"], "auto, mean or pair")
    for key in ("template", "columns", "data", "thresholds", "recipe", "labels"):
        _need(isinstance(run[key], dict), f"run.{key}", run[key], "a dict")
    _need({"f1", "macro_f1"} <= run["thresholds"].keys(), "run.thresholds", run["thresholds"], "f1 and macro_f1")
    _probabilities(run["thresholds"], "run.thresholds")
    _probabilities(run["data"].get("positive"), "run.data.positive")
    if "decision" in run:
        thresholds.check(run["decision"])
    _check_template(run)


def _check_template(run: dict) -> None:
    template = Template.from_dict(run["template"])
    _need(template.task == run["task"], "run.template.task", template.task, run["task"])
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
        _need(_matches(re.compile(r"[A-Za-z0-9_-]{1,80}"), fold["name"]), "fold name", fold["name"], "as fold-0")
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
    _need(names == trained and len(set(names)) == len(names), "folds", names, f"{trained}, as run.folds has them")
    return names


def _check_canaries(canaries, names: list[str]) -> None:
    _keys(canaries, CANARY_KEYS, "canaries")
    pairs, scores, folds = canaries["pairs"], canaries["scores"], canaries["folds"]
    _need(isinstance(pairs, list) and 0 < len(pairs) <= 1000, "canaries.pairs", pairs, "a list of 1 to 1000")
    for pair in pairs:
        good = isinstance(pair, list) and len(pair) == 3 and all(isinstance(text, str) for text in pair)
        _need(good, "canaries.pairs", pair, "[query, target, language]")
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


def _matches(pattern: re.Pattern, value) -> bool:
    return isinstance(value, str) and bool(pattern.fullmatch(value))


def _need_repo(value, what: str) -> None:
    _need(isinstance(value, str) and is_repo_id(value), what, value, "a Hub id org/name")


def _need_commit(value, what: str) -> None:
    _need(_matches(_COMMIT, value), what, value, "a commit of 40 hexadecimal digits: every load is pinned")


def is_repo_id(name: str) -> bool:
    """Tell whether a name has the form of a Hub repository, `org/name`."""
    return bool(_REPO.fullmatch(name)) and ".." not in name and "--" not in name


def is_public_base(name) -> bool:
    """Tell whether others can load a base of this name."""
    return isinstance(name, str) and (is_embedded(name) or is_repo_id(name))


def check_name(name) -> None:
    """Refuse a file name that is no plain relative path, or that is a pickle's."""
    good = _matches(_FILE, name) and len(name) < 300
    _need(good, "file name", name, "a plain relative path: no .., no backslash, no wildcard")
    _need(PurePath(name).suffix not in PICKLES, "file name", name, "safetensors, not a pickle")


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
