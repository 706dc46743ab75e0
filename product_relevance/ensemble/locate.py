"""Find an ensemble by one name, be it a run folder, a downloaded folder or a Hub id, as checked local folders."""

from dataclasses import dataclass
from pathlib import Path

from product_relevance.ensemble.published import manifest
from product_relevance.ensemble.published.manifest_record import Manifest, PublishedFold
from product_relevance.ensemble.published.manifest_schema import ADAPTER_FILES, MODEL_FILES, check_run_file, is_repo_id
from product_relevance.models import adapter_schema
from product_relevance.models.loading.safetensors_files import read_header
from product_relevance.utils.files import sha256_of
from product_relevance.utils.hub_errors import explain_errors
from product_relevance.utils.json_files import read_json
from product_relevance.utils.run_folder import MAX_HISTORY, finished_folds, fold_folder, load_record, load_run
from product_relevance.utils.run_record import FinishedRunRecord

TAXONOMY, FOLD = "taxonomy.json", "fold.json"


@dataclass(frozen=True)
class Located:
    """An ensemble on this machine.

    Attributes:
        folder: of the run, or of the published ensemble.
        run: what run.json says, or its public part.
        folds: folder of each fold's adapter, or of its model after full fine-tuning.
        manifest: what ensemble.json says; None for a run.
        taxonomy: file of the known category paths; None where there is none.
    """

    folder: Path
    run: FinishedRunRecord
    folds: dict[str, Path]
    manifest: Manifest | None
    taxonomy: Path | None = None


def locate_run(name: str | Path, revision: str | None = None) -> Located:
    """Find an ensemble, download what its manifest names and nothing else, and check every file.

    Once downloaded it is found without a connection (HF_HUB_OFFLINE=1).

    Args:
        name: a run folder; a folder made by `hf download`; or a Hub id `org/name`, where no folder has that name.
        revision: commit, tag or branch of the ensemble on the Hub; each fold has its own, in the manifest.

    Raises:
        ValueError: nothing of that name, no access, a defect of the manifest, or files that differ from it.
    """
    folder, found = find_manifest(name, revision)
    if found is None:
        return _run_folder(folder)
    inside = [fold for fold in found.folds if fold.repo_id is None]
    if not Path(name).is_dir():  # the manifest came from the Hub: its commit is the folder's name in the cache
        files = [*found.files, manifest.NAME, *(file for fold in inside for file in fold.paths)]
        _download(str(name), folder.name, files)
    manifest.check_files(folder, found.files)
    folds = {fold.name: _fold_folder(folder, fold) for fold in found.folds}
    return Located(folder, found.run, folds, found, folder / TAXONOMY if TAXONOMY in found.files else None)


def _run_folder(folder: Path) -> Located:
    """Check the files of a run folder; a fold of run.json that is not there would be left out of the mean."""
    content, there = load_run(folder), finished_folds(folder)
    if not there:
        raise ValueError(f"{folder}: no finished fold; expected fold-0/fold.json and the like")
    if "stage" not in content:
        try:
            check_run_file(content)
        except ValueError as error:
            raise ValueError(f"{folder}/run.json: {error}") from None
    run = FinishedRunRecord.from_json(content)
    names = run.fold_names
    if missing := [name for name in names if name not in there]:
        raise ValueError(
            f"{folder}: run.json lists {', '.join(names)}, but {', '.join(missing)} is not there: put its folder "
            "back, or train it again by train_relevance.py with --resume_from_checkpoint last"
        )
    folds = {name: fold_folder(folder, name) for name in names}
    for path in folds.values():
        for file in MODEL_FILES if run.adapter is None else ADAPTER_FILES:
            adapter_schema.read_config(path) if file == adapter_schema.CONFIG else read_header(path / file)
    return Located(folder, run, folds, None, _taxonomy_of(folder, run))


def _taxonomy_of(folder: Path, run: FinishedRunRecord) -> Path | None:
    path, expected = folder / TAXONOMY, run.taxonomy_sha256
    found = sha256_of(path) if path.is_file() else None
    if expected not in (None, found):  # runs of older versions do not say
        raise ValueError(
            f"{path}: found {found and found[:12]}, run.json has {expected[:12]}: the taxonomy of another run, or "
            "changed: put the one of this run back"
        )
    return path if found else None


def find_manifest(name: str | Path, revision: str | None = None) -> tuple[Path, Manifest | None]:
    """Find the folder of an ensemble and read its manifest, without its folds.

    Args:
        name: as in `locate_run`.
        revision: as in `locate_run`.

    Returns:
        (folder, the manifest or None for a run folder)

    Raises:
        ValueError: as in `locate_run`.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _download_manifest(str(name), revision)
    elif revision is not None:
        raise ValueError(f"{name} is a folder: a revision applies to an ensemble on the Hub only")
    elif not (folder / manifest.NAME).is_file():
        if not (folder / "run.json").is_file():
            _refuse_one_fold(str(name), folder / FOLD)
            raise ValueError(f"{name}: found neither run.json (a run) nor {manifest.NAME} (a published ensemble)")
        return folder, None
    return folder, manifest.read_manifest(folder)


def read_run(name: str | Path, revision: str | None = None) -> FinishedRunRecord:
    """Return what is known of an ensemble's run, without its folds; arguments as in `locate_run`."""
    folder, found = find_manifest(name, revision)
    return load_record(folder) if found is None else found.run


def _download_manifest(name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    if not is_repo_id(name):
        raise ValueError(f"{name}: no such folder, and no Hub id of the form org/name")
    try:
        with explain_errors():
            return Path(hf_hub_download(name, manifest.NAME, revision=revision)).parent
    except ValueError as error:
        _refuse_one_fold(name, _fold_file(name, revision))
        raise ValueError(f"{name}: no folder of that name here, and from the Hub: {error}") from None


def _fold_file(name: str, revision: str | None) -> Path | None:
    """Return the fold.json of a repository on the Hub, None where it has none."""
    from huggingface_hub import hf_hub_download

    try:
        with explain_errors():
            return Path(hf_hub_download(name, FOLD, revision=revision))
    except ValueError:
        return None  # the caller says why nothing was found


def _refuse_one_fold(name: str, file: Path | None) -> None:
    """Say how a fold is loaded that was given in place of its ensemble."""
    if file is None or not file.is_file():
        return
    fold = read_json(file, limit=MAX_HISTORY)
    ensemble, base = fold.get("ensemble"), fold.get("base")
    if ensemble is None:
        raise ValueError(f"{name}: one fold of a run, which has no threshold of its own: give {Path(name).parent}")
    known = isinstance(base, dict) and base.get("name")
    alone = f", on the base {base['name']} at revision {base.get('revision')}" if known else ""
    raise ValueError(
        f"{name}: one fold of the ensemble {ensemble}, without thresholds of its own: load {ensemble}; or this fold "
        f'alone by PEFT{alone}: PeftModel.from_pretrained(base, "{name}"), as its card shows'
    )


def _download(repo_id: str, commit: str | None, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    with explain_errors():
        return Path(snapshot_download(repo_id, revision=commit, allow_patterns=files))


def _fold_folder(folder: Path, fold: PublishedFold) -> Path:
    """Return the checked folder of a fold: below the ensemble's, or downloaded at its pinned commit."""
    inside = folder / (fold.path if fold.repo_id is None else fold.name)
    if fold.repo_id is not None and not inside.is_dir():
        inside = _download(fold.repo_id, fold.revision, fold.paths) / fold.path
    manifest.check_files(inside, fold.files)
    return inside
