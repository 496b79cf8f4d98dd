"""The test hub's routes that write: repositories, references, LFS objects and commits."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import yaml

from tests.hub.calls import API, NAME, Call, Reply, Route, as_json
from tests.hub.store import Refused, Repository, front_matter

STALE = "A commit has happened since. Please refresh and try again."


def create(call: Call) -> Reply:
    user, asked = call.member(), call.json()
    name = f"{asked.get('organization') or user.name}/{asked['name']}"
    if not user.owns(name) or user.role != "write":
        raise Refused(403, "You don't have the rights to create a model under this namespace")
    if name in call.hub.repositories:
        message = "You already created this model repo"
        body = {"error": message, "url": f"{call.base}/{name}"}
        raise Refused(409, message, body=body)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    call.hub.repositories[name] = Repository(name, private, user.name)
    return Reply(body=as_json({"url": f"{call.base}/{name}", "name": name, "id": name}))


def delete(call: Call) -> Reply:
    user, asked = call.member(), call.json()
    name = f"{asked.get('organization') or user.name}/{asked['name']}"
    call.repository(name, write=True)
    del call.hub.repositories[name]
    return Reply()


def settings(call: Call, name: str) -> Reply:
    found, asked = call.repository(name, write=True), call.json()
    if "visibility" in asked:
        found.private = asked["visibility"] == "private"
    if "gated" in asked:
        found.gated = bool(asked["gated"])
    return Reply(body=as_json({"private": found.private, "gated": found.gated}))


def branch(call: Call, name: str, reference: str) -> Reply:
    found = call.repository(name, write=True)
    if call.method == "DELETE":
        return _forget(found.branches, reference)
    if reference in found.branches:
        raise Refused(409, f"Reference refs/heads/{reference} already exists.")
    found.branches[reference] = found.commit_of(call.json().get("startingPoint"))
    return Reply()


def tag(call: Call, name: str, reference: str) -> Reply:
    found = call.repository(name, write=True)
    if call.method == "DELETE":
        return _forget(found.tags, reference)
    wanted = call.json()["tag"]
    if wanted in found.tags:
        raise Refused(409, "Tag reference exists already.")
    found.tags[wanted] = found.commit_of(reference)
    return Reply()


def _forget(table: dict[str, str], reference: str) -> Reply:
    if table.pop(reference, None) is None:
        raise Refused(404, f"Invalid rev id: {reference}", "RevisionNotFound")
    return Reply()


def check_card(call: Call) -> Reply:
    try:
        card = front_matter(call.json()["content"])
    except yaml.YAMLError as error:
        raise Refused(
            400, "invalid card", body={"errors": [{"message": str(error)}], "warnings": []}
        ) from error
    missing = {"message": "empty or missing yaml metadata in repo card"}
    return Reply(body=as_json({"errors": [], "warnings": [] if card else [missing]}))


def preupload(call: Call, name: str, revision: str) -> Reply:
    found = call.repository(name, write=True)
    files = found.files(revision)
    modes = []
    for asked in call.json()["files"]:
        path, entry = asked["path"], files.get(asked["path"])
        mode = "lfs" if call.hub.is_lfs(path, asked["size"]) else "regular"
        answer = {"path": path, "uploadMode": mode, "shouldIgnore": False}
        modes.append(answer if entry is None else {**answer, "oid": entry.key})
    return Reply(body=as_json({"files": modes, "commitOid": found.commit_of(revision)}))


def batch(call: Call, name: str) -> Reply:
    call.repository(name, write=True)
    objects = []
    for asked in call.json()["objects"]:
        answer = {"oid": asked["oid"], "size": asked["size"], "authenticated": True}
        if asked["oid"] not in call.hub.blobs:
            store = f"http://localhost:{call.hub.port}" if call.hub.redirects else call.base
            answer["actions"] = {
                "upload": {"href": f"{store}/_lfs/{asked['oid']}"},
                "verify": {"href": f"{call.base}/{name}.git/info/lfs/objects/verify"},
            }
        objects.append(answer)
    headers = {"Content-Type": "application/vnd.git-lfs+json"}
    return Reply(body=as_json({"transfer": "basic", "objects": objects}), headers=headers)


def upload(call: Call, key: str) -> Reply:
    if call.headers.get("Authorization"):
        raise Refused(400, "a token was sent to the object store")
    if hashlib.sha256(call.body).hexdigest() != key:
        raise Refused(400, "sha256 of the body does not match the object id")
    call.hub.blobs[key] = call.body
    return Reply()


def verify(call: Call, name: str) -> Reply:
    call.repository(name, write=True)
    asked = call.json()
    if len(call.hub.blobs.get(asked["oid"], b"")) != asked["size"]:
        raise Refused(404, "object missing or of another size")
    return Reply()


def commit(call: Call, name: str, revision: str) -> Reply:
    found, user = call.repository(name, write=True), call.member()
    header, *changes = [json.loads(line) for line in call.body.splitlines() if line]
    if revision not in found.branches:
        raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    head, parent = header["value"], found.branches[revision]
    if head.get("parentCommit") and not parent.startswith(head["parentCommit"]):
        raise Refused(412, STALE)
    files = dict(found.files(parent))
    for change in changes:
        _apply(call, files, change["key"], change["value"])
    made = found.add(parent, files, head["summary"], head.get("description", ""), user.name)
    found.branches[revision] = made
    answer = {
        "success": True,
        "commitOid": made,
        "commitUrl": f"{call.base}/{name}/commit/{made}",
        "hookOutput": "",
    }
    return Reply(body=as_json(answer))


def _apply(call: Call, files: dict[str, Any], kind: str, value: dict[str, Any]) -> None:
    path = value["path"]
    if path.startswith("/") or ".." in path.split("/"):
        raise Refused(400, f"invalid path {path}")
    if kind == "file":
        files[path] = call.hub.put_regular(base64.b64decode(value["content"]))
    elif kind == "lfsFile":
        if value["oid"] not in call.hub.blobs:
            raise Refused(400, f"LFS object {value['oid']} was never uploaded")
        files[path] = call.hub.lfs_entry(value["oid"])
    elif kind == "deletedFile":
        if files.pop(path, None) is None:
            raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
    elif kind == "deletedFolder":
        for inside in [p for p in files if p.startswith(path.rstrip("/") + "/")]:
            del files[inside]
    else:
        raise Refused(400, f"unknown operation {kind}")


REFERENCE, REVISION = "(?P<reference>.+)", "(?P<revision>[^/]+)"
ROUTES = (
    Route("POST", "/api/repos/create", create, "create"),
    Route("DELETE", "/api/repos/delete", delete, "delete"),
    Route("PUT", f"{API}/settings", settings, "settings"),
    Route("POST DELETE", f"{API}/branch/{REFERENCE}", branch, "branch"),
    Route("POST DELETE", f"{API}/tag/{REFERENCE}", tag, "tag"),
    Route("POST", "/api/validate-yaml", check_card, "card"),
    Route("POST", f"{API}/preupload/{REVISION}", preupload, "preupload"),
    Route("POST", rf"{NAME}\.git/info/lfs/objects/batch", batch, "lfs"),
    Route("POST", rf"{NAME}\.git/info/lfs/objects/verify", verify, "verify"),
    Route("PUT", "/_lfs/(?P<key>[0-9a-f]{64})", upload, "put"),
    Route("POST", f"{API}/commit/{REVISION}", commit, "commit"),
)
