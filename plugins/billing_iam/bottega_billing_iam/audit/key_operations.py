"""Key operations: certain calls are told to a topic as they happen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlmodel import col, select

from bottega.database import AsyncSession, Transaction
from bottega.entities import Group, GroupMember
from bottega.notifications import notify
from bottega.urn import PLATFORM, Urn

from .entities import KeyOperation, Trace
from .records import Record, api_version, shown

FILTER_RULE = re.compile(r"\s*(api_version|code|trace_rating|trace_type|resource_id|resource_name)\s*(!=|=)\s*(.*?)\s*")
"""One rule of a filter: ``code != 200``."""


async def rules_of(session: AsyncSession, account_id: str) -> Sequence[KeyOperation]:
    """The rules of an account that are in force."""
    query = select(KeyOperation).where(KeyOperation.account_id == account_id, KeyOperation.status == "enabled")
    return (await session.exec(query)).all()


async def tell(tx: Transaction, trace: Trace, rules: Sequence[KeyOperation]) -> None:
    """Notify the topics of those `rules` that a new record matches, when its transaction commits."""
    if not rules:
        return
    record = {name: value for name, value in trace.model_dump().items() if name != "scope"}
    for rule in rules:
        # What concerns no project, such as users and policies, is told by the rules of all projects.
        if trace.project_id not in (rule.project_id, PLATFORM) or not matches(rule.rule, record):
            continue
        if await _names_user(tx, rule, trace):
            about = str(Urn("audit", rule.project_id, "notification", rule.id))
            subject = f"{trace.name} by {trace.user_name}: {trace.rating}"
            notify(tx, about, rule.topic_urn, subject, _message(rule, record))


def matches(rule: Mapping[str, Any], record: Record) -> bool:
    """Whether a record is one of the operations of a rule and passes its filter."""
    wanted = rule.get("operations") or []
    chosen = rule["operation_type"] == "complete" or any(_is_one_of(operation, record) for operation in wanted)
    return chosen and _passes(rule.get("filter") or {}, record)


def _is_one_of(operation: Mapping[str, Any], record: Record) -> bool:
    return (
        operation["service_type"].upper() == record["service"]
        and operation["resource_type"] == record["resource_type"]
        and record["name"] in operation["trace_names"]
    )


def _passes(filter: Mapping[str, Any], record: Record) -> bool:
    rules: Sequence[str] = filter.get("rule") or ()
    if not filter.get("is_support_filter") or not rules:
        return True
    values = {
        "api_version": api_version(record["path"]),
        "code": str(record["status"]),
        "trace_rating": record["rating"],
        "trace_type": "ApiCall",
        "resource_id": record["resource_id"],
        "resource_name": record["resource_name"],
    }
    parsed = [parts for rule in rules if (parts := FILTER_RULE.fullmatch(rule))]
    results = [(values[parts[1]] == parts[3]) is (parts[2] == "=") for parts in parsed]
    return any(results) if filter.get("condition") == "OR" else all(results)


async def _names_user(tx: Transaction, rule: KeyOperation, trace: Trace) -> bool:
    """Whether it was done by one of a rule's users; a group listed without users stands for all its members."""
    listed: Sequence[Mapping[str, Any]] = rule.rule.get("notify_user_list") or ()
    if not listed or any(trace.user_name in (entry.get("user_list") or ()) for entry in listed):
        return True
    groups = [entry["user_group"] for entry in listed if not entry.get("user_list")]
    query = select(GroupMember.user_id).join(Group, col(Group.id) == GroupMember.group_id)
    mine = query.where(
        Group.account_id == trace.account_id, col(Group.name).in_(groups), GroupMember.user_id == trace.user_id
    )
    return bool(groups) and (await tx.session.exec(mine)).first() is not None


def _message(rule: KeyOperation, record: Record) -> str:
    trace = {name: value for name, value in shown(record).items() if value is not None and name != "request"}
    when = datetime.fromtimestamp(record["at"] / 1000, UTC).isoformat(timespec="milliseconds")
    told = {"notification_name": rule.name, "when": when, "trace": trace}
    return orjson.dumps(told, option=orjson.OPT_INDENT_2).decode()
