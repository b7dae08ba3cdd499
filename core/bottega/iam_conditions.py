"""Condition operators of a policy statement (part of :mod:`bottega.iam`; pure).

A statement's ``Condition`` is ``{operator: {key: [values]}}``. All operators and all keys must hold;
of the values one has to match (``Not…`` operators: none may match). A key that the request does not
carry makes an operator false, a ``Not…`` operator true, and an operator with the suffix ``IfExists``
true. A value of the request that cannot be read as the operator's type matches nothing.

A key may have several values (a list): then one of them has to match, for a ``Not…`` operator all. Before the
operator, ``ForAnyValue:`` asks that one of them passes the operator's test (no key: false), ``ForAllValues:`` that
all do (no key: true).
"""

from __future__ import annotations

import math
import operator as op
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

ContextValue = str | int | float | bool | datetime | Sequence[str] | None
Context = Mapping[str, ContextValue]
Test = Callable[[Any], bool]

ENTERPRISE_PROJECT = "g:EnterpriseProjectId"
GLOBAL_KEYS = (
    "g:CurrentTime",
    "g:DomainId",
    "g:DomainName",
    ENTERPRISE_PROJECT,
    "g:MFAAge",
    "g:MFAPresent",
    "g:ProjectId",
    "g:ProjectName",
    "g:SourceIp",
    "g:TokenAge",
    "g:UserId",
    "g:UserName",
)
"""Keys that hold for every action; all others are ``service:key``. Ages are in seconds."""
RESOURCE_TAG = "g:ResourceTag/"
"""Before the key of a tag of the resource acted on."""

_KEY = re.compile(r"[A-Za-z0-9_.-]+:[A-Za-z0-9_./-]+")
_IF_EXISTS = "IfExists"
_ANY, _ALL = "ForAnyValue:", "ForAllValues:"


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key. ``values`` are as written, as strings."""

    operator: str
    key: str
    values: tuple[str, ...]
    if_missing: bool = field(repr=False)
    test: Test = field(repr=False, compare=False)
    any_value: bool = field(repr=False)

    def holds(self, context: Context) -> bool:
        value = context.get(self.key)
        if value is None:
            return self.if_missing
        if isinstance(value, list | tuple):
            some = any if self.any_value else all
            return some(self.test(one) for one in value) if value else self.if_missing
        return self.test(value)


def glob(pattern: str) -> Callable[[str], bool]:
    """A matcher for ``pattern``, in which ``*`` stands for any characters, also none, ``:`` and ``/``.

    Linear in the text: unlike a regular expression it cannot be made to backtrack by a hostile pattern.
    """
    head, *rest = pattern.split("*")
    if not rest:
        return lambda text: text == pattern
    tail = rest.pop()
    middle = [part for part in rest if part]
    if not middle and not tail:
        return lambda text: text.startswith(head)
    if len(middle) == 1 and not tail:
        (only,), after = middle, len(head)
        return lambda text: text.startswith(head) and text.find(only, after) >= 0

    def match(text: str) -> bool:
        if not (text.startswith(head) and text.endswith(tail)):
            return False
        at, end = len(head), len(text) - len(tail)
        for part in middle:
            at = text.find(part, at, end)
            if at < 0:
                return False
            at += len(part)
        return at <= end

    return match


def parse_conditions(element: object, at: str, wrong: Callable[[str, str], None]) -> tuple[Condition, ...]:
    """Check and build the ``Condition`` of a statement, found at the position ``at``.

    :param wrong: told the position and reason of each mistake: the wrong shape, an unknown operator or key, or a
        value that is not of the operator's type. What has one is left out.
    """
    right = 'write {"StringEquals": {"g:UserName": ["alice"]}}'
    if not isinstance(element, dict) or not element:
        wrong(at, f"must be an object of operators: {right}")
        return ()
    conditions = []
    for operator, keys in element.items():
        here = pointer(at, operator)
        name = _base(operator)
        if name not in _OPERATORS or (name in _NULL_CHECKS and name != operator):
            near = get_close_matches(operator, _OPERATORS, 1)
            wrong(here, f"{operator!r} is not an operator: write {near[0] if near else 'one of ' + _LIST}")
        elif not isinstance(keys, dict) or not keys:
            wrong(here, f"must be an object of keys: {right}")
        else:
            found = [_condition(operator, key, values, pointer(here, key), wrong) for key, values in keys.items()]
            conditions += [condition for condition in found if condition is not None]
    return tuple(conditions)


def _base(operator: str) -> str:
    """An operator without ``ForAnyValue:``, ``ForAllValues:`` and ``IfExists``."""
    return operator.removeprefix(_ANY).removeprefix(_ALL).removesuffix(_IF_EXISTS)


def pointer(at: str, *parts: str | int) -> str:
    """The JSON pointer (RFC 6901) of a part below ``at``."""
    return at + "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _condition(
    operator: str, key: str, element: object, at: str, wrong: Callable[[str, str], None]
) -> Condition | None:
    tag = key.startswith(RESOURCE_TAG) and key != RESOURCE_TAG
    if key.startswith("g:") and key not in GLOBAL_KEYS and not tag:
        wrong(at, f"{key!r} is not a global key: write one of {', '.join(GLOBAL_KEYS)} or {RESOURCE_TAG}<key>")
        return None
    if not tag and not _KEY.fullmatch(key):
        wrong(at, f"{key!r} is not a condition key: write one such as g:UserName or obs:prefix")
        return None
    name = _base(operator)
    build = _OPERATORS[name]
    given = element if isinstance(element, list) else [element]
    if not given:
        wrong(at, "is empty: give at least one value")
    values = []
    for index, value in enumerate(given):
        here = pointer(at, index) if isinstance(element, list) else at
        if not isinstance(value, str | int | float):
            wrong(here, f"must be a text, a number or a truth value, not {json_kind(value)}")
            continue
        try:
            build([_text(value)])
        except ValueError as error:
            wrong(here, str(error))
            continue
        values.append(_text(value))
    if not values:
        return None
    if name in _NULL_CHECKS:
        wanted = {_boolean(value) for value in values}
        return Condition(operator, key, tuple(values), True in wanted, lambda _: False in wanted, True)
    negated = "Not" in name
    if_missing = operator.endswith(_IF_EXISTS) or operator.startswith(_ALL)
    if_missing = if_missing or (negated and not operator.startswith(_ANY))
    any_value = operator.startswith(_ANY) or not (negated or operator.startswith(_ALL))
    return Condition(operator, key, tuple(values), if_missing, build(values), any_value)


def json_kind(value: object) -> str:
    """What JSON calls the type of ``value``, with its article."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _text(value: ContextValue) -> str:
    if type(value) is str:
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _lower(value: ContextValue) -> str:
    return _text(value).lower()


