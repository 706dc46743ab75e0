"""The content of staged folders: weights, figures, manifest and cards of folds, ensemble and data set."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from product_relevance.ensemble.published import manifest
from product_relevance.ensemble.published.canaries import CanaryScores
from product_relevance.ensemble.published.manifest_record import Manifest, PublishedFold
from product_relevance.ensemble.published.manifest_schema import ADAPTER_FILES, MODEL_FILES
from product_relevance.evaluation.reports import figures
from product_relevance.hub import code_bundle, dataset_card, model_card
from product_relevance.hub.card_template import CardPlace
from product_relevance.hub.places import Staged
from product_relevance.models import adapter_schema
from product_relevance.utils.files import sha256_of
from product_relevance.utils.run_folder import read_oof, write_json
from product_relevance.utils.run_record import PublicRunRecord

PICTURES = {
    "F1 over thresholds": "f1_over_threshold.png",
    "Reliability": "reliability.png",
    "F1 and AUC per language": "languages.png",
    "Loss and AUC while training": "loss.png",
    "Decided and true grades": "grades.png",
}
DATA = "train.parquet"


def stage_fold(place: Staged, source: Path, run: PublicRunRecord, ensemble: Staged, revision: str) -> PublishedFold:
    """Stage a fold's weights and card.

    Args:
        place: of the fold.
        source: folder of the fold in its run.
        run: public part of the run (`manifest.public_run`).
        ensemble: place of its ensemble.
        revision: of the ensemble that the snippets load.

    Returns:
        The fold's entry of ensemble.json.
    """
    folder, name, base = place.folder, place.folder.name, run.base
    (folder / "figures").mkdir(parents=True)
    kept = MODEL_FILES if run.adapter is None else ADAPTER_FILES
    for file in kept:
        _copy_weights(source / file, folder / file, base)
    summary = next(fold for fold in run.folds if fold["name"] == name)
    write_json(folder / "fold.json", {"ensemble": ensemble.repo_id, "base": base, **summary})
    inside, apart = place.folder.parent == ensemble.folder, place.branch != ensemble.branch
    own = CardPlace(
        repo_id=place.repo_id,
        revision=place.branch if apart else revision,
        path=name if inside else ".",
        pictures=_fold_pictures(source, folder, run),
    )
    card = model_card.adapter_card(run, name, own, CardPlace(repo_id=ensemble.repo_id, revision=revision))
    (folder / "README.md").write_text(card, encoding="utf-8")
    files = {file: sha256_of(folder / file) for file in kept}
    repo_id = None if inside else place.repo_id
    return PublishedFold(name=name, repo_id=repo_id, path=own.path, files=files)


def _copy_weights(source: Path, target: Path, base: Mapping[str, Any]) -> None:
    """Copy a file of a fold; of an adapter's config our own keys only, with the base as others load it."""
    if source.name != adapter_schema.CONFIG:
        shutil.copyfile(source, target)
        return
    config = adapter_schema.own_part(adapter_schema.read_config(source.parent))
    write_json(target, config | {"base_model_name_or_path": base["name"], "revision": base["revision"]})


def _fold_pictures(source: Path, folder: Path, run: PublicRunRecord) -> dict[str, str]:
    """Draw the curves of a fold's own out-of-fold rows, if it has rows of both classes."""
    oof = read_oof(source.parent, [source.name])
    if oof is None or oof["label"].nunique() < 2:
        return {}
    drawn = list(PICTURES.items())[:2]
    paths = [folder / "figures" / name for _, name in drawn]
    figures.draw_f1_over_threshold(oof["label"], oof["score"], run.thresholds["f1"], paths[0])
    figures.draw_reliability(oof["label"], oof["score"], paths[1], queries=oof.get("query_digest"))
    return {title: f"figures/{name}" for title, name in drawn}


def stage_ensemble(
    place: Staged, source: Path, run: PublicRunRecord, folds: list[PublishedFold], scores: CanaryScores
) -> None:
    """Stage everything of the ensemble but its folds and its card.

    Args:
        place: of the ensemble.
        source: the run's folder.
        run: public part of the run.
        folds: from `stage_fold`.
        scores: of the canaries (`canaries.measure_canaries`).
    """
    folder = place.folder
    (folder / "figures").mkdir(parents=True)
    for name in _pictures_of(source).values():
        shutil.copyfile(source / "figures" / name, folder / "figures" / name)
    if (source / "taxonomy.json").is_file():
        shutil.copyfile(source / "taxonomy.json", folder / "taxonomy.json")
    measured = {fold["name"]: fold.get("metrics") for fold in run.folds}
    chosen: dict[str, Any] = {"thresholds": run.thresholds, "thresholds_from": run.thresholds_from}
    if run.grade_thresholds:
        chosen |= {"grade_thresholds": run.grade_thresholds, "relevant_from": run.relevant_from}
    write_json(folder / "metrics.json", chosen | {"out_of_fold": run.metrics, "folds": measured})
    code_bundle.copy_code(folder, run.base["name"])
    inside = {path for fold in folds for path in fold.paths}
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    files = {name: sha256_of(path) for name, path in names.items() if name not in inside and path.suffix != ".md"}
    made = Manifest(name=place.repo_id, run=run, folds=folds, files=files, canaries=scores)
    manifest.write_manifest(folder, made)


def write_ensemble_card(
    place: Staged, run: PublicRunRecord, folds: list[PublishedFold], revision: str, dataset_id: str | None
) -> None:
    """Write the card of an ensemble whose files are staged.

    Args:
        place: of the ensemble.
        run: public part of the run.
        folds: from `stage_fold`.
        revision: that the snippets load.
        dataset_id: repository of the data set; None where it is not published.
    """
    pictures = {title: f"figures/{name}" for title, name in _pictures_of(place.folder).items()}
    own = CardPlace(repo_id=place.repo_id, revision=revision, pictures=pictures)
    card = model_card.ensemble_card(run, folds, own, dataset_id)
    (place.folder / "README.md").write_text(card, encoding="utf-8")


def _pictures_of(folder: Path) -> dict[str, str]:
    return {title: name for title, name in PICTURES.items() if (folder / "figures" / name).is_file()}


def stage_data(place: Staged, run: PublicRunRecord, data_file: Path, ensemble_id: str, revision: str) -> None:
    """Stage a prepared data set with its card.

    Args:
        place: of the data set.
        run: public part of the run.
        data_file: Parquet of dataset_scripts/prepare.py.
        ensemble_id: repository of the ensemble.
        revision: that the card's snippet loads.

    Raises:
        ValueError: another file, or one without folds.
    """
    import pyarrow.parquet

    if data_file.suffix != ".parquet" or not data_file.is_file():
        raise ValueError(f"--with_dataset {data_file}: expected Parquet made by dataset_scripts/prepare.py")
    columns = pyarrow.parquet.read_schema(data_file).names
    if "fold" not in columns:
        raise ValueError(f"--with_dataset {data_file}: has no column fold; make it with dataset_scripts/prepare.py")
    place.folder.mkdir()
    shutil.copyfile(data_file, place.folder / DATA)
    prepared = dataset_card.prepared_values(data_file)
    own = CardPlace(repo_id=place.repo_id, revision=revision, path=DATA)
    card = dataset_card.dataset_card(run, own, columns, ensemble_id, prepared)
    (place.folder / "README.md").write_text(card, encoding="utf-8")
