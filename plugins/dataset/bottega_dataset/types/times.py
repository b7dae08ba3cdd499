"""Stretches of time in sounds and videos (002 §2.3.2.2, table 2-8)."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bottega_dataset.sample import BadSample

START, END = "@modelarts:start_time", "@modelarts:end_time"
PATTERN = r"^\d{2,}:[0-5]\d:[0-5]\d\.\d{3}$"
_TIME = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})", re.ASCII)

Time = Annotated[str, Field(pattern=PATTERN)]
"""``hh:mm:ss.SSS``"""


class Interval(BaseModel):
    """From `start_time` to `end_time`, each as ``hh:mm:ss.SSS``."""

    model_config = ConfigDict(extra="allow")
    start_time: Time = Field(alias=START)
    end_time: Time = Field(alias=END)


def milliseconds(text: str) -> int:
    """Raises BadSample when `text` is not of the form ``hh:mm:ss.SSS``."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise BadSample(f"'{text}' is not of the form hh:mm:ss.SSS")
    hours, minutes, whole, rest = map(int, found.groups())
    return ((hours * 60 + minutes) * 60 + whole) * 1000 + rest


def check_interval(given: dict[str, Any], where: str) -> None:
    """Raises BadSample when the end does not lie behind the start."""
    if milliseconds(given[END]) <= milliseconds(given[START]):
        raise BadSample(f"{where}['{END}'] is {given[END]}; it must lie behind {START}, which is {given[START]}")


def written(at_ms: int) -> str:
    """``hh:mm:ss.SSS`` of a time in milliseconds."""
    whole, rest = divmod(at_ms, 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{rest:03}"


def seconds(given: dict[str, Any]) -> float:
    """How long a stretch is."""
    return (milliseconds(given[END]) - milliseconds(given[START])) / 1000