def _string(compare: Callable[[str], Callable[[str], bool]], ignore_case: bool) -> Callable[..., Test]:
    read = _lower if ignore_case else _text

    def build(values: Sequence[str]) -> Test:
        tests = [compare(read(value)) for value in values]

        def test(value: ContextValue) -> bool:
            text = read(value)
            for passes in tests:  # noqa: SIM110  # a generator for any() takes longer than the tests
                if passes(text):
                    return True
            return False

        return test

    return build


def _ordered(read: Callable[[ContextValue], Any], compare: Callable[[Any, Any], bool]) -> Callable[..., Test]:
    """Comparison of values that ``read`` makes from text; it raises ValueError where it cannot."""

    def build(values: Sequence[str]) -> Test:
        bounds = [read(value) for value in values]

        def test(value: ContextValue) -> bool:
            try:
                given = read(value)
            except ValueError:
                return False
            return any(compare(given, bound) for bound in bounds)

        return test

    return build


def _number(value: ContextValue) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{_text(value)!r} is not a number")
    return number


def _date(value: ContextValue) -> datetime:
    date = value if isinstance(value, datetime) else _read_date(_text(value))
    return date if date.tzinfo else date.replace(tzinfo=UTC)


@lru_cache(maxsize=1024)
def _read_date(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time: write it as 2026-01-31T23:59:59Z") from None


def _boolean(value: ContextValue) -> bool:
    if (text := _lower(value)) in ("true", "false"):
        return text == "true"
    raise ValueError(f"{value!r} is not a truth value: write true or false")


@lru_cache(maxsize=1024)
def _address(value: str) -> IPv4Address | IPv6Address:
    address = ip_address(value)
    # A dual-stack listener shows IPv4 callers as ::ffff:a.b.c.d; rules are written for a.b.c.d.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _networks(values: Sequence[str]) -> Test:
    networks: list[IPv4Network | IPv6Network] = []
    for value in values:
        try:
            networks.append(ip_network(value, strict=False))
        except ValueError:
            raise ValueError(f"{value!r} is not an address range: write it as 192.0.2.0/24") from None

    def test(value: ContextValue) -> bool:
        try:
            address = _address(_text(value))
        except ValueError:
            return False
        return any(address in network for network in networks)

    return test


def _not(build: Callable[[Sequence[str]], Test]) -> Callable[[Sequence[str]], Test]:
    def negated(values: Sequence[str]) -> Test:
        test = build(values)
        return lambda value: not test(value)

    return negated


def _operators() -> dict[str, Callable[[Sequence[str]], Test]]:
    strings: dict[str, Callable[[str], Callable[[str], bool]]] = {
        "Equals": lambda wanted: lambda text: text == wanted,
        "Like": glob,
        "StartWith": lambda wanted: lambda text: text.startswith(wanted),
        "EndWith": lambda wanted: lambda text: text.endswith(wanted),
    }
    table: dict[str, Callable[[Sequence[str]], Test]] = {}
    for name, compare in strings.items():
        for suffix in ("", "IgnoreCase"):
            table[f"String{name}{suffix}"] = build = _string(compare, bool(suffix))
            table[f"StringNot{name}{suffix}"] = _not(build)
    orders = {
        "LessThan": op.lt,
        "LessThanEquals": op.le,
        "GreaterThan": op.gt,
        "GreaterThanEquals": op.ge,
    }
    for kind, read in (("Number", _number), ("Date", _date)):
        table[f"{kind}Equals"] = build = _ordered(read, op.eq)
        table[f"{kind}NotEquals"] = _not(build)
        for name, order in orders.items():
            table[kind + name] = _ordered(read, order)
    table["Bool"] = _ordered(_boolean, op.eq)
    table["IpAddress"] = _networks
    table["NotIpAddress"] = _not(_networks)
    table["IsNull"] = table["Null"] = _ordered(_boolean, op.eq)
    return table


_NULL_CHECKS = frozenset({"IsNull", "Null"})
_OPERATORS = _operators()
_LIST = ", ".join(_OPERATORS)
