"""Publishing to a loopback Hub with the real client: order, tags, uploads that die, what readers see meanwhile."""

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub.utils import close_session

from product_relevance import RelevanceEnsemble
from product_relevance.ensemble.published import manifest
from product_relevance.hub import publish as publishing
from product_relevance.hub.places import LAYOUTS
from tests.helpers.staged import BASE, NAME, base_files, plain_run, staged
from tests.hub.loopback.fixture import point_client_at
from tests.hub.loopback.folder import contents
from tests.hub.loopback.repos import git_oid
from tests.hub.loopback.server import LoopbackHub

pytest_plugins = ["tests.hub.loopback.fixture"]
PAIRS = [("Zapatos rojos", "shoes,women's shoes"), ("usb kabel", "pet products,dog supplies")]


def history(hub, parts) -> dict:
    """Ids of all commits of what was published."""
    places = {(part.repo_type, part.repo_id, part.branch) for part in parts}
    return {place: [c.id for c in hub.repo(place[1], place[0]).history(place[2])] for place in places}


def read(hub, part, revision: str | None = None) -> dict[str, bytes]:
    """Files of a repository on the Hub, without git's own."""
    repo = hub.repo(part.repo_id, part.repo_type)
    names = set(repo.commit_at(revision or part.branch).tree) - {".gitattributes"}
    return {name: repo.read(name, revision or part.branch) for name in names}


def scores(name: str, **options) -> np.ndarray:
    return RelevanceEnsemble.from_pretrained(name, device="cpu", **options).predict(PAIRS)


@lru_cache
def local_scores(run: Path) -> np.ndarray:
    return scores(str(run))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_staged_is_on_the_hub_and_scores_like_the_run(hub, base, layout):
    hub.put(BASE, base_files(base))
    parts = staged(base, layout)
    commits = publishing.publish_staged(parts)
    for part in parts:
        expected = contents(part.folder)
        if part.role == "ensemble":
            expected["ensemble.json"] = publishing.pin_commits(part, commits_of(hub, parts))
        assert read(hub, part) == expected
        assert commits[f"{part.repo_id}@{part.branch}"] == hub.repo(part.repo_id).branches[part.branch]
    assert len(hub.repo(NAME).history("main")) == 2, "the first commit, made by the Hub, and one of ours"
    assert np.allclose(scores(NAME), local_scores(plain_run(base)), atol=1e-6)


def commits_of(hub, parts) -> dict:
    return {part: hub.repo(part.repo_id).branches[part.branch] for part in parts}


