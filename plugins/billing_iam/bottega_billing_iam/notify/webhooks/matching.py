"""Which events a webhook wants: patterns over the type, and conditions that must all hold."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from bottega.errors import Invalid
from bottega.events import Envelope

_TOKEN = re.compile(r"[a-z0-9_-]+|\*")
_FIELD = r"^(subject|source|workspace|authid|authtype|data(\.[A-Za-z0-9_-]{1,64}){1,8})$"
_OPERATORS = ("equals", "in", "prefix", "exists")
_MISSING = object()

Value = Annotated[StrictBool | StrictInt | StrictFloat | Annotated[StrictStr, Field(max_length=500)], Field()]


class Condition(BaseModel):
    """One condition: a `field` and exactly one of ``equals``, ``in``, ``prefix`` and ``exists``."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    field: str = Field(pattern=_FIELD)
    equals: Value | None = None
    among: list[Value] | None = Field(default=None, alias="in", min_length=1, max_length=100)
    prefix: StrictStr | None = Field(default=None, min_length=1, max_length=500)
    exists: StrictBool | None = None

    @model_validator(mode="after")
    def _one_operator(self) -> Condition:
        given = [o for o in _OPERATORS if getattr(self, "among" if o == "in" else o) is not None]
        if len(given) != 1:
            said = f"has {' and '.join(given)}" if given else "has none"
            raise ValueError(f"a condition has exactly one of {', '.join(_OPERATORS)}; this one {said}")
        return self

    def holds(self, value: Any) -> bool:
        """`value` is what the field holds, or `_MISSING`."""
        if self.exists is not None:
            return self.exists == (value is not _MISSING)
        if self.prefix is not None:
            return isinstance(value, str) and value.startswith(self.prefix)
        wanted = self.among if self.among is not None else [self.equals]
        return any(value == w and isinstance(value, bool) == isinstance(w, bool) for w in wanted)


def check_patterns(patterns: Sequence[str], known: Iterable[str]) -> list[str]:
    """The known types that any of the patterns matches. Raises Invalid for one that is malformed or matches none."""
    types = sorted(known)
    found: set[str] = set()
    for number, pattern in enumerate(patterns):
        tokens = pattern.split(".")
        body = tokens[:-1] if tokens[-1] == ">" else tokens
        for token in body:
            if not _TOKEN.fullmatch(token):
                raise Invalid(
                    f"events.{number}: '{token}' in '{pattern}' is not a part of an event type; write words of a-z, "
                    "0-9, '_' and '-' between dots, * for any one word, and > at the end for all that follows"
                )
        matching = [t for t in types if matches(pattern, t)]
        if not matching:
            near = difflib.get_close_matches(pattern, types, n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise Invalid(f"events.{number}: no event here has a type like '{pattern}'{hint} (bottega events schema)")
        found.update(matching)
    return sorted(found)


@lru_cache(maxsize=20_000)
def matches(pattern: str, type: str) -> bool:
    """Whether a pattern matches a type; a pattern without a version means every version."""
    wanted, given = pattern.split("."), type.split(".")
    if wanted[-1] == ">":
        wanted = wanted[:-1]
        return len(given) > len(wanted) and _same(wanted, given)
    if len(wanted) == len(given) - 1:
        given = given[:-1]
    return len(wanted) == len(given) and _same(wanted, given)


def _same(wanted: Sequence[str], given: Sequence[str]) -> bool:
    return all(w in ("*", g) for w, g in zip(wanted, given, strict=False))


def field_of(field: str, envelope: Envelope, workspace: str) -> Any:
    """What an event holds in a field of a condition, or `_MISSING`."""
    if not field.startswith("data."):
        kind, _, ident = envelope.actor.partition(":")
        return {
            "subject": envelope.urn,
            "source": envelope.source,
            "workspace": workspace,
            "authtype": kind,
            "authid": ident,
        }[field]
    value: Any = envelope.data
    for part in field.split(".")[1:]:
        if not isinstance(value, dict) or part not in value:
            return _MISSING
        value = value[part]
    return _MISSING if value is None else value
