"""Key operation notifications, as the vendor's CTS client knows them: which calls are told to which topic."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field, StrictBool
from sqlalchemy import func, select
from sqlmodel import col

from bottega.database import AsyncSession
from bottega.errors import Conflict, Invalid, NotFound, NotSupported, QuotaExceeded
from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega.urn import Urn

from .entities import KeyOperation
from .key_operations import FILTER_RULE

QUOTA = 100
"""Rules a project may have."""
_PATH = "/v3/{project_id}/notifications"
_NAME = r"^[\w.-]{1,64}$"


class Operations(BaseModel):
    service_type: str = Field(min_length=1, max_length=64)
    resource_type: str = Field(max_length=64)
    trace_names: list[str] = Field(min_length=1, max_length=200)


class Users(BaseModel):
    user_group: str = Field(max_length=64)
    user_list: list[str] = Field(default=[], max_length=50)


class Filters(BaseModel):
    condition: Literal["AND", "OR"] = "AND"
    is_support_filter: StrictBool = True
    rule: list[str] = Field(default=[], max_length=6)


class NewRule(BaseModel):
    notification_name: str = Field(pattern=_NAME)
    operation_type: Literal["complete", "customized"]
    agency_name: str | None = Field(default=None, max_length=64)
    operations: list[Operations] = Field(default=[], max_length=100)
    notify_user_list: list[Users] = Field(default=[], max_length=10)
    topic_id: str = Field(max_length=512)
    filter: Filters | None = None


class ChangedRule(NewRule):
    notification_id: str
    status: Literal["enabled", "disabled"]
    topic_id: str = Field(default="", max_length=512)


def router(platform: Platform) -> APIRouter:
    router = Router()

    @router.post(_PATH, status_code=201)
    async def create(body: NewRule, caller: Caller = requires("cts:notification:create")) -> dict[str, Any]:
        """Tell a topic of the project of certain operations, or of all."""
        _check(body, caller.project_id)
        row = KeyOperation(
            account_id=caller.principal.account_id,
            project_id=caller.project_id,
            name=body.notification_name,
            topic_urn=body.topic_id,
            rule=_rule(body),
        )
        async with platform.database.transaction() as tx:
            await _check_name(tx.session, row)
            count = select(func.count()).where(col(KeyOperation.project_id) == caller.project_id)
            if (await tx.session.execute(count)).scalar_one() >= QUOTA:
                raise QuotaExceeded(f"the project has {QUOTA} key operation notifications; delete one")
            tx.session.add(row)
        caller.about(resource=_urn(row), name=row.name)
        return _json(row)

    @router.put(_PATH)
    async def update(body: ChangedRule, caller: Caller = requires("cts:notification:update")) -> dict[str, Any]:
        """Replace what a rule says; without a topic it keeps the one it has."""
        async with platform.database.transaction() as tx:
            row = await _get(tx.session, caller.project_id, body.notification_id)
            body.topic_id = body.topic_id or row.topic_urn
            _check(body, caller.project_id)
            row.name, row.status, row.topic_urn = body.notification_name, body.status, body.topic_id
            row.rule = _rule(body)
            await _check_name(tx.session, row)
            tx.session.add(row)
        caller.about(resource=_urn(row), name=row.name)
        return _json(row)

    @router.get(_PATH + "/{notification_type}")
    async def list_all(
        notification_type: Literal["smn", "fun"],
        notification_name: str | None = None,
        caller: Caller = requires("cts:notification:list"),
    ) -> dict[str, Any]:
        """The project's rules that tell topics (``smn``); there are none that call functions (``fun``)."""
        query = select(KeyOperation).where(col(KeyOperation.project_id) == caller.project_id)
        if notification_name is not None:
            query = query.where(col(KeyOperation.name) == notification_name)
        async with platform.database.read() as session:
            rows = (await session.execute(query.order_by(col(KeyOperation.created_at)))).scalars().all()
        return {"notifications": [_json(row) for row in rows] if notification_type == "smn" else []}

    @router.delete(_PATH, status_code=204, response_class=Response)
    async def delete(
        notification_id: list[str] = Query(min_length=1, max_length=QUOTA),
        caller: Caller = requires("cts:notification:delete"),
    ) -> None:
        """Delete rules: one id, several, or several with commas between them."""
        ids = [id for text in notification_id for id in text.split(",") if id]
        async with platform.database.transaction() as tx:
            for id in dict.fromkeys(ids):
                row = await _get(tx.session, caller.project_id, id)
                await tx.session.delete(row)
        caller.about(name=",".join(ids))

    return router


def _check(body: NewRule, project_id: str) -> None:
    """Raises Invalid, NotSupported."""
    if body.topic_id.startswith("urn:fss:"):
        raise NotSupported("topic_id: there are no functions here; give the URN of a topic (urn:smn:…)")
    parts = body.topic_id.split(":")
    if len(parts) != 5 or parts[:2] != ["urn", "smn"] or not parts[4]:
        raise Invalid(f"topic_id: '{body.topic_id}' is not urn:smn:<region>:<project>:<topic>")
    if parts[3] != project_id:
        raise Invalid(f"topic_id: the topic is of project '{parts[3]}'; give one of this project, '{project_id}'")
    if body.operation_type == "customized" and not body.operations:
        raise Invalid("operations: say which operations to tell, or use operation_type 'complete' for all")
    if sum(len(entry.user_list) for entry in body.notify_user_list) > 50:
        raise Invalid("notify_user_list: at most 50 users in all")
    for rule in body.filter.rule if body.filter else ():
        if FILTER_RULE.fullmatch(rule) is None:
            fields = "api_version, code, trace_rating, trace_type, resource_id, resource_name"
            raise Invalid(f"filter.rule: '{rule}' is not 'field = value' or 'field != value' with a field of {fields}")


def _rule(body: NewRule) -> dict[str, Any]:
    return body.model_dump(include={"operation_type", "operations", "notify_user_list", "filter", "agency_name"})


async def _get(session: AsyncSession, project_id: str, id: str) -> KeyOperation:
    row = await session.get(KeyOperation, id)
    if row is None or row.project_id != project_id:
        raise NotFound(f"there is no key operation notification '{id}' in this project")
    return row


async def _check_name(session: AsyncSession, row: KeyOperation) -> None:
    query = select(col(KeyOperation.id)).where(
        col(KeyOperation.project_id) == row.project_id, col(KeyOperation.name) == row.name
    )
    with session.no_autoflush:
        if (await session.execute(query)).scalar() not in (None, row.id):
            raise Conflict(f"there is a key operation notification '{row.name}' in this project")


def _urn(row: KeyOperation) -> str:
    return str(Urn("audit", row.project_id, "notification", row.id))


def _json(row: KeyOperation) -> dict[str, Any]:
    return {
        "notification_id": row.id,
        "notification_name": row.name,
        "notification_type": "smn",
        "status": row.status,
        "topic_id": row.topic_urn,
        "project_id": row.project_id,
        "create_time": row.created_at,
        **row.rule,
    }
