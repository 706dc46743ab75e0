"""`relevance predict --cluster ray` on a real cluster of this machine, with workers and driver killed at random.

`make test-engines` installs Ray and runs this; see docs/how-to/ray.md.
"""

import subprocess
import threading
import time
from importlib.metadata import version
from importlib.util import find_spec

import bench_shards
import pytest

from product_relevance.sharding import plan, ray_workers
from product_relevance.sharding.ray_workers import run_ray
from tests.conftest import write_rows
from tests.engines import clusters
from tests.engines.conftest import KILLS, ROWS, SHARDS, check_and_keep
from tests.engines.kills import choose_moments, having, kill_workers
from tests.helpers.shard_steps import Lengths, OutOfMemory, records

pytestmark = pytest.mark.skipif(not ROWS or find_spec("ray") is None, reason="starts Ray: make test-engines")


@pytest.fixture(scope="module")
def head():
    with clusters.ray_head(cpus=2) as found:
        yield found


def test_killed_workers_and_a_killed_driver_leave_the_bytes_of_a_local_run(work, head, tmp_path):
    variables, process = head
    output, moments = tmp_path / "scores", choose_moments(SHARDS, KILLS + 1)
    command = [*work.command(output), "--cluster", "ray", "--workers", "2"]
    started = time.perf_counter()
    with open(tmp_path / "log", "wb") as log:
        driver = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
        try:
            killed = kill_workers(
                lambda: having(process.children(recursive=True), "ray::Worker"), output, moments[:KILLS]
            )
            clusters.wait_for(lambda: bench_shards.whole(output) >= moments[-1], f"{moments[-1]} shards", 300)
            assert driver.poll() is None, (tmp_path / "log").read_text()
        finally:
            driver.kill()
            driver.wait()
    before = bench_shards.whole(output)
    assert before < SHARDS
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{SHARDS} shards, " in done.stdout and f"{SHARDS} of them made now" not in done.stdout
    seconds = round(time.perf_counter() - started, 1)
    figures = {"version": version("ray"), "killed_workers_after": killed, "killed_driver_after": before}
    check_and_keep(work, output, "ray", figures | {"workers": 2, "seconds": seconds})


def test_a_defect_and_too_many_workers_end_with_one_line(work, head, tmp_path):
    command = [*work.command(tmp_path / "scores"), "--cluster", "ray", "--workers", "3"]
    found = clusters.output_of(command, head[0])
    assert found == "error: --workers 3: the cluster has 2 of the resource CPU, expected one a worker"


def test_a_shard_that_kills_its_workers_ends_the_run_and_a_defect_is_one_error(head, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", head[0]["RAY_ADDRESS"])
    source = write_rows(tmp_path / "source.txt", records(12))
    plan.make_plan(source, tmp_path / "scores", 4, Lengths().key())
    with pytest.raises(ValueError, match=r"shard \d: 4 workers died at it"):
        run_ray(str(tmp_path / "scores"), OutOfMemory(str(tmp_path / "spared")), 1)
    (tmp_path / "spared").touch()
    assert run_ray(str(tmp_path / "scores"), OutOfMemory(str(tmp_path / "spared")), 2) == 4
    bad = write_rows(tmp_path / "bad.txt", [{"id": 1, "origin_query": "x"}, *records(3)[1:]])
    plan.make_plan(bad, tmp_path / "bad", 3, Lengths().key())
    with pytest.raises(ValueError, match="shard 0, whose first row is row 1 of the source: .*field 'item_title'"):
        run_ray(str(tmp_path / "bad"), Lengths(), 2)


def test_without_a_machine_that_is_gone_the_others_do_the_rest(head, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", head[0]["RAY_ADDRESS"])
    monkeypatch.setattr(ray_workers, "LOOK", 3)
    folder = str(tmp_path / "scores")
    plan.make_plan(write_rows(tmp_path / "source.txt", records(60)), folder, 30, Lengths().key())
    with clusters.ray_machine(head[0], cpus=1) as machine:
        family = [machine, *machine.children(recursive=True)]

        def unplug() -> None:
            clusters.wait_for(
                lambda: having(machine.children(recursive=True), "ray::Worker.process"), "a worker there"
            )
            for process in [*family, *machine.children(recursive=True)]:
                process.kill()

        thread = threading.Thread(target=unplug)
        thread.start()
        assert run_ray(folder, Lengths(1.0), 3) == 30
        thread.join()
    assert plan.unfinished_shards(folder) == []
