"""A record as it is proven, archived and shown."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from .entities import Trace

TABLE: Any = Trace.__table__  # type: ignore[attr-defined]  # SQLModel does not declare it
COLUMNS = [column for column in TABLE.c if column.name != "scope"]
"""All of a row that says what happened; `scope` only helps to find it."""

Record = dict[str, Any]


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no blanks: the same bytes for the same value, always."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def fingerprint(record: Mapping[str, Any]) -> bytes:
    """The SHA-256 of a record: 32 bytes."""
    return hashlib.sha256(canonical(record)).digest()


def shown(record: Mapping[str, Any]) -> dict[str, Any]:
    """The vendor's shape of a record (`Traces` of the CTS client), and what it has no field for."""
    account_id, failed = record["account_id"] or None, record["code"] is not None
    user = {
        "id": record["user_id"],
        "name": record["user_name"],
        "user_name": record["user_name"],
        "account_id": account_id,
        "access_key_id": record["access_key_id"],
    }
    response = {"error_code": record["code"], "error_msg": record["reason"]}
    return {
        "trace_id": record["id"],
        "trace_name": record["name"],
        "trace_rating": record["rating"],
        "trace_status": record["rating"],
        "trace_type": "ApiCall",
        "api_version": api_version(record["path"]),
        "service_type": record["service"],
        "operation_id": record["action"],
        "resource_type": record["resource_type"],
        "resource_id": record["resource_id"],
        "resource_url": record["resource"],
        "resource_name": record["resource_name"],
        "resource_account_id": account_id,
        "enterprise_project_id": record["enterprise_project_id"],
        "user": user,
        "source_ip": record["source_ip"],
        "user_agent": record["user_agent"],
        "method": record["method"],
        "path": record["path"],
        "request": canonical(record["request"]).decode() if record["request"] else None,
        "response": orjson.dumps(response).decode() if failed else None,
        "code": str(record["status"]),
        "error_code": record["code"],
        "message": record["reason"],
        "request_id": record["request_id"],
        "read_only": record["method"] in ("GET", "HEAD"),
        "project_id": record["project_id"],
        "duration_ms": None if record["duration_us"] is None else record["duration_us"] / 1000,
        "time": record["at"],
        "record_time": record["recorded_at"],
    }


def api_version(path: str) -> str | None:
    """``v2`` of ``/v2/…``."""
    first = path[1:].partition("/")[0]
    return first if first[:1] == "v" and first[1:2].isdecimal() else None
