"""The routes by which users label what a plugin makes, in the vendor's shape (sdk_spec, family tag).

A plugin includes `tag_routes` once for each kind. The labels are the tags of its resources, by which bills are grouped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator, BaseModel, Field
from sqlmodel import col, select

from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource
from bottega.errors import Conflict
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router

MOST = 20
"""Tags of one thing, as with the vendor."""
_KEY, _VALUE = re.compile(r"[\w .:=+@-]{1,128}"), re.compile(r"[\w .:/=+@-]{0,255}")


def _key(text: str) -> str:
    if not _KEY.fullmatch(text) or text != text.strip() or text.startswith("_sys_"):
        raise ValueError(
            "a key has 1 to 128 letters, digits, spaces and _ . : = + - @, none of the spaces at an end, "
            "and does not begin with _sys_"
        )
    return text


def _value(text: str) -> str:
    if not _VALUE.fullmatch(text):
        raise ValueError("a value has at most 255 letters, digits, spaces and _ . : / = + - @")
    return text


Key = Annotated[str, AfterValidator(_key)]
Value = Annotated[str, AfterValidator(_value)]


class Tag(BaseModel):
    key: Key
    value: Value = ""


class Tags(BaseModel):
    tags: list[Tag] = Field(min_length=1, max_length=MOST)


class AbsentTag(BaseModel):
    """Without a value the key goes whatever its value is."""

    key: Key
    value: Value | None = None


class AbsentTags(BaseModel):
    tags: list[AbsentTag] = Field(min_length=1, max_length=MOST)


class WantedTag(BaseModel):
    """Any of `values`; without any, every value."""

    key: Key
    values: list[Value] = Field([], max_length=10)


class Match(BaseModel):
    """A part of the name, in whatever case."""

    key: Literal["resource_name"]
    value: str = Field(min_length=1, max_length=255)


class TagSearch(BaseModel):
    """All of `tags` and `matches`, or only what has no tag. `limit` and `offset` go before those of the query."""

    tags: list[WantedTag] = Field([], max_length=MOST)
    matches: list[Match] = Field([], max_length=1)
    without_any_tag: bool = False
    workspace_id: str | None = Field(None, max_length=64)
    limit: int | None = Field(None, ge=1, le=1000)
    offset: int | None = Field(None, ge=0, le=2**31)

    def finds(self, tags: Mapping[str, str]) -> bool:
        if self.without_any_tag:
            return not tags
        return all(w.key in tags and (not w.values or tags[w.key] in w.values) for w in self.tags)


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as the vendor writes those of one thing."""
    return [{"key": key, "value": value} for key, value in sorted(tags.items())]


def tag_routes(platform: Platform, prefix: str, kind: str, *, listing: str, reading: str, changing: str) -> APIRouter:
    """The routes of the tags of `kind`, below `prefix` (``/v2/{project_id}/…``).

    :param listing: the plugin's IAM actions of seeing all of the kind, `reading` one, and `changing` one.
    """
    routes = Router(prefix=prefix)
    one = f"{kind}/{{resource_id}}"

    @routes.get("/tags")
    async def of_project(
        workspace_id: Annotated[str | None, Query(max_length=64)] = None,
        page: Page = paging(1000),
        caller: Caller = requires(listing),
    ) -> dict[str, Any]:
        """Every key with all its values, of all things of the kind."""
        async with platform.database.read() as session:
            found = await _labelled(platform, session, caller.project_id, kind, workspace_id)
        values: dict[str, set[str]] = {}
        for resource in found:
            for key, value in resource.tags.items():
                values.setdefault(key, set()).add(value)
        rows = [{"key": key, "values": sorted(values[key])} for key in sorted(values)]
        return {"tags": rows[page.offset : page.offset + page.limit]}

    @routes.get("/{resource_id}/tags")
    async def of_one(resource_id: str, caller: Caller = requires(reading, one)) -> dict[str, Any]:
        async with platform.database.read() as session:
            resource = await platform.resources.get(session, kind, caller.project_id, resource_id)
        return {"tags": tag_list(resource.tags)}

    @routes.post("/{resource_id}/tags/create")
    async def create(resource_id: str, body: Tags, caller: Caller = requires(changing, one)) -> dict[str, Any]:
        """Set tags; a key that is there gets the new value."""
        async with platform.database.transaction() as tx:
            resource = await _locked(platform, tx, caller, kind, resource_id)
            tags = {**resource.tags, **{tag.key: tag.value for tag in body.tags}}
            if len(tags) > MOST:
                raise Conflict(f"{kind} '{resource.name}' would have {len(tags)} tags; {MOST} are possible")
            await platform.resources.set_tags(tx, resource, tags)
        return {"tags": tag_list(tags)}

    @routes.delete("/{resource_id}/tags/delete", status_code=204)
    async def delete(resource_id: str, body: AbsentTags, caller: Caller = requires(changing, one)) -> None:
        """Take tags away; those that are not there, or have another value, change nothing."""
        async with platform.database.transaction() as tx:
            resource = await _locked(platform, tx, caller, kind, resource_id)
            going = {t.key for t in body.tags if t.value is None or resource.tags.get(t.key) == t.value}
            tags = {key: value for key, value in resource.tags.items() if key not in going}
            await platform.resources.set_tags(tx, resource, tags)

    @routes.post("/resource-instances/filter")
    async def find(body: TagSearch, page: Page = paging(10), caller: Caller = requires(listing)) -> dict[str, Any]:
        """The things that have certain tags."""
        async with platform.database.read() as session:
            found = await _found(platform, session, caller.project_id, kind, body)
        first = page.offset if body.offset is None else body.offset
        rows = [
            {
                "resource_id": resource.id,
                "resource_name": resource.name,
                "resource_detail": {},
                "workspace_id": resource.workspace_id,
                "tags": tag_list(resource.tags),
            }
            for resource in found[first : first + (body.limit or page.limit)]
        ]
        return {"resources": rows, "total_count": len(found)}

    @routes.post("/resource-instances/count")
    async def count(body: TagSearch, caller: Caller = requires(listing)) -> dict[str, int]:
        async with platform.database.read() as session:
            return {"total_count": len(await _found(platform, session, caller.project_id, kind, body))}

    return routes


async def _found(
    platform: Platform, session: AsyncSession, project_id: str, kind: str, search: TagSearch
) -> list[Resource]:
    part = search.matches[0].value if search.matches else None
    found = await _labelled(platform, session, project_id, kind, search.workspace_id, part)
    return [resource for resource in found if search.finds(resource.tags)]


async def _labelled(
    platform: Platform,
    session: AsyncSession,
    project_id: str,
    kind: str,
    workspace_id: str | None,
    part: str | None = None,
) -> Sequence[Resource]:
    """All things of a kind, newest first: a quota bounds them, and databases differ in how they look into JSON."""
    query = select(Resource).where(
        Resource.plugin == platform.name,
        Resource.kind == kind,
        Resource.project_id == project_id,
        col(Resource.deleted_at).is_(None),
        platform.resources.visible(Resource.workspace_id),
    )
    if workspace_id:
        query = query.where(Resource.workspace_id == workspace_id)
    if part:
        query = query.where(col(Resource.name).icontains(part, autoescape=True))
    return (await session.exec(query.order_by(col(Resource.created_at).desc(), Resource.id))).all()


async def _locked(platform: Platform, tx: Transaction, caller: Caller, kind: str, resource_id: str) -> Resource:
    resource = await platform.resources.get(tx.session, kind, caller.project_id, resource_id)
    await tx.session.refresh(resource, with_for_update=True)
    caller.about(name=resource.name)
    return resource
