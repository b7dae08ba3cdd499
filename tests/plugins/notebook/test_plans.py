"""What a notebook will need is known before it is made, and said all at once."""

from __future__ import annotations

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant

NOTEBOOKS = "/v1/{project_id}/notebooks"


def test_all_that_is_missing_is_named_at_once(tenant: Tenant) -> None:
    statement = {"Effect": "Allow", "Action": ["modelarts:notebook:create"]}
    creator = tenant.user([{"Version": "1.1", "Statement": [statement]}])
    with pytest.raises(ApiFailure) as refused:
        creator.client.post(NOTEBOOKS, {"name": "n"})
    assert (refused.value.status, refused.value.error_code) == (403, "ModelArts.0103")
    for action in ("modelarts:notebook:get", "modelarts:notebook:access", "modelarts:notebook:action"):
        assert action in refused.value.message
    assert tenant.client.get(NOTEBOOKS)["total"] == 0


def test_a_preflight_tells_the_same_and_makes_nothing(tenant: Tenant) -> None:
    told = tenant.client.post(f"{NOTEBOOKS}/preflight", {"name": "n"})
    assert told["allowed"] is True
    assert {need["action"] for need in told["needs"]} == {
        "modelarts:notebook:create",
        "modelarts:notebook:get",
        "modelarts:notebook:access",
        "modelarts:notebook:action",
    }
    assert tenant.client.get(NOTEBOOKS)["total"] == 0
