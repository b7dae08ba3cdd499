"""Policies: the guide's examples, every operator, error messages, and role dependencies."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from bottega.errors import Invalid
from bottega.iam import PolicyDocument, PolicySet, compile_policies, parse_policy
from bottega.iam_conditions import Context, ContextValue


def allow(*actions: str, **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), **more}


def deny(*actions: str, **more: Any) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": list(actions), **more}


def policy(*statements: dict[str, Any], name: str = "p") -> PolicyDocument:
    return parse_policy({"Version": "1.1", "Statement": list(statements)}, name)


def policies(*documents: PolicyDocument) -> PolicySet:
    return compile_policies((document, "group developers") for document in documents)


def holds(operator: str, key: str, values: object, context: Context) -> bool:
    document = policy(allow("modelarts:notebook:get", Condition={operator: {key: values}}))
    return policies(document).decide("modelarts:notebook:get", "*", context).allowed


# --- the examples of seed 002 §10.3-10.5; the guide's print shows some ":" as ">" -----------------------

DENY_CREATE_AND_DELETE = """
{ "Version": "1.1",
  "Statement": [ { "Action": [ "modelarts:*:*delete*", "modelarts:*:*create*" ], "Effect": "Deny" } ] }
"""
DENY_DELETE_PROJECT = """
{ "Version": "1.1", "Statement": [ { "Effect": "Deny", "Action": [ "modelarts:exmlProject:delete" ] } ] }
"""
NOTEBOOKS_ONLY = """
{ "Version": "1.1",
  "Statement": [
    { "Effect": "Allow",
      "Action": [ "obs:bucket>ListAllMyBuckets", "obs:bucket>CreateBucket", "obs:bucket>ListBucket",
        "obs:bucket>ListBucketVersions", "obs:bucket>HeadBucket", "obs:bucket>PutBucketAcl",
        "obs:object>PutObject", "obs:object>GetObject", "obs:object>GetObjectVersion",
        "obs:object>GetObjectVersionAcl" ] },
    { "Effect": "Allow",
      "Action": [ "modelarts:notebook:list", "modelarts:notebook:create", "modelarts:notebook:get",
        "modelarts:notebook:update", "modelarts:notebook:delete", "modelarts:notebook:action",
        "modelarts:notebook:access" ] } ] }
""".replace(">", ":")
SEVERAL_SERVICES = """
{ "Version": "1.1",
  "Statement": [
    { "Effect": "Allow",
      "Action": [ "ecs:cloudServers:resize", "ecs:cloudServers:delete", "ecs:cloudServers:rebuild" ] },
    { "Effect": "Allow",
      "Action": [ "modelarts:exemlProjectVersion:delete", "modelarts:exemlProjectVersion:delete" ] } ] }
"""
SDRS_ADMINISTRATOR = """
{ "Version": "1.0",
  "Statement": [ { "Action": [ "SDRS:*:*" ], "Effect": "Allow" } ],
  "Depends": [ { "catalog": "BASE", "display_name": "Tenant Guest" },
               { "catalog": "BASE", "display_name": "Server Administrator" } ] }
