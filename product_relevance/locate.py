"""Find an ensemble by one name, be it a run folder, a downloaded folder or a Hub id, as checked local folders."""

from dataclasses import dataclass
from pathlib import Path

from product_relevance import manifest
from product_relevance.hub import explained
from product_relevance.manifest_form import is_repo_id
from product_relevance.run import finished_folds, fold_folder, load_run


@dataclass(frozen=True)
class Located:
    """An ensemble on this machine.

    Attributes:
        folder: of the run, or of the published ensemble.
        run: content of run.json, or its public part.
        folds: folder of each fold's adapter, or of its model after full fine-tuning.
        manifest: content of ensemble.json; None for a run.
    """

    folder: Path
    run: dict
    folds: dict[str, Path]
    manifest: dict | None


def locate(name: str, revision: str | None = None) -> Located:
    """Find an ensemble, download what its manifest names and nothing else, and check every file.

    Once downloaded it is found without a connection (HF_HUB_OFFLINE=1).

    Args:
        name: a run folder; a folder made by `hf download`; or a Hub id `org/name`, where no folder has that name.
        revision: commit, tag or branch of the ensemble on the Hub; each fold has its own, in the manifest.

    Raises:
        ValueError: nothing of that name, no access, a defect of the manifest, or files that differ from it.
    """
    folder, found = find(name, revision)
    if found is None:
        names = finished_folds(folder)
        if not names:
            raise ValueError(f"{folder}: no finished fold; expected fold-0/fold.json and the like")
        return Located(folder, load_run(folder), {n: fold_folder(folder, n) for n in names}, None)
    inside = [fold for fold in found["folds"] if fold["repo_id"] is None]
    if not Path(name).is_dir():  # the manifest came from the Hub: its commit is the folder's name in the cache
        files = [*found["files"], manifest.NAME, *(file for fold in inside for file in _paths(fold))]
        _download(name, folder.name, files)
    manifest.check_files(folder, found["files"])
    return Located(folder, found["run"], {f["name"]: _fold_folder(folder, f) for f in found["folds"]}, found)


def find(name: str, revision: str | None = None) -> tuple[Path, dict | None]:
    """Find the folder of an ensemble and read its manifest, without its folds.

    Args:
        name: as in `locate`.
        revision: as in `locate`.

    Returns:
        (folder, content of ensemble.json or None for a run folder)

    Raises:
        ValueError: as in `locate`.
    """
    folder = Path(name)
    if not folder.is_dir():
        folder = _download_manifest(str(name), revision)
    elif revision is not None:
        raise ValueError(f"{name} is a folder: a revision applies to an ensemble on the Hub only")
    elif not (folder / manifest.NAME).is_file():
        if not (folder / "run.json").is_file():
            raise ValueError(f"{name}: found neither run.json (a run) nor {manifest.NAME} (a published ensemble)")
        return folder, None
    return folder, manifest.read(folder)


def read_run(name: str, revision: str | None = None) -> dict:
    """Return what is known of an ensemble's run, without its folds; arguments as in `locate`."""
    folder, found = find(name, revision)
    return load_run(folder) if found is None else found["run"]


def _download_manifest(name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    if not is_repo_id(name):
        raise ValueError(f"{name}: no such folder, and no Hub id of the form org/name")
    try:
        with explained():
            return Path(hf_hub_download(name, manifest.NAME, revision=revision)).parent
    except ValueError as error:
        raise ValueError(f"{name}: no folder of that name here, and from the Hub: {error}") from None


def _download(repo_id: str, commit: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    with explained():
        return Path(snapshot_download(repo_id, revision=commit, allow_patterns=files))


def _paths(fold: dict) -> list[str]:
    """Return the paths of a fold's files in its repository."""
    return [file if fold["path"] == "." else f"{fold['path']}/{file}" for file in fold["files"]]


def _fold_folder(folder: Path, fold: dict) -> Path:
    """Return the checked folder of a fold: below the ensemble's, or downloaded at its pinned commit."""
    inside = folder / (fold["path"] if fold["repo_id"] is None else fold["name"])
    if fold["repo_id"] is not None and not inside.is_dir():
        inside = _download(fold["repo_id"], fold["revision"], _paths(fold)) / fold["path"]
    manifest.check_files(inside, fold["files"])
    return inside
