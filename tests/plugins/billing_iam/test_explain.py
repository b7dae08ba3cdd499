"""``check``, ``why`` and ``who-can``: what decides, what nearly did, and everything beside the policies that counts."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure
from bottega.entities import (
    Account,
    Agency,
    Authorization,
    EnterpriseProject,
    Group,
    GroupMember,
    Policy,
    PolicyGrant,
    Project,
    Workspace,
)
from bottega.identity import ALL_USERS
from bottega.testing import RunningPlatform, Tenant

LIST, GET = "bottega:resource:list", "obs:object:GetObject"
CHECK, WHY, WHO = (f"/v1/{{project_id}}/permissions/{question}" for question in ("check", "why", "who-can"))


def document(effect: str, *actions: str, **more: Any) -> dict[str, Any]:
    return {"Version": "1.1", "Statement": [{"Effect": effect, "Action": list(actions), **more}]}


def write(running: RunningPlatform, *rows: Any) -> None:
    async def add() -> None:
        async with running.runtime.platform.database.transaction() as tx:
            for row in rows:
                await tx.session.merge(row)
                await tx.session.flush()
        running.runtime.platform.identity.invalidate()

    running.run(add())


def grant(running: RunningPlatform, user: Tenant, name: str, policy: dict[str, Any], **scope: Any) -> None:
    """Through a group of the policy's name."""
    row = Policy(account_id=user.account_id, name=name, document=policy)
    group = Group(account_id=user.account_id, name=f"{name} group")
    member = GroupMember(group_id=group.id, user_id=user.user_id)
    write(running, row, group, member, PolicyGrant(policy_id=row.id, group_id=group.id, **scope))


def test_why_names_what_decides_and_what_nearly_did(running: RunningPlatform, tenant: Tenant) -> None:
    user = tenant.user()
    other = Project(account_id=tenant.account_id, name="other")
    write(running, other)
    grant(running, user, "elsewhere", document("Deny", LIST), scope="project", project_id=other.id)
    grant(running, user, "others", document("Allow", "bottega:*:*", Resource=["bottega:training:*"]))
    late = {"DateGreaterThan": {"g:CurrentTime": ["2999-01-01T00:00:00Z"]}}
    grant(running, user, "later", document("Deny", LIST, Condition=late))
    grant(running, user, "reader", document("Allow", "bottega:resource:*"))
    grant(running, user, "unrelated", document("Allow", "obs:*:*"))

    answer = user.client.post(WHY, {"action": LIST, "resource": "bottega:core:_:*"})
    assert answer["allowed"]
    assert (answer["policy"], answer["source"], answer["scope"]) == (
        "reader",
        "group reader group",
        "the whole account",
    )
    by_policy = {row["policy"]: row for row in answer["statements"]}
    assert set(by_policy) == {"elsewhere", "others", "later", "reader"}
    assert by_policy["reader"]["decides"]
    assert by_policy["elsewhere"]["obstacle"] == f"it is granted in project {other.id} only"
    assert by_policy["others"]["obstacle"] == "the resource bottega:core:_:* is not among bottega:training:*"
    assert "g:CurrentTime is 2" in by_policy["later"]["obstacle"]
    assert "DateGreaterThan 2999-01-01T00:00:00Z" in by_policy["later"]["obstacle"]
    assert answer["agency"] is None
    assert answer["account"] == {"auth_mode": "strict", "standing": "normal"}

    elsewhere = user.client.post(WHY.replace("{project_id}", other.id), {"action": LIST})
    assert (elsewhere["allowed"], elsewhere["reason"], elsewhere["policy"]) == (False, "explicit deny", "elsewhere")
    assert elsewhere["scope"] == f"project {other.id}"


def test_conditions_on_a_request_are_met_only_by_what_is_known_of_it(running: RunningPlatform, tenant: Tenant) -> None:
    user = tenant.user()
    at_home = {"IpAddress": {"g:SourceIp": ["127.0.0.0/8"]}}
    grant(running, user, "home", document("Allow", LIST, Condition=at_home))
    assert user.client.post(CHECK, {"action": LIST})["allowed"], "one's own address is known"
    asked = {"action": LIST, "user": user.name}
    unknown = tenant.client.post(WHY, asked)
    assert not unknown["allowed"]
    assert unknown["statements"][0]["obstacle"].startswith("g:SourceIp is not known of this request")
    assert tenant.client.post(WHY, {**asked, "source_ip": "127.0.0.9"})["allowed"]
    assert not tenant.client.post(CHECK, {**asked, "source_ip": "192.0.2.1"})["allowed"]
    with pytest.raises(ApiFailure) as refused:
        tenant.client.post(CHECK, {**asked, "source_ip": "home"})
    assert refused.value.status == 400


