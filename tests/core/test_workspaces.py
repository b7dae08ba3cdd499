"""Workspaces: whoever may not enter one finds nothing in it, whatever plugin brought the things (003 §9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from sqlmodel import select

from bottega.client import ApiFailure
from bottega.entities import GroupMember, Policy, PolicyGrant, Workspace, WorkspaceUser
from bottega.testing import RunningPlatform, Tenant

ALL = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["*:*:*"]}]}
USER = {
    "Version": "1.1",
    "Statement": [{"Effect": "Allow", "Action": ["modelarts:*:*", "obs:*:*", "bottega:*:*"]}],
}
DATASETS = "/v2/{project_id}/datasets"


async def add(running: RunningPlatform, *rows: Any) -> None:
    platform = running.runtime.platform
    async with platform.database.transaction() as tx:
        for row in rows:
            tx.session.add(row)
            await tx.session.flush()
    platform.identity.invalidate()


@dataclass
class Department:
    """A tenant with a creator of workspaces, a guest and an outsider, none of them an administrator."""

    tenant: Tenant
    creator: Tenant
    guest: Tenant
    outsider: Tenant
    bucket: str

    def workspace(self, auth_type: str, enterprise_project_id: str = "0") -> str:
        row = Workspace(
            project_id=self.tenant.project_id,
            name=f"room-{auth_type}-{enterprise_project_id}",
            owner_id=self.creator.user_id,
            auth_type=auth_type,
            enterprise_project_id=enterprise_project_id,
        )
        self.tenant.running.run(add(self.tenant.running, row))
        self.tenant.running.run(
            add(self.tenant.running, WorkspaceUser(workspace_id=row.id, user_id=self.guest.user_id))
        )
        return row.id

    def dataset(self, by: Tenant, workspace_id: str, name: str = "cats") -> str:
        body = {
            "dataset_name": name,
            "dataset_type": 0,
            "workspace_id": workspace_id,
            "work_path": f"/{self.bucket}/{name}/",
            "data_sources": [],
        }
        return str(by.client.post(DATASETS, body)["dataset_id"])


@pytest.fixture
def department(tenant: Tenant) -> Department:
    users = [tenant.user([USER]) for _ in range(3)]
    return Department(tenant, users[0], users[1], users[2], tenant.create_bucket())


def names(who: Tenant) -> list[str]:
    return [row["dataset_name"] for row in who.client.get(DATASETS)["datasets"]]


@pytest.mark.parametrize(
    ("auth_type", "guest_enters", "outsider_enters"),
    [("PUBLIC", True, True), ("INTERNAL", True, False), ("PRIVATE", False, False)],
)
def test_who_may_enter_sees_and_who_may_not_finds_nothing(
    department: Department, auth_type: str, guest_enters: bool, outsider_enters: bool
) -> None:
    room = department.workspace(auth_type)
    dataset = department.dataset(department.creator, room)
    administrator = department.tenant.user([ALL])
    for who, enters in (
        (department.tenant, True),
        (administrator, True),
        (department.creator, True),
        (department.guest, guest_enters),
        (department.outsider, outsider_enters),
    ):
        assert names(who) == (["cats"] if enters else [])
        registry = who.client.get("/v1/{project_id}/resources")["resources"]
        assert [r["id"] for r in registry] == ([dataset] if enters else [])
        if enters:
            assert who.client.get(f"{DATASETS}/{dataset}")["workspace_id"] == room
            continue
        with pytest.raises(ApiFailure) as hidden:
            who.client.get(f"{DATASETS}/{dataset}")
        with pytest.raises(ApiFailure) as absent:
            who.client.get(f"{DATASETS}/00000000-0000-4000-8000-000000000000")
        assert (hidden.value.status, hidden.value.error_code) == (404, "ModelArts.0104")
        assert hidden.value.message.split("'")[::2] == absent.value.message.split("'")[::2]
        with pytest.raises(ApiFailure) as refused:
            who.client.delete(f"{DATASETS}/{dataset}")
        assert refused.value.status == 404
        with pytest.raises(ApiFailure) as elsewhere:
            department.dataset(who, room, "dogs")
        assert (elsewhere.value.status, elsewhere.value.error_code) == (400, "ModelArts.0101")
        assert f"there is no workspace '{room}'" in elsewhere.value.message
    assert names(department.tenant) == ["cats"]


def test_a_right_for_an_enterprise_project_holds_in_its_workspaces_only(department: Department) -> None:
    tenant, running = department.tenant, department.tenant.running
    research, sales = department.workspace("PUBLIC", "ep-research"), department.workspace("PUBLIC", "ep-sales")
    hidden = [department.dataset(tenant, "0", "default"), department.dataset(tenant, sales, "sold")]
    scientist = tenant.user()
    document = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:dataset:*", "obs:*:*"]}]}
    running.run(grant(scientist, document, "ep-research"))
    mine = department.dataset(scientist, research, "found")
    assert names(scientist) == ["found"]
    assert scientist.client.get(f"{DATASETS}/{mine}")["dataset_name"] == "found"
    for other in hidden:
        with pytest.raises(ApiFailure) as refused:
            scientist.client.get(f"{DATASETS}/{other}")
        assert refused.value.status == 403
    for room in ("0", sales):
        with pytest.raises(ApiFailure) as refused:
            department.dataset(scientist, room, "stray")
        assert (refused.value.status, refused.value.error_code) == (403, "ModelArts.0103")
        assert "modelarts:dataset:create" in refused.value.message


async def grant(user: Tenant, document: dict[str, Any], enterprise_project_id: str) -> None:
    """Give a user's own group a policy in one enterprise project."""
    platform = user.running.runtime.platform
    async with platform.database.transaction() as tx:
        query = select(GroupMember.group_id).where(GroupMember.user_id == user.user_id)
        group_id = (await tx.session.exec(query)).one()
        policy = Policy(account_id=user.account_id, name=f"for {user.name}", document=document)
        tx.session.add(policy)
        await tx.session.flush()
        tx.session.add(
            PolicyGrant(
                policy_id=policy.id,
                group_id=group_id,
                scope="enterprise_project",
                enterprise_project_id=enterprise_project_id,
            )
        )
    platform.identity.invalidate()


