"""Publish staged folders to the Hub: folds first, the ensemble at once, then its Space, its tag and its collection."""

import json
import logging
import re
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from product_relevance.ensemble.published.manifest import read_manifest
from product_relevance.hub import space
from product_relevance.utils.hub_errors import explain_errors

logger = logging.getLogger(__name__)

# A file that marks a repository as ours; files that the Hub or its owner put beside it are left alone.
MARKS = {"ensemble.json", "fold.json", "train.parquet", "relevance_f1.py", space.MODEL}
NOT_OURS = {".gitattributes"}
COLLECTION = re.compile(r"[^/\s]+/[a-z0-9-]+-[0-9a-f]{24}")


def publish_staged(
    staged: Iterable,
    *,
    private: bool = False,
    gated: str | None = None,
    tag: str | None = None,
    collection: str | None = None,
) -> dict[str, str]:
    """Publish staged folders; what is there already in the same form is not sent again.

    The ensemble's repository changes in one commit, after all others, and its `ensemble.json` pins the commits of the
    folds. So whoever loads the ensemble meanwhile, or after an upload that died, gets the one before, whole. A Space
    to try it comes after it, and pins its commit.

    Args:
        staged: from `staging.stage_run`.
        private: make the repositories private, also those that exist already.
        gated: `auto` or `manual`: readers have to ask for access.
        tag: set after the last commit on the repositories of folds, data set and ensemble; it is never moved.
        collection: title, or slug of an existing one; made in the namespace of the ensemble if needed.

    Returns:
        `org/name@branch` to the commit that now holds the staged files, in the order of their commits.

    Raises:
        ValueError: no access, no connection, a repository with other content, or a tag that is taken; in one line
            that holds no token.
    """
    from huggingface_hub import HfApi

    *others, ensemble = sorted(staged, key=lambda part: part.role == "ensemble")
    with explain_errors():
        api = HfApi()
        api.whoami()  # a wrong token ends here, before anything is made
        heads = {part: _prepare(api, part, private, gated) for part in [ensemble, *others]}
        commits = {part: _push(api, part, heads[part]) for part in others if part.role != "demo"}
        pinned = pin_commits(ensemble, commits)
        commits[ensemble] = _push(api, ensemble, heads[ensemble], {"ensemble.json": pinned})
        _verify(api, ensemble, commits[ensemble], pinned)
        for part in others:
            if part.role == "demo":
                shown = space.pin_model(ensemble.repo_id, commits[ensemble])
                commits[part] = _push(api, part, heads[part], {space.MODEL: shown})
        if tag:
            _tag(api, commits, ensemble, tag)
        if collection:
            _collect(api, [ensemble, *others], collection, private)
    return {f"{part.repo_id}@{part.branch}": commit for part, commit in commits.items()}


def pin_commits(ensemble, commits: dict) -> bytes:
    """Return `ensemble.json` with the commit of each fold's repository or branch filled in."""
    staged = read_manifest(ensemble.folder, pinned=False)
    found = {part.folder.name: commit for part, commit in commits.items() if part.role == "fold"}
    pinned = replace(staged, folds=[replace(fold, revision=found.get(fold.name)) for fold in staged.folds])
    text = json.dumps(pinned.to_json(), ensure_ascii=False, indent=2, allow_nan=False)
    return f"{text}\n".encode()


def _prepare(api, part, private: bool, gated: str | None) -> str:
    """Make the repository and its branch, closed if it shall be before anything lies in it, and return its head."""
    place = {"repo_id": part.repo_id, "repo_type": part.repo_type}
    sdk = {"metric": "static", "demo": "gradio"}.get(part.role)
    api.create_repo(**place, private=private or None, exist_ok=True, space_sdk=sdk)
    if part.branch != "main":
        api.create_branch(**place, branch=part.branch, exist_ok=True)
    head = api.repo_info(**place, revision=part.branch).sha
    there = _there(api, part, head)
    other = sorted(there - {"README.md"})
    if other and not there & MARKS:
        raise ValueError(
            f"{part.repo_id} ({part.repo_type}) holds something else already, as {other[0]}: choose another "
            "--repo_id, or empty that repository first"
        )
    found = api.repo_info(**place)
    wanted: dict[str, bool | str] = {}
    if private and not found.private:
        wanted["private"] = True
    if gated and part.repo_type != "space" and found.gated != gated:
        wanted["gated"] = gated
    if wanted:
        api.update_repo_settings(**place, **wanted)
    return head


