"""Temporary access keys, made and used by the vendor's own clients: limits, ends, agencies, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials, GlobalCredentials
from huaweicloudsdkcore.exceptions import exceptions
from huaweicloudsdkiam.v3 import IamClient, model
from huaweicloudsdkmodelarts.v1 import ListNotebooksRequest, ModelArtsClient

from bottega import signing
from bottega.context import now_ms
from bottega.entities import Agency, Policy, PolicyGrant, User
from bottega.testing import RunningPlatform, Tenant

PATH = "/v3.0/OS-CREDENTIAL/securitytokens"
LIST = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:notebook:list"]}]}
HOUR_MS = 3_600_000


def iam(tenant: Tenant) -> Any:
    keys = GlobalCredentials(tenant.access_key, tenant.secret_key, tenant.account_id)
    return IamClient.new_builder().with_credentials(keys).with_endpoint(tenant.running.url).build()


def by_token(tenant: Tenant, policy: dict[str, Any] | None = None, seconds: int = 900) -> Any:
    """A temporary key of the vendor's client for the tenant itself."""
    statements = [
        model.ServiceStatement(action=s["Action"], effect=s["Effect"]) for s in (policy or {}).get("Statement", [])
    ]
    limits = model.ServicePolicy(version="1.1", statement=statements) if policy else None
    token = model.IdentityToken(duration_seconds=seconds)
    identity = model.TokenAuthIdentity(methods=["token"], token=token, policy=limits)
    body = model.CreateTemporaryAccessKeyByTokenRequestBody(auth=model.TokenAuth(identity=identity))
    request = model.CreateTemporaryAccessKeyByTokenRequest(body=body)
    return iam(tenant).create_temporary_access_key_by_token(request).credential


def by_agency(tenant: Tenant, agency: str, account: str) -> Any:
    role = model.IdentityAssumerole(agency_name=agency, domain_name=account, duration_seconds=3600)
    identity = model.AgencyAuthIdentity(methods=["assume_role"], assume_role=role)
    body = model.CreateTemporaryAccessKeyByAgencyRequestBody(auth=model.AgencyAuth(identity=identity))
    request = model.CreateTemporaryAccessKeyByAgencyRequest(body=body)
    return iam(tenant).create_temporary_access_key_by_agency(request).credential


def notebooks(running: RunningPlatform, key: Any, project_id: str) -> Any:
    """What the vendor's ModelArts client sees with a temporary key."""
    keys = BasicCredentials(key.access, key.secret, project_id).with_security_token(key.securitytoken)
    client = ModelArtsClient.new_builder().with_credentials(keys).with_endpoint(running.url).build()
    return client.list_notebooks(ListNotebooksRequest())


def call(
    running: RunningPlatform, key: Any, path: str, token: str | None = None, now: float | None = None
) -> httpx.Response:
    url = running.url + path
    given = key.securitytoken if token is None else token
    headers = signing.sign("GET", url, {}, b"", key.access, key.secret, security_token=given or None, now=now)
    return httpx.get(url, headers=headers)


@pytest.fixture
def agency(running: RunningPlatform, tenant: Tenant, stranger: Tenant) -> Agency:
    """One of `tenant` that lets `stranger` list its notebooks."""

    async def make() -> Agency:
        async with running.platform().database.transaction() as tx:
            made = Agency(account_id=tenant.account_id, name="auditor", trusted_account_id=stranger.account_id)
            policy = Policy(account_id=tenant.account_id, name="look", document=LIST)
            tx.session.add_all([made, policy])
            await tx.session.flush()
            tx.session.add(PolicyGrant(policy_id=policy.id, agency_id=made.id))
        running.platform().identity.invalidate()
        return made

    return running.run(make())


def test_a_temporary_key_acts_as_its_maker(running: RunningPlatform, tenant: Tenant) -> None:
    key = by_token(tenant)
    assert notebooks(running, key, tenant.project_id).total == 0
    who = call(running, key, "/v1/whoami").json()
    assert (who["user_id"], who["account_id"]) == (tenant.user_id, tenant.account_id)
    assert key.expires_at.endswith("Z")


