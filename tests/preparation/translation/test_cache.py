"""The cache keeps what was written through kills, concurrent runs and damage, and never mixes models."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from product_relevance.preparation.translation.cache import TranslationCache

SETTINGS = {"engine": "slow", "model": "m", "revision": "r", "options": {}}
TEXTS = [f"zapato rojo {i:03d}" for i in range(60)]
REQUESTS = [(text, "es", "en") for text in TEXTS]
# A translator whose engine writes down what it translates, as a process of its own; language identification, which
# takes seconds to load, has no part in it.
DRIVER = """
import sys, time
from product_relevance.preparation.translation import checks
checks.identify_with_evidence = lambda texts: [("en", 0.0) for _ in texts]
from product_relevance.preparation.translation.cache import TranslationCache
from product_relevance.preparation.translation.translator import ModelTranslator

path, log, pause, order = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])

class Slow:
    settings = {"engine": "slow", "model": "m", "revision": "r", "options": {}}
    batch_size, prompt_marks, prompt_answers = 2, (), frozenset()

    def supports(self, source, target):
        return True

    def translate(self, texts, sources, targets):
        with open(log, "a") as file:
            file.write("".join(text + chr(10) for text in texts))
        time.sleep(pause)
        return [text.replace("zapato rojo", "red shoe") for text in texts]

texts = [f"zapato rojo {i:03d}" for i in range(60)][order:]
with TranslationCache(Slow.settings, path) as cache:
    made = ModelTranslator(Slow(), cache, skip=())(texts, ["es"] * len(texts))
assert made == [text.replace("zapato rojo", "red shoe") for text in texts], made
"""
# Writes as fast as it can, until it is killed.
WRITER = """
import sys
from product_relevance.preparation.translation.cache import TranslationCache

with TranslationCache({"engine": "slow", "model": "m", "revision": "r", "options": {}}, sys.argv[1]) as cache:
    for i in range(1_000_000):
        cache.put({(f"{sys.argv[2]} {i} {j}", "es", "en"): f"{i} {j} " + "x" * 500 for j in range(20)})
        print(i, flush=True)
