"""Stage a run for the Hub: write local folders with exactly the files of each repository."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from product_relevance.ensemble import manifest
from product_relevance.ensemble.manifest_schema import ADAPTER_FILES, MODEL_FILES, is_repo_id
from product_relevance.evaluation import figures
from product_relevance.hub import code_bundle, dataset_card, model_card
from product_relevance.models import adapter_schema
from product_relevance.models.loading import packaged_bases
from product_relevance.utils.files import sha256_of
from product_relevance.utils.run_folder import finished_folds, fold_folder, load_run, read_json, read_oof, write_json
from product_relevance.utils.tasks import of_task

LAYOUTS = ("repos", "branches", "one")
PICTURES = {
    "F1 over thresholds": "f1_over_threshold.png",
    "Reliability": "reliability.png",
    "F1 and AUC per language": "languages.png",
    "Loss and AUC while training": "loss.png",
}
DATA = "train.parquet"
RECORD = "staged.json"  # sha256 of each staged file: what differs from it was changed by hand
DIGITS = (
    5  # of canary scores: other threads and devices change the seventh, and the same run shall give the same bytes
)
COMMIT = re.compile(r"[0-9a-f]{40}")
TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{20,}")


@dataclass(frozen=True)
class Staged:
    """A folder and the place on the Hub whose content it is.

    Attributes:
        repo_id: `org/name`.
        repo_type: model, dataset or space.
        branch: of the repository; it is made if needed.
        folder: on this machine; a fold's is called as the fold.
        role: fold, ensemble, dataset or metric.
    """

    repo_id: str
    repo_type: str
    branch: str
    folder: Path
    role: str


def stage_run(
    run_folder,
    out,
    repo_id: str,
    *,
    layout: str = "repos",
    branch: str = "main",
    tag: str | None = None,
    base: tuple[str, str] | None = None,
    data_file=None,
    with_metric: bool = False,
    overwrite: bool = False,
) -> list[Staged]:
    """Fill a folder with one folder a repository or branch; nothing is sent.

    The run is loaded and scores the canary pairs, so its base must be at hand. The same run gives the same bytes.

    Args:
        run_folder: a finished run.
        out: folder to fill; it appears when all is there.
        repo_id: `org/name` of the ensemble; the names of folds and data begin with it.
        layout: `repos`, a repository for each fold; `branches`, a branch for each; `one`, a folder for each.
        branch: of the ensemble, and of what goes with it.
        tag: that will be set; the snippets of the cards load it.
        base: Hub id and commit of the base, for a run whose base is a folder of this machine.
        data_file: Parquet of dataset_scripts/prepare.py, to publish with its texts; none is staged without.
        with_metric: stage the `evaluate` module too.
        overwrite: replace an `out` whose files were changed by hand since they were staged.

    Returns:
        The staged folders, the ensemble's last; its `ensemble.json` has no commits of other repositories yet.

    Raises:
        ValueError: a run that cannot be published, a bad name, or an `out` that holds other things.
    """
    _check_names(repo_id, layout, branch)
    run = _public(Path(run_folder), base)
    with _whole_folder(Path(out), overwrite) as folder:
        parts = _places(folder, repo_id, layout, branch, run)
        if data_file:
            parts.insert(0, Staged(f"{repo_id}-data", "dataset", branch, folder / "data", "dataset"))
            _stage_data(parts[0], run, Path(data_file), repo_id, tag or branch)
        if with_metric:
            metric = Staged(
                f"{repo_id.split('/')[0]}/{code_bundle.METRIC}", "space", "main", folder / code_bundle.METRIC, "metric"
            )
            parts.insert(0, metric)
            code_bundle.copy_metric(metric.folder, metric.repo_id)
        measured, scores = _measure(run_folder, run["base"]["fingerprint"])
        run["base"] |= measured
        folds = [
            _stage_fold(part, fold_folder(run_folder, part.folder.name), run, parts[-1], tag or branch)
            for part in parts
            if part.role == "fold"
        ]
        _stage_ensemble(parts, Path(run_folder), run, folds, scores, tag or branch)
        _require_no_secrets(folder, Path(run_folder))
    own = [part for part in parts if part.folder.parent == folder]
    return [replace(part, folder=Path(out) / part.folder.name) for part in own]


def _check_names(repo_id: str, layout: str, branch: str) -> None:
    if not is_repo_id(repo_id) or len(repo_id) > 80:  # the folds' names are longer, and the Hub takes 96 characters
        raise ValueError(f"--repo_id {repo_id}: expected org/name, of letters, digits, - _ and ., at most 80 in all")
    if layout not in LAYOUTS:
        raise ValueError(f"--layout {layout}: expected one of {', '.join(LAYOUTS)}")
    if COMMIT.fullmatch(branch) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", branch):
        raise ValueError(f"--revision {branch}: expected the name of a branch, of letters, digits, - _ and .")


def _public(run_folder: Path, base: tuple[str, str] | None) -> dict:
    """Return the part of run.json that goes out, with a base that others can load."""
    run = of_task(load_run(run_folder), None)
    names, done = [fold["name"] for fold in run["folds"]], finished_folds(run_folder)
    if names != done:
        raise ValueError(
            f"{run_folder}: run.json knows the folds {names}, the folder holds {done}: run train_relevance.py once "
            "more with --resume_from_checkpoint last, which joins the finished folds"
        )
    name, revision = run["base"]["name"], run["base"]["revision"]
    if base:
        if packaged_bases.is_embedded(name):
            raise ValueError(f"--base_model_id {base[0]}: the base is {name}, whose weights come from a package")
        run["base"] |= {"name": base[0], "revision": base[1]}
    elif not packaged_bases.is_embedded(name) and (Path(name).exists() or not is_repo_id(name)):
        raise ValueError(
            f"the base is a folder of this machine ({Path(name).name}), which nobody else can load: give the Hub id "
            "and the commit that it came from, with --base_model_id and --base_revision"
        )
    name, revision = run["base"]["name"], run["base"]["revision"]
    if not packaged_bases.is_embedded(name) and not COMMIT.fullmatch(revision or ""):
        raise ValueError(
            f"base {name}: revision {revision} is no commit, so that others might load other weights: give one of 40 "
            "digits with --base_model_id and --base_revision"
        )
    return manifest.public_run(run)


def _places(folder: Path, repo_id: str, layout: str, branch: str, run: dict) -> list[Staged]:
    """Say where folds and ensemble go; in the layout `one` the folds' folders lie in the ensemble's."""
    ensemble = Staged(repo_id, "model", branch, folder / "ensemble", "ensemble")
    folds = []
    for name in (fold["name"] for fold in run["folds"]):
        place = replace(ensemble, folder=folder / name, role="fold")
        if layout == "repos":
            place = replace(place, repo_id=f"{repo_id}-{name}")
        elif layout == "branches":
            place = replace(place, branch=name if branch == "main" else f"{branch}-{name}")
        else:
            place = replace(place, folder=ensemble.folder / name)
        folds.append(place)
    return [*folds, ensemble]


@contextmanager
def _whole_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a folder that takes the place of `out` when the block ends well; an equal `out` stays as it is."""
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        staged = _hashes(temporary)
        write_json(temporary / RECORD, staged)
        if not out.exists() or _hashes(out) != staged:
            if out.exists():
                _check_untouched(out, overwrite)
                shutil.rmtree(out)
            temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _hashes(folder: Path) -> dict[str, str]:
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: sha256_of(path) for name, path in files.items() if name != RECORD}


