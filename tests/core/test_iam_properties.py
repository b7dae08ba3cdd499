"""Whatever is given as a policy is one, or is refused with its mistakes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bottega.errors import Invalid
from bottega.iam import check_policy, parse_policy

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


@settings(max_examples=500, deadline=None)
@given(JSON | NEARLY_A_POLICY)
def test_any_json_is_a_policy_or_invalid(document: Any) -> None:
    for form in (document, json.dumps(document), json.dumps(document).encode()):
        try:
            statements = len(parse_policy(form).statements)
            assert check_policy(form) == []
        except Invalid as error:
            statements = len(error.message.encode())
            assert all(str(problem).encode() for problem in check_policy(form))
        assert statements > 0


@settings(max_examples=200, deadline=None)
@given(st.text() | st.binary())
def test_any_text_is_a_policy_or_invalid(text: str | bytes) -> None:
    with pytest.raises(Invalid):
        parse_policy(text)