def test_a_session_policy_only_narrows(running: RunningPlatform, tenant: Tenant) -> None:
    key = by_token(tenant, LIST)
    assert notebooks(running, key, tenant.project_id).total == 0
    assert call(running, key, f"/v1/{tenant.project_id}/resources").status_code == 403
    powerless = tenant.user()
    wide = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["*:*:*"]}]}
    with pytest.raises(exceptions.ClientRequestException) as refused:
        notebooks(running, by_token(powerless, wide), tenant.project_id)
    assert refused.value.status_code == 403


def test_limited_credentials_pass_their_limits_on(running: RunningPlatform, tenant: Tenant) -> None:
    key = by_token(tenant, LIST)
    limited = GlobalCredentials(key.access, key.secret, tenant.account_id).with_security_token(key.securitytoken)
    client = IamClient.new_builder().with_credentials(limited).with_endpoint(running.url).build()

    def again(policy: Any = None) -> Any:
        identity = model.TokenAuthIdentity(
            methods=["token"], token=model.IdentityToken(duration_seconds=86400), policy=policy
        )
        body = model.CreateTemporaryAccessKeyByTokenRequestBody(auth=model.TokenAuth(identity=identity))
        request = model.CreateTemporaryAccessKeyByTokenRequest(body=body)
        return client.create_temporary_access_key_by_token(request).credential

    heir = again()
    assert heir.expires_at <= key.expires_at
    assert call(running, heir, f"/v1/{tenant.project_id}/resources").status_code == 403
    assert notebooks(running, heir, tenant.project_id).total == 0
    statement = model.ServiceStatement(action=["modelarts:*:*"], effect="Allow")
    with pytest.raises(exceptions.ClientRequestException) as refused:
        again(model.ServicePolicy(version="1.1", statement=[statement]))
    assert refused.value.status_code == 400


@pytest.mark.parametrize(
    "what", ["no token", "tampered token", "another's token", "as X-Auth-Token", "slow clock", "unsigned token"]
)
def test_what_is_not_whole_is_refused(running: RunningPlatform, tenant: Tenant, stranger: Tenant, what: str) -> None:
    key, path = by_token(tenant), "/v1/whoami"
    assert call(running, key, path).status_code == 200
    if what == "no token":
        response = call(running, key, path, "")
    elif what == "tampered token":
        head, body, signature = key.securitytoken.split(".")
        response = call(running, key, path, f"{head}.{body[:-4]}AAAA.{signature}")
    elif what == "another's token":
        response = call(running, key, path, by_token(stranger).securitytoken)
    elif what == "as X-Auth-Token":
        response = httpx.get(running.url + path, headers={"X-Auth-Token": key.securitytoken})
    elif what == "slow clock":
        response = call(running, key, path, now=time.time() - 901)
    else:
        headers = signing.sign("GET", running.url + path, {}, b"", key.access, key.secret)
        response = httpx.get(running.url + path, headers={**headers, "X-Security-Token": key.securitytoken})
    assert response.status_code == 401, response.text
    assert response.json()["error_code"] in ("APIGW.0301", "APIGW.0307")
    assert response.json()["error_msg"]


def test_an_ordinary_token_is_no_security_token(running: RunningPlatform, tenant: Tenant) -> None:
    key, identity = by_token(tenant), running.platform().identity
    token = identity.issue_token(running.run(identity.principal(tenant.user_id)), 600)
    assert call(running, key, "/v1/whoami", token).status_code == 401


def test_it_ends_by_itself(running: RunningPlatform, tenant: Tenant, moved: Callable[[int], None]) -> None:
    key = by_token(tenant, seconds=900)
    moved(899_000)
    assert call(running, key, "/v1/whoami").status_code == 200
    moved(2_000)
    assert call(running, key, "/v1/whoami").status_code == 401


def test_it_ends_with_its_user(running: RunningPlatform, tenant: Tenant) -> None:
    user = tenant.user([LIST])
    key = by_token(user)
    assert call(running, key, "/v1/whoami").status_code == 200

    async def change(**values: Any) -> None:
        async with running.platform().database.transaction() as tx:
            row = await tx.session.get_one(User, user.user_id)
            for name, value in values.items():
                setattr(row, name, value)
            tx.session.add(row)
        running.platform().identity.invalidate()

    running.run(change(enabled=False))
    assert call(running, key, "/v1/whoami").status_code == 401
    running.run(change(enabled=True))
    assert call(running, key, "/v1/whoami").status_code == 200
    running.run(change(tokens_valid_from=now_ms() + 1))
    assert call(running, key, "/v1/whoami").status_code == 401