def _check_untouched(out: Path, overwrite: bool) -> None:
    if not (out / RECORD).is_file():
        raise ValueError(f"{out}: holds something else than staged files; choose another --staging_folder")
    by_hand = sorted(name for name, _ in _hashes(out).items() ^ read_json(out / RECORD).items())
    if by_hand and not overwrite:
        raise ValueError(f"{out}: {by_hand[0]} was changed after staging: --overwrite replaces it, the change is lost")


def _measure(run_folder, fingerprint: str | None) -> tuple[dict, dict]:
    """Load the run; return config hash and fingerprint of its base, and the scores of the canaries."""
    from product_relevance.ensemble import canaries
    from product_relevance.ensemble.ensemble import RelevanceEnsemble

    if fingerprint is None:  # ZeRO-3 spreads the weights while training, so the run has none
        fingerprint = _fingerprint_of(run_folder)
    ensemble = RelevanceEnsemble.from_pretrained(str(run_folder))
    scores = canaries.measure_canaries(ensemble)
    scores["scores"] = [round(score, DIGITS) for score in scores["scores"]]
    scores["folds"] = {name: [round(s, DIGITS) for s in column] for name, column in scores["folds"].items()}
    digest = manifest.config_sha256(ensemble.model.config.to_dict())
    return {"config_sha256": digest, "fingerprint": fingerprint}, scores


def _fingerprint_of(run_folder) -> str:
    from product_relevance.ensemble.base_model import load_base
    from product_relevance.ensemble.locate import locate_run
    from product_relevance.models.modeling import fingerprint

    _, model = load_base(locate_run(str(run_folder)), None, "auto")
    return fingerprint(model)


