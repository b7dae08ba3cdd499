"""Several platforms on one PostgreSQL and one NATS: what one changes about identity counts in the others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points

import anyio
import pytest

from bottega.client import ApiFailure, Client
from bottega.hearing import Hearing
from bottega.nats_connection import NatsConnection, NatsOptions
from bottega.plugins import GROUP, Plugins
from bottega.settings import Settings
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.postgres import Postgres

LIST = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["bottega:resource:list"]}]}
SOON_S = 10.0
"""Below the 15 s after which an outbox is looked through, the five minutes after which everything is forgotten."""


def identity_alone(settings: Settings) -> Plugins:
    return Plugins(settings, [point for point in entry_points(group=GROUP) if point.name == "iam"])


@dataclass
class Two:
    """`first` changes, `second` is asked."""

    first: RunningPlatform
    second: RunningPlatform

    def client(self, tenant: Tenant) -> Client:
        return Client(self.second.url, tenant.project_id, tenant.access_key, tenant.secret_key)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[Two]:
    one, other = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    database = {"url": postgres.database()}
    with RunningPlatform(one, {"database": database}, identity_alone) as first:
        shutil.copytree(one / "secrets", other / "secrets")
        shared = {
            "database": database,
            "nats": {"url": first.runtime.platform.nats_url, "authority_dir": str(one / "secrets" / "nats")},
        }
        with RunningPlatform(other, shared, identity_alone) as second:
            yield Two(first, second)


def status(client: Client) -> int:
    try:
        client.get("/v1/{project_id}/resources")
    except ApiFailure as refused:
        return refused.status
    return 200


def test_what_one_process_takes_away_ends_in_the_other(two: Two) -> None:
    tenant = two.first.tenant()
    member, disabled, keyless = (tenant.user([LIST]) for _ in range(3))
    clients = [two.client(user) for user in (member, disabled, keyless)]
    assert [status(client) for client in clients] == [200, 200, 200], "and the other process remembers so"

    groups = tenant.client.get(f"/v3/users/{member.user_id}/groups")["groups"]
    tenant.client.delete(f"/v3/groups/{groups[0]['id']}/users/{member.user_id}")
    tenant.client.request("PUT", f"/v3.0/OS-USER/users/{disabled.user_id}", json={"user": {"enabled": False}})
    tenant.client.delete(f"/v3.0/OS-CREDENTIAL/credentials/{keyless.access_key}")
    wait_until(lambda: [status(client) for client in clients] == [403, 401, 401], timeout=SOON_S)

    tenant.client.request("PUT", f"/v3/groups/{groups[0]['id']}/users/{member.user_id}")
    wait_until(lambda: status(clients[0]) == 200, timeout=SOON_S)


def test_a_change_by_oneself_is_not_heard_as_anothers(two: Two) -> None:
    """Otherwise each change of a large account would have its rights read twice."""
    identity, tenant = two.first.runtime.platform.identity, two.first.tenant()
    other = two.second.runtime.platform.identity
    before, elsewhere = identity.generation, other.generation
    tenant.client.post("/v3/groups", {"group": {"name": "readers"}})
    wait_until(lambda: other.generation > elsewhere, timeout=SOON_S)
    assert identity.generation == before + 1


def test_what_was_said_while_the_connection_was_lost_is_not_believed_after(two: Two) -> None:
    tenant = two.first.tenant()
    member, later = tenant.user([LIST]), tenant.user([LIST])
    clients = [two.client(user) for user in (member, later)]
    assert [status(client) for client in clients] == [200, 200]
    connection = two.second.runtime.platform.bus.connection
    two.second.run(connection.nc.close())  # as when the server has had enough of it: a new client has to be made
    assert not connection.connected
    for user, client in zip((member, later), clients, strict=True):
        group = tenant.client.get(f"/v3/users/{user.user_id}/groups")["groups"][0]
        tenant.client.delete(f"/v3/groups/{group['id']}/users/{user.user_id}")
        wait_until(lambda client=client: status(client) == 403, timeout=SOON_S)  # type: ignore[misc]  # bound at once
    wait_until(lambda: connection.connected, timeout=SOON_S)


def test_a_process_without_nats_forgets_every_few_seconds(two: Two) -> None:
    """And one that has it, after some minutes, whatever it heard."""
    identity = two.second.runtime.platform.identity
    away = NatsConnection(NatsOptions("nats://127.0.0.1:1"))
    there = two.second.runtime.platform.bus.connection

    async def forgotten(connection: NatsConnection, **limits: float) -> int:
        before = identity.generation
        async with Hearing(connection, identity, **limits).running():
            with anyio.fail_after(SOON_S):
                while identity.generation < before + 4:
                    await anyio.sleep(0.01)
        return identity.generation - before

    assert two.second.run(forgotten(away, cut_off_s=0.05, at_most_s=3600.0)) >= 4
    assert two.second.run(forgotten(there, cut_off_s=3600.0, at_most_s=0.05)) >= 4
