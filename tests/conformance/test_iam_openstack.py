"""openstacksdk with otcextensions logs in with a password and finds the services by the catalog."""

from __future__ import annotations

from typing import Any

import openstack
import pytest
from otcextensions import sdk

from bottega.testing import RunningPlatform, Tenant

PASSWORD = "blue-Whale-7"
LOOK = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["modelarts:*:*", "iam:*:list*", "iam:*:get*"]}]}


@pytest.fixture
def user(tenant: Tenant) -> str:
    """The name of a user with a password that may look at things."""
    client = tenant.client
    made = client.post("/v3/users", {"user": {"name": "Joan", "password": PASSWORD}})["user"]
    group = client.post("/v3/groups", {"group": {"name": "lookers"}})["group"]
    role = client.post("/v3.0/OS-ROLE/roles", {"role": {"display_name": "look", "policy": LOOK}})["role"]
    client.put(f"/v3/groups/{group['id']}/users/{made['id']}")
    client.put(f"/v3/domains/{tenant.account_id}/groups/{group['id']}/roles/{role['id']}")
    return "Joan"


def connect(running: RunningPlatform, tenant: Tenant, user: str, password: str = PASSWORD) -> Any:
    cloud = openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_url=f"{running.url}/v3",
        username=user,
        password=password,
        user_domain_name=tenant.name,
        project_name="local-1",
        project_domain_name=tenant.name,
        region_name="local-1",
    )
    sdk.load(cloud)
    return cloud


def test_it_logs_in_and_discovers_the_services(running: RunningPlatform, tenant: Tenant, user: str) -> None:
    cloud = connect(running, tenant, user)
    assert cloud.current_project_id == tenant.project_id
    assert cloud.current_user_id
    assert cloud.session.get_endpoint(service_type="modelartsv1") == f"{running.url}/v1/{tenant.project_id}"
    assert cloud.session.get_endpoint(service_type="modelartsv2") == f"{running.url}/v2/{tenant.project_id}"
    assert cloud.modelartsv2.get_endpoint() == f"{running.url}/v2/{tenant.project_id}"
    assert cloud.modelartsv1.get_endpoint() == f"{running.url}/v1/{tenant.project_id}"
    assert [dataset.name for dataset in cloud.modelartsv2.datasets()] == []


def test_it_lists_identities(running: RunningPlatform, tenant: Tenant, user: str) -> None:
    cloud = connect(running, tenant, user)
    assert {found.name for found in cloud.identity.users()} == {"Joan", tenant.name}
    assert [found.name for found in cloud.identity.groups()] == ["lookers"]
    assert [found.id for found in cloud.identity.projects()] == [tenant.project_id]
    assert [found.id for found in cloud.identity.regions()] == ["local-1"]
    assert cloud.identity.find_user("Joan").is_enabled is True


def test_a_wrong_password_is_refused(running: RunningPlatform, tenant: Tenant, user: str) -> None:
    with pytest.raises(Exception, match="401"):
        connect(running, tenant, user, "wrong-Whale-1").authorize()
