"""The test hub's routes that read: account, models, references, trees and files."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

from tests.hub.calls import API, NAME, Call, Reply, Route, as_json
from tests.hub.store import Entry, Refused, git_oid

BYTES = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}


def whoami(call: Call) -> Reply:
    user = call.member()
    token = {"displayName": "test", "role": user.role}
    return Reply(
        body=as_json(
            {
                "type": "user",
                "name": user.name,
                "fullname": user.name,
                "orgs": [{"name": name} for name in user.organisations],
                "auth": {"type": "access_token", "accessToken": token},
            }
        )
    )


def model(call: Call, name: str, revision: str | None = None) -> Reply:
    found = call.repository(name)
    info = call.hub.info(found, revision, blobs="blobs" in call.query)
    fields = call.query.get("expand")
    if fields:
        info = {key: value for key, value in info.items() if key in (*fields, "id", "_id")}
    return Reply(body=as_json(info))


def models(call: Call) -> Reply:
    user = call.user()
    shown = [
        call.hub.info(repository, None, blobs=False)
        for repository in call.hub.repositories.values()
        if not repository.private or (user is not None and user.owns(repository.id))
    ]
    shown = [info for info in shown if _wanted(call, info)]
    shown.sort(key=lambda info: info["lastModified"], reverse=True)
    return call.page(shown, int(call.query.get("limit", ["1000"])[0]))


def _wanted(call: Call, info: dict[str, Any]) -> bool:
    search = call.query.get("search", [""])[0].lower()
    author = call.query.get("author", [info["author"]])[0]
    tags = call.query.get("filter", [])
    return (
        set(tags) <= set(info["tags"]) and author == info["author"] and search in info["id"].lower()
    )


def access(call: Call, name: str, write: str = "") -> Reply:
    call.repository(name, write=bool(write), content=True)
    return Reply()


def references(call: Call, name: str) -> Reply:
    found = call.repository(name)

    def listed(table: dict[str, str], prefix: str) -> list[dict[str, str]]:
        return [{"name": n, "ref": prefix + n, "targetCommit": c} for n, c in table.items()]

    tables = {
        "branches": listed(found.branches, "refs/heads/"),
        "tags": listed(found.tags, "refs/tags/"),
        "converts": [],
        "pullRequests": [],
    }
    return Reply(body=as_json(tables))


def commits(call: Call, name: str, revision: str) -> Reply:
    found = call.repository(name)
    history, commit = [], found.commit_of(revision)
    while commit:
        made = found.commits[commit]
        history.append(
            {
                "id": made.id,
                "title": made.title,
                "message": made.message,
                "date": made.date,
                "authors": [{"user": made.author}],
            }
        )
        commit = made.parent or ""
    return call.page(history, 50)


def tree(call: Call, name: str, revision: str, folder: str = "") -> Reply:
    files = call.repository(name).files(revision)
    recursive = call.query.get("recursive", ["false"])[0].lower() == "true"
    prefix = folder.rstrip("/") + "/" if folder else ""
    items: dict[str, dict[str, Any]] = {}
    for path, entry in sorted(files.items()):
        if not path.startswith(prefix):
            continue
        parts = path[len(prefix) :].split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            above = prefix + "/".join(parts[:depth])
            items[above] = {
                "type": "directory",
                "path": above,
                "size": 0,
                "oid": git_oid(above.encode()),
            }
        if len(parts) == 1 or recursive:
            items[path] = describe(path, entry)
    if folder and not items:
        raise Refused(404, f'{folder} does not exist on "{revision}"', "EntryNotFound")
    return call.page(list(items.values()))


def describe(path: str, entry: Entry) -> dict[str, Any]:
    item: dict[str, Any] = {"type": "file", "path": path, "size": entry.size, "oid": entry.oid}
    if entry.sha256:
        item["lfs"] = {"oid": entry.sha256, "size": entry.size, "pointerSize": entry.pointer}
    return item


def paths(call: Call, name: str, revision: str) -> Reply:
    files = call.repository(name).files(revision)
    asked = parse_qs(call.body.decode()).get("paths", [])
    return Reply(body=as_json([describe(p, files[p]) for p in asked if p in files]))


def file(call: Call, name: str, revision: str, path: str) -> Reply:
    found = call.repository(name, content=True)
    commit = found.commit_of(revision)
    entry = found.files(commit).get(path)
    headers = {"X-Repo-Commit": commit}
    if entry is None:
        headers |= {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        return Reply(404, as_json({"error": "Entry not found"}), headers)
    if entry.sha256 is None:
        return content(call, entry.key, headers)
    headers |= {"X-Linked-Etag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    if not call.hub.redirects:  # the client follows redirects within a host and loses the commit
        return content(call, entry.key, headers)
    place = f"http://localhost:{call.hub.port}/_lfs/{entry.sha256}"
    return Reply(302, b"", {**headers, "ETag": f'"{entry.oid}"', "Location": place})


def stored(call: Call, key: str) -> Reply:
    """Serve an LFS object, as a store that has nothing to do with the hub's users."""
    if call.headers.get("Authorization"):
        raise Refused(400, "a token was sent to the object store")
    return content(call, key, {})


def content(call: Call, key: str, headers: dict[str, str]) -> Reply:
    data = call.hub.blobs.get(key)
    if data is None:
        raise Refused(404, "no such object")
    headers = {**BYTES, **headers, "ETag": f'"{key}"'}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", call.headers.get("Range", ""))
    if asked is None:
        return Reply(200, data, headers)
    first, last = int(asked[1]), int(asked[2] or len(data) - 1)
    headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    return Reply(206, data[first : last + 1], headers)


REVISION = r"(?P<revision>[^/]+)"
ROUTES = (
    Route("GET", "/api/whoami-v2", whoami, "whoami"),
    Route("GET", "/api/models", models, "models"),
    Route("GET HEAD", API, model, "info"),
    Route("GET HEAD", f"{API}/revision/(?P<revision>.+)", model, "info"),
    Route("GET", f"{API}/auth-check(?P<write>/write)?", access, "access"),
    Route("GET", f"{API}/refs", references, "refs"),
    Route("GET", f"{API}/commits/{REVISION}", commits, "commits"),
    Route("GET", f"{API}/tree/{REVISION}(/(?P<folder>.+))?", tree, "tree"),
    Route("POST", f"{API}/paths-info/{REVISION}", paths, "paths"),
    Route("GET HEAD", f"{NAME}/resolve/{REVISION}/(?P<path>.+)", file, "file"),
    Route("GET HEAD", "/_lfs/(?P<key>[0-9a-f]{64})", stored, "file"),
)
