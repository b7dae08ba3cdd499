"""What a dataset will need is known before it is made, and said all at once."""

from __future__ import annotations

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant

DATASETS = "/v2/{project_id}/datasets"


def test_all_that_is_missing_is_named_at_once(tenant: Tenant, bucket: str) -> None:
    statement = {"Effect": "Allow", "Action": ["modelarts:dataset:create"]}
    creator = tenant.user([{"Version": "1.1", "Statement": [statement]}])
    body = {
        "dataset_name": "d",
        "dataset_type": 0,
        "work_path": f"/{bucket}/work/",
        "data_sources": [{"data_path": f"/{bucket}/in/"}],
    }
    with pytest.raises(ApiFailure) as refused:
        creator.client.post(DATASETS, body)
    assert (refused.value.status, refused.value.error_code) == (403, "ModelArts.0103")
    missing = refused.value.message.split("; ")
    for action, resource in (
        ("modelarts:dataset:get", "dataset/*"),
        ("obs:object:PutObject", f"{bucket}/work/"),
        ("obs:object:GetObject", f"{bucket}/in/"),
    ):
        assert any(action in part and resource in part for part in missing), (action, missing)
    assert tenant.client.get(DATASETS)["total_number"] == 0
    told = tenant.client.post(f"{DATASETS}/preflight", body)
    assert told["allowed"] is True


def test_an_import_and_an_export_tell_their_paths(tenant: Tenant, stranger: Tenant, bucket: str) -> None:
    dataset = tenant.client.post(DATASETS, {"dataset_name": "d", "dataset_type": 0, "work_path": f"/{bucket}/work/"})[
        "dataset_id"
    ]
    foreign = stranger.create_bucket()
    imported = tenant.client.post(f"{DATASETS}/{dataset}/import-tasks/preflight", {"import_path": f"/{foreign}/in/"})
    exported = tenant.client.post(f"{DATASETS}/{dataset}/export-tasks/preflight", {"path": f"/{bucket}/out/"})
    assert (imported["allowed"], exported["allowed"]) == (False, True)
    assert f"bucket '{foreign}' is not one of yours" in str(imported["missing"])
    assert "obs:object:PutObject" in {need["action"] for need in exported["needs"]}
