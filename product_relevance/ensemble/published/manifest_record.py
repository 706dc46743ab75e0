"""What ensemble.json says, as frozen records: written as they stand, read after `manifest_schema.check_manifest`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from product_relevance.ensemble.published.canaries import CanaryScores
from product_relevance.ensemble.published.manifest_schema import FORMAT, KIND
from product_relevance.utils.run_record import PublicRunRecord


@dataclass(frozen=True, kw_only=True)
class PublishedFold:
    """Where a fold of a published ensemble lies.

    Attributes:
        name: of the fold.
        repo_id: its repository on the Hub; None where it lies in the ensemble's.
        revision: its commit; None in the ensemble's repository, and until the fold is published.
        path: folder in its repository, "." for the top.
        files: sha256 by name.
    """

    name: str
    path: str
    files: Mapping[str, str]
    repo_id: str | None = None
    revision: str | None = None

    @property
    def paths(self) -> list[str]:
        """The files by their place in the repository."""
        return [(PurePosixPath(self.path) / file).as_posix() for file in self.files]

    def to_json(self) -> dict[str, Any]:
        """Return the fold's entry of ensemble.json."""
        place = {"name": self.name, "repo_id": self.repo_id, "revision": self.revision}
        return place | {"path": self.path, "files": {**self.files}}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a published ensemble consists of.

    Attributes:
        name: `org/name` of its repository.
        run: public part of the run (`manifest.public_run`).
        folds: in the order of the run.
        files: sha256 by path of the ensemble's other files.
        canaries: scores that a copy must give.
    """

    name: str
    run: PublicRunRecord
    folds: list[PublishedFold]
    files: Mapping[str, str]
    canaries: CanaryScores

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Manifest":
        """Read the content of ensemble.json, which was checked."""
        return cls(
            name=content["name"],
            run=PublicRunRecord.from_json(content["run"]),
            folds=[PublishedFold(**fold) for fold in content["folds"]],
            files=content["files"],
            canaries=CanaryScores(**content["canaries"]),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of ensemble.json."""
        parts = {"format": FORMAT, "kind": KIND, "name": self.name, "run": self.run.to_json()}
        parts |= {"folds": [fold.to_json() for fold in self.folds], "files": {**self.files}}
        return parts | {"canaries": asdict(self.canaries)}
