"""The endpoints of the loopback Hub: each takes the hub, a request and the parts of its path, and gives an answer."""

import hashlib
import json
import re
import time
from urllib.parse import parse_qs, unquote

from tests.hub.loopback.answers import Answer, Request, as_json, content, is_member, repo_of
from tests.hub.loopback.repos import PREFIX, Refused, Repo, card_errors, entry_of, is_large, metadata_of, now


def whoami(hub, request: Request) -> Answer:
    if request.user is None:
        raise Refused(401, None, "Invalid username or password.")
    token = {"displayName": "loopback", "role": "write" if request.may_write else "read"}
    auth = {"type": "access_token", "accessToken": token}
    return as_json({"type": "user", "id": request.user, "name": request.user, "orgs": [], "auth": auth})


def create(hub, request: Request) -> Answer:
    asked = request.json()
    kind, space = asked.get("type") or "model", asked.get("organization") or request.user
    if not (is_member(request.user, space) and request.may_write):
        message = f'You don\'t have the rights to create a {kind} under the namespace "{space}"'
        raise Refused(403 if request.user else 401, None, message)
    name = f"{space}/{asked['name']}"
    url = f"{hub.url}/{PREFIX[kind]}{name}"
    if (kind, name) in hub.repos:
        raise Refused(409, None, f"You already created this {kind} repo", url=url)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    hub.repos[kind, name] = Repo(kind, name, hub.stored, private=private)
    return as_json({"url": url, "name": name})


def delete(hub, request: Request) -> Answer:
    asked = request.json()
    kind, space = asked.get("type") or "model", asked.get("organization") or request.user
    repo = repo_of(hub, request, kind, space, asked["name"], write=True)
    del hub.repos[kind, repo.id]
    return Answer()


def validate_yaml(hub, request: Request) -> Answer:
    text = request.json()["content"]
    wrong = [{"message": message} for message in card_errors(text)]
    empty = not wrong and not metadata_of(text)
    warnings = [{"message": "empty or missing yaml metadata in repo card"}] if empty else []
    return as_json({"errors": wrong, "warnings": warnings}, 400 if wrong else 200)


def listing(hub, request: Request, kind: str) -> Answer:
    author, search = (request.query.get(name, [""])[0] for name in ("author", "search"))
    repos = [repo for (of, _), repo in sorted(hub.repos.items()) if of == kind and search in repo.id]
    seen = [repo for repo in repos if not repo.private or is_member(request.user, repo.id.split("/")[0])]
    return as_json([repo.info("main") for repo in seen if not author or repo.id.startswith(f"{author}/")])


def info(hub, request: Request, kind: str, space: str, name: str, revision: str = "main") -> Answer:
    repo = repo_of(hub, request, kind, space, name)
    return as_json(repo.info(revision, request.flag("blobs")))


def auth_check(hub, request: Request, kind: str, space: str, name: str, write: str | None) -> Answer:
    repo_of(hub, request, kind, space, name, write=bool(write), files=True)
    return Answer()


def tree(hub, request: Request, kind: str, space: str, name: str, revision: str, folder: str | None) -> Answer:
    repo = repo_of(hub, request, kind, space, name)
    return as_json(hub.with_xet(repo.entries(revision, folder or "", request.flag("recursive"))))


def paths_info(hub, request: Request, kind: str, space: str, name: str, revision: str) -> Answer:
    repo = repo_of(hub, request, kind, space, name)
    wanted = parse_qs(request.body.decode()).get("paths", [])
    return as_json(hub.with_xet([e for e in repo.entries(revision, recursive=True) if e["path"] in wanted]))


def refs(hub, request: Request, kind: str, space: str, name: str) -> Answer:
    repo = repo_of(hub, request, kind, space, name)
    groups = {"branches": ("heads", repo.branches), "tags": ("tags", repo.tags)}
    listed = {
        group: [{"name": ref, "ref": f"refs/{folder}/{ref}", "targetCommit": at} for ref, at in sorted(found.items())]
        for group, (folder, found) in groups.items()
    }
    return as_json(listed | {"converts": [], "pullRequests": []})


def commits(hub, request: Request, kind: str, space: str, name: str, revision: str) -> Answer:
    history = repo_of(hub, request, kind, space, name).history(revision)
    known = [{"id": c.id, "title": c.title, "message": c.message, "date": c.date} for c in history]
    return as_json([commit | {"authors": [{"user": "tester"}]} for commit in known])


def preupload(hub, request: Request, kind: str, space: str, name: str, revision: str) -> Answer:
    there = repo_of(hub, request, kind, space, name, write=True).commit_at(revision).tree
    files = []
    for asked in request.json()["files"]:
        path = asked["path"]
        mode, known = "lfs" if is_large(path, asked["size"]) else "regular", there.get(path)
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": known.key if known else None})
    return as_json({"files": files})


