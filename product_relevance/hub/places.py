"""Where on the Hub the folders of a run go, and what is published beside its folds."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from product_relevance.ensemble.published.manifest_schema import is_repo_id

LAYOUTS = ("repos", "branches", "one")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Staged:
    """A folder and the place on the Hub whose content it is.

    Attributes:
        repo_id: `org/name`.
        repo_type: model, dataset or space.
        branch: of the repository; it is made if needed.
        folder: on this machine; a fold's is called as the fold.
        role: fold, ensemble, dataset, metric or demo.
    """

    repo_id: str
    repo_type: str
    branch: str
    folder: Path
    role: str


@dataclass(frozen=True, kw_only=True)
class StagingOptions:
    """How a run is laid out on the Hub, and what goes with it.

    Attributes:
        layout: `repos`, a repository for each fold; `branches`, a branch for each; `one`, a folder for each.
        branch: of the ensemble, and of what goes with it.
        tag: that will be set; the snippets of the cards load it.
        base: Hub id and commit of the base, for a run whose base is a folder of this machine.
        data_file: Parquet of dataset_scripts/prepare.py, to publish with its texts; none is staged without.
        with_metric: stage the `evaluate` module too.
        space: stage the page to try the ensemble, as a Space.
        overwrite: replace staged files that were changed by hand.
    """

    layout: str = "repos"
    branch: str = "main"
    tag: str | None = None
    base: tuple[str, str] | None = None
    data_file: str | Path | None = None
    with_metric: bool = False
    space: bool = False
    overwrite: bool = False

    @property
    def revision(self) -> str:
        """What the snippets of the cards load."""
        return self.tag or self.branch


def check_names(repo_id: str, options: StagingOptions) -> None:
    """Check the names that were asked for.

    Raises:
        ValueError: a bad id, an unknown layout, or a branch that is none.
    """
    layout, branch = options.layout, options.branch
    if not is_repo_id(repo_id) or len(repo_id) > 80:  # the folds' names are longer, and the Hub takes 96 characters
        raise ValueError(f"--repo_id {repo_id}: expected org/name, of letters, digits, - _ and ., at most 80 in all")
    if layout not in LAYOUTS:
        raise ValueError(f"--layout {layout}: expected one of {', '.join(LAYOUTS)}")
    if COMMIT.fullmatch(branch) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*", branch):
        raise ValueError(f"--revision {branch}: expected the name of a branch, of letters, digits, - _ and .")


def list_places(folder: Path, repo_id: str, options: StagingOptions, names: list[str]) -> list[Staged]:
    """List where the folds go, and the ensemble last.

    Args:
        folder: that holds the folders; in the layout `one` those of the folds lie in the ensemble's.
        repo_id: `org/name` of the ensemble.
        options: layout and branch.
        names: of the folds.
    """
    layout, branch = options.layout, options.branch
    ensemble = Staged(repo_id, "model", branch, folder / "ensemble", "ensemble")
    folds = []
    for name in names:
        place = replace(ensemble, folder=folder / name, role="fold")
        if layout == "repos":
            place = replace(place, repo_id=f"{repo_id}-{name}")
        elif layout == "branches":
            place = replace(place, branch=name if branch == "main" else f"{branch}-{name}")
        else:
            place = replace(place, folder=ensemble.folder / name)
        folds.append(place)
    return [*folds, ensemble]
