"""Who may call a service: checked in the data plane, at once after a change, and told to the audit trail."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import httpx
import pytest

from bottega import signing
from bottega.client import Client, SigningAuth
from bottega.entities import Policy, PolicyGrant, User, Workspace
from bottega.testing import RecordedEvents, RunningPlatform, Tenant, wait_until

BODY = {"input": [[1.0]]}


def policy(effect: str = "Allow", **statement: Any) -> dict[str, Any]:
    rule = {"Effect": effect, "Action": ["modelarts:service:access"], **statement}
    return {"Version": "1.1", "Statement": [rule]}


def token_of(running: RunningPlatform, tenant: Tenant, expires_s: float = 600, scope: str | None = None) -> str:
    identity = running.platform().identity

    async def issue() -> str:
        return identity.issue_token(await identity.principal(tenant.user_id, scope=scope), expires_s)

    return running.run(issue())


def with_token(call: Any, token: str, header: str = "X-Auth-Token") -> httpx.Response:
    value = token if header == "X-Auth-Token" else f"Bearer {token}"
    return httpx.post(call.address, json=BODY, headers={header: value})


def signed_with(call: Any, user: Tenant, security_token: str | None = None) -> dict[str, str]:
    host = {"Host": call.address.split("/")[2]}
    keys = user.access_key, user.secret_key
    return signing.sign("POST", call.address, host, b"{}", *keys, security_token=security_token)


def answers(call: Any, status: int) -> bool:
    return bool(call.post(BODY).status_code == status)


@pytest.fixture
def call(server: Any) -> Any:
    return server.deploy(server.linear(2.0, "1.0.0"))


def test_tokens_and_signatures(
    call: Any, server: Any, running: RunningPlatform, tenant: Tenant, stranger: Tenant
) -> None:
    token = token_of(running, tenant)
    assert with_token(call, token).json() == {"output": [[2.0]]}
    assert with_token(call, token, "Authorization").status_code == 200
    assert with_token(call, token_of(running, tenant, scope=tenant.project_id)).status_code == 200
    assert call(BODY) == {"output": [[2.0]]}

    def refused(answer: httpx.Response, status: int, told: str) -> None:
        assert answer.status_code == status, answer.text
        assert told in answer.json()["error_msg"]
        assert answer.json()["error_code"].startswith(("APIGW.", "ModelArts."))
        assert answer.headers["x-request-id"]

    refused(httpx.post(call.address, json=BODY), 401, "no credentials")
    refused(with_token(call, "nonsense"), 401, "not one this platform issued")
    head, claims, signature = token.split(".")
    refused(with_token(call, ".".join((head, claims, signature[::-1]))), 401, "not one this platform issued")
    refused(with_token(call, token_of(running, tenant, -1)), 401, "expired")
    refused(with_token(call, token_of(running, stranger)), 403, "modelarts:service:access")
    refused(with_token(call, token_of(running, tenant, scope=stranger.project_id)), 403, "scoped to project")

    def signed(now: float, keys: Tenant = tenant, secret: str | None = None) -> dict[str, str]:
        secret_key = secret or keys.secret_key
        return signing.sign("POST", call.address, {"Host": host}, b"{}", keys.access_key, secret_key, now=now)

    host = call.address.split("/")[2]
    for headers, told in (
        (signed(time.time() - 3600), "seconds old"),
        (signed(time.time(), secret="wrong"), "does not match"),
        (signed(time.time(), stranger), "access key"),
        ({"Authorization": "Basic abc"}, "Authorization must read"),
    ):
        refused(httpx.post(call.address, content=b"{}", headers=headers), 401, told)
    changed = httpx.post(call.address, content=b'{"input": [[9]]}', headers=signed(time.time()))
    refused(changed, 401, "does not match")


def test_temporary_keys_and_what_ends_them(call: Any, running: RunningPlatform, tenant: Tenant) -> None:
    user, identity = tenant.user([policy()]), running.platform().identity

    def key(limits: dict[str, Any] | None = None) -> Client:
        body: dict[str, Any] = {"auth": {"identity": {"methods": ["token"]}}}
        if limits is not None:
            body["auth"]["identity"]["policy"] = limits
        made = user.client.post("/v3.0/OS-CREDENTIAL/securitytokens", body)["credential"]
        auth = SigningAuth(made["access"], made["secret"], made["securitytoken"])
        return Client(call.address, tenant.project_id, auth=auth)

    def asked(with_key: Client) -> httpx.Response:
        return with_key.http.post(call.address, json=BODY)

    good, narrow = key(), key({"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["obs:*:*"]}]})
    wait_until(lambda: asked(good).status_code == 200)
    assert asked(good).json() == {"output": [[2.0]]}
    refused = asked(narrow)
    assert (refused.status_code, "no statement allows" in refused.text) == (403, True), refused.text
    sent = asked(good).request.headers
    security = sent["X-Security-Token"]
    for headers, told in (
        ({"X-Auth-Token": security}, "for X-Security-Token beside a signature"),
        ({**signed_with(call, user), "X-Security-Token": security}, "must be in SignedHeaders"),
        (signed_with(call, user, security), "not the one that was issued with this access key"),
        (signed_with(call, user, token_of(running, user)), "for X-Auth-Token and for nothing else"),
    ):
        answer = httpx.post(call.address, content=b"{}", headers=headers)
        assert (answer.status_code, told in answer.text) == (401, True), answer.text
    # A token ends with the token and with the access key it was made with, and so does the temporary key.
    first = token_of(running, user)
    second = identity.issue_token(running.run(identity.authenticate_token(first)), 600)
    assert with_token(call, second).status_code == 200
    user.client.request("DELETE", "/v3/auth/tokens", headers={"X-Subject-Token": first})
    wait_until(lambda: with_token(call, second).status_code == 401)
    assert asked(good).status_code == 200
    path = f"/v3.0/OS-CREDENTIAL/credentials/{user.access_key}"
    tenant.client.put(path, {"credential": {"status": "inactive"}})
    wait_until(lambda: asked(good).status_code == 401)


def test_tags_and_names_count_in_conditions_of_calls(
    call: Any, server: Any, running: RunningPlatform, tenant: Tenant
) -> None:
    young = tenant.user([policy(Condition={"NumberLessThan": {"g:TokenAge": ["600"]}})])
    named = tenant.user([policy(Condition={"StringEquals": {"g:DomainName": [tenant.name]}})])
    kept_off = tenant.user([policy(), policy("Deny", Condition={"StringEquals": {"g:ResourceTag/stage": ["prod"]}})])
    for user in (young, named, kept_off):
        wait_until(lambda user=user: with_token(call, token_of(running, user)).status_code == 200)  # type: ignore[misc]
    path = f"/v2/{{project_id}}/modelarts-service-v2/{call.service_id}/tags/create"
    tenant.client.post(path, {"tags": [{"key": "stage", "value": "prod"}]})
    running.platform().identity.invalidate()  # else it is published within a minute
    wait_until(lambda: with_token(call, token_of(running, kept_off)).status_code == 403)
    assert with_token(call, token_of(running, named)).status_code == 200


def test_policies_decide_and_say_why(
    call: Any, server: Any, running: RunningPlatform, tenant: Tenant, stranger: Tenant
) -> None:
    nobody, somebody = tenant.user([]), tenant.user([policy()])
    denied = tenant.user([policy(), policy("Deny")])
    here = tenant.user([policy(Condition={"IpAddress": {"g:SourceIp": ["127.0.0.1"]}})])
    elsewhere = tenant.user([policy(), policy("Deny", Condition={"NotIpAddress": {"g:SourceIp": ["10.0.0.0/8"]}})])
    other_thing = tenant.user([policy(Resource=["bottega:serving:*:service/other"])])
    for user in (somebody, here):
        wait_until(partial(answers, server.call(call.service_id, user), 200))
    wait_until(partial(answers, server.call(call.service_id, elsewhere), 403))
    for user, status, told in (
        (elsewhere, 403, "Deny modelarts:service:access"),
        # Their secrets are not with the data plane at all.
        (denied, 401, "nobody who may call this service"),
        (nobody, 401, "nobody who may call this service"),
        (other_thing, 401, "nobody who may call this service"),
        (stranger, 401, "nobody who may call this service"),
    ):
        answer = server.call(call.service_id, user).post(BODY)
        assert (answer.status_code, told in answer.json()["error_msg"]) == (status, True), answer.text
    answer = with_token(call, token_of(running, denied))
    assert (answer.status_code, "denied by statement 0 of policy" in answer.text) == (403, True), answer.text
    answer = with_token(call, token_of(running, nobody))
    assert (answer.status_code, "no statement allows modelarts:service:access" in answer.text) == (403, True)


def test_a_loose_account_and_a_grant_of_ones_own_count_too(
    call: Any, server: Any, running: RunningPlatform, tenant: Tenant
) -> None:
    nobody, denied, granted = tenant.user([]), tenant.user([policy("Deny")]), tenant.user([])
    own = Policy(account_id=tenant.account_id, name="own", document=policy())
    scope = {"scope": "enterprise_project", "enterprise_project_id": "0"}

    async def grant() -> None:
        async with running.platform().database.transaction() as tx:
            tx.session.add(own)
            await tx.session.flush()
            tx.session.add(PolicyGrant(policy_id=own.id, user_id=granted.user_id, **scope))

    running.run(grant())
    assert with_token(call, token_of(running, nobody)).status_code == 403
    tenant.client.put("/v1/auth-mode", {"mode": "loose"})
    wait_until(partial(answers, server.call(call.service_id, nobody), 200))
    answer = with_token(call, token_of(running, denied))
    assert (answer.status_code, "Deny modelarts:service:access" in answer.text) == (403, True), answer.text
    tenant.client.put("/v1/auth-mode", {"mode": "strict"})
    wait_until(lambda: with_token(call, token_of(running, nobody)).status_code == 403)
    assert with_token(call, token_of(running, granted)).status_code == 200


def test_nobody_calls_a_service_of_a_workspace_that_is_closed_to_him(
    server: Any, running: RunningPlatform, tenant: Tenant
) -> None:
    owner, outsider = tenant.user([policy()]), tenant.user([policy()])
    room = Workspace(project_id=tenant.project_id, name="closed", auth_type="PRIVATE", owner_id=owner.user_id)

    async def furnish() -> None:
        async with running.platform().database.transaction() as tx:
            tx.session.add(room)
        running.platform().identity.invalidate()

    running.run(furnish())
    config = server.config(server.linear(2.0, "1.0.0"))
    body = {"service_name": "inside", "infer_type": "real-time", "workspace_id": room.id, "config": config}
    service_id = server.client.post("/v1/{project_id}/services", body)["service_id"]
    server.wait(service_id, "running")
    try:
        wait_until(partial(answers, server.call(service_id, owner), 200))
        answer = with_token(server.call(service_id), token_of(running, outsider))
        assert (answer.status_code, "no statement allows modelarts:service:access" in answer.text) == (403, True)
    finally:
        server.client.delete(f"/v1/{{project_id}}/services/{service_id}")


def test_what_identity_changes_counts_at_once(call: Any, server: Any, running: RunningPlatform, tenant: Tenant) -> None:
    user = tenant.user([policy()])
    token = token_of(running, user)
    wait_until(lambda: with_token(call, token).status_code == 200)

    async def change(**fields: Any) -> None:
        async with running.platform().database.transaction() as tx:
            row = await tx.session.get(User, user.user_id)
            assert row is not None
            for name, value in fields.items():
                setattr(row, name, value)
            tx.session.add(row)
        running.platform().identity.invalidate()

    running.run(change(tokens_valid_from=int(time.time() * 1000) + 1))
    began = time.monotonic()
    wait_until(lambda: with_token(call, token).status_code == 401)
    assert time.monotonic() - began < 5
    wait_until(lambda: server.call(call.service_id, user).post(BODY).status_code == 200)
    running.run(change(enabled=False))
    wait_until(lambda: server.call(call.service_id, user).post(BODY).status_code == 401)


def test_refused_calls_reach_the_audit_trail(
    call: Any, running: RunningPlatform, tenant: Tenant, events: RecordedEvents
) -> None:
    httpx.post(call.address, json=BODY)
    recorded = events.wait("core.api.called.v1", status=401, action="modelarts:service:access")
    assert recorded.data["path"] == f"/v1/infers/{call.service_id}"
    assert recorded.data["resource"].endswith(f"service/{call.service_id}")
    user = tenant.user([policy(), policy("Deny")])

    def denied_by_a_statement() -> bool:
        # A data plane that has not heard of the user yet refuses it too, for being unknown.
        assert with_token(call, token_of(running, user)).status_code == 403
        calls = [e.data for e in events.all("core.api.called.v1") if e.data["user_id"] == user.user_id]
        return any(c["status"] == 403 and "denied by statement" in c["reason"] for c in calls)

    assert wait_until(denied_by_a_statement, every=0.5)


def test_a_workload_s_own_limits_hold(call: Any, running: RunningPlatform, tenant: Tenant) -> None:
    identity = running.platform().identity

    async def issue(document: str) -> str:
        return identity.issue_token(await identity.principal(tenant.user_id), 600, session_policy=document)

    narrow = '{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["obs:*:*"]}]}'
    wide = '{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:service:access"]}]}'
    assert with_token(call, running.run(issue(narrow))).status_code == 403
    assert with_token(call, running.run(issue(wide))).status_code == 200
