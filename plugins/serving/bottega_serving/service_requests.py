"""What a caller asks of a service, and the rules it must keep (rest_api, Deploying Services)."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from bottega.context import now_ms
from bottega.entities import DEFAULT_WORKSPACE
from bottega.errors import Invalid

_NAME = re.compile(r"[A-Za-z0-9_\u4e00-\u9fff-]{1,64}")
_FORBIDDEN = frozenset("!<>=&\"'")
_UNIT_MS = {"DAYS": 86_400_000, "HOURS": 3_600_000, "MINUTES": 60_000}
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class _Body(BaseModel):
    # The vendor's clients send more than a platform on one's own machines has use for (VPC, cluster, secrets).
    model_config = ConfigDict(extra="ignore", protected_namespaces=(), defer_build=True)


class Schedule(_Body):
    duration: int = Field(ge=1, le=10_000)
    time_unit: Literal["DAYS", "HOURS", "MINUTES"]
    type: Literal["stop"]


class ServiceConfig(_Body):
    """One version of the service. `weight` is its share of the calls in percent."""

    model_id: str
    specification: str
    weight: int = Field(100, ge=0, le=100)
    instance_count: int = Field(1, ge=1, le=128)
    envs: dict[str, str] = {}


class CreateService(_Body):
    service_name: str
    infer_type: Literal["real-time", "batch", "edge"]
    config: list[ServiceConfig]
    description: str = ""
    workspace_id: str = DEFAULT_WORKSPACE
    schedule: list[Schedule] = []


class UpdateService(_Body):
    description: str | None = None
    config: list[ServiceConfig] | None = None
    status: Literal["running", "stopped"] | None = None
    schedule: list[Schedule] | None = None


def check_service_name(name: str) -> None:
    """Raises Invalid."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"service_name '{name[:70]}' must have 1 to 64 letters, digits, '-' or '_'")


def check_description(text: str) -> None:
    """Raises Invalid."""
    if len(text) > 100 or _FORBIDDEN.intersection(text):
        raise Invalid("description may have 100 characters and none of ! < > = & \" '")


def check_versions(config: list[ServiceConfig], most: int) -> None:
    """Raises Invalid unless the weights add up and every version stands once."""
    if not 1 <= len(config) <= most:
        raise Invalid(f"config must hold 1 to {most} model versions, not {len(config)}")
    total = sum(entry.weight for entry in config)
    if total != 100:
        raise Invalid(f"the weights in config must add up to 100, not {total}")
    ids = [entry.model_id for entry in config]
    for id in ids:
        if ids.count(id) > 1:
            raise Invalid(f"model '{id}' stands twice in config; give its instance_count instead")
    if len({entry.specification for entry in config}) > 1:
        raise Invalid("all versions of a service run on one specification; write the same one for each")
    for entry in config:
        for name in entry.envs:
            if not _ENVIRONMENT.fullmatch(name):
                raise Invalid(f"envs: '{name}' is not the name of an environment variable")


def due_time(schedule: list[Schedule]) -> int | None:
    """When the service shall stop, in epoch milliseconds. Raises Invalid for more than one time."""
    if len(schedule) > 1:
        raise Invalid("schedule may hold one time to stop")
    return now_ms() + schedule[0].duration * _UNIT_MS[schedule[0].time_unit] if schedule else None


def as_rows(config: list[ServiceConfig]) -> list[dict[str, Any]]:
    return [entry.model_dump() for entry in config]
