"""Stage a run for the Hub: write local folders with exactly the files of each repository."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from product_relevance.ensemble.published import manifest
from product_relevance.ensemble.published.canaries import CanaryScores
from product_relevance.ensemble.published.manifest_schema import is_repo_id
from product_relevance.hub import code_bundle, space, staged_content
from product_relevance.hub.places import COMMIT, Staged, StagingOptions, check_names, list_places
from product_relevance.models.loading import packaged_bases
from product_relevance.utils.files import sha256_of
from product_relevance.utils.run_folder import finished_folds, fold_folder, load_record, read_json, write_json
from product_relevance.utils.run_record import PublicRunRecord
from product_relevance.utils.tasks import select_task

RECORD = "staged.json"  # sha256 of each staged file: what differs from it was changed by hand
# Of canary scores: other threads and devices change the seventh, and the same run shall give the same bytes.
DIGITS = 5
TOKEN = re.compile(rb"\bhf_[A-Za-z0-9]{20,}")


def stage_run(
    run_folder: str | Path, out: str | Path, repo_id: str, options: StagingOptions | None = None
) -> list[Staged]:
    """Fill a folder with one folder a repository or branch; nothing is sent.

    The run is loaded and scores the canary pairs, so its base must be at hand. The same run gives the same bytes.

    Args:
        run_folder: a finished run.
        out: folder to fill; it appears when all is there.
        repo_id: `org/name` of the ensemble; the names of folds and data begin with it.
        options: layout and what goes with the folds; the defaults if None.

    Returns:
        The staged folders, the ensemble's last; its `ensemble.json` has no commits of other repositories yet.

    Raises:
        ValueError: a run that cannot be published, a bad name, or an `out` that holds other things.
    """
    options, source = options or StagingOptions(), Path(run_folder)
    check_names(repo_id, options)
    run = _public(source, options.base)
    with _whole_folder(Path(out), options.overwrite) as folder:
        parts = list_places(folder, repo_id, options, run.fold_names)
        ensemble, beside = parts[-1], _stage_beside(folder, ensemble_id=repo_id, run=run, options=options)
        measured, scores = _measure(source, run.base["fingerprint"])
        run = replace(run, base={**run.base, **measured})
        folds = [
            staged_content.stage_fold(part, fold_folder(source, part.folder.name), run, ensemble, options.revision)
            for part in parts[:-1]
        ]
        staged_content.stage_ensemble(ensemble, source, run, folds, scores)
        data_id = next((part.repo_id for part in beside if part.role == "dataset"), None)
        staged_content.write_ensemble_card(ensemble, run, folds, options.revision, data_id)
        _require_no_secrets(folder, source)
    own = [part for part in [*beside, *parts] if part.folder.parent == folder]
    return [replace(part, folder=Path(out) / part.folder.name) for part in own]


def _stage_beside(folder: Path, ensemble_id: str, run: PublicRunRecord, options: StagingOptions) -> list[Staged]:
    """Stage the metric, the data set and the page to try the ensemble, where they are asked for."""
    parts = []
    if options.with_metric:
        name = f"{ensemble_id.split('/')[0]}/{code_bundle.METRIC}"
        metric = Staged(name, "space", "main", folder / code_bundle.METRIC, "metric")
        code_bundle.copy_metric(metric.folder, metric.repo_id)
        parts.append(metric)
    if options.data_file:
        data = Staged(f"{ensemble_id}-data", "dataset", options.branch, folder / "data", "dataset")
        staged_content.stage_data(data, run, Path(options.data_file), ensemble_id, options.revision)
        parts.append(data)
    if options.space:
        page = Staged(f"{ensemble_id}-demo", "space", options.branch, folder / "demo", "demo")
        space.stage_space(page, ensemble_id, options.revision, run.base["name"])
        parts.append(page)
    return parts


def _public(run_folder: Path, base: tuple[str, str] | None) -> PublicRunRecord:
    """Return the part of run.json that goes out, with a base that others can load."""
    run = select_task(load_record(run_folder), None)
    names, done = run.fold_names, finished_folds(run_folder)
    if names != done:
        raise ValueError(
            f"{run_folder}: run.json knows the folds {names}, the folder holds {done}: run train_relevance.py once "
            "more with --resume_from_checkpoint last, which joins the finished folds"
        )
    name, revision = run.base["name"], run.base["revision"]
    if base:
        if packaged_bases.is_embedded(name):
            raise ValueError(f"--base_model_id {base[0]}: the base is {name}, whose weights come from a package")
        run = replace(run, base={**run.base, "name": base[0], "revision": base[1]})
    elif not packaged_bases.is_embedded(name) and (Path(name).exists() or not is_repo_id(name)):
        raise ValueError(
            f"the base is a folder of this machine ({Path(name).name}), which nobody else can load: give the Hub id "
            "and the commit that it came from, with --base_model_id and --base_revision"
        )
    name, revision = run.base["name"], run.base["revision"]
    if not packaged_bases.is_embedded(name) and not COMMIT.fullmatch(revision or ""):
        raise ValueError(
            f"base {name}: revision {revision} is no commit, so that others might load other weights: give one of 40 "
            "digits with --base_model_id and --base_revision"
        )
    return manifest.public_run(run)


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


def _measure(run_folder: Path, fingerprint: str | None) -> tuple[dict[str, str], CanaryScores]:
    """Load the run; return config hash and fingerprint of its base, and the scores of the canaries."""
    from product_relevance.ensemble.ensemble import RelevanceEnsemble
    from product_relevance.ensemble.published import canaries

    if fingerprint is None:  # ZeRO-3 spreads the weights while training, so the run has none
        fingerprint = _fingerprint_of(run_folder)
    ensemble = RelevanceEnsemble.from_pretrained(str(run_folder))
    scores = canaries.measure_canaries(ensemble)
    rounded = replace(
        scores,
        scores=[round(score, DIGITS) for score in scores.scores],
        folds={name: [round(score, DIGITS) for score in column] for name, column in scores.folds.items()},
    )
    digest = manifest.config_sha256(ensemble.model.config.to_dict())
    return {"config_sha256": digest, "fingerprint": fingerprint}, rounded


def _fingerprint_of(run_folder: Path) -> str:
    from product_relevance.ensemble.base_model import load_base
    from product_relevance.ensemble.locate import locate_run
    from product_relevance.models.modeling import fingerprint_weights

    _, model = load_base(locate_run(str(run_folder)), None, "auto")
    return fingerprint_weights(model)


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