def test_events_of_a_closed_workspace_are_not_followed(department: Department) -> None:
    room = department.workspace("PRIVATE")
    secret = department.dataset(department.creator, room, "secret")
    shared = department.dataset(department.creator, "0", "shared")
    department.tenant.events.wait("dataset.dataset.created.v1", dataset_id=shared)

    def followed(who: Tenant) -> str:
        return str(list(who.client.lines("/v1/{project_id}/events", {"since": 0, "follow": "false"})))

    assert secret in followed(department.creator)
    assert secret not in followed(department.outsider)
    assert shared in followed(department.outsider)
    with pytest.raises(ApiFailure) as refused:
        department.outsider.client.post("/v1/{project_id}/nats-credentials", {"name": "spy"})
    assert (refused.value.status, refused.value.error_code) == (403, "ModelArts.0103")


def test_the_lineage_of_what_is_open_leaves_out_what_is_not(department: Department) -> None:
    """open → secret → derived, and open → seen: an outsider sees the last two of these four only."""
    running, room = department.tenant.running, department.workspace("PRIVATE")
    opened, seen, derived = (department.dataset(department.creator, "0", name) for name in ("opened", "seen", "late"))
    secret = department.dataset(department.creator, room, "secret")
    urns = {
        id: f"bottega:dataset:{department.tenant.project_id}:dataset/{id}" for id in (opened, seen, derived, secret)
    }

    async def link() -> None:
        platform = running.runtime.platform
        async with platform.database.transaction() as tx:
            for source, target in ((opened, secret), (secret, derived), (opened, seen)):
                await platform.resources.link(tx, urns[source], urns[target], "made from")

    running.run(link())

    def graph(who: Tenant, id: str, direction: str) -> tuple[set[str], int]:
        found = who.client.get("/v1/{project_id}/lineage", {"urn": urns[id], "direction": direction})
        return {node["urn"] for node in found["nodes"]}, len(found["edges"])

    assert graph(department.creator, opened, "down") == (set(urns.values()), 3)
    assert graph(department.outsider, opened, "down") == ({urns[opened], urns[seen]}, 1)
    assert graph(department.outsider, derived, "up") == ({urns[derived]}, 0)
    with pytest.raises(ApiFailure) as hidden:
        graph(department.outsider, secret, "up")
    assert hidden.value.status == 404


def test_a_lost_invitation_counts_at_once(department: Department) -> None:
    room = department.workspace("INTERNAL")
    department.dataset(department.creator, room)
    assert names(department.guest) == ["cats"]
    running = department.tenant.running

    async def uninvite() -> None:
        platform = running.runtime.platform
        async with platform.database.transaction() as tx:
            invitation = await tx.session.get(WorkspaceUser, (room, department.guest.user_id))
            await tx.session.delete(invitation)
        platform.identity.invalidate()

    running.run(uninvite())
    assert names(department.guest) == []
