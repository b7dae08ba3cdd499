"""What a model or a service will need is known before it is made, and said all at once."""

from __future__ import annotations

from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant
from bottega.urn import new_id

SERVICES, MODELS = "/v1/{project_id}/services", "/v1/{project_id}/models"


def creating(tenant: Tenant, action: str) -> Tenant:
    return tenant.user([{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": [action]}]}])


def test_all_that_a_service_lacks_is_named_at_once(tenant: Tenant) -> None:
    model = new_id()
    body: dict[str, Any] = {
        "service_name": "s",
        "infer_type": "real-time",
        "config": [{"model_id": model, "specification": "local.small"}],
    }
    with pytest.raises(ApiFailure) as refused:
        creating(tenant, "modelarts:service:create").client.post(SERVICES, body)
    assert (refused.value.status, refused.value.error_code) == (403, "ModelArts.0103")
    missing = refused.value.message.split("; ")
    for action, resource in (
        ("modelarts:service:get", "service/*"),
        ("modelarts:service:update", "service/*"),
        ("modelarts:model:get", f"model/{model}"),
    ):
        assert any(action in part and resource in part for part in missing), (action, missing)
    assert tenant.client.post(f"{SERVICES}/preflight", body)["allowed"] is True
    assert tenant.client.post(f"{SERVICES}/quote", body)["amount_per_hour"] == "0.200000"
    assert tenant.client.get(SERVICES)["total_count"] == 0


def test_all_that_a_model_lacks_is_named_at_once(tenant: Tenant, bucket: str) -> None:
    body = {"model_name": "m", "source_location": f"/{bucket}/package/"}
    with pytest.raises(ApiFailure) as refused:
        creating(tenant, "modelarts:model:create").client.post(MODELS, body)
    assert refused.value.status == 403
    assert "modelarts:model:get" in refused.value.message
    assert f"obs:object:GetObject on obs:::object:{bucket}/package/" in refused.value.message