def commit(hub, request: Request, kind: str, space: str, name: str, branch: str) -> Answer:
    repo = repo_of(hub, request, kind, space, name, write=True)
    lines = [json.loads(line) for line in request.body.splitlines() if line]
    hub.admit_xet(repo)
    made = repo.commit(branch, lines)
    return as_json({"success": True, "commitOid": made.id, "commitUrl": f"{hub.url}/{repo.id}/commit/{made.id}"})


def lfs_batch(hub, request: Request, kind: str, space: str, name: str) -> Answer:
    repo = repo_of(hub, request, kind, space, name, write=True)
    objects = []
    for asked in request.json()["objects"]:
        oid, size = asked["oid"], asked["size"]
        known = {"oid": oid, "size": size}
        if oid not in repo.uploaded:
            place = f"{hub.storage}/upload/{oid}/{size}"
            verify = f"{hub.url}/{PREFIX[kind]}{repo.id}.git/info/lfs/objects/verify"
            known["actions"] = {"upload": {"href": place}, "verify": {"href": verify}}
        objects.append(known)
    return as_json({"transfer": "basic", "objects": objects})


def lfs_verify(hub, request: Request, kind: str, space: str, name: str) -> Answer:
    repo, asked = repo_of(hub, request, kind, space, name, write=True), request.json()
    if len(hub.stored.get(asked["oid"], b"")) != asked["size"]:
        raise Refused(404, None, f"no object {asked['oid']} of {asked['size']} bytes was uploaded")
    repo.uploaded[asked["oid"]] = asked["size"]
    return as_json({})


def upload(hub, request: Request, oid: str, size: str) -> Answer:
    found = hashlib.sha256(request.body).hexdigest()
    if (found, len(request.body)) != (oid, int(size)):
        raise Refused(400, None, f"expected {size} bytes of sha256 {oid}, found {len(request.body)} of {found}")
    hub.stored[oid] = request.body
    return Answer(headers={"ETag": f'"{oid}"'})


def stored(hub, request: Request, oid: str) -> Answer:
    if oid not in hub.stored:
        raise Refused(404, None, "no such object")
    return content(request, hub.stored[oid], {"ETag": f'"{oid}"'})


def resolve(hub, request: Request, kind: str, space: str, name: str, revision: str, path: str) -> Answer:
    repo = repo_of(hub, request, kind, space, name, files=True)
    at, file = repo.file_at(revision, path)
    headers = {"X-Repo-Commit": at.id, "ETag": f'"{file.key}"'}
    if not file.sha256:
        return content(request, hub.stored[file.key], headers)
    linked = {"X-Linked-Etag": f'"{file.key}"', "X-Linked-Size": str(file.size)}
    xet = hub.with_xet([entry_of(path, file)])[0].get("xetHash")
    if xet:
        route = f"{hub.url}/api/{kind}s/{repo.id}/xet-read-token/{at.id}"
        linked |= {"X-Xet-Hash": xet, "X-Xet-Refresh-Route": route}
    return Answer(b"", 302, headers | linked | {"Location": f"{hub.storage}/objects/{file.sha256}"})


def branch(hub, request: Request, kind: str, space: str, name: str, ref: str) -> Answer:
    repo = repo_of(hub, request, kind, space, name, write=True)
    if request.method == "DELETE":
        return drop_ref(repo.branches, ref)
    if ref in repo.branches:
        raise Refused(409, None, f"Reference already exists: {ref}")
    repo.branches[ref] = repo.commit_at(request.json().get("startingPoint", "main")).id
    return as_json({})


def tag(hub, request: Request, kind: str, space: str, name: str, revision: str) -> Answer:
    repo = repo_of(hub, request, kind, space, name, write=True)
    if request.method == "DELETE":
        return drop_ref(repo.tags, revision)
    asked = request.json()["tag"]
    if asked in repo.tags:
        raise Refused(409, None, f"Tag reference exists already: {asked}")
    repo.tags[asked] = repo.commit_at(revision).id
    return as_json({})


def drop_ref(known: dict[str, str], ref: str) -> Answer:
    """Take a branch or a tag away; never `main`."""
    if ref == "main":
        raise Refused(400, None, "The main branch cannot be deleted")
    if ref not in known:
        raise Refused(404, "RevisionNotFound", f"Invalid rev id: {ref}")
    del known[ref]
    return Answer()


def settings(hub, request: Request, kind: str, space: str, name: str) -> Answer:
    repo, asked = repo_of(hub, request, kind, space, name, write=True), request.json()
    repo.gated = asked.get("gated", repo.gated)
    if "visibility" in asked or "private" in asked:
        repo.private = asked.get("visibility") == "private" or bool(asked.get("private"))
    return as_json({})