def _stage_fold(place: Staged, source: Path, run: dict, ensemble: Staged, revision: str) -> dict:
    """Stage a fold's weights and card; return its entry of ensemble.json."""
    folder, name, base = place.folder, place.folder.name, run["base"]
    (folder / "figures").mkdir(parents=True)
    kept = MODEL_FILES if run["adapter"] is None else ADAPTER_FILES
    for file in kept:
        if file == "adapter_config.json":
            config = adapter_schema.own_part(adapter_schema.read_config(source))
            config |= {"base_model_name_or_path": base["name"], "revision": base["revision"]}
            write_json(folder / file, config)
        else:
            shutil.copyfile(source / file, folder / file)
    summary = next(fold for fold in run["folds"] if fold["name"] == name)
    write_json(folder / "fold.json", {"ensemble": ensemble.repo_id, "base": base, **summary})
    inside, apart = place.folder.parent == ensemble.folder, place.branch != ensemble.branch
    card = model_card.adapter_card(
        run,
        name,
        repo_id=place.repo_id,
        ensemble_id=ensemble.repo_id,
        revision=place.branch if apart else revision,
        path=name if inside else ".",
        ensemble_revision=revision,
        pictures=_fold_pictures(source, folder, run),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    files = {file: sha256_of(folder / file) for file in kept}
    entry = {"name": name, "repo_id": None if inside else place.repo_id, "revision": None}
    return entry | {"path": name if inside else ".", "files": files}


def _fold_pictures(source: Path, folder: Path, run: dict) -> dict[str, str]:
    """Draw the curves of a fold's own out-of-fold rows, if it has rows of both classes."""
    oof = read_oof(source.parent, [source.name])
    if oof is None or oof["label"].nunique() < 2:
        return {}
    drawn = list(PICTURES.items())[:2]
    paths = [folder / "figures" / name for _, name in drawn]
    figures.f1_over_threshold(oof["label"], oof["score"], run["thresholds"]["f1"], paths[0])
    figures.reliability_diagram(oof["label"], oof["score"], paths[1], queries=oof.get("query_digest"))
    return {title: f"figures/{name}" for title, name in drawn}


def _stage_ensemble(parts: list[Staged], source: Path, run: dict, folds: list[dict], scores: dict, revision: str):
    """Stage everything of the ensemble but its folds."""
    place = parts[-1]
    folder = place.folder
    (folder / "figures").mkdir(parents=True)
    shown = {title: name for title, name in PICTURES.items() if (source / "figures" / name).is_file()}
    for name in shown.values():
        shutil.copyfile(source / "figures" / name, folder / "figures" / name)
    if (source / "taxonomy.json").is_file():
        shutil.copyfile(source / "taxonomy.json", folder / "taxonomy.json")
    measured = {fold["name"]: fold.get("metrics") for fold in run["folds"]}
    chosen = {"thresholds": run["thresholds"], "thresholds_from": run["thresholds_from"]}
    write_json(folder / "metrics.json", chosen | {"out_of_fold": run["metrics"], "folds": measured})
    code_bundle.copy_code(folder, run["base"]["name"])
    inside = {f"{fold['path']}/{file}" for fold in folds for file in fold["files"]}
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: sha256_of(path) for name, path in names.items() if name not in inside and path.suffix != ".md"}
    manifest.write_manifest(folder, manifest.build_manifest(place.repo_id, run, folds, files, scores))
    data = next((part.repo_id for part in parts if part.role == "dataset"), None)
    pictures = {title: f"figures/{name}" for title, name in shown.items()}
    options = {"repo_id": place.repo_id, "revision": revision, "dataset_id": data, "pictures": pictures}
    (folder / "README.md").write_text(model_card.ensemble_card(run, folds, **options), encoding="utf-8")


def _stage_data(place: Staged, run: dict, data_file: Path, ensemble: str, revision: str) -> None:
    import pyarrow.parquet

    if data_file.suffix != ".parquet" or not data_file.is_file():
        raise ValueError(f"--with_dataset {data_file}: expected Parquet made by dataset_scripts/prepare.py")
    columns = pyarrow.parquet.read_schema(data_file).names
    if "fold" not in columns:
        raise ValueError(f"--with_dataset {data_file}: has no column fold; make it with dataset_scripts/prepare.py")
    place.folder.mkdir()
    shutil.copyfile(data_file, place.folder / DATA)
    options = {"columns": columns, "file": DATA, "ensemble_id": ensemble, "revision": revision}
    options["prepared"] = dataset_card.prepared_values(data_file)
    card = dataset_card.dataset_card(run, repo_id=place.repo_id, **options)
    (place.folder / "README.md").write_text(card, encoding="utf-8")


def _require_no_secrets(folder: Path, run_folder: Path) -> None:
    """Raise an error if what will be published holds a path of this machine or a token."""
    homes = {str(place).encode() for place in (run_folder.resolve().parent, Path.home(), Path.cwd())} - {b"/"}
    for path in (path for path in folder.rglob("*") if path.suffix in (".json", ".md", ".txt")):
        text = path.read_bytes()
        found = next((home.decode() for home in homes if home + b"/" in text), None)
        if found or TOKEN.search(text):
            raise ValueError(
                f"{path.name}: holds {found or 'a token'}; that must not be published: take it out of the run"
            )
