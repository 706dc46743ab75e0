"""The rows of finished steps on disk, found by all that determines them, so that a later run goes on from there."""

import hashlib
import json
import logging
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

import product_relevance
from product_relevance.data.provenance import read_facts, read_rows, write_rows
from product_relevance.utils.files import sha256_of
from product_relevance.utils.run_folder import read_json, write_json

logger = logging.getLogger(__name__)

# Another version of these may give other rows or other bytes.
LIBRARIES = ("numpy", "pandas", "pyarrow", "scikit-learn", "langidentify", "torch", "transformers", "cleanlab")


class StepCache:
    """The kept rows of the stages of one preparation, in a folder beside its output.

    Each part is a prepared file of its own; its manifest holds its key and the sha256 of its bytes.

    Args:
        folder: Of these parts alone; made when there is something to keep.
        stages: (name, what determines the stage beside the stages before it, as JSON) of each stage in order.
    """

    def __init__(self, folder: Path, stages: Iterable[tuple[str, object]]):
        self.folder, self.names, self.keys, key = folder, [], [], fingerprint_code()
        for number, (name, inputs) in enumerate(stages, start=1):
            key = hashlib.sha256(json.dumps([key, name, inputs], sort_keys=True).encode()).hexdigest()
            self.names.append(f"{number}-{name}")
            self.keys.append(key)

    def finished(self) -> int:
        """Return how many stages need not run again: up to the last one whose part is whole and of its key."""
        return next((n for n in range(len(self.names), 0, -1) if self._is_whole(n - 1)), 0)

    def path(self, number: int) -> Path:
        """Return the file of a stage's rows; numbers begin with 0."""
        return self.folder / f"{self.names[number]}.parquet"

    def keep(self, number: int, frame: pd.DataFrame, facts: dict) -> None:
        """Write the rows of a stage, and once they are whole on disk the manifest that says so."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_rows(frame, self.path(number), facts)
        write_json(self._manifest(number), {"key": self.keys[number], "sha256": sha256_of(self.path(number))})

    def read(self, number: int) -> tuple[pd.DataFrame, dict]:
        """Return the rows of a finished stage and their facts."""
        return read_rows(self.path(number)), read_facts(self.path(number))

    def clear(self) -> None:
        """Delete the parts of stages that this preparation does not have."""
        own = {path.name for n in range(len(self.names)) for path in (self.path(n), self._manifest(n))}
        for path in self.folder.glob("[0-9]*-*.*"):
            if path.name not in own and path.suffix in (".json", ".parquet"):
                path.unlink()

    def _manifest(self, number: int) -> Path:
        return self.folder / f"{self.names[number]}.json"

    def _is_whole(self, number: int) -> bool:
        try:
            manifest = read_json(self._manifest(number))
            if not isinstance(manifest, dict) or manifest.get("key") != self.keys[number]:
                return False
            if sha256_of(self.path(number)) == manifest.get("sha256"):
                return True
        except (ValueError, OSError):
            return False
        logger.warning("%s: differs from what was written, and is made again", self.path(number))
        return False


def fingerprint_code() -> str:
    """Fingerprint this package's code and the versions of the libraries that shape rows and bytes."""
    found = [sha256_of(path) for path in sorted(Path(product_relevance.__file__).parent.rglob("*.py"))]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return hashlib.sha256("\n".join(found).encode()).hexdigest()
