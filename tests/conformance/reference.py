"""The vendor's public REST reference of data management, reduced to names and types (``data_management.json``).

A type is written as there: ``String``, ``Array of Sample objects``, ``Map<String,Integer>`` …; a ``!`` behind it marks
a field that must be given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_LISTED = re.compile(r"Array(?: of (.+?)(?: objects?)?|<(.+)>)?")
_MAPPED = re.compile(r"Map<String,(.+)>")
_PLAIN: dict[str, tuple[type, ...]] = {
    "String": (str,),
    "strings": (str,),
    "Boolean": (bool,),
    "Integer": (int,),
    "integers": (int,),
    "Long": (int,),
    "Float": (int, float),
    "Double": (int, float),
}


@dataclass(frozen=True)
class Operation:
    """One documented call. `body` and `answer` are fields by name; models they name are looked up by `model`."""

    title: str
    call: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, str] = field(default_factory=dict)
    answer: Mapping[str, str] = field(default_factory=dict)
    body_models: Mapping[str, str] = field(default_factory=dict)
    answer_models: Mapping[str, str] = field(default_factory=dict)

    @property
    def method(self) -> str:
        return self.call.partition(" ")[0]

    @property
    def path(self) -> str:
        return self.call.partition(" ")[2]

    @property
    def shape(self) -> str:
        """Method and path without the names of the path's parameters."""
        return shape(self.method, self.path)


def shape(method: str, path: str) -> str:
    return f"{method.upper()} {re.sub(r'{.*?}', '{}', path)}"


@cache
def _document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(__file__).parent / "data_management.json").read_text("utf-8"))
    return found


@cache
def operations() -> tuple[Operation, ...]:
    return tuple(Operation(**one) for one in _document()["operations"])


def model(name: str, names: Mapping[str, str]) -> Mapping[str, str] | None:
    """The fields of a model, None for what is no model (``strings``, ``objects``)."""
    found: Mapping[str, str] | None = _document()["models"].get(names.get(name, name))
    return found


def element(kind: str) -> tuple[str, str]:
    """How a type holds what (``one``, ``list`` or ``map``), and what."""
    kind = kind.removesuffix("!")
    if listed := _LISTED.fullmatch(kind):
        return "list", listed[1] or listed[2] or "object"
    if mapped := _MAPPED.fullmatch(kind):
        return "map", mapped[1]
    return "one", kind.removesuffix(" object")


def innermost(kind: str) -> str:
    """What a type holds, however deep: ``LabelStats`` for ``Map<String,Array<LabelStats>>``."""
    holds, what = element(kind)
    return what if holds == "one" else innermost(what)


def wrong(answer: Any, fields: Mapping[str, str], names: Mapping[str, str], at: str = "") -> Iterator[str]:
    """What of an answer is of another type than documented. What is absent or null is not wrong here."""
    if not isinstance(answer, dict):
        yield f"{at or 'the answer'} is {answer!r}, not an object"
        return
    for name, kind in fields.items():
        if answer.get(name) is not None:
            yield from _wrong(answer[name], kind, names, f"{at}.{name}" if at else name)


def _wrong(value: Any, kind: str, names: Mapping[str, str], at: str) -> Iterator[str]:
    holds, what = element(kind)
    if holds == "list":
        if not isinstance(value, list):
            yield f"{at} is {value!r}, documented as {kind}"
            return
        for index, one in enumerate(value):
            yield from _wrong(one, what, names, f"{at}[{index}]")
    elif holds == "map":
        if not isinstance(value, dict):
            yield f"{at} is {value!r}, documented as {kind}"
            return
        for key, one in value.items():
            yield from _wrong(one, what, names, f"{at}.{key}")
    elif (fields := model(what, names)) is not None:
        yield from wrong(value, fields, names, at)
    elif what in _PLAIN:
        fits = isinstance(value, _PLAIN[what]) and (what == "Boolean" or not isinstance(value, bool))
        if not fits:
            yield f"{at} is {value!r}, documented as {kind}"


def documented(
    fields: Mapping[str, str], names: Mapping[str, str], owner: str, depth: int | None = None
) -> Iterator[str]:
    """All documented fields, as ``Model.field`` (``owner.field`` for those of the request or the answer itself).

    With a `depth` those so far down: 1 are the own ones, 2 also those of the models these hold.
    """
    seen: set[str] = set()

    def walk(fields: Mapping[str, str], owner: str, left: int | None) -> Iterator[str]:
        inside = []
        for name, kind in fields.items():
            yield f"{owner}.{name}"
            what = innermost(kind)
            inner = model(what, names)
            if inner is not None and what not in seen and left != 1:
                seen.add(what)
                inside.append((inner, what))
        for inner, what in inside:
            yield from walk(inner, what, None if left is None else left - 1)

    return walk(fields, owner, depth)


def answered(answer: Any, fields: Mapping[str, str], names: Mapping[str, str], owner: str) -> Iterator[str]:
    """The documented fields that an answer has, as `documented` names them; null or empty counts as none."""
    for name, kind in fields.items():
        value = answer.get(name)
        if value is not None and value not in ("", [], {}):
            yield f"{owner}.{name}"
            yield from _answered(value, kind, names)


def _answered(value: Any, kind: str, names: Mapping[str, str]) -> Iterator[str]:
    holds, what = element(kind)
    if holds != "one":
        for one in value if holds == "list" else value.values():
            yield from _answered(one, what, names)
    elif (fields := model(what, names)) is not None:
        yield from answered(value, fields, names, what)


def taken(api: Mapping[str, Any], operation: Operation) -> set[str] | None:
    """The documented fields of the request that our own OpenAPI document describes; None for a call it lacks.

    An object described as free (``additionalProperties``) takes any field.
    """
    call = next(
        (
            one
            for path, methods in api["paths"].items()
            for method, one in methods.items()
            if shape(method, path) == operation.shape
        ),
        None,
    )
    if call is None:
        return None
    found = {f"query.{p['name']}" for p in call.get("parameters", ()) if p["in"] == "query"}
    contents = call.get("requestBody", {}).get("content", {})
    for content in contents.values():
        found |= _taken(api, content["schema"], operation.body, operation.body_models, "body", frozenset())
    return found


def _taken(
    api: Mapping[str, Any],
    schema: Mapping[str, Any],
    fields: Mapping[str, str],
    names: Mapping[str, str],
    owner: str,
    above: frozenset[str],
) -> set[str]:
    found = set()
    for name, kind in fields.items():
        for one in _alternatives(api, schema):
            inner_schema = one.get("properties", {}).get(name)
            if inner_schema is None and one.get("additionalProperties") is not True:
                continue
            inner_schema = inner_schema or {"type": "object", "additionalProperties": True}
            found.add(f"{owner}.{name}")
            what = element(kind)[1]
            inner = model(what, names)
            if inner is not None and what not in above:
                found |= _taken(api, inner_schema, inner, names, what, above | {what})
    return found


def _alternatives(api: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A schema with its references followed, the choices it offers, and what its lists and maps hold."""
    if "$ref" in schema:
        yield from _alternatives(api, api["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        return
    yield schema
    for key in ("anyOf", "allOf", "oneOf"):
        for one in schema.get(key, ()):
            yield from _alternatives(api, one)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _alternatives(api, schema[key])
