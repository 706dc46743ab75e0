"""The large file that clusters score, and its scores by an uninterrupted run on this machine."""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import bench_shards
import pytest
from measurement import keep

from tests.engines.clusters import BIN, environment

ROWS, SHARDS, KILLS = int(os.environ.get("RELEVANCE_ENGINE_ROWS", 0)), 40, 3  # of make test-engines alone


@dataclass(frozen=True)
class Work:
    """A run, pairs, and what `relevance predict` makes of them here."""

    run: Path
    source: Path
    whole: Path
    seconds: float

    def command(self, output: Path) -> list[str]:
        """The command line that is run here and on clusters."""
        words = [BIN / "relevance", "predict", self.run, self.source, "--output", output, "--shards", SHARDS]
        return [*map(str, words), "--device", "cpu", "--dtype", "float32"]


@pytest.fixture(scope="session")
def work(tmp_path_factory) -> Work:
    """Score the pairs in one life by two processes, with a tiny random model."""
    folder = tmp_path_factory.mktemp("work")
    bench_shards.write_records(folder / "pairs.parquet", ROWS)
    made = Work(bench_shards.make_run(folder), folder / "pairs.parquet", folder / "whole", 0)
    started = time.perf_counter()
    subprocess.run([*made.command(made.whole), "--workers", "2"], env=environment(), check=True)
    return Work(made.run, made.source, made.whole, round(time.perf_counter() - started, 1))


def check_and_keep(work: Work, output: Path, engine: str, figures: dict) -> None:
    """Compare all bytes with those of the uninterrupted run; keep the figures if `make test-engines` asks for it."""
    figures |= bench_shards.compare(work.whole, output, ROWS)
    sizes = {"pairs": ROWS, "shards": SHARDS, "seconds_local": work.seconds}
    if folder := os.environ.get("RELEVANCE_ENGINE_RESULTS"):
        keep(f"{engine}-shards-cpu", {"engine": engine} | sizes | figures, folder)
