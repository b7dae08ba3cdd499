"""Each of the three plugins can be switched off: the rest runs, and what listens catches up when it is back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bottega.backends import WorkloadSpec
from bottega.client import ApiFailure
from bottega.entities import Workload
from bottega.testing import RunningPlatform, Tenant, wait_until

WORKSPACES = "/v1/{project_id}/workspaces"
OWN_ROUTE = {"iam": "/v3/users", "billing": "/v2/{project_id}/bills", "audit": "/v3/{project_id}/traces"}


def without(data: Path, *names: str) -> RunningPlatform:
    return RunningPlatform(data, {"plugins": {name: {"enabled": False} for name in names}})


def run_workload(running: RunningPlatform, tenant: Tenant) -> Workload:
    platform = running.platform("training")

    async def request() -> str:
        async with platform.database.transaction() as tx:
            workload = await platform.workloads.request(
                tx,
                WorkloadSpec(command=["{python}", "-c", "pass"]),
                kind="training",
                flavor_id="local.small",
                resource_urn=f"bottega:training:{tenant.project_id}:job/1",
                project_id=tenant.project_id,
                user_id=tenant.user_id,
            )
            return workload.id

    async def read() -> Workload:
        async with platform.database.read() as session:
            return await session.get_one(Workload, workload_id)

    workload_id = running.run(request())
    wait_until(lambda: running.run(read()).finished_at, 60)
    return running.run(read())


@pytest.mark.parametrize("name", ["iam", "billing", "audit"])
def test_the_rest_runs_without(tmp_path: Path, name: str) -> None:
    with without(tmp_path, name) as running:
        tenant = running.tenant()
        plugins = {p["name"]: p for p in tenant.client.get("/v1/plugins")["plugins"]}
        assert plugins[name]["state"] == "off"
        assert all(plugins[other]["state"] == "on" for other in OWN_ROUTE if other != name)
        with pytest.raises(ApiFailure) as failure:
            tenant.client.get(OWN_ROUTE[name])
        assert (failure.value.status, failure.value.error_code) == (404, "APIGW.0101")
        for other, path in OWN_ROUTE.items():
            if other != name:
                tenant.client.get(path)
        run_workload(running, tenant)
        nobody = tenant.user()
        with pytest.raises(ApiFailure) as failure:
            nobody.client.get("/v2/{project_id}/bills" if name != "billing" else "/v3/{project_id}/traces")
        assert failure.value.status == 403


def test_billing_and_audit_catch_up_from_the_stream(tmp_path: Path) -> None:
    with without(tmp_path) as running:
        tenant = running.tenant()
        run_workload(running, tenant)
        tenant.client.post(WORKSPACES, {"name": "first"})
        before = wait_until(lambda: (b := tenant.client.get(OWN_ROUTE["billing"]))["records"] and b)
        wait_until(lambda: tenant.client.get(OWN_ROUTE["audit"])["traces"])
    with without(tmp_path, "billing", "audit") as running:
        away = replace(tenant, running=running)
        run_workload(running, away)
        away.client.post(WORKSPACES, {"name": "second"})
    with without(tmp_path) as running:
        back = replace(tenant, running=running)

        def caught_up() -> bool:
            names = [t["resource_name"] for t in back.client.get(OWN_ROUTE["audit"])["traces"]]
            seconds = sum(r["seconds"] for r in back.client.get(OWN_ROUTE["billing"])["records"])
            return names == ["second", "first"] and seconds > before["records"][0]["seconds"]

        assert wait_until(caught_up)


def test_a_plugin_that_was_never_there_reads_the_stream_from_its_beginning(tmp_path: Path) -> None:
    with without(tmp_path, "billing") as running:
        tenant = running.tenant()
        run_workload(running, tenant)
    with without(tmp_path) as running:
        late = replace(tenant, running=running)
        assert wait_until(lambda: late.client.get(OWN_ROUTE["billing"])["records"])