def _there(api, part, head: str) -> set[str]:
    return set(api.list_repo_files(part.repo_id, repo_type=part.repo_type, revision=head)) - NOT_OURS


def _push(api, part, head: str, replaced: dict[str, bytes] | None = None) -> str:
    """Make the branch hold exactly the staged files, in one commit on `head` or none, and return the commit."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    place = {"repo_id": part.repo_id, "repo_type": part.repo_type}
    files = staged_files(part.folder) | (replaced or {})
    operations: list[CommitOperationAdd | CommitOperationDelete]
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    operations += [CommitOperationDelete(name) for name in sorted(_there(api, part, head) - files.keys())]
    message = f"Publish {part.folder.name}"
    # The parent keeps two people who publish at once from mixing their files.
    made = api.create_commit(
        **place, operations=operations, commit_message=message, revision=part.branch, parent_commit=head
    ).oid
    logger.info("%s@%s: %s %s", part.repo_id, part.branch, "unchanged" if made == head else "commit", made[:12])
    return made


def staged_files(folder: Path) -> dict[str, Path]:
    """Return the files of a staged folder by their names in the repository, in order."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _verify(api, ensemble, commit: str, content: bytes) -> None:
    """Read `ensemble.json` back from the Hub."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"repo_id": ensemble.repo_id, "revision": commit, "local_dir": folder}
        found = Path(api.hf_hub_download(filename="ensemble.json", **options)).read_bytes()
    if found != content:
        raise ValueError(
            f"{ensemble.repo_id}: ensemble.json at {commit[:12]} is not the one that was sent; publish again"
        )


def _tag(api, commits: dict, ensemble, tag: str) -> None:
    for part, commit in commits.items():
        if part.role == "metric" or (part.repo_id == ensemble.repo_id and part is not ensemble):
            continue  # ensembles share the metric, and the branches of a repository its tags
        place = {"repo_id": part.repo_id, "repo_type": part.repo_type}
        api.create_tag(**place, tag=tag, revision=commit, exist_ok=True)
        found = api.repo_info(**place, revision=tag).sha
        if found != commit:
            raise ValueError(
                f"{part.repo_id}: published as {commit[:12]}, but {tag} is {found[:12]} already and a tag is never "
                f"moved: choose another --tag, or take that one away with `hf repos tag delete {part.repo_id} {tag}`"
            )


def _collect(api, staged: list, collection: str, private: bool) -> None:
    slug, space = collection, staged[0].repo_id.split("/")[0]
    if not COLLECTION.fullmatch(collection):
        slug = api.create_collection(collection, namespace=space, private=private, exists_ok=True).slug
    for place in dict.fromkeys((part.repo_id, part.repo_type) for part in staged):
        api.add_collection_item(slug, *place, exists_ok=True)


def describe_plan(staged: Iterable, *, private=False, gated=None, tag=None, collection=None) -> str:
    """Return what `publish_staged` would make, as a tree with sizes; reads local files only."""
    *others, ensemble = sorted(staged, key=lambda part: part.role == "ensemble")
    kind = ("private" if private else "public") + (f", gated ({gated})" if gated else "")
    lines, total = [], 0
    for part in [*others, ensemble]:
        sizes: dict[str, int] = {}
        for name, path in staged_files(part.folder).items():
            inner = name.split("/")[0] if name.startswith(("code/", "product_relevance/")) else None
            shown = f"{inner}/ (sources of this package)" if inner else name
            sizes[shown] = sizes.get(shown, 0) + path.stat().st_size
        total += sum(sizes.values())
        lines += [f"{part.repo_id}@{part.branch}  ({part.repo_type}, {kind}; {part.role}, one commit)"]
        lines += [f"  {name:<48} {_size(size):>10}" for name, size in sizes.items()]
    repos = len({(part.repo_id, part.repo_type) for part in [*others, ensemble]})
    order = "the ensemble comes after its folds" + ", then its Space" * any(part.role == "demo" for part in others)
    lines.append(f"\n{repos} repositories, {len(others) + 1} commits at most, {_size(total)}; {order}")
    if (ensemble.folder / "taxonomy.json").is_file():
        lines.append("taxonomy.json holds the category paths of the training file; no other file holds its texts")
    if read_manifest(ensemble.folder, pinned=False).run.is_kernel:
        lines.append(
            "model.safetensors holds the vectors of the training pairs: who has the base may guess their texts"
        )
    lines += [f"then the tag {tag}"] if tag else []
    lines += [f"then the collection {collection}"] if collection else []
    return "\n".join(lines)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