def test_a_token_has_an_age_that_conditions_see(running: RunningPlatform, tenant: Tenant) -> None:
    user = tenant.user()
    young = {"NumberLessThan": {"g:TokenAge": 60}}
    grant(running, user, "young", document("Allow", LIST, Condition=young))
    identity = running.runtime.platform.identity
    token = identity.issue_token(running.run(identity.principal(user.user_id)), 600)
    path = CHECK.replace("{project_id}", tenant.project_id)
    asked = httpx.post(running.url + path, json={"action": LIST}, headers={"X-Auth-Token": token})
    assert asked.json()["allowed"]
    assert not user.client.post(CHECK, {"action": LIST})["allowed"], "an access key has no age"


def test_a_tag_of_the_resource_decides(running: RunningPlatform, tenant: Tenant) -> None:
    user, action = tenant.user(), "modelarts:trainJob:get"
    platform = running.platform()

    async def make(team: str) -> str:
        async with platform.database.transaction() as tx:
            resource = await platform.resources.create(
                tx,
                kind="thing",
                project_id=tenant.project_id,
                owner_id=tenant.user_id,
                name=f"thing-{team}",
                tags={"team": team},
            )
            return resource.urn

    mine, theirs = running.run(make("vision")), running.run(make("speech"))
    of_team = {"StringEquals": {"g:ResourceTag/team": ["vision"]}}
    grant(running, user, "team", document("Allow", action, Condition=of_team))
    assert user.client.post(CHECK, {"action": action, "resource": mine})["allowed"]
    for other in (theirs, "*", mine.replace(tenant.project_id, "0" * 32)):
        assert not user.client.post(CHECK, {"action": action, "resource": other})["allowed"]
    told = user.client.post(WHY, {"action": action, "resource": theirs})["statements"][0]
    assert told["obstacle"] == "g:ResourceTag/team is speech, and the condition is StringEquals vision"


def test_workspace_arrears_bucket_and_loose_mode_are_told(
    running: RunningPlatform, tenant: Tenant, stranger: Tenant
) -> None:
    user, action = tenant.user(), "modelarts:trainJob:create"
    bound = EnterpriseProject(account_id=tenant.account_id, name="vision")
    closed = Workspace(project_id=tenant.project_id, name="closed", auth_type="PRIVATE", enterprise_project_id=bound.id)
    write(running, bound, closed)
    grant(running, user, "here", document("Allow", action), scope="enterprise_project", enterprise_project_id=bound.id)
    outside = user.client.post(WHY, {"action": action})
    assert not outside["allowed"]
    assert outside["statements"][0]["obstacle"] == f"it is granted in enterprise project {bound.id} only"
    inside = user.client.post(WHY, {"action": action, "workspace_id": closed.id})
    assert (inside["allowed"], inside["reason"]) == (False, "another check refuses")
    assert inside["statements"][0]["decides"]
    assert [row["check"] for row in inside["obstacles"]] == ["workspace"]
    assert inside["workspace"] == {
        "id": closed.id,
        "auth_type": "PRIVATE",
        "enterprise_project_id": bound.id,
        "may_enter": False,
    }
    with pytest.raises(ApiFailure, match="there is no workspace 'nowhere'"):
        user.client.post(WHY, {"action": action, "workspace_id": "nowhere"})

    async def account(**changes: str) -> None:
        async with running.runtime.platform.database.transaction() as tx:
            row = await tx.session.get_one(Account, tenant.account_id)
            for key, value in changes.items():
                setattr(row, key, value)
        running.runtime.platform.identity.invalidate()

    running.run(account(standing="arrears", auth_mode="loose"))
    owing = user.client.post(WHY, {"action": action})
    assert [row["check"] for row in owing["obstacles"]] == ["standing"]
    assert owing["account"] == {"auth_mode": "loose", "standing": "arrears"}
    running.run(account(standing="normal"))
    assert user.client.post(CHECK, {"action": action})["reason"] == "loose authorization"
    bucket = stranger.create_bucket()
    theirs = tenant.client.post(WHY, {"action": GET, "resource": f"obs:::object:{bucket}/a"})
    assert [row["check"] for row in theirs["obstacles"]] == ["bucket"]


