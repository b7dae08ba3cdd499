"""Policies: anything is a policy or Invalid, and the compiled evaluator equals a deliberately naive one."""

from __future__ import annotations

import fnmatch
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottega.errors import Invalid
from bottega.iam import compile_policies, parse_policy
from bottega.iam_conditions import GLOBAL_KEYS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ELEMENTS = JSON | st.sampled_from(["Allow", "Deny", "*", "a:b:c", ["a:*:c"], {"StringEquals": {"g:UserName": "x"}}])
NEARLY_A_STATEMENT = st.dictionaries(
    st.sampled_from(["Effect", "Action", "NotAction", "Resource", "Condition", "Sid"]), ELEMENTS
)
CONDITIONAL = st.dictionaries(
    st.sampled_from(["StringEquals", "NumberLessThanIfExists", "IpAddress", "DateEquals", "IsNull", "Null", "?"]),
    st.dictionaries(st.sampled_from(["g:SourceIp", "g:x", "a:b", ""]), JSON, max_size=2) | JSON,
)
NEARLY_ALLOWED = CONDITIONAL.map(lambda c: {"Effect": "Allow", "Action": "a:b:c", "Condition": c})
NEARLY_A_POLICY = st.fixed_dictionaries(
    {
        "Version": st.sampled_from(["1.1", "1.0"]) | JSON,
        "Statement": st.lists(
            NEARLY_A_STATEMENT | NEARLY_ALLOWED | JSON,
            max_size=2,
        )
        | JSON,
    },
    optional={"Depends": st.lists(st.dictionaries(st.sampled_from(["catalog", "display_name"]), JSON)) | JSON},
)


@settings(max_examples=1500, deadline=None)
@given(JSON | NEARLY_A_POLICY)
def test_any_json_is_a_policy_or_invalid(document: Any) -> None:
    for form in (document, json.dumps(document), json.dumps(document).encode()):
        try:
            statements = len(parse_policy(form).statements)
        except Invalid as error:
            statements = len(error.message.encode())
        assert statements > 0


@settings(max_examples=300, deadline=None)
@given(st.text() | st.binary())
def test_any_text_is_a_policy_or_invalid(text: str | bytes) -> None:
    with pytest.raises(Invalid):
        parse_policy(text)


WORDS = st.sampled_from(["a", "b", "ab", "ba", "list", "listAll", "A"])
STARRED = st.sampled_from(["*", "a*", "*b", "a*b", "*a*", "list*", "ab", "a", "LIST", "b"])
ACTIONS = st.tuples(WORDS, WORDS, WORDS).map(":".join)
ACTION_PATTERNS = st.tuples(STARRED, STARRED, STARRED).map(":".join) | ACTIONS | st.just("*")
RESOURCE_PATTERNS = st.text("ab/:*.[", min_size=1, max_size=5)
RESOURCES = st.text("ab/:.[", max_size=6) | st.just("*")
NAMES = st.sampled_from(["ann", "Ann", "bob", "annbob", ""])
NUMBERS = st.integers(-2, 2)
TIMES = st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-02", "2027-01-01T00:00:00Z"])
NETWORKS = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "192.0.2.1"])
ADDRESSES = st.sampled_from(["10.1.2.3", "10.2.3.4", "192.0.2.1", "192.0.2.2"])
CONDITIONS = st.one_of(
    st.tuples(
        st.sampled_from(["Equals", "NotEquals", "Like", "NotLike", "StartWith", "EndWith"]).flatmap(
            lambda name: st.sampled_from([f"String{name}", f"String{name}IgnoreCase"])
        ),
        st.just("g:UserName"),
        st.lists(NAMES | st.sampled_from(["a*", "*bob", "*"]), min_size=1, max_size=2),
    ),
    st.tuples(
        st.sampled_from(["Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"]).map(
            "Number".__add__
        ),
        st.just("modelarts:nodes"),
        st.lists(NUMBERS, min_size=1, max_size=2),
    ),
    st.tuples(
        st.sampled_from(["DateLessThan", "DateGreaterThanEquals", "DateEquals", "DateNotEquals"]),
        st.just("g:CurrentTime"),
        st.lists(TIMES, min_size=1, max_size=2),
    ),
    st.tuples(st.just("Bool"), st.just("g:MFAPresent"), st.lists(st.booleans(), min_size=1, max_size=2)),
    st.tuples(
        st.sampled_from(["IpAddress", "NotIpAddress"]),
        st.just("g:SourceIp"),
        st.lists(NETWORKS, min_size=1, max_size=2),
    ),
).flatmap(lambda c: st.sampled_from([c, (c[0] + "IfExists", *c[1:])])) | st.tuples(
    st.sampled_from(["IsNull", "Null"]),
    st.sampled_from(GLOBAL_KEYS),
    st.lists(st.booleans(), min_size=1, max_size=1),
)


