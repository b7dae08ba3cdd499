"""Reading the API's ``search_conditions``: the vendor's SearchCondition, and what goes beyond it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from bottega.context import now_ms
from bottega.errors import Invalid
from bottega_dataset.query import LabelFilter, Props, SampleFilter
from bottega_dataset.sample import USAGES

DAY_MS = 86_400_000
_DAYS = {"day": 1, "yesterday": 1, "week": 7, "month": 30}
IMPORT_ORIGIN = "@modelarts:import_origin"
_OF_VIDEO = ("frame_in_video", "parent_sample_id", "time_in_video")
_OF_SCANS = ("kvp", "slice_thickness", "study_date")
OWN = ("sample_format", "sample_size", "sample_usage", "sample_state", "time_range", "text")
"""What the vendor's conditions lack: suffixes, bytes from,to, usage, state, epoch ms from,to, and a part of a text."""
KNOWN = (
    "coefficient",
    "hard",
    "import_origin",
    "label_list",
    "labeler",
    "metadata",
    "sample_dir",
    "sample_name",
    "sample_time",
    "score",
    *_OF_VIDEO,
    *_OF_SCANS,
    *OWN,
)


def from_search(given: str | None, base: SampleFilter) -> SampleFilter:
    """`base`, narrowed by the list's ``search_conditions``: JSON of one condition or a list, which must all hold."""
    if not given:
        return base
    try:
        read = orjson.loads(given)
    except orjson.JSONDecodeError as e:
        raise Invalid(f"search_conditions is not JSON: {e}") from e
    for condition in read if isinstance(read, list) else [read]:
        base = narrowed(base, condition)
    return base


def alternatives(given: Sequence[Mapping[str, Any]], base: SampleFilter) -> list[SampleFilter]:
    """`base` narrowed by each condition; at least one of them must hold (the API's ``ExportParams`` and its like)."""
    return [narrowed(base, one) for one in given] or [base]


def narrowed(base: SampleFilter, condition: Any) -> SampleFilter:
    """`base` with one ``SearchCondition`` of the API added. Raises Invalid, naming the field."""
    if not isinstance(condition, Mapping):
        raise Invalid("a search condition must be an object")
    asked = {key: value for key, value in condition.items() if value not in (None, "", [], {})}
    strange = [key for key in asked if key not in KNOWN]
    if strange:
        raise Invalid(f"search condition '{strange[0]}' is not one of {', '.join(KNOWN)}")
    changes: dict[str, Any] = {}
    for key, value in asked.items():
        changes |= _read(key, value, base, changes)
    return replace(base, **changes)


def _read(key: str, value: Any, base: SampleFilter, sofar: Mapping[str, Any]) -> dict[str, Any]:
    match key:
        case "label_list":
            return _labels(value)
        case "sample_name":
            return {"name": str(value)}
        case "sample_dir":
            return {"folder": str(value)}
        case "hard":
            return {"hard": _truth(key, value)}
        case "labeler":
            return {"annotator": str(value)}
        case "score":
            return dict(zip(("low", "high"), _interval(key, value), strict=True))
        case "coefficient":
            return {"coefficient": _interval(key, value)}
        case "sample_time":
            return _period(str(value))
        case "import_origin":
            return {"metadata": {**base.metadata, **sofar.get("metadata", {}), IMPORT_ORIGIN: [str(value)]}}
        case "metadata":
            props, either = _props(value)
            return {"metadata": {**base.metadata, **sofar.get("metadata", {}), **props}, "any_metadata": either}
        case "sample_usage":
            if value not in (*USAGES, "NONE"):
                raise Invalid(f"sample_usage '{value}' is none of {', '.join(USAGES)}, NONE")
            return {"usage": "" if value == "NONE" else value}
        case "sample_state":
            return {"state": str(value)}
        case "sample_format":
            given = [value] if isinstance(value, str) else value
            if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
                raise Invalid('sample_format must be a suffix or a list of them, such as ["png", "jpg"]')
            return {"suffixes": tuple(given)}
        case "sample_size":
            bounds = _numbers(key, value, "bytes from,to, such as 1024,1048576 or 1024,")
            return dict(zip(("smallest", "largest"), bounds, strict=True))
        case "time_range":
            return dict(zip(("since", "until"), _numbers(key, value, "epoch milliseconds from,to"), strict=True))
        case "text":
            return {"text": str(value)}
        case _:  # of videos and of scans: told like every other property of a sample
            name = key if key.startswith("@") else f"@modelarts:{key}"
            return {"metadata": {**base.metadata, **sofar.get("metadata", {}), name: [str(value)]}}