def test_it_is_revoked_by_its_security_token(running: RunningPlatform, tenant: Tenant) -> None:
    key = by_token(tenant)
    identity = running.platform().identity
    mine = identity.issue_token(running.run(identity.principal(tenant.user_id)), 60)
    headers = {"X-Auth-Token": mine, "X-Subject-Token": key.securitytoken}
    assert httpx.delete(f"{running.url}/v3/auth/tokens", headers=headers).status_code == 204
    assert call(running, key, "/v1/whoami").status_code == 401


def test_an_agency_gives_its_own_rights_in_the_account_that_made_it(
    running: RunningPlatform, tenant: Tenant, stranger: Tenant, agency: Agency
) -> None:
    key = by_agency(stranger, agency.name, tenant.name)
    assert notebooks(running, key, tenant.project_id).total == 0
    who = call(running, key, "/v1/whoami").json()
    assert (who["account_id"], who["user_id"], who["is_account_root"]) == (tenant.account_id, stranger.user_id, False)
    assert call(running, key, f"/v1/{tenant.project_id}/resources").status_code == 403
    assert call(running, key, f"/v1/{stranger.project_id}/resources").status_code == 403


def test_agencies_are_not_chained_and_not_for_everybody(
    running: RunningPlatform, tenant: Tenant, stranger: Tenant, agency: Agency
) -> None:
    def assume(as_key: Any, name: str, account: str) -> httpx.Response:
        body = json.dumps(
            {
                "auth": {
                    "identity": {
                        "methods": ["assume_role"],
                        "assume_role": {"agency_name": name, "domain_name": account},
                    }
                }
            }
        ).encode()
        headers = signing.sign(
            "POST",
            running.url + PATH,
            {"Content-Type": "application/json"},
            body,
            as_key.access,
            as_key.secret,
            security_token=as_key.securitytoken,
        )
        return httpx.post(running.url + PATH, headers=headers, content=body)

    key = by_agency(stranger, agency.name, tenant.name)
    chained = assume(key, agency.name, tenant.name)
    assert (chained.status_code, "another agency" in chained.json()["error_msg"]) == (403, True)
    assert assume(by_token(stranger, LIST), agency.name, tenant.name).status_code == 403
    assert assume(by_token(stranger), "no-such", tenant.name).status_code == 404
    assert assume(by_token(tenant), agency.name, tenant.name).status_code == 404
    assert assume(by_token(stranger.user([LIST])), agency.name, tenant.name).status_code == 403
    operator = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["iam:agencies:assume"]}]}
    assert assume(by_token(stranger.user([operator])), agency.name, tenant.name).status_code == 201


def test_an_agency_that_is_over_or_gone_ends_its_keys(
    running: RunningPlatform, tenant: Tenant, stranger: Tenant, agency: Agency, moved: Callable[[int], None]
) -> None:
    async def ends(at: int | None) -> None:
        async with running.platform().database.transaction() as tx:
            row = await tx.session.get_one(Agency, agency.id)
            row.expires_at = at
            tx.session.add(row)
        running.platform().identity.invalidate()

    running.run(ends(now_ms() + 1_800_000))
    key = by_agency(stranger, agency.name, tenant.name)
    moved(1_790_000)
    assert notebooks(running, key, tenant.project_id).total == 0
    moved(20_000)
    assert call(running, key, "/v1/whoami").status_code == 401
    with pytest.raises(exceptions.ClientRequestException) as refused:
        by_agency(stranger, agency.name, tenant.name)
    assert refused.value.status_code == 404