"""


def start(program: str, *arguments, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", program, *map(str, arguments)], **options)


def lines(path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition, process, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until and process.poll() is None, "the other process stood still"
        time.sleep(0.01)


def is_whole(path) -> bool:
    with sqlite3.connect(path) as db:
        return db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_after_a_kill_only_the_batch_in_flight_is_translated_again(tmp_path):
    path, log = tmp_path / "cache.sqlite3", tmp_path / "log"
    process = start(DRIVER, path, log, 0.05, 0)
    wait_for(lambda: len(lines(log)) >= 12, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = lines(log)
    with TranslationCache(SETTINGS, path) as cache:
        written = {request[0] for request in cache.get(REQUESTS)}
    assert 8 <= len(written) < len(TEXTS)
    assert start(DRIVER, path, log, 0, 0).wait() == 0
    again = lines(log)[len(before) :]
    assert not written & set(again)
    assert sorted(set(again) | written) == TEXTS and len(again) == len(set(again))
    assert len(lines(log)) - len(TEXTS) <= 2  # what the killed one had not written yet


def test_a_finished_run_leaves_nothing_to_translate(tmp_path):
    path, log = tmp_path / "cache.sqlite3", tmp_path / "log"
    assert start(DRIVER, path, log, 0, 0).wait() == 0
    assert start(DRIVER, path, log, 0, 0).wait() == 0
    assert sorted(lines(log)) == TEXTS


def test_kills_in_the_middle_of_writing_leave_whole_entries(tmp_path):
    path, chance = tmp_path / "cache.sqlite3", random.Random(0)
    done = {}
    for name in "abc":
        process = start(WRITER, path, name, stdout=subprocess.PIPE, text=True)
        for _ in range(chance.randint(5, 30)):
            done[name] = int(process.stdout.readline())
        time.sleep(chance.random() / 50)
        process.kill()
        process.wait()
        process.stdout.close()
    with TranslationCache(SETTINGS, path) as cache:
        for name, last in done.items():
            asked = {
                (f"{name} {i} {j}", "es", "en"): f"{i} {j} " + "x" * 500 for i in range(last + 1) for j in range(20)
            }
            assert cache.get(asked) == asked
    assert is_whole(path)


def test_four_processes_share_one_file(tmp_path):
    path, log = tmp_path / "cache.sqlite3", tmp_path / "log"
    processes = [start(DRIVER, path, log, 0.002, order) for order in (0, 5, 10, 30)]
    assert [process.wait() for process in processes] == [0, 0, 0, 0]
    with TranslationCache(SETTINGS, path) as cache:
        assert len(cache.get(REQUESTS)) == len(TEXTS)
    assert is_whole(path)


@pytest.mark.parametrize("damage", ["garbage", "cut", "page", "empty"])
def test_a_damaged_file_is_moved_aside_with_a_warning_and_begun_anew(tmp_path, caplog, damage):
    path = tmp_path / "cache.sqlite3"
    with TranslationCache(SETTINGS, path) as cache:
        cache.put({(f"{i}" * 50, "es", "en"): "y" * 300 for i in range(300)})
    content = path.read_bytes()
    broken = {
        "garbage": b"no database" * 1000,
        "cut": content[: len(content) // 2],
        "page": content[:8192] + os.urandom(8192) + content[16384:],
        "empty": b"",
    }[damage]
    path.write_bytes(broken)
    with TranslationCache(SETTINGS, path) as cache:
        cache.put({REQUESTS[0]: "red shoe 000"})
        assert cache.get(REQUESTS[:2]) == {REQUESTS[0]: "red shoe 000"}
    assert is_whole(path)
    aside = list(tmp_path.glob("cache.sqlite3.damaged-*"))
    if damage == "empty":  # SQLite's own form of a new file
        assert not aside
    else:
        assert [file.read_bytes() for file in aside] == [broken] and "damaged" in caplog.text


def test_damage_while_a_run_has_the_file_open_is_survived(tmp_path, caplog):
    path = tmp_path / "cache.sqlite3"
    with TranslationCache(SETTINGS, path) as cache:
        cache.put({REQUESTS[0]: "red shoe 000"})
        path.write_bytes(b"garbage " * 4096)
        cache.put({REQUESTS[1]: "red shoe 001"})
        assert cache.get(REQUESTS[:2]) == {REQUESTS[1]: "red shoe 001"}
    assert "moved" in caplog.text


def test_an_entry_with_a_flipped_bit_is_not_believed(tmp_path, caplog):
    path = tmp_path / "cache.sqlite3"
    with TranslationCache(SETTINGS, path) as cache:
        cache.put({REQUESTS[0]: "red shoe", REQUESTS[1]: "blue hat"})
    content = path.read_bytes()
    assert content.count(b"red shoe") == 1
    path.write_bytes(content.replace(b"red shoe", b"rad shoe"))
    with TranslationCache(SETTINGS, path) as cache:
        assert cache.get(REQUESTS[:2]) == {REQUESTS[1]: "blue hat"}
        cache.put({REQUESTS[0]: "red shoe"})
        assert len(cache.get(REQUESTS[:2])) == 2
    assert "1 damaged entries" in caplog.text


@pytest.mark.parametrize(
    "changed", [{"engine": "e"}, {"model": "n"}, {"revision": "s"}, {"options": {"dtype": "int8"}}]
)
def test_another_model_revision_or_option_sees_nothing(tmp_path, changed):
    path = tmp_path / "cache.sqlite3"
    with TranslationCache(SETTINGS, path) as one, TranslationCache(SETTINGS | changed, path) as other:
        one.put({REQUESTS[0]: "red shoe 000"})
        assert other.get(REQUESTS) == {} and len(one.get(REQUESTS)) == 1
        assert one.get([(TEXTS[0], "pt", "en"), (TEXTS[0], "es", "fr")]) == {}


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.tuples(st.text(), st.text(), st.just("en")), st.text(st.characters(codec="utf-8")), max_size=20)
)
def test_any_text_comes_back_as_it_was(tmp_path_factory, entries):
    with TranslationCache(SETTINGS, tmp_path_factory.mktemp("cache") / "cache.sqlite3") as cache:
        cache.put(entries)
        assert cache.get(entries) == entries


def test_many_thousand_texts_are_asked_for_at_once(tmp_path):
    entries = {(f"{i}", "es", "en"): f"{-i}" for i in range(5000)}
    with TranslationCache(SETTINGS, tmp_path / "deep" / "er" / "cache.sqlite3") as cache:
        cache.put(entries)
        assert cache.get([*entries, ("absent", "es", "en")]) == entries


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="HF_HOME"):
        TranslationCache(SETTINGS, tmp_path / "file" / "cache.sqlite3")
    with pytest.raises(ValueError, match="HF_HOME"):
        TranslationCache(SETTINGS, tmp_path)
