"""What the routes take: alarm rules in the shape of the vendor's Cloud Eye API, version 1."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from bottega.errors import Invalid

from .points import read_dimensions
from .sampling import NAMESPACE, UNITS

PERIODS = (1, 300, 1200, 3600, 14400, 86400)
"""Seconds; 1 means as measured, which is by the minute here."""
_TOPIC = re.compile(r"urn:smn:[^:]+:[^:]+:[^:]+")


class Dimension(BaseModel):
    name: str = Field(min_length=1, max_length=64)
    value: str = Field(min_length=1, max_length=256)


class MetricRef(BaseModel):
    """A metric of one thing; ``SYS.ModelArts`` has the project's, ``SYS.Bottega`` the platform's own."""

    namespace: Literal["SYS.ModelArts", "SYS.Bottega"] = "SYS.ModelArts"
    metric_name: str = Field(min_length=1, max_length=128)
    dimensions: list[Dimension] = Field(default=[], max_length=8)

    def key(self) -> str:
        """Raises Invalid for a metric that does not exist."""
        if self.namespace == NAMESPACE and self.metric_name not in UNITS:
            raise Invalid(f"metric.metric_name '{self.metric_name}' does not exist; there are: {', '.join(UNITS)}")
        return read_dimensions((d.name, d.value) for d in self.dimensions)


class Condition(BaseModel):
    period: Literal[1, 300, 1200, 3600, 14400, 86400] = 300
    filter: Literal["average", "max", "min", "sum"] = "average"
    comparison_operator: Literal[">", ">=", "=", "<=", "<"]
    value: float = Field(allow_inf_nan=False)
    unit: str = Field(default="", max_length=32)
    count: int = Field(default=1, ge=1, le=100)
    suppress_duration: int = Field(default=0, ge=0, le=86400)
    """Seconds after which an alarm that goes on is told again; 0: once."""


class Told(BaseModel):
    type: Literal["notification"] = "notification"
    notificationList: list[str] = Field(min_length=1, max_length=5)

    def topics(self, where: str) -> list[str]:
        """Raises Invalid for a text that is no topic's URN."""
        for topic in self.notificationList:
            if not _TOPIC.fullmatch(topic):
                raise Invalid(f"{where}.notificationList: '{topic}' is not a topic; write urn:smn:region:project:name")
        return self.notificationList


def _none_is_empty(value: object) -> object:
    return [] if value is None else value


class NewAlarm(BaseModel):
    model_config = ConfigDict(extra="forbid")
    alarm_name: str = Field(min_length=1, max_length=128, pattern=r"^[\w\u4e00-\u9fff-]+$")
    alarm_description: str = Field(default="", max_length=256)
    metric: MetricRef
    condition: Condition
    alarm_enabled: bool = True
    alarm_action_enabled: bool = True
    alarm_level: int = Field(default=2, ge=1, le=4)
    alarm_actions: Annotated[list[Told], BeforeValidator(_none_is_empty)] = Field(default=[], max_length=5)
    ok_actions: Annotated[list[Told], BeforeValidator(_none_is_empty)] = Field(default=[], max_length=5)

    def columns(self) -> dict[str, Any]:
        """The columns of the rule this describes. Raises Invalid."""
        condition = self.condition
        return {
            "name": self.alarm_name,
            "description": self.alarm_description,
            "level": self.alarm_level,
            "namespace": self.metric.namespace,
            "metric": self.metric.metric_name,
            "dimensions": self.metric.key(),
            "statistic": condition.filter,
            "period_s": condition.period,
            "count": condition.count,
            "comparison": condition.comparison_operator,
            "threshold": condition.value,
            "unit": condition.unit,
            "suppress_s": condition.suppress_duration,
            "enabled": self.alarm_enabled,
            "tells": self.alarm_action_enabled,
            "alarm_topics": [t for told in self.alarm_actions for t in told.topics("alarm_actions")],
            "ok_topics": [t for told in self.ok_actions for t in told.topics("ok_actions")],
        }


class Switch(BaseModel):
    alarm_enabled: bool
