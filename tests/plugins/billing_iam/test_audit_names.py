"""Every trace name of the guide's tables is recorded by its own route, with its resource type (003 §10.5)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from bottega.application import GuardedRoute, every_route
from bottega.client import ApiFailure
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega_billing_iam.audit.trace_names import trace_names

NOT_YET = {
    "there is no CodeLab": "deleteNotebookApp updateNotebookApp",
    "jobs have no versions, saved configurations or visualization jobs yet": (
        "createModelArtsTrainVersion deleteModelArtsTrainVersion createModelArtsTrainConfig "
        "updateModelArtsTrainConfig deleteModelArtsTrainConfig createModelArtsTensorboardJob "
        "deleteModelArtsTensorboardJob updateModelArtsTensorboardDesc stopModelArtsTensorboardJob "
        "restartModelArtsTensorboardJob"
    ),
    "models are replaced by new versions, not changed": "updateModel",
    "services are called with the keys of users": "addAkSk deleteAkSk",
    "there are no dedicated pools yet": (
        "createCluster deleteCluster addClusterNode deleteClusterNode createClusterResult"
    ),
    "there is no gallery yet": (
        "create_content modify_content add_version subscription_content cancel_star_content like_content "
        "cancel_like_content publish_activity regist_activity update_user"
    ),
}
BY_BODY = {
    "startOrStopService": "PUT /v1/{project_id}/services/{service_id}",
    "createAutoGroupingTask": "POST /v2/{project_id}/datasets/{dataset_id}/tasks",
    "createAutoDeployTask": "POST /v2/{project_id}/datasets/{dataset_id}/tasks",
}
"""Names that a route gives to a call only when it has read its body."""


def named_routes(running: RunningPlatform) -> Iterator[tuple[str, str, GuardedRoute]]:
    """Each route that is recorded under a name of the tables."""
    application: Any = running.runtime.app
    for route in every_route(application.app.routes):
        for check in route.checks:
            action = running.runtime.platform.action(check.action) if check.action else None
            name = getattr(check, "trace", None) or (action.trace if action else None)
            if name is not None and name in trace_names():
                for method in sorted(route.methods):
                    yield name, method, route


def test_every_name_has_its_route_or_a_reason_why_not(running: RunningPlatform) -> None:
    emitted = {name for name, _, _ in named_routes(running)} | set(BY_BODY)
    missing = {name for names in NOT_YET.values() for name in names.split()}
    assert emitted & missing == set(), "there is a route by now: take the name off the list"
    assert emitted | missing == set(trace_names())
    routes = {f"{m} {r.path}" for r in every_route(running.runtime.app.app.routes) for m in r.methods}  # type: ignore[attr-defined]  # the application behind its edge
    assert set(BY_BODY.values()) <= routes


def test_every_route_records_its_name_and_resource_type(running: RunningPlatform, tenant: Tenant) -> None:
    """Even refused: who may nothing calls every such route, and each call is found under its name."""
    nobody = tenant.user()
    called = []
    for name, method, route in named_routes(running):
        path = route.path.replace("{project_id}", tenant.project_id)
        path = re.sub(r"{([^}:]+)(:[^}]*)?}", "00000000-0000-4000-8000-000000000000", path)
        with pytest.raises(ApiFailure) as failure:
            nobody.client.request(method, path, json={} if method in ("POST", "PUT", "PATCH") else None)
        if failure.value.status != 401:  # the labeling console has tokens of its own and does not know who calls
            called.append((failure.value.request_id, name, method, path))
    assert len(called) > 25
    open_to_all = {"workerLoginLabelConsole", "workerForgetPassword", "workerResetPassword"}
    assert open_to_all <= {name for _, name, *_ in called}

    def recorded() -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        marker = None
        while True:
            asked = {"scope": "account", "limit": 200, "next": marker}
            page = tenant.client.get("/v3/{project_id}/traces", asked)
            found |= {row["request_id"]: row for row in page["traces"]}
            marker = page["meta_data"]["marker"]
            if marker is None:
                return found if {id for id, *_ in called} <= set(found) else {}

    rows = wait_until(recorded)
    for id, name, method, path in called:
        row = rows[id]
        assert (row["trace_name"], row["method"], row["path"]) == (name, method, path)
        assert row["resource_type"] == trace_names()[name].resource_type, name
        assert row["trace_rating"] == "warning"