def create_collection(hub, request: Request) -> Answer:
    asked = request.json()
    if not (is_member(request.user, asked["namespace"]) and request.may_write):
        raise Refused(403 if request.user else 401, None, f"no write access to {asked['namespace']}")
    words = re.sub(r"[^a-z0-9]+", "-", asked["title"].lower()).strip("-")
    slug = f"{asked['namespace']}/{words}-{hashlib.sha1(asked['title'].encode()).hexdigest()[:24]}"
    if slug in hub.collections:
        raise Refused(409, None, "This collection already exists", slug=slug)
    known = {"slug": slug, "title": asked["title"], "description": asked.get("description"), "items": []}
    known |= {"private": bool(asked.get("private")), "owner": {"name": asked["namespace"]}, "lastUpdated": now()}
    hub.collections[slug] = known | {"position": 0, "theme": "blue", "upvotes": 0}
    return as_json(hub.collections[slug])


def collection(hub, request: Request, slug: str, items: str | None) -> Answer:
    known = hub.collections.get(slug)
    if known is None or (known["private"] and not is_member(request.user, slug.split("/")[0])):
        raise Refused(404 if request.user else 401, None, "Collection not found")
    if not items:
        return as_json(known)
    if not (is_member(request.user, slug.split("/")[0]) and request.may_write):
        raise Refused(403, None, f"no write access to {slug}")
    asked = request.json()
    new = {"id": asked["item"]["id"], "type": asked["item"]["type"]}
    if any(new.items() <= item.items() for item in known["items"]):
        raise Refused(409, None, "This item is already in the collection")
    repo_of(hub, request, new["type"], *new["id"].split("/"))
    note, place = asked.get("note"), len(known["items"])
    known["items"].append(new | {"_id": f"{place:024x}", "position": place, "note": {"text": note} if note else None})
    return as_json(known)


def xet_token(hub, request: Request, kind: str, space: str, name: str, access: str, revision: str) -> Answer:
    repo_of(hub, request, kind, space, name, write=access == "write", files=True)
    if hub.xet is None:
        raise Refused(404, None, "this loopback Hub has no Xet storage")
    url, until = f"local://{hub.xet}", int(time.time()) + 3600
    answer = as_json({"casUrl": url, "exp": until, "accessToken": "xet"})
    names = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(until)}
    return Answer(answer.body, 200, answer.headers | names)


T = r"/api/(model|dataset|space)s/([^/]+)/([^/]+)"
GIT = r"/(?:(dataset|space)s/)?([^/]+)/([^/]+?)\.git/info/lfs/objects"
ROUTES = [
    ("GET", r"/api/whoami-v2", whoami),
    ("POST", r"/api/repos/create", create),
    ("DELETE", r"/api/repos/delete", delete),
    ("POST", r"/api/validate-yaml", validate_yaml),
    ("GET", r"/api/(model|dataset|space)s", listing),
    ("GET", T, info),
    ("GET", T + r"/revision/([^/]+)", info),
    ("GET", T + r"/auth-check(/write)?", auth_check),
    ("GET", T + r"/tree/([^/]+)(?:/(.+))?", tree),
    ("POST", T + r"/paths-info/([^/]+)", paths_info),
    ("GET", T + r"/refs", refs),
    ("GET", T + r"/commits/([^/]+)", commits),
    ("POST", T + r"/preupload/([^/]+)", preupload),
    ("POST", T + r"/commit/([^/]+)", commit),
    ("POST|DELETE", T + r"/branch/([^/]+)", branch),
    ("POST|DELETE", T + r"/tag/([^/]+)", tag),
    ("PUT", T + r"/settings", settings),
    ("GET", T + r"/xet-(read|write)-token/([^/]+)", xet_token),
    ("POST", GIT + r"/batch", lfs_batch),
    ("POST", GIT + r"/verify", lfs_verify),
    ("GET|HEAD", r"/(?:(dataset|space)s/)?([^/]+)/([^/]+)/resolve/([^/]+)/(.+)", resolve),
    ("POST", r"/api/collections", create_collection),
    ("GET|POST", r"/api/collections/([^/]+/[^/]+)(/items)?", collection),
]
STORAGE = [("PUT", r"/upload/([0-9a-f]{64})/(\d+)", upload), ("GET|HEAD", r"/objects/([0-9a-f]{64})", stored)]


def answer(hub, request: Request, routes: list) -> Answer:
    """Find the endpoint of a request and let it answer."""
    for methods, pattern, endpoint in routes:
        match = re.fullmatch(pattern, request.path)
        if match and request.method in methods.split("|"):
            parts = [unquote(part) if part else part for part in match.groups()]
            if endpoint in (resolve, lfs_batch, lfs_verify):
                parts[0] = parts[0] or "model"
            return endpoint(hub, request, *parts)
    raise Refused(404, None, f"the loopback Hub has no {request.method} {request.path}")
