"""The loopback Hub under the real client: round trips, names and cards, and who may do what."""

import hashlib
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import CommitOperationAdd, HfApi, ModelCard, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.loopback.folder import CARD, NAME, WEIGHTS, contents, save_folder, uploaded
from tests.hub.loopback.server import LoopbackHub

pytest_plugins = ["tests.hub.loopback.fixture"]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder to upload."""
    return save_folder(tmp_path / "up")


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_what_is_uploaded_is_what_is_downloaded(hub, folder, kind):
    api = HfApi()
    api.create_repo(NAME, repo_type=kind, space_sdk="gradio" if kind == "space" else None)
    made = api.upload_folder(repo_id=NAME, repo_type=kind, folder_path=folder)
    assert contents(Path(snapshot_download(NAME, repo_type=kind))) == contents(folder)
    assert set(api.list_repo_files(NAME, repo_type=kind)) == contents(folder).keys() | {".gitattributes"}
    assert api.repo_info(NAME, repo_type=kind).sha == made.oid == hub.repo(NAME, kind).branches["main"]
    assert len(made.oid) == 40 and api.repo_exists(NAME, repo_type=kind)
    assert hub.count("PUT", r"^/upload/") == 1, "only the file that is large and not empty goes to the storage"


def test_the_same_folder_again_makes_no_commit_and_sends_no_file(hub, folder):
    first = uploaded(folder)
    hub.requests.clear()
    assert uploaded(folder) == first
    assert hub.count("POST", "/commit/") == hub.count("PUT", "") == 0
    (folder / "fold-0" / "adapter_config.json").write_text('{"r": 16}')
    assert uploaded(folder) != first
    assert hub.count("POST", "/commit/") == 1 and hub.count("PUT", "") == 0
    assert [commit.commit_id for commit in HfApi().list_repo_commits(NAME)][1] == first


def test_names_need_no_care_for_addresses(hub):
    files = {"a b.txt": b"1", "d/ü#?.txt": b"2", "100%25.txt": b"3", "商品+&=.safetensors": b"4", "d/x/y.json": b"5"}
    added = [CommitOperationAdd(name, body) for name, body in files.items()]
    hub.put(NAME, {})
    HfApi().create_branch(NAME, branch="a/b")
    HfApi().create_commit(NAME, added, commit_message="m", revision="a/b")
    assert contents(Path(snapshot_download(NAME, revision="a/b"))) == files
    assert {name: Path(hf_hub_download(NAME, name, revision="a/b")).read_bytes() for name in files} == files


def test_commit_ids_depend_on_files_parents_and_repository_only():
    def ids(name: str) -> str:
        with LoopbackHub() as hub:
            hub.put(name, {"a.txt": b"a"})
            return hub.repo(name).branches["main"]

    assert ids("org/a") == ids("org/a") != ids("org/b")


def test_a_tag_stays_while_its_branch_moves_on(hub, folder):
    api, first = HfApi(), uploaded(folder)
    api.create_tag(NAME, tag="v1", tag_message="first")
    api.create_branch(NAME, branch="fold-0", revision="v1")
    (folder / "README.md").write_text(CARD + "more\n")
    second = uploaded(folder)
    third = uploaded(folder, revision="fold-0", delete_patterns="fold-0/*", ignore_patterns="fold-0/*")
    refs = api.list_repo_refs(NAME)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": second, "fold-0": third}
    assert {ref.ref: ref.target_commit for ref in refs.tags} == {"refs/tags/v1": first}
    assert Path(hf_hub_download(NAME, "README.md", revision="v1")).read_text() == CARD
    assert "fold-0/adapter_config.json" not in api.list_repo_files(NAME, revision="fold-0")
    for again in (lambda: api.create_tag(NAME, tag="v1"), lambda: api.create_branch(NAME, branch="fold-0")):
        with pytest.raises(HfHubHTTPError, match="409"):
            again()
    api.create_tag(NAME, tag="v1", exist_ok=True)
    api.create_branch(NAME, branch="fold-0", exist_ok=True)
    api.delete_tag(NAME, tag="v1")
    with pytest.raises(RevisionNotFoundError):
        api.repo_info(NAME, revision="v1")


def test_tree_and_paths_tell_sizes_and_fingerprints(hub, folder):
    uploaded(folder)
    files = {file.path: file for file in HfApi().list_repo_tree(NAME, recursive=True)}
    large = files["fold-0/adapter_model.safetensors"]
    assert (large.size, large.lfs.sha256) == (len(WEIGHTS), hashlib.sha256(WEIGHTS).hexdigest())
    assert files["README.md"].lfs is None and files["README.md"].size == len(CARD)
    assert {file.path for file in HfApi().list_repo_tree(NAME)} >= {"fold-0", "README.md"}
    assert [file.path for file in HfApi().list_repo_tree(NAME, "fold-0")] == sorted(
        name for name in contents(folder) if name.startswith("fold-0/")
    )
    assert [file.path for file in HfApi().get_paths_info(NAME, ["README.md", "none"])] == ["README.md"]
    with pytest.raises(EntryNotFoundError):
        list(HfApi().list_repo_tree(NAME, "no-such-folder"))


def test_a_card_is_checked_before_anything_is_uploaded(hub, folder):
    uploaded(folder)
    ModelCard(CARD).validate()
    assert huggingface_hub.model_info(NAME).card_data.license == "apache-2.0"
    before = hub.repo(NAME).branches["main"]
    for bad in ("license: [a: b", "language:\n- no", "model-index:\n- name: x\n  results:\n  - task: {type: t}"):
        (folder / "README.md").write_text(f"---\n{bad}\n---\ntext\n")
        with pytest.raises(ValueError, match="Invalid metadata in README.md"):
            uploaded(folder)
    assert hub.repo(NAME).branches["main"] == before
    ModelCard(CARD + "again\n").push_to_hub(NAME)
    assert hub.repo(NAME).read("README.md").decode().endswith("again\n")
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        ModelCard("no metadata\n").push_to_hub(NAME)


def test_a_collection_holds_each_item_once(hub):
    api = HfApi()
    hub.put(NAME, {})
    collection = api.create_collection("My models", namespace="org", description="d")
    assert api.create_collection("My models", namespace="org", exists_ok=True).slug == collection.slug
    for _ in range(2):
        api.add_collection_item(collection.slug, NAME, "model", note="the first", exists_ok=True)
    items = api.get_collection(collection.slug).items
    assert [(item.item_id, item.item_type, item.note) for item in items] == [(NAME, "model", "the first")]
    with pytest.raises(RepositoryNotFoundError):
        api.add_collection_item(collection.slug, "org/none", "model")


def test_missing_things_raise_the_classes_of_the_client(hub):
    hub.put(NAME, {"a.txt": b"a"})
    for call in (hf_hub_download, lambda name, _: snapshot_download(name), lambda name, _: HfApi().model_info(name)):
        with pytest.raises(RepositoryNotFoundError):
            call("org/none", "a.txt")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(NAME, "none.txt")
    for call in (snapshot_download, HfApi().model_info, HfApi().list_repo_files):
        with pytest.raises(RevisionNotFoundError):
            call(NAME, revision="no-such-branch")
    with pytest.raises(HfHubHTTPError, match="409"):
        huggingface_hub.create_repo(NAME)


def test_a_private_repository_looks_missing_to_others(hub):
    huggingface_hub.create_repo(NAME, visibility="private")
    for token, status in ((False, 401), (hub.stranger_token, 404)):
        with pytest.raises(RepositoryNotFoundError) as raised:
            snapshot_download(NAME, token=token)
        assert raised.value.response.status_code == status
        assert [model.id for model in hub.api(token).list_models(author="org")] == []
    assert hub.api(hub.read_token).model_info(NAME).private
    huggingface_hub.update_repo_settings(NAME, private=False)
    assert not hub.api(False).model_info(NAME).private


def test_files_of_a_gated_repository_need_a_grant(hub):
    hub.put(NAME, {"a.txt": b"a"})
    huggingface_hub.update_repo_settings(NAME, gated="manual")
    assert hub.api(False).model_info(NAME).gated == "manual"
    for token, status in ((False, 401), (hub.stranger_token, 403)):
        with pytest.raises(GatedRepoError) as raised:
            hf_hub_download(NAME, "a.txt", token=token)
        assert raised.value.response.status_code == status
        with pytest.raises(GatedRepoError):
            hub.api(token).auth_check(NAME)
    hub.repo(NAME).granted.add("stranger")
    assert Path(snapshot_download(NAME, token=hub.stranger_token), "a.txt").read_text() == "a"


def test_a_wrong_token_and_a_token_without_rights_are_refused_and_never_shown(hub, folder):
    hub.put(NAME, {"a.txt": b"a"})
    calls = (lambda api: api.create_repo("org/new"), lambda api: api.upload_folder(repo_id=NAME, folder_path=folder))
    for token in ("hf_wrongToken", hub.read_token, hub.stranger_token):
        for call in calls:
            with pytest.raises(HfHubHTTPError) as raised:
                call(hub.api(token))
            assert raised.value.response.status_code == (401 if token == "hf_wrongToken" else 403)
            assert token not in str(raised.value)
    assert list(hub.repo(NAME).commit_at("main").tree) == [".gitattributes", "a.txt"]
    assert HfApi().whoami()["name"] == "tester"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        hub.api("hf_wrongToken").whoami()
    with pytest.raises(HfHubHTTPError, match="401"):
        snapshot_download(NAME, token="hf_wrongToken")


def test_a_commit_is_made_whole_or_not_at_all(hub, folder, monkeypatch):
    before = uploaded(folder)
    monkeypatch.setattr("huggingface_hub._commit_api._upload_lfs_files", lambda **_: None)
    new = [CommitOperationAdd("b.txt", b"b"), CommitOperationAdd("c.safetensors", b"never sent")]
    with pytest.raises(BadRequestError, match="pointed to a file that does not exist"):
        HfApi().create_commit(NAME, new, commit_message="m")
    with pytest.raises(HfHubHTTPError, match="412"):
        HfApi().create_commit(NAME, new[:1], commit_message="m", parent_commit="0" * 40)
    assert hub.repo(NAME).branches["main"] == before
    assert not {"b.txt", "c.safetensors"} & hub.repo(NAME).commit_at(before).tree.keys()


@pytest.mark.parametrize("path", ["../a", "a//b", ".git/hook", "", "a/../b"])
def test_a_path_that_leaves_the_repository_is_refused_by_the_server_too(hub, monkeypatch, path):
    hub.put(NAME, {})
    before, bad = hub.repo(NAME).branches["main"], CommitOperationAdd("fine", b"a")
    bad.path_in_repo = path
    with pytest.raises(BadRequestError, match="Invalid path"):
        HfApi().create_commit(NAME, [bad], commit_message="m")
    assert hub.repo(NAME).branches["main"] == before


def test_a_deleted_repository_is_gone(hub):
    hub.put(NAME, {}, kind="dataset")
    huggingface_hub.delete_repo(NAME, repo_type="dataset")
    assert not HfApi().repo_exists(NAME, repo_type="dataset")