@st.composite
def statements(draw: st.DrawFn) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": draw(st.sampled_from(["Allow", "Allow", "Deny"]))}
    key = draw(st.sampled_from(["Action", "Action", "Action", "NotAction"]))
    statement[key] = draw(st.lists(ACTION_PATTERNS, min_size=1, max_size=3))
    if draw(st.booleans()):
        statement["Resource"] = draw(st.lists(RESOURCE_PATTERNS, min_size=1, max_size=3))
    if draw(st.booleans()):
        condition: dict[str, dict[str, Any]] = {}
        for operator, name, values in draw(st.lists(CONDITIONS, min_size=1, max_size=2)):
            condition.setdefault(operator, {})[name] = values
        statement["Condition"] = condition
    return statement


POLICIES = st.lists(st.lists(statements(), min_size=1, max_size=3), max_size=4)
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "g:UserName": NAMES,
        "modelarts:nodes": NUMBERS | NUMBERS.map(str),
        "g:CurrentTime": TIMES | TIMES.map(datetime.fromisoformat),
        "g:MFAPresent": st.booleans(),
        "g:SourceIp": ADDRESSES,
    },
)


def naive_match(pattern: str, text: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]").replace("?", "[?]"))


def naive_date(value: Any) -> datetime:
    date = datetime.fromisoformat(value) if isinstance(value, str) else value
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def naive_address(text: str) -> int:
    a, b, c, d = (int(part) for part in text.split("."))
    return ((a * 256 + b) * 256 + c) * 256 + d


def naive_value_matches(name: str, wanted: Any, value: Any) -> bool:
    if name.startswith("String"):
        text, wanted = (value.lower(), wanted.lower()) if name.endswith("IgnoreCase") else (value, wanted)
        compare = name.removeprefix("String").removesuffix("IgnoreCase")
        texts = {
            "Equals": text == wanted,
            "Like": naive_match(wanted, text),
            "StartWith": text[: len(wanted)] == wanted,
            "EndWith": wanted == "" or text[-len(wanted) :] == wanted,
        }
        return bool(texts[compare])
    if name == "IpAddress":
        network, _, bits = wanted.partition("/")
        shift = 32 - int(bits or "32")
        return naive_address(value) >> shift == naive_address(network) >> shift
    if name == "Bool":
        return bool(value) == bool(wanted)
    kind = "Number" if name.startswith("Number") else "Date"
    read: Any = float if kind == "Number" else naive_date
    left, right = read(value), read(wanted)
    answers = {
        "Equals": left == right,
        "LessThan": left < right,
        "LessThanEquals": left <= right,
        "GreaterThan": left > right,
        "GreaterThanEquals": left >= right,
    }
    return bool(answers[name.removeprefix(kind)])


def naive_condition(operator: str, key: str, values: list[Any], context: dict[str, Any]) -> bool:
    if operator in ("IsNull", "Null"):
        return any((key not in context) == value for value in values)
    if key not in context:
        return "Not" in operator or operator.endswith("IfExists")
    name = operator.removesuffix("IfExists")
    found = any(naive_value_matches(name.replace("Not", ""), value, context[key]) for value in values)
    return not found if "Not" in name else found


def naive_decide(
    documents: list[list[dict[str, Any]]], action: str, resource: str, context: dict[str, Any]
) -> tuple[str, int | None, int | None]:
    """Reason, policy and statement, by trying every statement in turn."""
    for effect, reason in (("Deny", "explicit deny"), ("Allow", "explicit allow")):
        for number, document in enumerate(documents):
            for index, statement in enumerate(document):
                listed = statement.get("Action") or statement["NotAction"]
                named = any(naive_match(pattern.lower(), action.lower()) for pattern in listed)
                if (
                    statement["Effect"] == effect
                    and named == ("Action" in statement)
                    and any(naive_match(pattern, resource) for pattern in statement.get("Resource", ["*"]))
                    and all(
                        naive_condition(operator, key, values, context)
                        for operator, keys in statement.get("Condition", {}).items()
                        for key, values in keys.items()
                    )
                ):
                    return reason, number, index
    return "no statement allows it", None, None


@settings(max_examples=2500, deadline=None)
@given(POLICIES, st.lists(st.tuples(ACTIONS, RESOURCES, CONTEXTS), min_size=1, max_size=4))
def test_the_compiled_evaluator_equals_a_naive_one(
    documents: list[list[dict[str, Any]]], questions: list[tuple[str, str, dict[str, Any]]]
) -> None:
    caller = compile_policies(
        (parse_policy({"Version": "1.1", "Statement": document}, str(number)), "a group")
        for number, document in enumerate(documents)
    )
    for action, resource, context in questions * 2:
        decision = caller.decide(action, resource, context)
        reason, number, index = naive_decide(documents, action, resource, context)
        assert (decision.reason, decision.statement) == (reason, index)
        assert decision.policy == (None if number is None else str(number))
        assert decision.allowed == (reason == "explicit allow")
        assert action in decision.explain() or decision.policy is not None
