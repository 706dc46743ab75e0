"""A lock that a killed build left is named after a minute of waiting; one of a living build is not."""

import os
import re
import threading
import time

import pytest

from product_relevance.training import build_locks
from product_relevance.training.arguments import parse_arguments


def hold(folder, age: float) -> str:
    """Make a lock as a build does, as many seconds ago."""
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    os.utime(folder / "lock", (time.time() - age,) * 2)
    return str(folder / "lock")


@pytest.mark.parametrize("extension", ["deepspeed_shm_comm", "py312_cu130/fused_adam", "py312_cpu/cpu_adam", "utils"])
@pytest.mark.parametrize(("age", "waited", "named"), [
    (1800, 1, True),  # longer than any build
    (30, 50, False),
    (30, 61, True),  # there before this run
    (-5, 300, False),  # of a build that began after this run
    (-5, 700, True),
])  # fmt: skip
def test_a_lock_is_named_once_when_no_living_build_would_hold_it(extension, age, waited, named, tmp_path, caplog):
    watch = build_locks.LockWatch(tmp_path)
    lock = hold(tmp_path / extension, age)
    for _ in range(2):
        watch.look(watch.started + waited)
    assert caplog.text.count(f"delete the file (rm {lock})") == named


def test_a_lock_that_goes_is_not_named(tmp_path, caplog):
    watch = build_locks.LockWatch(tmp_path)
    os.unlink(hold(tmp_path / "utils", 30))
    watch.look(watch.started + 61)
    assert not caplog.records


@pytest.fixture
def impatient(tmp_path, monkeypatch):
    """Waits of milliseconds, and a folder of extensions with a lock of a second ago; ends every watch."""
    monkeypatch.setattr(build_locks, "PATIENCE", 0.03)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    yield hold(tmp_path / "utils", 1)
    for thread in threading.enumerate():
        if isinstance(thread, build_locks.LockWatch):
            thread.done.set()
            thread.join()


def test_a_run_under_deepspeed_names_the_lock_while_it_waits(impatient, caplog):
    flags = ["--model_name_or_path", "x", "--task", "QC", "--train_file", "t"]
    flags += ["--deepspeed", "zero.json", "--max_length", "1"]
    with pytest.raises(ValueError, match="max_length"):  # stops before DeepSpeed starts, after the watch has
        parse_arguments(flags)
    deadline = time.monotonic() + 10
    while impatient not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert re.search(rf"{impatient} has been there for 0\.\d minutes, and this run may be waiting for it", caplog.text)


def test_only_the_first_process_watches(impatient, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert build_locks.watch_build_locks() is None