"""
ADMIN = policy(allow("modelarts:*:*"), name="ModelArts Admin")


def test_a_deny_beats_the_allow_beside_it() -> None:
    caller = policies(ADMIN, parse_policy(DENY_CREATE_AND_DELETE, "modelarts_deny_delete_or_create"))
    assert caller.decide("modelarts:trainJob:list").allowed
    for action in (
        "modelarts:exemlProject:create",
        "modelarts:dataset:batchDelete",
        "ModelArts:Model:CREATE",
    ):
        decision = caller.decide(action)
        assert (decision.allowed, decision.reason) == (False, "explicit deny")
    assert caller.decide("modelarts:dataset:delete").explain() == (
        'denied by statement 0 of policy "modelarts_deny_delete_or_create" (group developers): '
        "Deny modelarts:*:*delete*"
    )


def test_a_deny_of_one_action_leaves_the_others() -> None:
    caller = policies(parse_policy(DENY_DELETE_PROJECT, "keep"), ADMIN)
    assert not caller.decide("modelarts:exmlProject:delete").allowed
    assert caller.decide("modelarts:exmlProject:create").explain() == (
        'allowed by statement 0 of policy "ModelArts Admin" (group developers): Allow modelarts:*:*'
    )


def test_a_deny_alone_allows_nothing() -> None:
    decision = policies(parse_policy(DENY_DELETE_PROJECT)).decide("modelarts:exmlProject:create")
    assert (decision.allowed, decision.reason, decision.policy) == (False, "no statement allows it", None)
    assert decision.explain() == "denied because no statement allows modelarts:exmlProject:create"


def test_notebook_users_get_the_object_store_actions_notebooks_need_and_nothing_else() -> None:
    caller = policies(parse_policy(NOTEBOOKS_ONLY, "notebooks"))
    document = parse_policy(NOTEBOOKS_ONLY)
    listed = [action for statement in document.statements for action in statement.actions]
    assert len(listed) == 17
    assert all(caller.decide(action).allowed for action in listed)
    assert caller.decide("obs:object:GetObject").statement == 0
    assert caller.decide("modelarts:notebook:access").statement == 1
    for action in ("obs:bucket:DeleteBucket", "modelarts:trainJob:create", "modelarts:notebook:listAll"):
        assert not caller.decide(action).allowed


def test_one_policy_may_speak_of_several_services() -> None:
    caller = policies(parse_policy(SEVERAL_SERVICES))
    assert caller.decide("ecs:cloudServers:rebuild").allowed
    assert caller.decide("modelarts:exemlProjectVersion:delete").allowed
    assert not caller.decide("ecs:cloudServers:create").allowed


def test_a_role_needs_the_policies_it_depends_on() -> None:
    role = parse_policy(SDRS_ADMINISTRATOR, "SDRS Administrator")
    guest = policy(allow("*:*:list*"), name="Tenant Guest")
    servers = policy(allow("ecs:*:*"), name="Server Administrator")
    assert policies(role, guest, servers).decide("SDRS:protectionGroup:create").allowed

    missing_one = policies(role, guest).decide("sdrs:protectionGroup:create")
    assert missing_one.reason == "no statement allows it"
    assert missing_one.explain() == (
        "denied because no statement allows sdrs:protectionGroup:create; "
        'policy "SDRS Administrator" (group developers) is without effect '
        'until "Server Administrator" is attached too'
    )
    assert '"Tenant Guest", "Server Administrator"' in policies(role).decide("sdrs:a:b").explain()
    assert policies(role).decide("ecs:cloudServers:list").notes == ()


def test_a_role_denies_also_without_what_it_depends_on() -> None:
    guard = parse_policy(SDRS_ADMINISTRATOR.replace("Allow", "Deny"), "guard")
    denied = policies(guard, policy(allow("*"))).decide("sdrs:a:b")
    assert (denied.reason, denied.policy) == ("explicit deny", "guard")
    assert policies(guard).decide("sdrs:a:b").notes == ()
    assert policies(guard, policy(allow("*"))).decide("ecs:a:b").allowed


def test_a_role_may_depend_on_nothing() -> None:
    role = parse_policy({"Version": "1.0", "Statement": [allow("obs:*:*")], "Depends": []}, "OBS Operator")
    assert policies(role).decide("obs:object:PutObject").allowed


# --- actions, resources, conditions ---------------------------------------------------------------------


def test_not_action_is_everything_else() -> None:
    caller = policies(policy({"Effect": "Allow", "NotAction": ["iam:*:*", "modelarts:*:delete*"]}))
    assert caller.decide("modelarts:dataset:create").allowed
    assert caller.decide("modelarts:dataset:create").explain().endswith("Allow all but iam:*:*, modelarts:*:delete*")
    assert not caller.decide("IAM:users:list").allowed
    assert not caller.decide("modelarts:dataset:deleteVersion").allowed


@pytest.mark.parametrize(
    ("resources", "resource", "matches"),
    [
        (["*"], "anything", True),
        ("notebook:1", "notebook:1", True),
        (["notebook:1"], "notebook:10", False),
        (["notebook:1"], "Notebook:1", False),
        (["notebook:1"], "*", False),
        (["obs:*:*:object:data/*"], "obs:r1:acct:object:data/a/b:c", True),
        (["obs:*:*:object:data/*"], "obs:r1:acct:object:date/a", False),
        (["a*b*a"], "aba", True),
        (["a*a"], "a", False),
        (["x", "y*", "*z"], "why z", True),
        (["a.c"], "abc", False),
        ({"uri": ["/iam/agencies/*"]}, "/iam/agencies/07805aca", True),
        ({"uri": ["/iam/agencies/*"]}, "/iam/users/1", False),
    ],
)
def test_resources(resources: object, resource: str, matches: bool) -> None:
    caller = policies(policy(allow("modelarts:*:*", Resource=resources)))
    assert caller.decide("modelarts:notebook:get", resource).allowed is matches


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("operator", "key", "values", "value", "expected"),
    [
        ("StringEquals", "g:UserName", ["ann", "bob"], "bob", True),
        ("StringEquals", "g:UserName", "bob", "Bob", False),
        ("StringEqualsIgnoreCase", "g:UserName", ["bob"], "BOB", True),
        ("StringNotEquals", "g:UserName", ["ann", "bob"], "bob", False),
        ("StringNotEquals", "g:UserName", ["ann", "bob"], "cat", True),
        ("StringNotEqualsIgnoreCase", "g:UserName", ["ann"], "ANN", False),
        ("StringLike", "g:ProjectName", ["cn-*_dev"], "cn-north-4_dev", True),
        ("StringLikeIgnoreCase", "g:ProjectName", ["CN-*"], "cn-north-4", True),
        ("StringNotLike", "g:ProjectName", ["cn-*"], "cn-north-4", False),
        ("StringStartWith", "obs:prefix", ["data/"], "data/x", True),
        ("StringNotStartWith", "obs:prefix", ["data/"], "data/x", False),
        ("StringEndWith", "obs:prefix", [".png"], "x.jpg", False),
        ("StringEndWithIgnoreCase", "obs:prefix", [".png"], "x.PNG", True),
        ("NumberEquals", "modelarts:nodes", [4], "4.0", True),
        ("NumberNotEquals", "modelarts:nodes", ["4", "8"], 8, False),
        ("NumberLessThan", "modelarts:nodes", [4], 4, False),
        ("NumberLessThanEquals", "modelarts:nodes", [4], 4, True),
        ("NumberGreaterThan", "modelarts:nodes", ["4"], 4.5, True),
        ("NumberGreaterThanEquals", "modelarts:nodes", [4], 3, False),
        ("NumberLessThan", "modelarts:nodes", [4], "few", False),
        ("DateLessThan", "g:CurrentTime", ["2026-06-01T12:00:01Z"], NOON, True),
        ("DateGreaterThan", "g:CurrentTime", ["2026-06-01T14:00:00+02:00"], "2026-06-01T12:00:00Z", False),
        ("DateGreaterThanEquals", "g:CurrentTime", ["2026-06-01T14:00:00+02:00"], NOON, True),
        ("DateLessThanEquals", "g:CurrentTime", ["2026-06-01"], NOON.replace(tzinfo=None), False),
        ("DateEquals", "g:CurrentTime", ["2026-06-01T12:00:00Z"], NOON, True),
        ("DateNotEquals", "g:CurrentTime", ["2026-06-01T12:00:00Z"], "yesterday", True),
        ("Bool", "g:MFAPresent", ["true"], True, True),
        ("Bool", "g:MFAPresent", True, "True", True),
        ("Bool", "g:MFAPresent", "false", True, False),
        ("Bool", "g:MFAPresent", "false", "perhaps", False),
        ("IpAddress", "g:SourceIp", ["10.0.0.0/8", "192.0.2.7"], "192.0.2.7", True),
        ("IpAddress", "g:SourceIp", ["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        ("IpAddress", "g:SourceIp", ["2001:db8::/32"], "2001:db8::1", True),
        ("IpAddress", "g:SourceIp", ["10.0.0.0/8"], "2001:db8::1", False),
        ("IpAddress", "g:SourceIp", ["10.0.0.0/8"], "unix socket", False),
        ("NotIpAddress", "g:SourceIp", ["10.0.0.0/8"], "10.1.2.3", False),
        ("NotIpAddress", "g:SourceIp", ["10.0.0.0/8"], "192.0.2.7", True),
        ("IsNull", "g:UserName", ["true"], "ann", False),
        ("Null", "g:UserName", "false", "ann", True),
    ],
)
def test_condition_operators(operator: str, key: str, values: object, value: Any, expected: bool) -> None:
    assert holds(operator, key, values, {key: value}) is expected
    if not operator.endswith("Null"):
        assert holds(operator + "IfExists", key, values, {key: value}) is expected
        for nothing in ({}, {key: None}):
            assert holds(operator, key, values, nothing) is ("Not" in operator)
            assert holds(operator + "IfExists", key, values, nothing) is True


@pytest.mark.parametrize(
    ("operator", "given", "expected"),
    [
        ("StringEquals", ["a", "x"], True),
        ("StringEquals", ["x", "y"], False),
        ("StringNotEquals", ["x", "y"], True),
        ("StringNotEquals", ["a", "y"], False),
        ("StringEquals", [], False),
        ("ForAnyValue:StringEquals", ["a", "x"], True),
        ("ForAnyValue:StringEquals", ["x"], False),
        ("ForAnyValue:StringNotEquals", ["a", "x"], True),
        ("ForAnyValue:StringNotEquals", ["a", "b"], False),
        ("ForAnyValue:StringNotEquals", None, False),
        ("ForAnyValue:StringNotEqualsIfExists", None, True),
        ("ForAllValues:StringEquals", ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a", "x"], False),
        ("ForAllValues:StringEquals", None, True),
        ("ForAllValues:StringEquals", [], True),
        ("ForAllValues:StringNotEquals", ["x", "a"], False),
        ("ForAllValues:NumberLessThanIfExists", ["1", "2"], False),
    ],
)
def test_keys_with_several_values(operator: str, given: list[str] | None, expected: bool) -> None:
    values: list[Any] = [0] if "Number" in operator else ["a", "b"]
    assert holds(operator, "obs:names", values, {"obs:names": given}) is expected
    if given and len(given) == 1:
        assert holds(operator, "obs:names", values, {"obs:names": given[0]}) is expected


def test_a_condition_may_ask_for_a_tag_of_the_resource() -> None:
    team = "g:ResourceTag/team"
    assert holds("StringEquals", team, ["vision"], {team: "vision"})
    assert not holds("StringEquals", team, ["vision"], {})
    assert policies(policy(allow("a:b:c", Condition={"Null": {team: "true"}}))).asks_about_resource
    assert not policies(ADMIN).asks_about_resource
    with pytest.raises(Invalid, match="'g:ResourceTag/' is not a global key"):
        policy(allow("a:b:c", Condition={"StringEquals": {"g:ResourceTag/": "x"}}))


def test_examining_says_what_keeps_a_statement_from_applying() -> None:
    elsewhere = allow("modelarts:notebook:*", Resource=["notebook:2"])
    for_others = allow("modelarts:notebook:get", Condition={"StringEquals": {"g:UserName": ["bob"]}})
    found = policies(
        policy(elsewhere, for_others, allow("obs:*:*"), deny("modelarts:*:delete"), name="mine"),
        parse_policy(SDRS_ADMINISTRATOR.replace("SDRS", "modelarts"), "role"),
        ADMIN,
    ).examine("modelarts:notebook:get", "notebook:1", {"g:UserName": "ann"})
    assert [(one.attached.document.name, one.statement, one.obstacle) for one in found] == [
        ("mine", 0, "the resource notebook:1 is not among notebook:2"),
        ("mine", 1, "g:UserName is ann, and the condition is StringEquals bob"),
        ("role", 0, "it depends on Tenant Guest, Server Administrator, which is not attached"),
        ("ModelArts Admin", 0, None),
    ]


def test_null_asks_whether_the_key_is_there() -> None:
    assert holds("IsNull", "g:UserName", ["true"], {})
    assert not holds("Null", "g:UserName", "false", {"g:UserName": None})


def test_all_operators_and_all_keys_must_hold() -> None:
    condition = {
        "StringEndWithIfExists": {"g:UserName": ["character"]},
        "Bool": {"g:MFAPresent": ["true"]},
        "StringEquals": {"g:ProjectName": ["p"], "g:DomainName": ["d"]},
    }
    caller = policies(policy(allow("obs:bucket:*", Condition=condition, Resource=["obs:*:*:bucket:*"])))
    good: dict[str, ContextValue] = {"g:MFAPresent": True, "g:ProjectName": "p", "g:DomainName": "d"}
    bucket = "obs:r:a:bucket:x"
    assert caller.decide("obs:bucket:ListBucket", bucket, good).allowed
    assert not caller.decide("obs:bucket:ListBucket", bucket, {**good, "g:UserName": "ann"}).allowed
    assert not caller.decide("obs:bucket:ListBucket", bucket, {**good, "g:DomainName": "e"}).allowed
    assert not caller.decide("obs:bucket:ListBucket", "obs:r:a:object:x", good).allowed
    assert not caller.decide("obs:bucket:ListBucket", bucket).allowed


def test_many_different_actions_do_not_grow_a_policy_set_without_bound() -> None:
    caller = policies(ADMIN)
    for number in range(5000):
        assert caller.decide(f"modelarts:thing:get{number}").allowed
    assert len(caller._memo) <= 1024
