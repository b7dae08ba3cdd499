"""What ``bottega.launch`` asks of the platform: presigned URLs for the paths of its own workload only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from bottega.backends import WorkloadSpec
from bottega.entities import Workload
from bottega.errors import Forbidden, NotFound
from bottega.gateway import Caller, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.routing import Router
from bottega.workloads import FINAL

ACTIONS = (Action("bottega:workload:objects", "Get URLs of the objects of a workload, as that workload"),)
_PAGE = 1000
_EXPIRES_S = 3600


class Paths(BaseModel):
    model_config = ConfigDict(extra="forbid")
    paths: list[str] = Field(min_length=1, max_length=_PAGE)


def router(platform: Platform) -> APIRouter:
    """A workload may use these whatever its session policy says; each call checks its spec instead."""
    routes = Router(prefix="/v1/{project_id}/workloads/{workload_id}/objects", tags=["core"])

    @routes.get("")
    async def list_objects(
        workload_id: str,
        path: str,
        start_after: str = "",
        caller: Caller = requires(ACTIONS[0].name, "workload/{workload_id}", everyone=True),
    ) -> dict[str, Any]:
        """The objects of a folder (``path`` ends with ``/``) or one object, each with a URL to read it.

        `name` is relative to the folder; `next` is the `start_after` of the next page, null at the end. An
        object that does not exist gives an empty list.
        """
        spec = await _spec_of(platform, caller, workload_id)
        asked = ObjectPath.parse(path)
        _check_within([asked], _readable(spec), "read")
        try:
            if asked.key.endswith("/") or not asked.key:
                listing = platform.objects.list(asked, start_after=start_after, limit=_PAGE)
                found = [info async for info in listing]
            else:
                found = [await platform.objects.head(asked)]
        except NotFound:
            return {"objects": [], "next": None}
        return {
            "objects": [
                {
                    "path": str(info.path),
                    "name": info.path.key.removeprefix(asked.key) or info.path.name,
                    "size": info.size,
                    "etag": info.etag,
                    "url": platform.objects.presign("GET", info.path, _EXPIRES_S),
                }
                for info in found
            ],
            "next": found[-1].path.key if len(found) == _PAGE else None,
        }

    @routes.post("/reads")
    async def reads(
        workload_id: str,
        body: Paths,
        caller: Caller = requires(ACTIONS[0].name, "workload/{workload_id}", everyone=True),
    ) -> dict[str, dict[str, str]]:
        """A URL to read each of `paths`, by path as given, whether the object exists or not."""
        spec = await _spec_of(platform, caller, workload_id)
        paths = {text: ObjectPath.parse(text) for text in body.paths}
        _check_within(paths.values(), _readable(spec), "read")
        return {"urls": {t: platform.objects.presign("GET", p, _EXPIRES_S) for t, p in paths.items()}}

    @routes.post("")
    async def uploads(
        workload_id: str,
        body: Paths,
        caller: Caller = requires(ACTIONS[0].name, "workload/{workload_id}", everyone=True),
    ) -> dict[str, dict[str, str]]:
        """A URL to store each of `paths`, by path as given."""
        spec = await _spec_of(platform, caller, workload_id)
        log = [spec.log_path] if spec.log_path else []
        writable = [*spec.may_write, *log, *(t.path for t in spec.outputs)]
        paths = {text: ObjectPath.parse(text) for text in body.paths}
        _check_within(paths.values(), writable, "write")
        return {"urls": {t: platform.objects.presign("PUT", p, _EXPIRES_S) for t, p in paths.items()}}

    return routes


async def _spec_of(platform: Platform, caller: Caller, workload_id: str) -> WorkloadSpec:
    principal = caller.principal
    if principal.kind != "workload" or principal.workload_id != workload_id:
        raise Forbidden("only the workload itself may ask for its objects, with the token it was started with")
    async with platform.database.read() as session:
        workload = await session.get(Workload, workload_id)
    if workload is None or workload.project_id != caller.project_id:
        raise Forbidden(f"there is no workload '{workload_id}' in this project")
    if workload.state in FINAL:
        raise Forbidden(f"workload '{workload_id}' has ended")
    return WorkloadSpec.model_validate(workload.spec)


def _readable(spec: WorkloadSpec) -> list[str]:
    return [*spec.may_read, *spec.may_write, *(t.path for t in (*spec.inputs, *spec.outputs))]


def _check_within(paths: Iterable[ObjectPath], allowed: list[str], doing: str) -> None:
    prefixes = [ObjectPath.parse(prefix) for prefix in allowed]
    for path in paths:
        if not any(prefix.contains(path) for prefix in prefixes):
            raise Forbidden(f"this workload may not {doing} {path}; it may {doing}: {', '.join(allowed) or 'nothing'}")