def test_the_agency_that_acts_for_programs_is_told(running: RunningPlatform, tenant: Tenant, bucket: str) -> None:
    user = tenant.user([document("Allow", "obs:*:*")])
    agency = Agency(account_id=tenant.account_id, name="acting")
    write(running, agency)
    write(running, Authorization(account_id=tenant.account_id, user_id=ALL_USERS, agency_id=agency.id))
    told = user.client.post(WHY, {"action": GET, "resource": f"obs:::object:{bucket}/a"})
    assert told["allowed"]
    assert (told["agency"]["name"], told["agency"]["allowed"]) == ("acting", False)
    assert user.client.post(WHY, {"action": LIST})["agency"]["allowed"] is None


def test_who_can_lists_everybody_who_may_and_nobody_else(
    running: RunningPlatform, tenant: Tenant, stranger: Tenant
) -> None:
    yes, no, off = tenant.user(), tenant.user(), tenant.user([document("Allow", "*")])
    stranger.user([document("Allow", "*")])
    grant(running, yes, "allowing", document("Allow", LIST))
    grant(running, no, "denying", document("Deny", LIST))
    grant(running, no, "allowing too", document("Allow", LIST))
    agency, idle = (Agency(account_id=tenant.account_id, name=name) for name in ("acting", "idle"))
    policy = Policy(account_id=tenant.account_id, name="for agencies", document=document("Allow", LIST))
    write(running, agency, idle, policy, PolicyGrant(policy_id=policy.id, agency_id=agency.id))
    running.run(_disable(running, off.user_id))

    answer = tenant.client.post(WHO, {"action": LIST})
    assert {row["user_name"] for row in answer["users"]} == {tenant.name, yes.name}
    row = next(row for row in answer["users"] if row["user_name"] == yes.name)
    assert (row["policy"], row["statement"], row["source"], row["scope"]) == (
        "allowing",
        0,
        "group allowing group",
        "the whole account",
    )
    assert [(row["agency_name"], row["policy"]) for row in answer["agencies"]] == [("acting", "for agencies")]
    for row in answer["users"]:
        asked = {"action": LIST, "user": row["user_name"]}
        assert tenant.client.post(CHECK, asked)["allowed"]


async def _disable(running: RunningPlatform, user_id: str) -> None:
    from bottega.entities import User

    async with running.runtime.platform.database.transaction() as tx:
        (await tx.session.get_one(User, user_id)).enabled = False
    running.runtime.platform.identity.invalidate()


def test_only_administrators_ask_about_others(running: RunningPlatform, tenant: Tenant) -> None:
    user, admin = tenant.user(), tenant.user([document("Allow", "iam:*:*")])
    for path, body in ((WHY, {"action": LIST, "user": tenant.name}), (WHO, {"action": LIST})):
        with pytest.raises(ApiFailure) as refused:
            user.client.post(path, body)
        assert refused.value.status == 403
        admin.client.post(path, body)
    assert user.client.post(WHY, {"action": LIST, "user": user.name})["user_name"] == user.name
    for name in ("nobody", "x\x00y"):
        with pytest.raises(ApiFailure) as refused:
            admin.client.post(WHY, {"action": LIST, "user": name})
        assert refused.value.status == 404


@pytest.mark.parametrize("path", [CHECK, WHY, WHO])
@pytest.mark.parametrize("body", [{"action": "list"}, {"action": LIST, "workspace_id": "\x00"}, {"resource": "*"}])
def test_bad_questions_are_clear_400s(tenant: Tenant, path: str, body: dict[str, Any]) -> None:
    with pytest.raises(ApiFailure) as refused:
        tenant.client.post(path, body)
    assert (refused.value.status, refused.value.error_code) == (400, "ModelArts.0101")


def test_odd_resources_are_no_error(tenant: Tenant) -> None:
    for resource in (
        "bottega:",
        "bottega:a:b:c/d\x00",
        f"bottega:x:{tenant.project_id}:job/\x00",
        "obs:::object:",
        "🦉",
    ):
        for path in (CHECK, WHY, WHO):
            tenant.client.post(path, {"action": GET, "resource": resource})
