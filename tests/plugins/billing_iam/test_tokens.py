"""Logging in, what a token is worth, throttling, and revocation."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure, Client
from bottega.testing import RunningPlatform, Tenant, wait_until

Login = Callable[..., httpx.Response]
Member = Callable[..., dict[str, str]]


JOBS = {"resource": "job-num", "quota": 5}


def with_token(running: RunningPlatform, tenant: Tenant, response: httpx.Response) -> Client:
    assert response.status_code == 201, response.text
    return Client(running.url, tenant.project_id, token=response.headers["X-Subject-Token"])


def test_the_account_logs_in_and_its_token_says_who_where_and_what(
    running: RunningPlatform, operator_login: dict[str, str], login: Login
) -> None:
    known = operator_login
    response = login(known["account"], known["user"], known["password"], known["project_id"])
    assert response.status_code == 201
    token = response.json()["token"]
    assert token["methods"] == ["password"]
    assert token["user"]["name"] == token["user"]["domain"]["name"] == known["account"]
    assert token["project"]["id"] == known["project_id"]
    assert "domain" not in token
    issued, expires = (datetime.fromisoformat(token[key]) for key in ("issued_at", "expires_at"))
    assert (expires - issued).total_seconds() == 86400
    assert abs((datetime.now(UTC) - issued).total_seconds()) < 60
    services = {entry["type"]: entry["endpoints"][0]["url"] for entry in token["catalog"]}
    assert services["modelartsv2"] == f"{running.url}/v2/{known['project_id']}"
    assert services["modelarts"] == services["modelartsv1"] == f"{running.url}/v1/{known['project_id']}"
    assert services["iam"] == f"{running.url}/v3"
    assert services["obs"] == f"{running.url}/s3"
    assert known["s3_secret_key"] not in response.text
    who = httpx.get(f"{running.url}/v1/whoami", headers={"X-Auth-Token": response.headers["X-Subject-Token"]})
    assert (who.json()["user_name"], who.json()["scope"]) == (known["account"], known["project_id"])


def test_a_user_logs_in_by_name_or_id_with_and_without_scope(
    running: RunningPlatform, tenant: Tenant, login: Login, member: Member
) -> None:
    someone = member(system=("ModelArts Viewer",))
    response = login(someone["account"], someone["user"], someone["password"])
    token = response.json()["token"]
    assert token["domain"] == {"id": tenant.account_id, "name": tenant.name}
    assert [role["name"] for role in token["roles"]] == ["ModelArts Viewer"]
    user = {"id": someone["user_id"], "password": someone["password"]}
    auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
    by_id = httpx.post(f"{running.url}/v3/auth/tokens?nocatalog=true", json={"auth": auth})
    assert by_id.status_code == 201
    assert "catalog" not in by_id.json()["token"]
    auth["scope"] = {"project": {"name": "local-1"}}
    scoped = httpx.post(f"{running.url}/v3/auth/tokens", json={"auth": auth})
    auth["scope"] = {"domain": {"name": "somebody-else"}}
    assert httpx.post(f"{running.url}/v3/auth/tokens", json={"auth": auth}).status_code == 403
    assert scoped.json()["token"]["project"]["id"] == tenant.project_id


@pytest.mark.parametrize(
    ("user", "password"), [("USER", "wrong-Horse-1"), ("nobody-of-this-name", "correct-Horse-1"), ("USER", "")]
)
def test_a_wrong_login_says_nothing_more(login: Login, member: Member, user: str, password: str) -> None:
    someone = member()
    response = login(someone["account"], user.replace("USER", someone["user"]), password)
    assert response.status_code == 401
    assert response.json()["error_msg"] == "the account, the user name or the password is wrong"
    assert "X-Subject-Token" not in response.headers


def test_an_unknown_account_and_a_user_without_password_are_refused(tenant: Tenant, login: Login) -> None:
    by_key_only = tenant.user()
    assert login(tenant.name, by_key_only.name, "correct-Horse-1").status_code == 401
    assert login("no-such-account", "nobody", "correct-Horse-1").status_code == 401


def test_wrong_passwords_are_throttled_and_audited(tenant: Tenant, login: Login, member: Member) -> None:
    someone, other = member(), member()
    codes = [login(someone["account"], someone["user"], "wrong-Horse-1").status_code for _ in range(6)]
    assert codes == [401] * 5 + [429]
    # Even the right password has to wait now, and others do not.
    assert login(someone["account"], someone["user"], someone["password"]).status_code == 429
    assert login(other["account"], other["user"], other["password"]).status_code == 201

    def recorded() -> list[dict[str, Any]]:
        asked = {"scope": "account", "trace_name": "createTokenByPwd", "user": someone["user"], "limit": 50}
        rows: list[dict[str, Any]] = tenant.client.get("/v3/{project_id}/traces", asked)["traces"]
        return rows if len(rows) == 7 else []

    rows = wait_until(recorded)
    assert sorted(row["code"] for row in rows) == ["401"] * 5 + ["429"] * 2
    assert {row["trace_rating"] for row in rows} == {"warning"}
    assert {row["source_ip"] for row in rows} == {"127.0.0.1"}


def test_a_right_password_between_wrong_ones_starts_the_count_again(login: Login, member: Member) -> None:
    someone = member()
    for _ in range(2):
        for _ in range(4):
            assert login(someone["account"], someone["user"], "wrong-Horse-1").status_code == 401
        assert login(someone["account"], someone["user"], someone["password"]).status_code == 201


def test_tries_at_the_same_time_do_not_slip_through(login: Login, member: Member) -> None:
    from concurrent.futures import ThreadPoolExecutor

    someone = member()
    with ThreadPoolExecutor(12) as pool:
        tries = [pool.submit(login, someone["account"], someone["user"], "wrong-Horse-1") for _ in range(12)]
    assert sorted(t.result().status_code for t in tries) == [401] * 5 + [429] * 7


def test_a_token_is_validated_by_its_owner_and_by_who_may(
    running: RunningPlatform, tenant: Tenant, stranger: Tenant, login: Login, member: Member
) -> None:
    someone, other = member(), member()
    subject = login(someone["account"], someone["user"], someone["password"]).headers["X-Subject-Token"]
    others = login(other["account"], other["user"], other["password"]).headers["X-Subject-Token"]
    url = f"{running.url}/v3/auth/tokens"
    own = httpx.get(url, headers={"X-Auth-Token": subject, "X-Subject-Token": subject})
    assert own.status_code == 200
    assert own.json()["token"]["user"]["id"] == someone["user_id"]
    assert own.headers["X-Subject-Token"] == subject
    refused = httpx.get(url, headers={"X-Auth-Token": others, "X-Subject-Token": subject})
    assert refused.status_code == 403
    asked = {"X-Subject-Token": subject}
    by_root = tenant.client.request("GET", "/v3/auth/tokens", headers=asked).json()["token"]
    assert by_root["user"]["name"] == someone["user"]
    for client, header in ((stranger.client, subject), (tenant.client, subject[:-4] + "AAAA"), (tenant.client, "x")):
        with pytest.raises(ApiFailure) as failure:
            client.request("GET", "/v3/auth/tokens", headers={"X-Subject-Token": header})
        assert failure.value.status == 404


def test_a_scoped_token_reaches_its_project_only_and_administers_nothing(
    running: RunningPlatform, tenant: Tenant, stranger: Tenant, login: Login, member: Member
) -> None:
    other = tenant.client.post("/v3/projects", {"project": {"name": "other"}})["project"]["id"]
    admin = member(system=("Security Administrator", "Tenant Administrator"))
    who = (admin["account"], admin["user"], admin["password"])
    scoped = with_token(running, tenant, login(*who, other))
    assert scoped.get(f"/v2/{other}/bills")["total_amount"] == "0.00"
    for path, asked in (("/v2/{project_id}/bills", None), (f"/v2/{other}/bills", {"scope": "account"})):
        with pytest.raises(ApiFailure) as failure:
            scoped.get(path, asked)
        assert failure.value.status == 403
    assert [p["id"] for p in scoped.get("/v3/projects")["projects"]] == [other]
    for path, body in (
        ("/v3/users", {"user": {"name": "late"}}),
        ("/v3.0/OS-CREDENTIAL/credentials", {"credential": {"user_id": admin["user_id"]}}),
    ):
        with pytest.raises(ApiFailure, match="limited to a project"):
            scoped.post(path, body)
    with pytest.raises(ApiFailure, match="scoped to project"):
        scoped.put(f"/v2/{other}/training-quotas", {"user_id": admin["user_id"], "quotas": [JOBS]})
    assert login(*who, stranger.project_id).status_code == 403
    tenant.client.request("PATCH", f"/v3/projects/{other}", json={"project": {"enabled": False}})
    assert login(*who, other).status_code == 403
    with pytest.raises(ApiFailure, match="disabled"):
        scoped.get(f"/v2/{other}/bills")


def test_the_operators_business_needs_a_token_of_the_whole_account(
    running: RunningPlatform, tenant: Tenant, operator_login: dict[str, str], login: Login
) -> None:
    known = operator_login
    who = (known["account"], known["user"], known["password"])
    scoped = with_token(running, tenant, login(*who, known["project_id"]))
    whole = with_token(running, tenant, login(*who))
    limit = {"quotas": [{"type": "dataset.dataset", "quota": 99}]}
    for method, path, body in (
        ("GET", "/v2/billing/accounts", None),
        ("POST", f"/v2/billing/accounts/{tenant.account_id}/recharges", {"amount": "1"}),
        ("PUT", f"/v2/billing/accounts/{tenant.account_id}/terms", {"mode": None}),
        ("GET", f"/v1/accounts/{tenant.account_id}/quotas", None),
        ("PUT", f"/v1/accounts/{tenant.account_id}/quotas", limit),
        ("GET", "/v1/secrets", None),
        ("GET", "/v1/dead-letters", None),
    ):
        with pytest.raises(ApiFailure, match="scoped to project") as failure:
            scoped.request(method, path, json=body)
        assert failure.value.status == 403
        whole.request(method, path, json=body)


def test_disabling_a_user_ends_its_tokens_and_keys_at_once(
    running: RunningPlatform, tenant: Tenant, login: Login, member: Member
) -> None:
    someone = member(system=("ModelArts Viewer", "Tenant Guest"))
    who = (someone["account"], someone["user"], someone["password"])
    by_token = with_token(running, tenant, login(*who))
    key = by_token.post("/v3.0/OS-CREDENTIAL/credentials", {"credential": {"user_id": someone["user_id"]}})[
        "credential"
    ]
    by_key = Client(running.url, tenant.project_id, key["access"], key["secret"])
    for client in (by_token, by_key):
        assert client.get("/v1/whoami")["user_name"] == someone["user"]
    tenant.client.request("PATCH", f"/v3/users/{someone['user_id']}", json={"user": {"enabled": False}})
    for client in (by_token, by_key):
        with pytest.raises(ApiFailure) as failure:
            client.get("/v1/whoami")
        assert failure.value.status == 401
    assert login(*who).status_code == 401
    tenant.client.request("PATCH", f"/v3/users/{someone['user_id']}", json={"user": {"enabled": True}})
    with pytest.raises(ApiFailure, match="revoked"):
        by_token.get("/v1/whoami")
    assert by_key.get("/v1/whoami")["user_name"] == someone["user"]


def test_a_new_password_ends_the_tokens_of_the_old_one(
    running: RunningPlatform, tenant: Tenant, login: Login, member: Member
) -> None:
    someone = member()
    before = with_token(running, tenant, login(someone["account"], someone["user"], someone["password"]))
    path = f"/v3/users/{someone['user_id']}/password"
    with pytest.raises(ApiFailure) as failure:
        before.post(path, {"user": {"password": "another-Horse-2", "original_password": "wrong-Horse-1"}})
    assert failure.value.status == 401
    before.post(path, {"user": {"password": "another-Horse-2", "original_password": someone["password"]}})
    with pytest.raises(ApiFailure, match="revoked"):
        before.get("/v1/whoami")
    assert login(someone["account"], someone["user"], someone["password"]).status_code == 401
    assert login(someone["account"], someone["user"], "another-Horse-2").status_code == 201
