"""Publish staged folders to the Hub: folds first, the ensemble last and at once, then its tag and its collection."""

import json
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger(__name__)

# A file that tells a repository of ours; files that the Hub or its owner put beside it are left alone.
MARKS = {"ensemble.json", "fold.json", "train.parquet", "relevance_f1.py"}
NOT_OURS = {".gitattributes"}
COLLECTION = re.compile(r"[^/\s]+/[a-z0-9-]+-[0-9a-f]{24}")
TOKEN = re.compile(r"\bhf_\w+")
LOGIN = "set HF_TOKEN, or run `hf auth login`, with a token that may write"


def publish(
    staged: Iterable,
    *,
    private: bool = False,
    gated: str | None = None,
    tag: str | None = None,
    collection: str | None = None,
) -> dict[str, str]:
    """Publish staged folders; what is there already in the same form is not sent again.

    The ensemble's repository changes in one commit, after all others, and its `ensemble.json` pins the commits of the
    folds. So whoever loads the ensemble meanwhile, or after an upload that died, gets the one before, whole.

    Args:
        staged: from `staging.stage`.
        private: make the repositories private, also those that exist already.
        gated: `auto` or `manual`: readers have to ask for access.
        tag: set after the last commit on the repositories of folds, data set and ensemble; it is never moved.
        collection: title, or slug of an existing one; made in the namespace of the ensemble if needed.

    Returns:
        `org/name@branch` to the commit that now holds the staged files, the ensemble last.

    Raises:
        ValueError: no access, no connection, a repository with other content, or a tag that is taken; in one line
            that holds no token.
    """
    from huggingface_hub import HfApi

    *others, ensemble = sorted(staged, key=lambda part: part.role == "ensemble")
    with explained():
        api = HfApi()
        api.whoami()  # a wrong token is told before anything is made
        heads = {part: _prepare(api, part, private, gated) for part in [ensemble, *others]}
        commits = {part: _push(api, part, heads[part]) for part in others}
        pinned = pin(ensemble, commits)
        commits[ensemble] = _push(api, ensemble, heads[ensemble], {"ensemble.json": pinned})
        _verify(api, ensemble, commits[ensemble], pinned)
        if tag:
            _tag(api, commits, ensemble, tag)
        if collection:
            _collect(api, [ensemble, *others], collection, private)
    return {f"{part.repo_id}@{part.branch}": commit for part, commit in commits.items()}


def pin(ensemble, commits: dict) -> bytes:
    """Return `ensemble.json` with the commit of each fold's repository or branch filled in."""
    manifest = json.loads((ensemble.folder / "ensemble.json").read_text(encoding="utf-8"))
    found = {part.folder.name: commit for part, commit in commits.items() if part.role == "fold"}
    for fold in manifest["folds"]:
        fold["revision"] = found.get(fold["name"])
    text = json.dumps(manifest, ensure_ascii=False, indent=2, allow_nan=False)
    return f"{text}\n".encode()


def _prepare(api, part, private: bool, gated: str | None) -> str:
    """Make the repository and its branch, closed if it shall be before anything lies in it, and return its head."""
    place = {"repo_id": part.repo_id, "repo_type": part.repo_type}
    sdk = "static" if part.repo_type == "space" else None
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
    found, wanted = api.repo_info(**place), {}
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


def plan(staged: Iterable, *, private=False, gated=None, tag=None, collection=None) -> str:
    """Return what `publish` would make, as a tree with sizes; reads local files only."""
    *others, ensemble = sorted(staged, key=lambda part: part.role == "ensemble")
    kind = ("private" if private else "public") + (f", gated ({gated})" if gated else "")
    lines, total = [], 0
    for part in [*others, ensemble]:
        sizes = {}
        for name, path in staged_files(part.folder).items():
            shown = "code/ (sources of this package)" if name.startswith("code/") else name
            sizes[shown] = sizes.get(shown, 0) + path.stat().st_size
        total += sum(sizes.values())
        lines += [f"{part.repo_id}@{part.branch}  ({part.repo_type}, {kind}; {part.role}, one commit)"]
        lines += [f"  {name:<48} {_size(size):>10}" for name, size in sizes.items()]
    repos = len({(part.repo_id, part.repo_type) for part in [*others, ensemble]})
    lines.append(f"\n{repos} repositories, {len(others) + 1} commits at most, {_size(total)}; the ensemble comes last")
    if (ensemble.folder / "taxonomy.json").is_file():
        lines.append("taxonomy.json holds the category paths of the training file; no other file holds its texts")
    lines += [f"then the tag {tag}"] if tag else []
    lines += [f"then the collection {collection}"] if collection else []
    return "\n".join(lines)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


