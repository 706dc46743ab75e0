"""Files appear whole or not at all, and fingerprints follow the content."""

import json
import os

import pytest

from product_relevance.utils.files import atomic_write, json_line, sha256_of


def test_a_finished_file_appears_under_its_name_and_leaves_nothing_else(tmp_path):
    with atomic_write(tmp_path / "a.txt") as file:
        file.write("ß\r\n")
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_bytes() == "ß\r\n".encode()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_an_exception_leaves_the_old_file_and_no_temporary_one(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError, match="stop"), atomic_write(tmp_path / "a.txt", "wb") as file:
        file.write(b"half")
        raise RuntimeError("stop")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    with atomic_write(tmp_path / "link.txt") as file:
        file.write("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_a_folder_and_another_mode_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected the name of a plain file"), atomic_write(tmp_path):
        pass
    with pytest.raises(ValueError, match="mode: found 'a'"), atomic_write(tmp_path / "a", "a"):
        pass


def test_the_fingerprint_of_a_file_is_the_sha256_of_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_fingerprint_of_a_folder_follows_names_and_bytes_but_not_the_place(tmp_path):
    for name, files in {"one": "ab", "two": "ba", "three": "ac"}.items():
        for file in files:
            (tmp_path / name / "deep").mkdir(parents=True, exist_ok=True)
            (tmp_path / name / "deep" / file).write_text("text")
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two") != sha256_of(tmp_path / "three")
    (tmp_path / "two" / "deep" / "a").write_text("other")
    assert sha256_of(tmp_path / "one") != sha256_of(tmp_path / "two")


def test_a_json_line_is_utf_8_even_with_half_a_surrogate_pair():
    row = {"query": "ไทย \u2028 \ud800 \0"}
    assert json.loads(json_line(row).decode("utf-8")) == row
    assert json_line({"q": "é"}) == '{"q": "é"}\n'.encode()
