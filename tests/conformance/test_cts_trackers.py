"""The vendor's own client makes trackers and key operation notifications (huaweicloudsdkcts 3.1.219, v3)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkcts import v3 as sdk

from bottega.client import ApiFailure
from bottega.testing import Tenant, wait_until
from bottega.testing.running import Objects
from bottega_billing_iam.audit.chain import seal
from bottega_billing_iam.audit.transfer import send_copies

Make = Callable[[Tenant], Any]


@pytest.fixture
def cts(operations: Callable[[Any], Any]) -> Make:
    """The official client, signed as somebody."""

    def make(who: Tenant) -> Any:
        credentials = BasicCredentials(who.access_key, who.secret_key, who.project_id)
        builder = sdk.CtsClient.new_builder().with_credentials(credentials).with_endpoint(who.running.url)
        return operations(builder.build())

    return make


@pytest.fixture
def client(tenant: Tenant, cts: Make) -> Any:
    return cts(tenant)


def refused(call: Callable[[Any], Any], request: Any, status: int, code: str) -> str:
    """The message of a refusal with this status and error code."""
    with pytest.raises(ClientRequestException) as failure:
        call(request)
    assert (failure.value.status_code, failure.value.error_code) == (status, code), failure.value
    assert failure.value.request_id
    return str(failure.value.error_msg)


def create(**values: Any) -> Any:
    return sdk.CreateTrackerRequest(body=sdk.CreateTrackerRequestBody(**values))


def update(**values: Any) -> Any:
    return sdk.UpdateTrackerRequest(body=sdk.UpdateTrackerRequestBody(**values))


def copies(tenant: Tenant) -> None:
    """Seal and copy what is recorded, which happens every minute by itself."""
    platform = tenant.running.platform("audit")
    tenant.running.run(seal(platform.database, 0))
    tenant.running.run(send_copies(platform))


def leave_a_trace(tenant: Tenant, id: str) -> str:
    """A call that is recorded; its request id."""
    with pytest.raises(ApiFailure) as failure:
        tenant.client.delete(f"/v2/{{project_id}}/datasets/{id}")
    request_id = failure.value.request_id
    asked = {"trace_id": request_id}
    wait_until(lambda: tenant.client.get("/v3/{project_id}/traces", asked)["traces"])
    return str(request_id)


def test_a_system_tracker_copies_to_the_tenants_own_bucket(
    tenant: Tenant, client: Any, bucket: str, objects: Objects, stranger: Tenant, cts: Make
) -> None:
    leave_a_trace(tenant, "before")
    copies(tenant)
    info = sdk.TrackerObsInfo(bucket_name=bucket, file_prefix_name="ours", is_sort_by_service=False)
    made = client.create_tracker(create(tracker_type="system", obs_info=info, is_support_validate=True))
    assert (made.tracker_name, made.tracker_type, made.status) == ("system", "system", "enabled")
    assert (made.domain_id, made.project_id) == (tenant.account_id, tenant.project_id)
    assert (made.obs_info.bucket_name, made.obs_info.compress_type) == (bucket, "gzip")
    [listed] = client.list_trackers(sdk.ListTrackersRequest()).trackers
    assert (listed.id, listed.is_support_validate) == (made.id, True)
    assert client.list_trackers(sdk.ListTrackersRequest(tracker_type="data")).trackers == []
    assert cts(stranger).list_trackers(sdk.ListTrackersRequest()).trackers == []
    refused(client.create_tracker, create(tracker_type="system"), 409, "ModelArts.0105")

    request_id = leave_a_trace(tenant, "after")
    copies(tenant)
    paths = objects.list(f"/{bucket}/ours/CloudTraces/")
    [copy] = [path for path in paths if path.endswith(".json.gz")]
    rows = json.loads(gzip.decompress(objects.get(copy)))
    assert request_id in {row["trace_id"] for row in rows}
    assert "before" not in {row["resource_id"] for row in rows}
    [proof] = [json.loads(objects.get(path)) for path in paths if "/Digest/" in path]
    assert proof["object"] == copy.partition(bucket + "/")[2]
    assert all(len(batch["hash"]) == 64 for batch in proof["batches"])

    plain = sdk.TrackerObsInfo(bucket_name=bucket, file_prefix_name="plain", compress_type="json")
    selector = sdk.ManagementEventSelector(exclude_service=["IAM"])
    client.update_tracker(update(tracker_type="system", obs_info=plain, management_event_selector=selector))
    tenant.client.post("/v3/users", {"user": {"name": "ann"}})
    request_id = leave_a_trace(tenant, "plain")
    copies(tenant)
    there = objects.list(f"/{bucket}/plain/")
    assert not any("/IAM/" in path for path in there)
    # By service unless asked otherwise.
    [copy] = [path for path in there if "/MODELARTS/batches" in path and path.endswith(".json")]
    assert request_id in {row["trace_id"] for row in json.loads(objects.get(copy))}

    client.update_tracker(update(tracker_type="system", status="disabled"))
    leave_a_trace(tenant, "disabled")
    copies(tenant)
    assert objects.list(f"/{bucket}/plain/") == there  # nothing more is copied, but all is recorded
    [listed] = client.list_trackers(sdk.ListTrackersRequest(tracker_name="system")).trackers
    assert (listed.status, listed.management_event_selector.exclude_service) == ("disabled", ["IAM"])
    refused(client.delete_tracker, sdk.DeleteTrackerRequest(tracker_type="system"), 400, "ModelArts.0101")
    client.delete_tracker(sdk.DeleteTrackerRequest(tracker_type="system", tracker_name="system"))
    assert client.list_trackers(sdk.ListTrackersRequest()).trackers == []
    gone = sdk.DeleteTrackerRequest(tracker_type="system", tracker_name="system")
    refused(client.delete_tracker, gone, 404, "ModelArts.0104")
    refused(client.update_tracker, update(tracker_type="system"), 404, "ModelArts.0104")


def test_a_bucket_that_takes_no_copies_is_said(tenant: Tenant, client: Any, bucket: str, stranger: Tenant) -> None:
    foreign = stranger.create_bucket()
    info = sdk.TrackerObsInfo(bucket_name=foreign)
    refused(client.create_tracker, create(tracker_type="system", obs_info=info), 403, "ModelArts.0103")
    buckets = [sdk.CheckBucketRequest(bucket_name=name, bucket_location="local-1") for name in (bucket, foreign)]
    body = sdk.CheckObsBucketsRequestBody(buckets=buckets)
    answer = client.check_obs_buckets(sdk.CheckObsBucketsRequest(domain_id=tenant.account_id, body=body)).buckets
    assert [(b.bucket_name, b.check_bucket_response.success) for b in answer] == [(bucket, True), (foreign, False)]
    assert (answer[1].check_bucket_response.response_code, answer[1].check_bucket_response.error_code) == (
        403,
        "ModelArts.0103",
    )
    wrong = sdk.CheckObsBucketsRequest(domain_id=stranger.account_id, body=body)
    refused(client.check_obs_buckets, wrong, 403, "ModelArts.0103")


def test_a_tracker_may_make_its_bucket(tenant: Tenant, client: Any, bucket: str, objects: Objects) -> None:
    name = f"made-{tenant.project_id[:12]}"
    taken = sdk.TrackerObsInfo(bucket_name=bucket, is_obs_created=True)
    refused(client.create_tracker, create(tracker_type="system", obs_info=taken), 409, "ModelArts.0105")
    info = sdk.TrackerObsInfo(bucket_name=name, is_obs_created=True)
    client.create_tracker(create(tracker_type="system", obs_info=info))
    assert name in {row["name"] for row in tenant.client.get("/v1/{project_id}/buckets")["buckets"]}
    leave_a_trace(tenant, "x")
    copies(tenant)
    assert objects.list(f"/{name}/CloudTraces/")


def test_a_data_tracker_watches_the_objects_of_a_bucket(tenant: Tenant, client: Any, bucket: str) -> None:
    watched = sdk.DataBucket(data_bucket_name=bucket, data_event=["WRITE"])
    for values in (
        {"tracker_name": "mine"},
        {"data_bucket": watched},
        {"tracker_name": "system", "data_bucket": watched},
    ):
        refused(client.create_tracker, create(tracker_type="data", **values), 400, "ModelArts.0101")
    reads = sdk.DataBucket(data_bucket_name=bucket, data_event=["READ"])
    said = refused(
        client.create_tracker,
        create(tracker_type="data", tracker_name="mine", data_bucket=reads),
        400,
        "ModelArts.0112",
    )
    assert "reads" in said
    made = client.create_tracker(create(tracker_type="data", tracker_name="mine", data_bucket=watched))
    assert (made.data_bucket.data_bucket_name, made.data_bucket.data_event) == (bucket, ["WRITE"])
    other = tenant.create_bucket()
    for name in (bucket, other):
        answer = tenant.client.http.put(f"/v1/{tenant.project_id}/buckets/{name}/objects/a.txt", content=b"a")
        assert answer.status_code == 201

    def data(**asked: Any) -> list[str]:
        request = sdk.ListTracesRequest(trace_type="data", **asked)
        return [trace.resource_url for trace in client.list_traces(request).traces]

    wait_until(lambda: data() == [f"obs:::object:{bucket}/a.txt"])
    assert data(tracker_name="mine") == [f"obs:::object:{bucket}/a.txt"]
    assert data(tracker_name="other") == []
    quotas = {row.type: (row.used, row.quota) for row in client.list_quotas(sdk.ListQuotasRequest()).resources}
    assert quotas == {"system_tracker": (0, 1), "data_tracker": (1, 100)}
    client.delete_tracker(sdk.DeleteTrackerRequest())
    assert client.list_trackers(sdk.ListTrackersRequest()).trackers == []
    assert data() == []


def test_what_is_not_offered_is_said(client: Any, tenant: Tenant, stranger: Tenant, cts: Make) -> None:
    for values in (
        {"is_organization_tracker": True},
        {"is_lts_enabled": True},
        {"is_support_trace_files_encryption": True, "kms_id": "1"},
    ):
        refused(client.create_tracker, create(tracker_type="system", **values), 400, "ModelArts.0112")
    nobody = cts(tenant.user())
    refused(nobody.create_tracker, create(tracker_type="system"), 403, "ModelArts.0103")
    refused(nobody.list_trackers, sdk.ListTrackersRequest(), 403, "ModelArts.0103")
    refused(nobody.list_quotas, sdk.ListQuotasRequest(), 403, "ModelArts.0103")


def test_trackers_have_tags(tenant: Tenant, client: Any, stranger: Tenant, cts: Make) -> None:
    made = client.create_tracker(create(tracker_type="system"))
    tags = [sdk.Tags(key="team", value="vision"), sdk.Tags(key="cost", value="7")]
    body = sdk.BatchCreateResourceTagsRequestBody(tags=tags)
    place = {"resource_id": made.id, "resource_type": "cts-tracker"}
    client.batch_create_resource_tags(sdk.BatchCreateResourceTagsRequest(**place, body=body))

    def shown() -> dict[str, str]:
        [tracker] = tenant.client.get("/v3/{project_id}/trackers")["trackers"]
        return {tag["key"]: tag["value"] for tag in tracker["tags"]}

    assert shown() == {"team": "vision", "cost": "7"}
    gone = sdk.BatchDeleteResourceTagsRequestBody(tags=[sdk.Tags(key="cost")])
    client.batch_delete_resource_tags(sdk.BatchDeleteResourceTagsRequest(**place, body=gone))
    assert shown() == {"team": "vision"}
    request = sdk.BatchCreateResourceTagsRequest(**place, body=body)
    refused(cts(stranger).batch_create_resource_tags, request, 404, "ModelArts.0104")
    wrong = sdk.BatchCreateResourceTagsRequest(resource_id=made.id, resource_type="server", body=body)
    refused(client.batch_create_resource_tags, wrong, 400, "ModelArts.0101")


def rule(tenant: Tenant, **values: Any) -> dict[str, Any]:
    operation = sdk.Operations(service_type="MODELARTS", resource_type="dataset", trace_names=["deleteDataset"])
    topic = f"urn:smn:local-1:{tenant.project_id}:alerts"
    given: dict[str, Any] = {"notification_name": "deletions", "operation_type": "customized", "topic_id": topic}
    return {**given, "operations": [operation], **values}


def told(tenant: Tenant) -> list[dict[str, Any]]:
    """What topics of the project were asked to say."""
    return [json.loads(e.data["message"]) for e in tenant.events.all("core.notification.requested.v1")]


def test_key_operations_are_told_to_a_topic(tenant: Tenant, client: Any, stranger: Tenant, cts: Make) -> None:
    body = sdk.CreateNotificationRequestBody(**rule(tenant))
    made = client.create_notification(sdk.CreateNotificationRequest(body=body))
    assert (made.notification_name, made.status, made.notification_type) == ("deletions", "enabled", "smn")
    assert made.operations[0].trace_names == ["deleteDataset"]
    refused(client.create_notification, sdk.CreateNotificationRequest(body=body), 409, "ModelArts.0105")
    leave_a_trace(tenant, "first")
    event = tenant.events.wait("core.notification.requested.v1")
    assert event.data["topic_urn"] == body.topic_id
    assert event.data["subject"] == f"deleteDataset by {tenant.name}: warning"
    [said] = told(tenant)
    assert (said["notification_name"], said["trace"]["resource_id"]) == ("deletions", "first")

    request = sdk.ListNotificationsRequest(notification_type="smn", notification_name="deletions")
    [listed] = client.list_notifications(request).notifications
    assert listed.notification_id == made.notification_id
    assert cts(stranger).list_notifications(request).notifications == []
    assert client.list_notifications(sdk.ListNotificationsRequest(notification_type="fun")).notifications == []

    narrow = sdk.Filter(condition="AND", is_support_filter=True, rule=["resource_id = wanted", "code != 200"])
    changed = sdk.UpdateNotificationRequestBody(
        **rule(tenant, filter=narrow), status="enabled", notification_id=made.notification_id
    )
    answer = client.update_notification(sdk.UpdateNotificationRequest(body=changed))
    assert answer.filter.rule == ["resource_id = wanted", "code != 200"]
    leave_a_trace(tenant, "unwanted")
    leave_a_trace(tenant, "wanted")
    wait_until(lambda: [said["trace"]["resource_id"] for said in told(tenant)] == ["first", "wanted"])

    users = [sdk.NotificationUsers(user_group="group", user_list=["somebody-else"])]
    changed = sdk.UpdateNotificationRequestBody(
        **rule(tenant, operation_type="complete", notify_user_list=users),
        status="enabled",
        notification_id=made.notification_id,
    )
    client.update_notification(sdk.UpdateNotificationRequest(body=changed))
    leave_a_trace(tenant, "not by them")
    gone = sdk.DeleteNotificationRequest(notification_id=made.notification_id)
    refused(cts(stranger).delete_notification, gone, 404, "ModelArts.0104")
    client.delete_notification(gone)
    refused(client.delete_notification, gone, 404, "ModelArts.0104")
    leave_a_trace(tenant, "after")
    assert len(told(tenant)) == 2
    missing = sdk.UpdateNotificationRequest(body=changed)
    refused(client.update_notification, missing, 404, "ModelArts.0104")


@pytest.mark.parametrize(
    ("values", "status", "code"),
    [
        ({"topic_id": "urn:smn:local-1:0123:alerts"}, 400, "ModelArts.0101"),
        ({"topic_id": "alerts"}, 400, "ModelArts.0101"),
        ({"topic_id": "urn:fss:local-1:x:function:default:y"}, 400, "ModelArts.0112"),
        ({"operations": []}, 400, "ModelArts.0101"),
        ({"operation_type": "some"}, 400, "ModelArts.0101"),
        ({"filter": sdk.Filter(condition="AND", is_support_filter=True, rule=["color = red"])}, 400, "ModelArts.0101"),
        ({"notification_name": "not a name!"}, 400, "ModelArts.0101"),
    ],
)
def test_wrong_rules_are_refused(tenant: Tenant, client: Any, values: dict[str, Any], status: int, code: str) -> None:
    body = sdk.CreateNotificationRequestBody(**rule(tenant, **values))
    assert refused(client.create_notification, sdk.CreateNotificationRequest(body=body), status, code)
    assert client.list_notifications(sdk.ListNotificationsRequest(notification_type="smn")).notifications == []