def test_the_manifest_pins_the_commits_of_the_folds(hub, parts, tmp_path):
    commits = publishing.publish_staged(parts)
    (tmp_path / manifest.NAME).write_bytes(hub.repo(NAME).read(manifest.NAME))
    folds = manifest.read_manifest(tmp_path).folds
    assert [fold.revision for fold in folds] == [commits[f"{NAME}-fold-{k}@main"] for k in (0, 1)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_publishing_the_same_again_makes_no_commit_and_sends_no_file(hub, base, layout):
    parts = staged(base, layout)
    first = publishing.publish_staged(parts, tag="v1", collection="Shop")
    before = history(hub, parts)
    hub.requests.clear()
    assert publishing.publish_staged(parts, tag="v1", collection="Shop") == first
    assert history(hub, parts) == before
    assert hub.count("POST", "/commit/") == hub.count("PUT", "/upload/") == 0


def fault(hub, place: str) -> None:
    """Break the upload for good at a place, as a connection that is lost does."""
    hub.fail(place, status=400, times=100)


@pytest.mark.parametrize(
    "layout, place",
    [
        ("repos", f"{NAME}-fold-1/commit/main"),
        ("repos", f"{NAME}/commit/main"),
        ("branches", f"{NAME}/commit/fold-1"),
        ("branches", f"{NAME}/commit/main"),
        ("one", "^/upload/"),
    ],
)
def test_an_upload_that_dies_leaves_readers_the_old_ensemble_and_the_same_command_completes(hub, base, layout, place):
    hub.put(BASE, base_files(base))
    publishing.publish_staged(staged(base, layout), tag="v1")
    old, pinned = scores(NAME), hub.repo(NAME).branches["main"]
    parts = staged(base, layout, changed=True)
    fault(hub, place)
    with pytest.raises(ValueError):
        publishing.publish_staged(parts, tag="v2")
    assert hub.repo(NAME).branches["main"] == pinned and "v2" not in hub.repo(NAME).tags
    assert np.allclose(scores(NAME), old, atol=1e-6)
    hub._faults.clear()
    sent = set(hub.stored)
    publishing.publish_staged(parts, tag="v2")
    new = scores(NAME, revision="v2")
    assert np.allclose(new, local_scores(plain_run(base, changed=True)), atol=1e-6) and np.abs(new - old).max() > 1e-3
    assert np.allclose(scores(NAME, revision="v1"), old, atol=1e-6)
    again = history(hub, parts)
    publishing.publish_staged(parts, tag="v2")
    assert history(hub, parts) == again and sent <= set(hub.stored)


def test_a_large_file_that_is_there_is_not_sent_again_after_an_upload_that_died(hub, base):
    parts = staged(base, "one")
    hub.fail(f"{NAME}/commit/main", status=400, times=100)
    with pytest.raises(ValueError):
        publishing.publish_staged(parts)
    sent = hub.count("PUT", "^/upload/")
    assert sent >= 2 and len(hub.repo(NAME).history("main")) == 1
    hub._faults.clear()
    publishing.publish_staged(parts)
    assert hub.count("PUT", "^/upload/") == sent


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub, parts):
    hub.drop(f"{NAME}/commit/main", after=True)
    with pytest.raises(ValueError, match="not reached.*the same command goes on"):
        publishing.publish_staged(parts)
    publishing.publish_staged(parts)
    assert len(hub.repo(NAME).history("main")) == 2


def test_the_ensemble_is_committed_last_and_tagged_after_that(hub, parts):
    commits = publishing.publish_staged(parts, tag="v1", collection="Shop")
    order = [
        path for method, path in hub.requests if method == "POST" and re.search("/(commit|tag)/|collections$", path)
    ]
    models = "/api/models/"
    assert order[:3] == [f"{models}{NAME}{end}/commit/main" for end in ("-fold-0", "-fold-1", "")]
    assert order[3:] == [
        f"{models}{NAME}-fold-0/tag/{commits[f'{NAME}-fold-0@main']}",
        f"{models}{NAME}-fold-1/tag/{commits[f'{NAME}-fold-1@main']}",
        f"{models}{NAME}/tag/{commits[f'{NAME}@main']}",
        "/api/collections",
    ]
    assert hub.repo(NAME).tags == {"v1": hub.repo(NAME).branches["main"]}


def test_a_tag_is_never_moved(hub, base, parts):
    publishing.publish_staged(parts, tag="v1")
    before = hub.repo(NAME).tags["v1"]
    with pytest.raises(ValueError, match="v1 is .* already and a tag is never moved: choose another --tag"):
        publishing.publish_staged(staged(base, changed=True), tag="v1")
    assert hub.repo(NAME).tags == {"v1": before} and hub.repo(NAME).branches["main"] != before


def test_another_branch_leaves_main_as_it_was(hub, base, parts):
    hub.put(BASE, base_files(base))
    publishing.publish_staged(parts)
    before, old = history(hub, parts), scores(NAME)
    publishing.publish_staged([replace(part, branch="next") for part in staged(base, changed=True)])
    assert history(hub, parts) == before
    assert np.abs(scores(NAME, revision="next") - old).max() > 1e-3 and np.allclose(scores(NAME), old, atol=1e-6)


