"""What the loopback Hub stores: repositories with their commits, branches, tags and files, without any HTTP."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath

import yaml

LARGE = 10_000_000  # bytes; above it, or with one of these endings, a file goes to large-file storage
LFS_ENDINGS = (".safetensors", ".parquet", ".png", ".bin", ".pt", ".pkl", ".gguf", ".zip", ".npy")
ATTRIBUTES = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LFS_ENDINGS).encode()
PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}


class Refused(Exception):
    """An answer that is an error: status, X-Error-Code (or None), message, and further fields of the body."""

    def __init__(self, status: int, code: str | None, message: str, **body):
        super().__init__(message)
        self.status, self.code, self.message, self.body = status, code, message, body


@dataclass(frozen=True)
class File:
    """A file of a commit: git's id of what git holds (for LFS, of its pointer), size in bytes, sha256 if LFS."""

    oid: str
    size: int
    sha256: str | None = None

    @property
    def key(self) -> str:
        """The id under which the bytes lie, which is also the ETag and what preupload names as `oid`."""
        return self.sha256 or self.oid


@dataclass
class Commit:
    """A commit: its id, its parent's id (None for the first), its files by path, and its message."""

    id: str
    parent: str | None
    tree: dict[str, File]
    title: str
    message: str
    date: str


def now() -> str:
    """The time as the Hub writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def git_oid(content: bytes) -> str:
    """Git's id of a file's bytes."""
    return hashlib.sha1(b"blob %d\0%b" % (len(content), content)).hexdigest()


def lfs_file(sha256: str, size: int) -> File:
    """The file that stands for a large one."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
    return File(git_oid(pointer.encode()), size, sha256)


def is_large(path: str, size: int) -> bool:
    """Whether the Hub would ask for a file to go to large-file storage; it never does so for an empty file."""
    return size > LARGE or (size > 0 and path.endswith(LFS_ENDINGS))


def checked_path(path: str) -> str:
    """Refuse a path that git could not hold or that leaves the repository."""
    parts = path.split("/")
    if not path or path.startswith("/") or any(part in ("", ".", "..", ".git") for part in parts):
        raise Refused(400, None, f"Invalid path in repo: {path!r}")
    return path


def metadata_of(content: str) -> dict:
    """The YAML block of a card; ValueError when it is not a mapping or not YAML."""
    if not content.startswith("---\n"):
        return {}
    block, mark, _ = content.removeprefix("---\n").partition("\n---")
    try:
        metadata = yaml.safe_load(block) if mark else None
    except yaml.YAMLError as error:
        raise ValueError(f"bad YAML: {error}") from error
    if not isinstance(metadata, dict):
        raise ValueError("the metadata must be a mapping between two lines of ---")
    return metadata


def card_errors(content: str) -> list[str]:
    """What is wrong with a card: YAML, types of the usual fields, and the form of `model-index`."""
    try:
        metadata = metadata_of(content)
    except ValueError as error:
        return [str(error)]
    texts = ("license", "library_name", "pipeline_tag", "base_model_relation")
    wrong = [f'"{name}" must be a string' for name in texts if not isinstance(metadata.get(name, ""), str)]
    lists = ("tags", "language", "datasets", "metrics", "base_model")
    for name in lists:
        values = metadata.get(name, [])
        values = values if isinstance(values, list) else [values]
        wrong += [f'"{name}" must hold strings, found {value!r}' for value in values if not isinstance(value, str)]
    return wrong + index_errors(metadata.get("model-index", []))


def index_errors(index) -> list[str]:
    """What is missing in `model-index`: every result needs a task, a data set and metrics with values."""
    if not isinstance(index, list):
        return ['"model-index" must be an array']
    wrong = []
    for number, model in enumerate(index):
        if not isinstance(model, dict) or not model.get("name"):
            wrong.append(f'"model-index[{number}].name" is required')
            continue
        for place, result in enumerate(model.get("results", [])):
            where, data = f"model-index[{number}].results[{place}]", result.get("dataset", {})
            needed = {"task.type": result.get("task", {}).get("type"), "dataset.type": data.get("type")}
            needed |= {"dataset.name": data.get("name"), "metrics": result.get("metrics")}
            wrong += [f'"{where}.{name}" is required' for name, value in needed.items() if not value]
            metrics = result.get("metrics") or []
            wrong += [f'"{where}.metrics" needs type and value' for m in metrics if not m.keys() >= {"type", "value"}]
    return wrong


