"""Shards on a cluster: what needs none; tests/engines starts Ray and Slurm."""

import socket
import sys
from types import SimpleNamespace

import pytest

from product_relevance.sharding import plan
from product_relevance.sharding.array_task import ArrayTask, run_array_task
from product_relevance.sharding.ray_workers import run_ray
from tests.conftest import write_rows
from tests.helpers.shard_steps import Lengths, records


@pytest.fixture
def folder(tmp_path) -> str:
    """Three shards that wait."""
    plan.make_plan(write_rows(tmp_path / "source.txt", records(9)), tmp_path / "scores", 3, Lengths().key())
    return str(tmp_path / "scores")


def test_the_tasks_of_an_array_have_each_shard_once(folder):
    assert run_array_task(folder, Lengths(), ArrayTask.from_text("1/2")) == 1
    assert plan.unfinished_shards(folder) == [0, 2]
    assert run_array_task(folder, Lengths(), ArrayTask.from_text("0/2")) == 2
    assert plan.unfinished_shards(folder) == []


def test_more_tasks_than_shards_are_refused(folder):
    with pytest.raises(ValueError, match="--array_task 3/4: found 3 shards, expected one for each task at least"):
        run_array_task(folder, Lengths(), ArrayTask(3, 4))


@pytest.mark.parametrize("text", ["2/2", "1", "1/2/3", "-1/2", "a/b", "/", "²/3"])
def test_a_task_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected I/N with I from 0 to N-1"):
        ArrayTask.from_text(text)


def test_without_ray_the_extra_is_named_and_finished_shards_need_none(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"--cluster ray needs Ray: pip install '.\[ray\]'"):
        run_ray(folder, Lengths(), 1)
    run_array_task(folder, Lengths(), ArrayTask(0, 1))
    assert run_ray(folder, Lengths(), 1) == 0


def test_an_address_at_which_nothing_answers_is_refused_at_once(folder, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=lambda **_: pytest.fail("Ray was asked")))
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match=f"RAY_ADDRESS {address}: found nothing that answers there.*refused"):
        run_ray(folder, Lengths(), 1)


@pytest.mark.parametrize("address", ["", "auto", "ray://127.0.0.1:10001"])
def test_an_address_that_only_ray_can_read_is_left_to_ray(address, folder, monkeypatch):
    def init(**_):
        raise ConnectionError

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ValueError, match="found no cluster"):
        run_ray(folder, Lengths(), 1)
