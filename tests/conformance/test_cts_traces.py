"""The vendor's own client, unmodified, reads the audit trail (huaweicloudsdkcts 3.1.219, v3)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcts.v3 import (
    CtsClient,
    ListOperationsRequest,
    ListTraceResourcesRequest,
    ListTracesRequest,
    ListUserResourcesRequest,
)

from bottega.client import ApiFailure
from bottega.testing import Tenant, wait_until

Make = Callable[[Tenant], Any]


@pytest.fixture
def cts(operations: Callable[[Any], Any]) -> Make:
    """The official client, signed as somebody."""

    def make(who: Tenant) -> Any:
        credentials = BasicCredentials(who.access_key, who.secret_key, who.project_id)
        builder = CtsClient.new_builder().with_credentials(credentials).with_endpoint(who.running.url)
        return operations(builder.build())

    return make


def traces(client: Any, **asked: Any) -> list[Any]:
    found: list[Any] = client.list_traces(ListTracesRequest(limit=200, **asked)).traces
    return found


def dataset(tenant: Tenant, name: str) -> str:
    """Make a dataset through the API."""
    bucket = tenant.create_bucket()
    tenant.objects.put(f"/{bucket}/in/a.jpg", b"a picture")
    body = {
        "dataset_name": name,
        "dataset_type": 0,
        "data_sources": [{"data_type": 0, "data_path": f"/{bucket}/in/"}],
        "work_path": f"/{bucket}/work/",
    }
    made: str = tenant.client.post("/v2/{project_id}/datasets", body)["dataset_id"]
    return made


@pytest.fixture
def trail(tenant: Tenant, cts: Make) -> dict[str, Any]:
    """A tenant that made two datasets, and a user of it that was refused one; who and what, when it is all recorded."""
    ids = [dataset(tenant, name) for name in ("digits", "letters")]
    nobody = tenant.user()
    with pytest.raises(ApiFailure):
        nobody.client.delete(f"/v2/{{project_id}}/datasets/{ids[0]}")
    client = cts(tenant)
    wait_until(lambda: sorted(t.trace_name for t in traces(client)) == ["createDataset"] * 2 + ["deleteDataset"])
    wait_until(lambda: all(t.resource_name for t in traces(client, trace_rating="normal")))
    return {"client": client, "ids": ids, "nobody": nobody}


def test_a_trace_says_who_did_what_when_and_with_what_result(tenant: Tenant, trail: dict[str, Any]) -> None:
    refused, letters, digits = traces(trail["client"])
    assert (digits.resource_name, letters.resource_name) == ("digits", "letters")
    assert digits.resource_id == trail["ids"][0]
    assert (digits.service_type, digits.resource_type, digits.trace_type) == ("MODELARTS", "dataset", "ApiCall")
    assert (digits.code, digits.trace_rating, digits.api_version) == ("201", "normal", "v2")
    assert (digits.user.id, digits.user.name, digits.user.user_name) == (tenant.user_id, tenant.name, tenant.name)
    assert (digits.user.account_id, digits.user.access_key_id) == (tenant.account_id, tenant.access_key)
    assert (digits.source_ip, digits.read_only, digits.enterprise_project_id) == ("127.0.0.1", False, "0")
    assert json.loads(digits.request)["body"]["dataset_name"] == "digits"
    assert (digits.response, digits.message) == (None, None)
    assert digits.time <= digits.record_time < letters.record_time + 60_000
    assert digits.operation_id == "modelarts:dataset:create"
    assert (refused.trace_name, refused.code, refused.trace_rating) == ("deleteDataset", "403", "warning")
    assert refused.user.user_name == trail["nobody"].name
    assert json.loads(refused.response)["error_code"] == "ModelArts.0103"
    assert "no statement allows" in refused.message


def test_every_filter_finds_what_it_says(tenant: Tenant, trail: dict[str, Any]) -> None:
    client = trail["client"]
    refused, letters, digits = traces(client)

    def ids(**asked: Any) -> list[str]:
        return [trace.trace_id for trace in traces(client, **asked)]

    everything = [refused.trace_id, letters.trace_id, digits.trace_id]
    for asked, expected in (
        ({"trace_type": "system", "tracker_name": "system"}, everything),
        ({"user": trail["nobody"].name}, everything[:1]),
        ({"user": tenant.name}, everything[1:]),
        ({"service_type": "MODELARTS"}, everything),
        ({"service_type": "IAM"}, []),
        ({"resource_type": "dataset"}, everything),
        ({"resource_type": "service"}, []),
        ({"resource_id": trail["ids"][0]}, [refused.trace_id, digits.trace_id]),
        ({"resource_name": "letters"}, [letters.trace_id]),
        ({"resource_name": "Letter"}, []),
        ({"trace_id": digits.trace_id}, [digits.trace_id]),
        ({"trace_name": "createDataset"}, everything[1:]),
        ({"trace_rating": "warning"}, everything[:1]),
        ({"trace_rating": "incident"}, []),
        ({"access_key_id": trail["nobody"].access_key}, everything[:1]),
        ({"enterprise_project_id": "0"}, everything),
        ({"enterprise_project_id": "other"}, []),
        ({"_from": letters.time}, [t.trace_id for t in (refused, letters, digits) if t.time >= letters.time]),
        ({"to": letters.time}, [t.trace_id for t in (refused, letters, digits) if t.time < letters.time]),
        ({"trace_type": "data"}, []),
    ):
        assert ids(**asked) == expected, asked


def test_pages_follow_the_marker(trail: dict[str, Any]) -> None:
    client = trail["client"]
    everything = [trace.trace_id for trace in traces(client)]
    seen: list[str] = []
    marker = None
    while True:
        page = client.list_traces(ListTracesRequest(limit=2, next=marker))
        assert page.meta_data.count == len(page.traces) <= 2
        seen += [trace.trace_id for trace in page.traces]
        marker = page.meta_data.marker
        if marker is None:
            break
        assert marker == page.traces[-1].trace_id  # as the vendor says: the last event's id
    assert seen == everything
    assert len(client.list_traces(ListTracesRequest()).traces) == 3  # ten by default


def test_wrong_questions_and_strangers_are_refused(
    tenant: Tenant, stranger: Tenant, trail: dict[str, Any], cts: Make
) -> None:
    for asked in ({"limit": 201}, {"limit": 0}, {"next": "none"}, {"trace_rating": "bad"}, {"trace_type": "x"}):
        with pytest.raises(ClientRequestException) as failure:
            trail["client"].list_traces(ListTracesRequest(**asked))
        assert (failure.value.status_code, failure.value.error_code) == (400, "ModelArts.0101"), asked
        assert failure.value.request_id
    assert traces(cts(stranger)) == []
    [own] = traces(trail["client"], resource_name="digits")
    assert traces(cts(stranger), trace_id=own.trace_id) == []
    foreign = CtsClient.new_builder().with_credentials(
        BasicCredentials(stranger.access_key, stranger.secret_key, tenant.project_id)
    )
    for client in (foreign.with_endpoint(tenant.running.url).build(), cts(trail["nobody"])):
        with pytest.raises(ClientRequestException) as failure:
            client.list_traces(ListTracesRequest())
        assert (failure.value.status_code, failure.value.error_code) == (403, "ModelArts.0103")
        assert failure.value.request_id
    unsigned = httpx.get(f"{tenant.running.url}/v3/{tenant.project_id}/traces")
    assert unsigned.status_code == 401


def test_operations_that_can_be_recorded(tenant: Tenant, cts: Make) -> None:
    client = cts(tenant)
    everything = client.list_operations(ListOperationsRequest()).operations
    assert {"MODELARTS", "IAM", "CTS"} <= {row.service_type for row in everything}
    [datasets] = client.list_operations(
        ListOperationsRequest(service_type="MODELARTS", resource_type="dataset")
    ).operations
    assert {"createDataset", "acceptSamples", "uploadSamples"} <= set(datasets.operation_list)
    names = {name for row in everything for name in row.operation_list}
    known = tenant.client.get("/v3/{project_id}/trace-names")["trace_names"]
    assert {row["trace_name"] for row in known} <= names
    assert client.list_operations(ListOperationsRequest(service_type="NONE")).operations == []
    with pytest.raises(ClientRequestException) as failure:
        client.list_operations(ListOperationsRequest(resource_type="dataset"))
    assert (failure.value.status_code, failure.value.error_code) == (400, "ModelArts.0101")


def test_users_and_resources_that_occur(tenant: Tenant, stranger: Tenant, trail: dict[str, Any], cts: Make) -> None:
    client = trail["client"]
    users = client.list_user_resources(ListUserResourcesRequest()).users
    assert {user.name for user in users} == {tenant.name, trail["nobody"].name}
    resources = client.list_trace_resources(ListTraceResourcesRequest(domain_id=tenant.account_id)).resources
    assert {row.service_type: row.resource for row in resources} == {"MODELARTS": ["dataset"]}
    assert cts(stranger).list_user_resources(ListUserResourcesRequest()).users == []
    with pytest.raises(ClientRequestException) as failure:
        cts(stranger).list_trace_resources(ListTraceResourcesRequest(domain_id=tenant.account_id))
    assert (failure.value.status_code, failure.value.error_code) == (403, "ModelArts.0103")
