"""What is wrong with a policy: every mistake, its position, and what would be right."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from bottega.errors import Invalid
from bottega.iam import InvalidPolicy, check_policy, parse_policy


def allow(*actions: str, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), **more}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"Version": "1.1",\n "Statement": }', "line 2 column 15: not JSON: Expecting value"),
        (b"\xff", "byte 0: not UTF-8 text: save the policy as UTF-8"),
        (
            '{"Version": "1.1", "Version": "1.0", "Statement": [{"Effect": "Deny", "Action": "*"}]}',
            "'Version' stands twice in one object: write it once",
        ),
        ("[]", 'the policy is a list: write {"Version": "1.1", "Statement": [...]}'),
        (
            "{}",
            (
                '/Version is null: write "1.1" (fine-grained) or "1.0" (role-based); '
                "/Statement is missing: write a list of statements"
            ),
        ),
        (
            '{"Version": 1.1, "Statement": [{"Effect": "Deny", "Action": "*"}]}',
            '/Version is 1.1: write "1.1" (fine-grained) or "1.0" (role-based)',
        ),
        ('{"Version": "1.1"}', "/Statement is missing: write a list of statements"),
        ('{"Version": "1.1", "Statement": []}', "/Statement is empty: write a list of statements"),
        (
            '{"Version": "1.1", "Statement": [{"Effect": "Deny", "Action": "*"}], "Depends": []}',
            '/Depends: "Depends" does not belong here: version 1.1 knows Version, Statement',
        ),
        (
            '{"Version": "1.0", "Statement": [{"Effect": "Allow", "Action": "*"}], "Depends": [1]}',
            (
                "/Depends/0 must have a catalog and a display_name and nothing else: "
                'write {"catalog": "BASE", "display_name": "Tenant Guest"}'
            ),
        ),
        (
            '{"Version": "1.0", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "a"}]}',
            '/Statement/0/Resource: "Resource" does not belong here: version 1.0 knows Effect, Action',
        ),
    ],
)
def test_what_is_wrong_with_a_document(text: str | bytes, message: str) -> None:
    with pytest.raises(Invalid, match=f"^{re.escape(message)}$"):
        parse_policy(text)
    with pytest.raises(Invalid, match=f'^{re.escape(f"""policy "mine": {message}""")}$'):
        parse_policy(text, "mine")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("x", '/Statement/1 is a text: write a statement such as {"Effect": "Allow", "Action": '),
        ({"Effect": "allow"}, '/Statement/1/Effect is "allow": write "Allow" or "Deny"'),
        ({"Efect": "Allow"}, '/Statement/1/Efect: "Efect" does not belong here: write Effect'),
        ({"Effect": "Deny"}, "/Statement/1 has no Action: give it exactly one of Action and NotAction"),
        (allow("*", NotAction=["*"]), "/Statement/1 has both Action and NotAction: give it exactly one"),
        (allow(), "/Statement/1/Action is empty: write an action or a list of actions"),
        (
            allow("a:b:c", "modelarts:create"),
            '/Statement/1/Action/1: "modelarts:create" is not an action: write ',
        ),
        (
            allow("obs:bucket>List"),
            '/Statement/1/Action/0: "obs:bucket>List" is not an action: write obs:bucket:List',
        ),
        (
            {"Effect": "Deny", "Action": {"a": 1}},
            "/Statement/1/Action is an object: write an action or a list",
        ),
        ({"Effect": "Deny", "Action": ["*", 7]}, "/Statement/1/Action/1 is 7: write a text"),
        (allow("*", Resource=[]), "/Statement/1/Resource is empty: write a resource pattern"),
        (allow("*", Resource=[""]), "/Statement/1/Resource/0 is empty: write a resource pattern"),
        (allow("*", Resource={"url": []}), "/Statement/1/Resource must have a uri and nothing else"),
        (allow("*", Resource={"uri": [None]}), "/Statement/1/Resource/uri/0 is null: write a text"),
        (allow("*", Condition={}), "/Statement/1/Condition must be an object of operators: write "),
        (
            allow("*", Condition={"StringEqual": {"g:UserName": "a"}}),
            "/Statement/1/Condition/StringEqual: 'StringEqual' is not an operator: write StringEquals",
        ),
        (
            allow("*", Condition={"Bool": {"g:MfaPresent": "true"}}),
            "/Statement/1/Condition/Bool/g:MfaPresent: 'g:MfaPresent' is not a global key: write one of",
        ),
        (
            allow("*", Condition={"Bool": {"a/b~c": "true"}}),
            "/Statement/1/Condition/Bool/a~1b~0c: 'a/b~c' is not a condition key: write one",
        ),
        (
            allow("*", Condition={"NumberEquals": {"a:b": [1, "two"]}}),
            "/Statement/1/Condition/NumberEquals/a:b/1: 'two' is not a number",
        ),
        (
            allow("*", Condition={"DateLessThan": {"g:CurrentTime": "soon"}}),
            "/Statement/1/Condition/DateLessThan/g:CurrentTime: 'soon' is not a time: write ",
        ),
        (
            allow("*", Condition={"IpAddress": {"g:SourceIp": ["10.0.0.0/33"]}}),
            "/Statement/1/Condition/IpAddress/g:SourceIp/0: '10.0.0.0/33' is not an address",
        ),
        (
            allow("*", Condition={"IsNull": {"g:UserName": ["maybe"]}}),
            "/Statement/1/Condition/IsNull/g:UserName/0: 'maybe' is not a truth value: write true or false",
        ),
        (
            allow("*", Condition={"Bool": {"a:b": []}}),
            "/Statement/1/Condition/Bool/a:b is empty: give at least one",
        ),
        (
            allow("*", Condition={"Bool": {"a:b": [{}]}}),
            "/Statement/1/Condition/Bool/a:b/0 must be a text, a number",
        ),
    ],
)
def test_what_is_wrong_with_a_statement(statement: object, message: str) -> None:
    with pytest.raises(Invalid, match=f"^{re.escape(message)}"):
        parse_policy({"Version": "1.1", "Statement": [allow("*"), statement]})


def test_every_mistake_is_told() -> None:
    document = {
        "Version": "1.1",
        "Depends": [],
        "Statement": [
            {"Effect": "allow", "Action": ["a:b:c", "nothing", 7]},
            "x",
            {
                "Effect": "Deny",
                "Resource": [""],
                "Condition": {
                    "StringEqual": {"g:UserName": "a"},
                    "NumberEquals": {"a:b": [1, "two", "three"], "g:Nothing": 1},
                },
            },
        ],
    }
    for form in (document, json.dumps(document)):
        found = check_policy(form)
        assert [problem.position for problem in found] == [
            "/Depends",
            "/Statement/0/Effect",
            "/Statement/0/Action/2",
            "/Statement/0/Action/1",
            "/Statement/1",
            "/Statement/2",
            "/Statement/2/Resource/0",
            "/Statement/2/Condition/StringEqual",
            "/Statement/2/Condition/NumberEquals/a:b/1",
            "/Statement/2/Condition/NumberEquals/a:b/2",
            "/Statement/2/Condition/NumberEquals/g:Nothing",
        ]
        with pytest.raises(InvalidPolicy) as refused:
            parse_policy(form, "mine")
        assert list(refused.value.problems) == found
        assert all(str(problem) in refused.value.message for problem in found)
    assert check_policy({"Version": "1.1", "Statement": [allow("obs:bucket:ListBucket")]}) == []


def test_a_policy_of_a_hundred_kilobytes_is_read_and_not_all_its_mistakes_are_told() -> None:
    large = {"Version": "1.1", "Statement": [allow(f"a:b:{number}c") for number in range(2500)]}
    assert len(json.dumps(large)) > 100_000
    assert len(parse_policy(large).statements) == 2500
    with pytest.raises(InvalidPolicy) as refused:
        parse_policy({"Version": "1.1", "Statement": ["x"] * 30_000})
    assert len(refused.value.problems) == 100
    assert refused.value.message.endswith("; and 80 more mistakes")


def test_hostile_json_is_invalid() -> None:
    for text in ("[" * 100_000, "1" * 10_000, '{"Version": NaN}', '{"\\ud800": 1, "Version": "1.1"}'):
        with pytest.raises(Invalid) as caught:
            parse_policy(text)
        assert caught.value.message.encode()
