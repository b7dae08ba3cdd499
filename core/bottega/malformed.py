"""What is wrong with a request, in words: a framework's findings as one message for the caller."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError

_CHARACTERS = re.compile(r"\^?(?:\[(?P<first>[^\]^]+)\])?\[(?P<rest>[^\]^]+)\](?P<count>\*|\+|\{\d+(?:,\d+)?\})?\$?")
_WORDS = re.compile(r"\^?\((?P<words>[\w|]+)\)\$?")
_RANGES = {"A-Z": "A to Z", "a-z": "a to z", "0-9": "digits", "a-f": "a to f"}


def explain(error: RequestValidationError, content_type: str) -> str:
    """The first five findings, each with its place in the request."""
    return "; ".join(_describe(problem, error.body, content_type) for problem in error.errors()[:5])


def _describe(problem: Mapping[str, Any], body: Any, content_type: str) -> str:
    place = [str(p) for p in problem["loc"]]
    if problem["type"] == "json_invalid":
        return f"the body is not JSON: {problem['ctx']['error']}{_position(body, problem['loc'][-1])}"
    if place == ["body"] and isinstance(problem.get("input"), bytes | str) and "json" not in content_type:
        given = f"'{content_type}'" if content_type else "none"
        return f"the body is not JSON by its Content-Type ({given}); send 'Content-Type: application/json'"
    where = ".".join(p for p in place if p != "body") or "body"
    if problem["type"] == "string_pattern_mismatch":
        return f"{where}: {_allowed(problem['ctx']['pattern'])}"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


def _position(body: Any, at: Any) -> str:
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    if not isinstance(text, str) or not isinstance(at, int):
        return ""
    return f", line {text.count(chr(10), 0, at) + 1} column {at - text.rfind(chr(10), 0, at)}"


def _allowed(pattern: str) -> str:
    """A pattern of a field in words; a pattern too rich for words stays one."""
    if words := _WORDS.fullmatch(pattern):
        return f"must be one of: {', '.join(w for w in words['words'].split('|') if w)}"
    if (found := _CHARACTERS.fullmatch(pattern)) is None:
        return f"does not have the form {pattern}"
    text = f"only {_class(found['rest'])} may be used"
    if found["first"]:
        text += f", and first only {_class(found['first'])}"
    count = (found["count"] or "{1}").strip("{}")
    if count in "*+":
        return text
    least, separator, most = count.partition(",")
    extra = 1 if found["first"] else 0
    shortest, longest = int(least) + extra, int(most or least) + extra
    return f"{text}, {shortest} to {longest} characters" if separator else f"{text}, {shortest} characters"


def _class(characters: str) -> str:
    named = []
    for key, word in _RANGES.items():
        if key in characters:
            named.append(word)
            characters = characters.replace(key, "")
    return ", ".join([*named, *(f"'{c}'" for c in characters if c != "\\")])
