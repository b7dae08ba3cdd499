"""Following events ends with the credential that asked for it."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from bottega.entities import User
from bottega.testing import RunningPlatform, Tenant
from bottega.tokens import TokenRevoked
from bottega.urn import Urn


@pytest.mark.parametrize("end", ["the token is over", "the user is disabled", "the token is revoked"])
def test_following_events_ends_with_the_credential(
    running: RunningPlatform, tenant: Tenant, moved: Callable[[int], None], end: str
) -> None:
    platform = running.platform()
    follower = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["bottega:event:subscribe"]}]}
    user = tenant.user([follower])
    token = platform.identity.issue_token(running.run(platform.identity.principal(user.user_id)), 600)

    async def tell(name: str) -> None:
        async with platform.database.transaction() as tx:
            event = TokenRevoked(account_id=tenant.account_id, user_id=user.user_id, token_id=name)
            tx.speaking_as("core").emit(event, Urn("core", tenant.project_id, "user", name))

    async def disable() -> None:
        async with platform.database.transaction() as tx:
            row = await tx.session.get_one(User, user.user_id)
            row.enabled = False
            tx.session.add(row)
        platform.identity.invalidate()

    running.run(tell("before"))
    url = f"{running.url}/v1/{tenant.project_id}/events?since=0"
    with httpx.stream("GET", url, headers={"X-Auth-Token": token}, timeout=20) as answer:
        lines = answer.iter_lines()
        assert any('"before"' in line for line in lines)
        if end == "the user is disabled":
            running.run(disable())
        elif end == "the token is revoked":
            revoking = {"X-Auth-Token": token, "X-Subject-Token": token}
            assert httpx.delete(f"{running.url}/v3/auth/tokens", headers=revoking).status_code == 204
        else:
            moved(601_000)
        running.run(tell("after"))
        assert '"after"' not in "".join(lines)
