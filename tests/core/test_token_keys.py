"""The keys that sign tokens: how they change, and what they accept meanwhile. Revoking one token."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlmodel import select

from bottega.client import ApiFailure, Client
from bottega.context import move_clock, now_ms
from bottega.entities import RevokedToken
from bottega.testing import RunningPlatform, Tenant
from bottega.tokens import InvalidToken, SigningKeys

WEEK_MS = 7 * 86_400_000


def claims(subject: str = "somebody") -> dict[str, object]:
    now = time.time()
    return {"sub": subject, "iat": now, "exp": now + 60, "jti": "abc"}


def test_a_new_key_signs_and_the_earlier_ones_are_accepted(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path)
    before = keys.sign(claims("before"))
    assert keys.rotate() != jwt.get_unverified_header(before)["kid"]
    after = keys.sign(claims("after"))
    for found in (keys, SigningKeys(tmp_path)):
        assert [found.verify(token)["sub"] for token in (before, after)] == ["before", "after"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert len(keys.public_pems) == 2


def test_an_earlier_key_goes_when_nothing_it_signed_can_be_valid(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path)
    token = keys.sign({**claims(), "exp": time.time() + 1e9})
    keys.rotate()
    keys.prune()
    assert keys.verify(token)
    move_clock(WEEK_MS + 60_000)
    try:
        keys.prune()
        with pytest.raises(InvalidToken, match="not one this platform issued"):
            keys.verify(token)
        assert keys.verify(keys.sign({**claims(), "exp": now_ms() / 1000 + 60}))
        assert len(list(tmp_path.iterdir())) == 1
    finally:
        move_clock(-WEEK_MS - 60_000)


def test_a_token_without_key_id_is_one_of_the_first_key(tmp_path: Path) -> None:
    keys = SigningKeys(tmp_path)
    first = load_pem_private_key((tmp_path / "token-signing-key.pem").read_bytes(), None)
    keys.rotate()
    assert keys.verify(jwt.encode(claims("old"), first, algorithm="EdDSA"))["sub"] == "old"  # type: ignore[arg-type]  # Ed25519


@pytest.mark.parametrize("other", ["none", "HS256", "another key", "unknown key id", "garbage"])
def test_what_another_key_signed_is_refused(tmp_path: Path, other: str) -> None:
    keys, strange = SigningKeys(tmp_path / "a"), SigningKeys(tmp_path / "b")
    forged: dict[str, Callable[[], str]] = {
        "none": lambda: jwt.encode(claims(), "", algorithm="none"),
        "HS256": lambda: jwt.encode(claims(), "x" * 32, algorithm="HS256"),
        "another key": lambda: jwt.encode(claims(), strange._keys[strange._newest], algorithm="EdDSA"),
        "unknown key id": lambda: strange.sign(claims()),
        "garbage": lambda: "a.b.c",
    }
    with pytest.raises(InvalidToken):
        keys.verify(forged[other]())


def test_a_revoked_token_is_refused_at_once_and_forgotten_when_it_would_have_expired(
    running: RunningPlatform, tenant: Tenant
) -> None:
    identity = running.platform().identity
    principal = running.run(identity.principal(tenant.user_id))
    token, other = identity.issue_token(principal, 60), identity.issue_token(principal, 60)
    client = Client(running.url, tenant.project_id, token=token)
    assert client.get("/v1/whoami")["user_id"] == tenant.user_id

    def revoke(subject: str, by: str) -> int:
        headers = {"X-Auth-Token": by, "X-Subject-Token": subject}
        return httpx.delete(f"{running.url}/v3/auth/tokens", headers=headers).status_code

    assert revoke(token, other) == 204
    with pytest.raises(ApiFailure, match="revoked") as refused:
        client.get("/v1/whoami")
    assert refused.value.status == 401
    assert revoke(token, other) == 404
    assert Client(running.url, tenant.project_id, token=other).get("/v1/whoami")

    async def stored() -> list[str]:
        async with running.platform().database.read() as session:
            return [row.token_id for row in (await session.exec(select(RevokedToken))).all()]

    def id_of(token: str) -> str:
        return str(jwt.decode(token, options={"verify_signature": False})["jti"])

    move_clock(120_000)
    try:
        fresh = identity.issue_token(principal, 600)
        assert revoke(fresh, fresh) == 204
        kept = running.run(stored())
        assert id_of(fresh) in kept
        assert id_of(token) not in kept
    finally:
        move_clock(-120_000)


def test_nobody_ends_the_tokens_of_others(running: RunningPlatform, tenant: Tenant, stranger: Tenant) -> None:
    identity = running.platform().identity
    token = identity.issue_token(running.run(identity.principal(tenant.user_id)), 60)
    limited = tenant.user([{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["bottega:resource:list"]}]}])
    for somebody, status in ((stranger, 404), (limited, 403)):
        mine = identity.issue_token(running.run(identity.principal(somebody.user_id)), 60)
        headers = {"X-Auth-Token": mine, "X-Subject-Token": token}
        assert httpx.delete(f"{running.url}/v3/auth/tokens", headers=headers).status_code == status
    assert Client(running.url, tenant.project_id, token=token).get("/v1/whoami")