def _labels(value: Any) -> dict[str, Any]:
    try:
        wanted = tuple(_label(one) for one in value["labels"])
    except (KeyError, TypeError, AttributeError) as e:
        raise Invalid('label_list must look like {"labels": [{"name": "cat"}], "op": "OR"}') from e
    return {"labels": wanted, "all_labels": _op(value.get("op"), "label_list.op") == "AND"}


def _label(one: Any) -> LabelFilter:
    prop, kind = one.get("property") or {}, one.get("type")
    if one.get("name") is None and kind is None and not prop:
        raise KeyError("name")
    if kind is not None and not isinstance(kind, int):
        raise Invalid("a label's type must be a number")
    props = _values(prop, f"the property of label '{one.get('name', '')}'")
    either = _op(one.get("op"), "the op of a label") == "OR" and len(props) > 1
    return LabelFilter(None if one.get("name") is None else str(one["name"]), kind, props, either)


def _props(value: Any) -> tuple[Props, bool]:
    if not isinstance(value, Mapping) or not isinstance(value.get("props"), Mapping):
        raise Invalid('metadata must look like {"props": {"key": ["value"]}, "op": "AND"}')
    return _values(value["props"], "metadata.props"), _op(value.get("op") or "AND", "metadata.op") == "OR"


def _values(given: Any, what: str) -> Props:
    if not isinstance(given, Mapping):
        raise Invalid(f"{what} must be an object of lists of values")
    found: dict[str, Sequence[str] | None] = {}
    for key, values in given.items():
        if values is not None and not isinstance(values, list):
            raise Invalid(f"{what}: '{key}' must have a list of values, or null for any")
        found[str(key)] = None if values is None else [str(one) for one in values]
    return found


def _op(value: Any, what: str) -> str:
    op = str(value or "OR").upper()
    if op not in ("AND", "OR"):
        raise Invalid(f"{what} '{value}' must be AND or OR")
    return op


def _truth(key: str, value: Any) -> bool:
    read = str(value).lower()
    if read not in ("0", "1", "true", "false"):
        raise Invalid(f"{key} '{value}' must be 0 or 1")
    return read in ("1", "true")


def _interval(key: str, value: Any) -> tuple[float, float]:
    try:
        low, _, high = str(value).replace("-", ",").partition(",")
        found = float(low or 0), float(high or 1)
    except ValueError as e:
        raise Invalid(f"{key} '{value}' must be two numbers from 0 to 1, such as 0.2,0.9") from e
    if not 0 <= found[0] <= found[1] <= 1:
        raise Invalid(f"{key} '{value}' must be two numbers from 0 to 1, the smaller one first")
    return found


def _numbers(key: str, value: Any, form: str) -> tuple[int | None, int | None]:
    low, comma, high = str(value).partition(",")
    try:
        found = int(low) if low.strip() else None, int(high) if high.strip() else None
    except ValueError as e:
        raise Invalid(f"{key} '{value}' must be {form}") from e
    if not comma:
        raise Invalid(f"{key} '{value}' must be {form}")
    return found


def _period(value: str) -> dict[str, Any]:
    """``month``, ``day``, ``yesterday`` (the day before the last 24 hours), or two days: ``20190701-20190715``."""
    if value in _DAYS:
        until = now_ms() - DAY_MS if value == "yesterday" else None
        return {"since": (until or now_ms()) - _DAYS[value] * DAY_MS, "until": until}
    from datetime import UTC, datetime, timedelta

    first, dash, last = value.partition("-")
    try:
        start = datetime.strptime(first, "%Y%m%d").replace(tzinfo=UTC)
        end = datetime.strptime(last, "%Y%m%d").replace(tzinfo=UTC) if dash else start
    except ValueError as e:
        raise Invalid(f"sample_time '{value}' is none of {', '.join(_DAYS)}, nor days: 20190701-20190715") from e
    return {"since": int(start.timestamp() * 1000), "until": int((end + timedelta(days=1)).timestamp() * 1000) - 1}
