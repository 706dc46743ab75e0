"""Records, and jobs on shards without a model, importable by the processes that the tests start and kill."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from product_relevance.data.records import read_records


def records(rows: int) -> list[dict]:
    """Test records with distinct queries."""
    plain = {"task": "QC", "language": "en", "category_path": "shoes,boots"}
    return [{"id": i, **plain, "origin_query": "boot" * (1 + i % 9) + f" {i}"} for i in range(rows)]


@dataclass(frozen=True)
class Lengths:
    """The length of each query, after some seconds."""

    seconds: float = 0.0

    def __call__(self, source: Path) -> pd.DataFrame:
        time.sleep(self.seconds)
        frame = read_records(source, role="test")
        return pd.DataFrame({"id": frame["id"], "length": frame["origin_query"].str.len()})

    def key(self) -> dict:
        return {"job": "lengths"}


@dataclass(frozen=True)
class OutOfMemory:
    """The same, but the process is killed at its first shard, as when memory runs out, unless a file exists."""

    spared: str

    def __call__(self, source: Path) -> pd.DataFrame:
        if not Path(self.spared).exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return Lengths()(source)
