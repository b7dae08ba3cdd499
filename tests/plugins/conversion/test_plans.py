"""What a conversion will need is known before there is a task, and said all at once."""

from __future__ import annotations

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant

CONVERSIONS = "/v2/{project_id}/conversions"


def test_all_that_is_missing_is_named_at_once(tenant: Tenant, bucket: str) -> None:
    statement = {"Effect": "Allow", "Action": ["modelarts:convert:create", "modelarts:convertTemplate:list"]}
    creator = tenant.user([{"Version": "1.1", "Statement": [statement]}])
    template = next(t["id"] for t in creator.client.get("/v2/{project_id}/conversion-templates")["templates"])
    body = {
        "name": "c",
        "template_id": template,
        "input_path": f"/{bucket}/in/",
        "output_path": f"/{bucket}/out/",
        "data": {"path": f"/{bucket}/rows.npz"},
    }
    with pytest.raises(ApiFailure) as refused:
        creator.client.post(CONVERSIONS, body)
    assert (refused.value.status, refused.value.error_code) == (403, "ModelArts.0103")
    missing = refused.value.message.split("; ")
    for action, resource in (
        ("modelarts:convert:get", "task/*"),
        ("modelarts:convert:stop", "task/*"),
        ("obs:object:GetObject", f"{bucket}/in/"),
        ("obs:object:PutObject", f"{bucket}/out/"),
        ("obs:object:GetObject", f"{bucket}/rows.npz"),
    ):
        assert any(action in part and resource in part for part in missing), (action, missing)
    told = tenant.client.post(f"{CONVERSIONS}/preflight", body)
    assert told["allowed"] is True
    assert tenant.client.post(f"{CONVERSIONS}/quote", body)["uses"][0]["kind"] == "conversion"
    assert tenant.client.get(CONVERSIONS)["total_count"] == 0