def test_files_that_are_no_longer_staged_go_and_the_hubs_own_stay(hub, parts, tmp_path):
    publishing.publish_staged(parts)
    hub.put(NAME, {"code/product_relevance/gone.py": b"", "README.md": b"# by hand on the Hub\n"})
    publishing.publish_staged(parts)
    assert set(read(hub, parts[-1])) == set(contents(parts[-1].folder))
    assert b"by hand" not in hub.repo(NAME).read("README.md")
    assert ".gitattributes" in hub.repo(NAME).commit_at("main").tree


def test_the_layout_can_change_from_one_version_to_the_next(hub, base):
    hub.put(BASE, base_files(base))
    for layout in ("one", "branches", "repos"):
        publishing.publish_staged(staged(base, layout))
        assert set(read(hub, staged(base, layout)[-1])) == set(contents(staged(base, layout)[-1].folder))
        assert np.allclose(scores(NAME), local_scores(plain_run(base)), atol=1e-6)
    assert set(read(hub, staged(base, "branches")[0])) == set(contents(staged(base, "branches")[0].folder))


def test_repositories_are_closed_before_anything_lies_in_them(hub, parts):
    publishing.publish_staged(parts, private=True, gated="manual", collection="Shop")
    assert all(hub.repo(part.repo_id).private and hub.repo(part.repo_id).gated == "manual" for part in parts)
    steps = [path for method, path in hub.requests if "/settings" in path or "/commit/" in path]
    assert [("settings" in path) for path in steps] == [True] * 3 + [False] * 3
    assert [collection["private"] for collection in hub.collections.values()] == [True]


def test_an_open_repository_becomes_private_when_asked_and_no_private_one_is_opened(hub, parts):
    publishing.publish_staged(parts)
    assert not hub.repo(NAME).private
    publishing.publish_staged(parts, private=True)
    publishing.publish_staged(parts)
    assert all(hub.repo(part.repo_id).private for part in parts)


def test_a_collection_holds_each_repository_once(hub, base, parts):
    publishing.publish_staged(parts, collection="Shop models")
    publishing.publish_staged(parts, collection="Shop models")
    ((slug, found),) = hub.collections.items()
    assert [item["id"] for item in found["items"]] == [NAME, f"{NAME}-fold-0", f"{NAME}-fold-1"]
    publishing.publish_staged(parts, collection=slug)
    assert len(hub.collections) == 1


def test_the_plan_names_every_file_and_asks_nothing_of_the_hub(hub, base, parts):
    told = publishing.describe_plan(parts, private=True, gated="auto", tag="v1", collection="Shop")
    assert hub.requests == []
    for text in ("private, gated (auto)", "adapter_model.safetensors", "3 repositories, 3 commits", "tag v1", "Shop"):
        assert text in told
    for part in parts:
        assert f"{part.repo_id}@{part.branch}" in told


def test_an_ensemble_that_reads_back_otherwise_is_noticed(hub, parts, monkeypatch):
    real = publishing._push

    def swapped(api, part, *more):
        commit = real(api, part, *more)
        name = git_oid(hub.repo(part.repo_id).read("README.md"))
        if part.role == "ensemble":
            hub.stored[hub.repo(NAME).file_at("main", manifest.NAME)[1].key] = hub.stored[name]
        return commit

    monkeypatch.setattr(publishing, "_push", swapped)
    with pytest.raises(ValueError, match="is not the one that was sent"):
        publishing.publish_staged(parts, tag="v1")
    assert hub.repo(NAME).tags == {}


def test_an_ensemble_goes_up_and_comes_down_through_the_xet_client(base, tmp_path, monkeypatch):
    pytest.importorskip("hf_xet")
    with LoopbackHub(xet=tmp_path / "cas") as hub:
        point_client_at(hub, tmp_path / "home", monkeypatch)
        hub.put(BASE, base_files(base))
        first = publishing.publish_staged(staged(base, "one"))
        assert publishing.publish_staged(staged(base, "one")) == first and hub.count("PUT", "^/upload/") == 0
        assert np.allclose(scores(NAME), local_scores(plain_run(base)), atol=1e-6)
        close_session()