def test_a_token_by_an_agency_ends_with_the_key_that_asked_for_it(
    running: RunningPlatform, tenant: Tenant, stranger: Tenant, agency: Agency, moved: Callable[[int], None]
) -> None:
    key, url = by_token(stranger), running.url + "/v3/auth/tokens"
    role = {"agency_name": agency.name, "domain_name": tenant.name}
    body = json.dumps({"auth": {"identity": {"methods": ["assume_role"], "assume_role": role}}}).encode()
    json_type = {"Content-Type": "application/json"}
    headers = signing.sign("POST", url, json_type, body, key.access, key.secret, security_token=key.securitytoken)
    made = httpx.post(url, headers=headers, content=body)
    assert made.status_code == 201, made.text
    token = {"X-Auth-Token": made.headers["X-Subject-Token"]}
    assert httpx.get(running.url + "/v1/whoami", headers=token).json()["account_id"] == tenant.account_id
    moved(901_000)
    assert httpx.get(running.url + "/v1/whoami", headers=token).status_code == 401


def test_what_an_access_key_that_ends_has_made_ends_with_it(
    running: RunningPlatform, tenant: Tenant, moved: Callable[[int], None]
) -> None:
    async def make() -> tuple[str, str]:
        async with running.platform().database.transaction() as tx:
            identity = running.platform().identity
            made = await identity.create_access_key(tx, tenant.user_id, expires_at=now_ms() + 600_000)
        return made.access_key, made.secret_key

    access, secret = running.run(make())
    body = json.dumps({"auth": {"identity": {"methods": ["token"]}}}).encode()
    url = running.url + PATH
    headers = signing.sign("POST", url, {"Content-Type": "application/json"}, body, access, secret)
    answer = httpx.post(url, headers=headers, content=body)
    assert answer.status_code == 201, answer.text
    key = SimpleNamespace(**answer.json()["credential"])
    assert call(running, key, "/v1/whoami").status_code == 200
    moved(601_000)
    assert call(running, key, "/v1/whoami").status_code == 401


def test_what_was_made_with_a_credential_ends_with_it(running: RunningPlatform, tenant: Tenant) -> None:
    """A token, and with it a token, a temporary key, with that a token: all end with the first one."""
    url = running.url + "/v3/auth/tokens"
    user = tenant.user([LIST])
    own = tenant.client.post("/v3.0/OS-CREDENTIAL/credentials", {"credential": {"user_id": user.user_id}})["credential"]

    def token_by(key: Any) -> str:
        body = json.dumps({"auth": {"identity": {"methods": ["token"]}}}).encode()
        json_type, security = {"Content-Type": "application/json"}, getattr(key, "securitytoken", None)
        headers = signing.sign("POST", url, json_type, body, key.access, key.secret, security_token=security)
        made = httpx.post(url, headers=headers, content=body)
        assert made.status_code == 201, made.text
        return made.headers["X-Subject-Token"]

    def token_with(token: str) -> httpx.Response:
        return httpx.post(url, json={"auth": {"identity": {"methods": ["token"], "token": {"id": token}}}})

    def key_with(token: str) -> Any:
        body = {"auth": {"identity": {"methods": ["token"], "token": {"id": token}}}}
        return SimpleNamespace(**httpx.post(running.url + PATH, json=body).json()["credential"])

    def answers(token: str) -> int:
        return httpx.get(running.url + "/v1/whoami", headers={"X-Auth-Token": token}).status_code

    first = token_by(SimpleNamespace(**own))
    second = token_with(first).headers["X-Subject-Token"]
    key = key_with(second)
    last = token_by(key)
    other = token_by(SimpleNamespace(**own))
    assert [answers(t) for t in (first, second, last, other)] == [200] * 4
    assert call(running, key, "/v1/whoami").status_code == 200
    ended = httpx.delete(url, headers={"X-Auth-Token": other, "X-Subject-Token": first})
    assert ended.status_code == 204, ended.text
    assert [answers(t) for t in (first, second, last, other)] == [401] * 3 + [200]
    assert call(running, key, "/v1/whoami").status_code == 401
    key = key_with(other)
    tenant.client.put(f"/v3.0/OS-CREDENTIAL/credentials/{own['access']}", {"credential": {"status": "inactive"}})
    assert answers(other) == 401
    assert call(running, key, "/v1/whoami").status_code == 401


