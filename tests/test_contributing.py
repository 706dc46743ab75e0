"""CONTRIBUTING.md names rooms, files and functions that exist."""

import re

import pytest

from tests.conftest import ROOT
from tests.test_layers import ROOMS

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = sorted(set(re.findall(r"`((?:product_relevance|tests|docs|recipes)/[\w./-]*|[\w-]+\.(?:toml|md|py))`", TEXT)))
# A step names its file first, then in backticks what changes in it.
STEPS = re.findall(r"^\d\. `([\w./-]+\.py)`:(.*(?:\n   .*)*)", TEXT, re.M)


@pytest.mark.parametrize("name", FILES)
def test_a_named_file_exists(name):
    assert (ROOT / name).exists()


@pytest.mark.parametrize("file, text", STEPS, ids=lambda value: value if value.endswith(".py") else "")
def test_a_step_names_what_its_file_holds(file, text):
    source = (ROOT / file).read_text(encoding="utf-8")
    names = [part for name in re.findall(r"`([A-Za-z_.]+)`", text) for part in name.split(".")]
    assert [name for name in names if not re.search(rf"\b{name}\b", source)] == []


def test_the_tree_shows_the_rooms_in_the_order_of_imports():
    tree = re.search(r"^product_relevance/\n((?:  .*\n)+)", TEXT, re.M)[1]
    assert tuple(re.findall(r"^  (\w+)/", tree, re.M)) == ROOMS


def test_each_room_is_said_in_about_ten_words():
    tree = re.search(r"^product_relevance/\n((?:  .*\n)+)", TEXT, re.M)[1]
    assert all(5 <= len(line.split()[1:]) <= 13 for line in tree.splitlines())


def test_a_journey_has_at_most_15_stops_and_never_goes_back_up():
    journeys = re.split(r"^### ", TEXT[TEXT.index("## Three journeys") :], flags=re.M)[1:]
    stops = [re.findall(r"^\d+\. `product_relevance/(\w+)/", journey, re.M) for journey in journeys]
    assert len(stops) == 3 and all(5 <= len(rooms) <= 15 for rooms in stops)
    assert all(rooms == sorted(rooms, key=ROOMS.index) for rooms in stops)
