from __future__ import annotations

from bottega.testing import Tenant


def test_a_tenant_sees_itself_and_the_plugins(tenant: Tenant) -> None:
    me = tenant.client.get("/v1/whoami")
    assert me["user_name"] == tenant.name
    assert {p["name"] for p in tenant.client.get("/v1/plugins")["plugins"]} >= {"dataset", "training"}