def test_tokens_are_not_made_with_one_another_without_end(running: RunningPlatform, tenant: Tenant) -> None:
    identity = running.platform().identity
    token = identity.issue_token(running.run(identity.principal(tenant.user_id)), 600)
    for number in range(17):
        body = {"auth": {"identity": {"methods": ["token"], "token": {"id": token}}}}
        made = httpx.post(f"{running.url}/v3/auth/tokens", json=body)
        assert made.status_code == (201 if number < 16 else 403), (number, made.text)
        token = made.headers.get("X-Subject-Token", token)
    assert "16 times" in made.json()["error_msg"]


@pytest.mark.parametrize(
    "identity",
    [
        {"methods": ["token"], "policy": {"Version": "1.1", "Statement": [], "Padding": "\ud800"}},
        {"methods": ["token"], "token": {"duration_seconds": 899}},
        {"methods": ["token"], "token": {"duration_seconds": 86401}},
        {"methods": []},
        {"methods": ["password"]},
        {"methods": ["assume_role"]},
        {"methods": ["assume_role"], "assume_role": {"agency_name": "x"}},
        {"methods": ["token"], "policy": {"Version": "1.1", "Statement": [{"Effect": "Maybe", "Action": ["a:b:c"]}]}},
        {"methods": ["token"], "policy": {"Version": "1.1", "Statement": [], "Padding": "x" * 9000}},
        {"methods": ["token"], "token": {"id": 7}},
    ],
)
def test_what_makes_no_sense_is_refused(tenant: Tenant, identity: dict[str, Any]) -> None:
    body = json.dumps({"auth": {"identity": identity}})  # escaped, as a lone surrogate must be
    response = tenant.client.http.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 400, response.text
    assert response.json()["error_msg"]


def test_a_token_may_stand_in_the_body(running: RunningPlatform, tenant: Tenant) -> None:
    identity = running.platform().identity
    token = identity.issue_token(running.run(identity.principal(tenant.user_id)), 600)
    body = {"auth": {"identity": {"methods": ["token"], "token": {"id": token, "duration_seconds": 86400}}}}
    made = httpx.post(running.url + PATH, json=body)
    assert made.status_code == 201
    body["auth"]["identity"]["token"]["id"] = f"{token}x"  # type: ignore[index]  # a nested literal
    assert httpx.post(running.url + PATH, json=body).status_code == 401
    assert httpx.post(running.url + PATH, content=b"[[[").status_code == 401


def test_nats_credentials_do_not_outlive_or_exceed_it(running: RunningPlatform, tenant: Tenant) -> None:
    def ask(key: Any) -> httpx.Response:
        url, body = f"{running.url}/v1/{tenant.project_id}/nats-credentials", b'{"expires_s": 86400}'
        headers = signing.sign(
            "POST",
            url,
            {"Content-Type": "application/json"},
            body,
            key.access,
            key.secret,
            security_token=key.securitytoken,
        )
        return httpx.post(url, headers=headers, content=body)

    issued = ask(by_token(tenant, seconds=900))
    assert issued.status_code == 201
    assert issued.json()["expires_s"] <= 900
    assert ask(by_token(tenant, LIST)).status_code == 403


def test_the_command_line_makes_one(running: RunningPlatform, tenant: Tenant, tmp_path: Path) -> None:
    credentials, policy, output = tmp_path / "c.json", tmp_path / "p.json", tmp_path / "key.json"
    known = {"url": running.url, "project_id": tenant.project_id}
    credentials.write_text(json.dumps({**known, "access_key": tenant.access_key, "secret_key": tenant.secret_key}))
    policy.write_text(json.dumps(LIST))
    command = [sys.executable, "-m", "bottega", "--credentials", str(credentials), "keys", "temporary", str(output)]
    done = subprocess.run([*command, "--policy", str(policy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert output.stat().st_mode & 0o777 == 0o600
    made = json.loads(output.read_text())
    key = SimpleNamespace(access=made["access_key"], secret=made["secret_key"], securitytoken=made["security_token"])
    assert notebooks(running, key, tenant.project_id).total == 0
    assert call(running, key, f"/v1/{tenant.project_id}/resources").status_code == 403
    with_it = [*command[:3], "--credentials", str(output), "--json", "whoami"]
    shown = subprocess.run(with_it, capture_output=True, text=True)
    assert json.loads(shown.stdout)["user_id"] == tenant.user_id, shown.stderr
