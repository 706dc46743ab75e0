"""One reader for JSON that others may have written: plain, small, shallow, each key once, each number finite."""

import json
import os
import resource
import time

import pytest

from product_relevance.utils.json_files import MAX_DEPTH, read_json


def written(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_what_was_written_is_read(tmp_path):
    content = {"a": [1, 2.5, None, "zapatos 手机 😀"], "b": {"a": True}}
    assert read_json(written(tmp_path, json.dumps(content))) == content


@pytest.mark.parametrize(
    "content, told",
    [
        ("", "not JSON"),
        (b"\xff\xfe{}", ".utf-8. codec can"),
        ("[]", "found a list, expected a dict"),
        ("[" * 100_000, "recursion"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), "nested deeper than"),
        ('{"a": 1, "b": 2, "a": 1}', "the key 'a' stands twice"),
        ('{"a": NaN}', "found NaN, expected finite"),
        ('{"a": 1e999}', "found 1e999, expected finite"),
        ('{"a": ' + "9" * 5000 + "}", "4300 digits"),
        (r'{"a": "\ud83d"}', "surrogates not allowed"),
        (" " * 20_000_001, "20000001 bytes, expected at most"),
        ("version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_what_is_no_clean_json_is_refused_with_the_name_of_the_file(content, told, tmp_path):
    with pytest.raises(ValueError, match=f"file.json: .*{told}"):
        read_json(written(tmp_path, content))


def test_a_pair_of_surrogates_is_one_character(tmp_path):
    assert read_json(written(tmp_path, r'{"a": "\ud83d\ude00"}')) == {"a": "😀"}


def test_a_link_to_a_plain_file_is_read_as_the_cache_of_the_hub_has_them(tmp_path):
    (tmp_path / "link.json").symlink_to(written(tmp_path, "{}"))
    assert read_json(tmp_path / "link.json") == {}


def test_what_is_no_plain_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    cases = {"pipe": "plain file", "loop": "cannot be read", "zero": "plain file", "gone": "not found", ".": "plain"}
    for name, told in cases.items():
        with pytest.raises(ValueError, match=told):
            read_json(tmp_path / name)


@pytest.mark.parametrize("part", ["[],", '"",', "{},", '{"":[]},'])
def test_a_file_of_the_largest_size_takes_bounded_time_and_memory(part, tmp_path):
    path = written(tmp_path, f"[{part * (19_000_000 // len(part))}1]")
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="values, expected at most"):
        read_json(path, list)
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
