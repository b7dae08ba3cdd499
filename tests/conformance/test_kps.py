"""The vendor's own client, unmodified, keeps SSH key pairs here (huaweicloudsdkkps 3.1.219)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkkps.v3 import (
    CreateKeypairAction,
    CreateKeypairRequest,
    CreateKeypairRequestBody,
    DeleteKeypairRequest,
    KpsClient,
    ListKeypairDetailRequest,
    ListKeypairsRequest,
    UpdateKeypairDescriptionReq,
    UpdateKeypairDescriptionRequest,
    UpdateKeypairDescriptionRequestBody,
)

from bottega.testing import Tenant


@pytest.fixture
def official(operations: Callable[[Any], Any]) -> Callable[[Tenant], Any]:
    """The official client of a tenant."""

    def build(who: Tenant) -> Any:
        credentials = BasicCredentials(who.access_key, who.secret_key, who.project_id)
        return operations(KpsClient.new_builder().with_credentials(credentials).with_endpoint(who.running.url).build())

    return build


def create(client: Any, name: str, **more: Any) -> Any:
    wanted = CreateKeypairRequestBody(keypair=CreateKeypairAction(name=name, **more))
    return client.create_keypair(CreateKeypairRequest(body=wanted)).keypair


def test_key_pairs_from_their_making_to_their_end(tenant: Tenant, official: Callable[[Tenant], Any]) -> None:
    kps = official(tenant)
    made = create(kps, "laptop", type="ssh")
    private = load_ssh_private_key(made.private_key.encode(), None)
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    assert (made.public_key, made.user_id) == (public, tenant.user_id)
    brought = create(kps, "brought", public_key=f"{public} anna@example.com")
    assert (brought.private_key, brought.fingerprint) == (None, made.fingerprint)

    change = UpdateKeypairDescriptionRequestBody(keypair=UpdateKeypairDescriptionReq(description="of my laptop"))
    kps.update_keypair_description(UpdateKeypairDescriptionRequest(keypair_name="laptop", body=change))
    shown = kps.list_keypair_detail(ListKeypairDetailRequest(keypair_name="laptop")).keypair
    assert (shown.description, shown.fingerprint, shown.scope) == ("of my laptop", made.fingerprint, "user")
    assert shown.create_time > 0

    first = kps.list_keypairs(ListKeypairsRequest(limit="1"))
    assert [row.keypair.name for row in first.keypairs] == ["laptop"]
    rest = kps.list_keypairs(ListKeypairsRequest(limit="1", marker=first.page_info.next_marker))
    assert [row.keypair.name for row in rest.keypairs] == ["brought"]
    assert rest.page_info.next_marker is None

    kps.delete_keypair(DeleteKeypairRequest(keypair_name="laptop"))
    assert [row.keypair.name for row in kps.list_keypairs(ListKeypairsRequest()).keypairs] == ["brought"]
    with pytest.raises(ClientRequestException) as gone:
        kps.list_keypair_detail(ListKeypairDetailRequest(keypair_name="laptop"))
    assert (gone.value.status_code, gone.value.error_code, bool(gone.value.request_id)) == (404, "ModelArts.0104", True)


def test_errors_and_strangers(tenant: Tenant, stranger: Tenant, official: Callable[[Tenant], Any]) -> None:
    kps = official(tenant)
    create(kps, "mine")
    for body, status in (
        ({"name": "mine"}, 409),
        ({"name": "no spaces"}, 400),
        ({"name": "k", "public_key": "x"}, 400),
    ):
        with pytest.raises(ClientRequestException) as refused:
            create(kps, **body)
        assert (refused.value.status_code, bool(refused.value.error_code)) == (status, True)
    foreign = official(stranger)
    assert foreign.list_keypairs(ListKeypairsRequest()).keypairs == []
    with pytest.raises(ClientRequestException) as unseen:
        foreign.delete_keypair(DeleteKeypairRequest(keypair_name="mine"))
    assert unseen.value.status_code == 404
    assert [row.keypair.name for row in kps.list_keypairs(ListKeypairsRequest()).keypairs] == ["mine"]