@dataclass
class Repo:
    """A repository of the loopback Hub; `stored` is the Hub's store of bytes, shared by all repositories."""

    kind: str
    id: str
    stored: dict[str, bytes]
    private: bool = False
    gated: str | bool = False
    granted: set[str] = field(default_factory=set)
    uploaded: dict[str, int] = field(default_factory=dict)  # sha256 -> bytes
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        # As on the Hub, a new repository has one commit, so that it can be tagged and branched at once.
        self._append("main", None, {".gitattributes": self.hold(ATTRIBUTES)}, "initial commit", "")

    def hold(self, content: bytes) -> File:
        """Keep the bytes of a regular file."""
        file = File(git_oid(content), len(content))
        self.stored[file.key] = content
        return file

    def commit_at(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a full id or a `refs/...` name means."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        found = self.branches.get(name) or self.tags.get(name) or revision
        if found not in self.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[found]

    def file_at(self, revision: str, path: str) -> tuple[Commit, File]:
        """A file of a revision, with the commit."""
        commit = self.commit_at(revision)
        if path not in commit.tree:
            raise Refused(404, "EntryNotFound", f"{path} does not exist on {revision!r}", commit=commit.id)
        return commit, commit.tree[path]

    def history(self, revision: str) -> list[Commit]:
        """Commits of a revision, newest first."""
        commits, at = [], self.commit_at(revision).id
        while at:
            commits.append(self.commits[at])
            at = commits[-1].parent
        return commits

    def commit(self, branch: str, lines: list[dict]) -> Commit:
        """Add one commit to a branch from the lines of the client's ndjson, or nothing at all."""
        if branch not in self.branches:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {branch}")
        header, head = lines[0]["value"], self.branches[branch]
        if header.get("parentCommit") not in (None, head):
            raise Refused(412, None, "A commit has happened since. Please refresh and try again.")
        tree = dict(self.commits[head].tree)
        for line in lines[1:]:
            self._apply(tree, line["key"], line["value"])
        return self._append(branch, head, tree, header["summary"], header.get("description", ""))

    def _apply(self, tree: dict[str, File], key: str, value: dict) -> None:
        path = checked_path(value["path"])
        if key == "file":
            content = base64.b64decode(value["content"], validate=True)
            if is_large(path, len(content)):
                raise Refused(400, None, f"{path}: a large file must be sent to large-file storage")
            if path == "README.md" and (wrong := card_errors(content.decode("utf-8"))):
                raise Refused(400, None, f"Invalid metadata in README.md: {'; '.join(wrong)}")
            tree[path] = self.hold(content)
        elif key == "lfsFile":
            if value["oid"] not in self.uploaded or value.get("size") not in (None, self.uploaded[value["oid"]]):
                raise Refused(400, None, f"{path}: an LFS pointer pointed to a file that does not exist")
            tree[path] = lfs_file(value["oid"], self.uploaded[value["oid"]])
        elif key in ("deletedFile", "deletedFolder"):
            gone = [name for name in tree if name == path or name.startswith(path.rstrip("/") + "/")]
            if not gone:
                raise Refused(404, "EntryNotFound", f"{path} does not exist")
            for name in gone:
                del tree[name]
        else:
            raise Refused(400, None, f"unknown operation {key!r}")

    def _append(self, branch: str, parent: str | None, tree: dict[str, File], title: str, message: str) -> Commit:
        # The repository is part of the id: the same files in two repositories must not have the same commit.
        known = [self.kind, self.id, parent, title, sorted((path, file.key) for path, file in tree.items())]
        name = hashlib.sha1(json.dumps(known).encode()).hexdigest()
        commit = self.commits.setdefault(name, Commit(name, parent, tree, title, message, now()))
        self.branches[branch] = name
        return commit

    def put(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Commit files from inside the Hub, without any check of their names; returns the commit's id."""
        tree = dict(self.commit_at(branch).tree)
        for path, content in files.items():
            if is_large(path, len(content)):
                sha256 = hashlib.sha256(content).hexdigest()
                self.stored[sha256] = content
                self.uploaded[sha256] = len(content)
                tree[path] = lfs_file(sha256, len(content))
            else:
                tree[path] = self.hold(content)
        return self._append(branch, self.branches[branch], tree, "put", "").id

    def read(self, path: str, revision: str = "main") -> bytes:
        """Bytes of a file."""
        return self.stored[self.file_at(revision, path)[1].key]

    def entries(self, revision: str, folder: str = "", recursive: bool = False) -> list[dict]:
        """Files and folders as `tree` and `paths-info` list them."""
        tree = self.commit_at(revision).tree
        prefix = f"{folder}/" if folder else ""
        below = {path: file for path, file in tree.items() if path.startswith(prefix)}
        if folder and not below:
            raise Refused(404, "EntryNotFound", f"{folder} does not exist on {revision!r}")
        folders = {str(parent) for path in below for parent in PurePosixPath(path).parents} - {"."}
        folders = {name for name in folders if name.startswith(prefix)}
        found = [{"type": "directory", "oid": git_oid(name.encode()), "size": 0, "path": name} for name in folders]
        found += [entry_of(path, file) for path, file in below.items()]
        wanted = [entry for entry in found if recursive or "/" not in entry["path"][len(prefix) :]]
        return sorted(wanted, key=lambda entry: entry["path"])

    def info(self, revision: str, blobs: bool = False) -> dict:
        """The description of the repository at a revision."""
        commit, history = self.commit_at(revision), self.history(revision)
        card = metadata_of(self.read("README.md", revision).decode()) if "README.md" in commit.tree else {}
        siblings = []
        for path, file in commit.tree.items():
            lfs = {"sha256": file.sha256, "size": file.size, "pointerSize": 134} if file.sha256 else None
            more = {"size": file.size, "blobId": file.oid, "lfs": lfs} if blobs else {}
            siblings.append({"rfilename": path} | more)
        known = {"_id": self.id, "id": self.id, "modelId": self.id, "author": self.id.split("/")[0], "sha": commit.id}
        known |= {"private": self.private, "gated": self.gated, "disabled": False, "downloads": 0, "likes": 0}
        known |= {"createdAt": history[-1].date, "lastModified": commit.date, "siblings": siblings, "cardData": card}
        return known | {name: card.get(name) for name in ("tags", "pipeline_tag", "library_name")}


def entry_of(path: str, file: File) -> dict:
    """A file as `tree` lists it."""
    entry = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
    if file.sha256:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
    return entry