@contextmanager
def offline(wanted: bool) -> Iterator[None]:
    """Keep the client from any connection inside the block, if `wanted`; what is in its cache can be used."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def explained() -> Iterator[None]:
    """Turn the client's errors inside the block into a ValueError of one clear line.

    Raises:
        ValueError: from `explain`.
    """
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except (HTTPError, OSError, RuntimeError) as error:  # hf_xet raises RuntimeError
        raise ValueError(explain(error)) from None


def explain(error: BaseException) -> str:
    """Say in one line what an error of the Hub's client means and what to do; never shows a token.

    Args:
        error: raised by huggingface_hub.
    """
    from huggingface_hub import errors

    if isinstance(error, RuntimeError) and isinstance(error.__cause__, errors.HTTPError):
        error = error.__cause__  # of one file's upload; the client only names the file
    what = getattr(error, "repo_id", None) or _place_of(error) or "the Hub"
    told = {
        errors.LocalTokenNotFoundError: f"no token: {LOGIN}",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set, so nothing can be asked of the Hub: unset it",
        errors.LocalEntryNotFoundError: "not in the cache of this machine, and the Hub was not reached: check the "
        "connection and HF_HUB_OFFLINE",
        errors.GatedRepoError: f"{what} is gated: ask for access on its page, with the account of your token",
        errors.RevisionNotFoundError: f"{what} has no such revision: check the branch, tag or commit",
        errors.RemoteEntryNotFoundError: f"{what} has no such file: {_first_line(error)}",
        errors.RepositoryNotFoundError: f"{what}: no such repository, or it is private and your token may not read "
        f"it: check the name, or {LOGIN}",
    }
    known = next((text for kind, text in told.items() if isinstance(error, kind)), None)
    if known is None and isinstance(error, errors.HfHubHTTPError):
        known = _explain_status(error, what)
    if known is None and isinstance(error, errors.HTTPError | ConnectionError):
        known = f"the Hub was not reached ({type(error).__name__}): check the connection; the same command goes on"
    if known is None and isinstance(error, RuntimeError):
        known = f"the upload failed ({_first_line(error)}): run the same command again, it goes on where it stopped"
    return scrub(known or f"{type(error).__name__}: {_first_line(error)}")


def _explain_status(error, what: str) -> str:
    status = error.response.status_code
    said = _first_line(error)
    known = {
        401: f"the Hub does not accept the token (wrong or expired): {LOGIN}",
        403: f"your token may not write to {what}: check that the namespace is right and the token has the role write",
        404: f"{what} was not found: {said}",
        409: f"{what} is taken, or is being changed at this moment: {said}",
        412: f"{what} was changed by someone else at this moment: look at it, then run the same command again",
        429: "the Hub asks for fewer requests: wait some minutes, then run the same command again",
    }
    if status >= 500:
        return f"the Hub failed ({status}) at {what}: run the same command again, it goes on where it stopped"
    return known.get(status, f"the Hub refused the request for {what} ({status}): {said}")


def _place_of(error) -> str | None:
    """Return the repository that the address of a failed request names."""
    response = getattr(error, "response", None)
    path = "" if response is None else response.url.path
    found = re.match(r"/api/(?:models|datasets|spaces)/([^/]+/[^/]+)", path)
    return found.group(1) if found else None


def _first_line(error) -> str:
    said = getattr(error, "server_message", None) or str(error)
    return next((line.strip() for line in said.splitlines() if line.strip()), type(error).__name__)


def scrub(text: str) -> str:
    """Take every token out of a text: words that begin with `hf_`, and the one in use whatever its form."""
    from huggingface_hub import get_token

    try:
        used = get_token()
    except (OSError, ValueError):  # a broken login must not hide the message
        used = None
    return TOKEN.sub("hf_***", text.replace(used, "hf_***") if used else text)
