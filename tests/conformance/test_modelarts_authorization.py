"""The vendor's own client, unmodified, authorizes agencies and switches the mode (huaweicloudsdkmodelarts 3.1.219)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts.v1 import (
    AuthorizationRequest,
    CreateAuthorizationRequest,
    CreateModelArtsAgencyRequest,
    DeleteAuthorizationsRequest,
    GetAuthorizationsRequest,
    ListWorkspaceRequest,
    ModelArtsAgencyRequest,
    ModelArtsClient,
    ShowAuthmodeDetailRequest,
    UpdateAuthModeRequest,
    UpdateAuthModeRequestBody,
)
from sqlmodel import select

from bottega.client import ApiFailure
from bottega.entities import Agency, Policy, PolicyGrant
from bottega.testing import Tenant, wait_until

Official = Callable[[Tenant], Any]
ALL = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["*:*:*"]}]}
CLERK = {
    "Version": "1.1",
    "Statement": [{"Effect": "Allow", "Action": ["modelarts:*:*", "obs:*:*", "iam:authorizations:*"]}],
}


@pytest.fixture
def official(operations: Callable[[Any], Any]) -> Official:
    """The official client of a tenant."""

    def build(who: Tenant) -> Any:
        credentials = BasicCredentials(who.access_key, who.secret_key, who.project_id)
        built = ModelArtsClient.new_builder().with_credentials(credentials).with_endpoint(who.running.url).build()
        return operations(built)

    return build


def refused(status: int, code: str, call: Callable[[], Any]) -> str:
    with pytest.raises(ClientRequestException) as raised:
        call()
    assert (raised.value.status_code, raised.value.error_code) == (status, code)
    assert raised.value.request_id
    return str(raised.value.error_msg)


def agency(client: Any, suffix: str | None = None) -> str:
    body = ModelArtsAgencyRequest(agency_name_suffix=suffix)
    return str(client.create_model_arts_agency(CreateModelArtsAgencyRequest(body=body)).body["agency_name"])


def authorize(client: Any, content: str, **fields: Any) -> None:
    body = AuthorizationRequest(**{"type": "agency", "content": content, "user_type": "iam", **fields})
    client.create_authorization(CreateAuthorizationRequest(body=body))


def listed(client: Any, **query: Any) -> list[tuple[str, str]]:
    found = client.get_authorizations(GetAuthorizationsRequest(**query))
    assert found.total_count >= len(found.auth or [])
    return [(one.user_name, one.content) for one in found.auth or []]


def bare_agency(tenant: Tenant, name: str, document: dict[str, Any], trusted: str | None = None) -> None:
    """An agency of the account with one policy of its own."""

    async def add() -> None:
        platform = tenant.running.runtime.platform
        async with platform.database.transaction() as tx:
            made = Agency(account_id=tenant.account_id, name=name, trusted_account_id=trusted)
            policy = Policy(account_id=tenant.account_id, name=f"of {name}", document=document)
            tx.session.add_all([made, policy])
            await tx.session.flush()
            tx.session.add(PolicyGrant(policy_id=policy.id, agency_id=made.id))
        platform.identity.invalidate()

    tenant.running.run(add())


def test_an_agency_and_authorizations(official: Official, tenant: Tenant) -> None:
    client = official(tenant)
    ann, bob = tenant.user([ALL], "ann"), tenant.user([ALL], "bob")
    assert agency(client) == "modelarts_agency"
    assert agency(client, "team") == agency(client, "team") == "ma_agency_team"
    refused(400, "ModelArts.0101", lambda: agency(client, "x" * 51))
    assert listed(client) == []

    authorize(client, "ma_agency_team", user_id=ann.user_id)
    authorize(client, "ma_agency_team", user_id=bob.user_id)
    assert listed(client) == [("ann", "ma_agency_team"), ("bob", "ma_agency_team")]
    authorize(client, "modelarts_agency", user_id=bob.user_id)
    assert listed(client, order="DESC", limit=1) == [("bob", "modelarts_agency")]
    assert listed(client, sort_by="create_time", order="ASC", offset=1) == [("bob", "modelarts_agency")]
    [first, *_] = client.get_authorizations(GetAuthorizationsRequest()).auth
    assert (first.user_id, first.type, first.user_type) == (ann.user_id, "agency", "iam")
    assert first.create_time > 1_700_000_000_000

    authorize(client, "modelarts_agency", user_id="all")
    assert listed(client) == [("all-users", "modelarts_agency")]
    [everybody] = client.get_authorizations(GetAuthorizationsRequest()).auth
    assert (everybody.user_id, everybody.user_type) == ("all-users", "all-users")
    authorize(client, "ma_agency_team", user_id=ann.user_id)
    client.delete_authorizations(DeleteAuthorizationsRequest(user_id="all-users"))
    assert listed(client) == [("ann", "ma_agency_team")]
    authorize(client, "ma_agency_team", user_id=bob.user_id)
    client.delete_authorizations(DeleteAuthorizationsRequest(user_id=ann.user_id))
    assert listed(client) == [("bob", "ma_agency_team")]
    refused(
        404,
        "ModelArts.0104",
        lambda: client.delete_authorizations(DeleteAuthorizationsRequest(user_id=ann.user_id)),
    )
    client.delete_authorizations(DeleteAuthorizationsRequest())
    assert listed(client) == []


def test_the_agency_made_here_can_do_the_least(official: Official, tenant: Tenant) -> None:
    agency(official(tenant), "least")

    async def actions() -> list[str]:
        async with tenant.running.runtime.platform.database.read() as session:
            query = select(Policy).join(PolicyGrant).join(Agency, Agency.id == PolicyGrant.agency_id)  # type: ignore[arg-type]  # a column's comparison
            policies = (await session.exec(query.where(Agency.account_id == tenant.account_id))).all()
            return [a for policy in policies for s in policy.document["Statement"] for a in s["Action"]]

    found = tenant.running.run(actions())
    assert {"obs:object:GetObject", "obs:object:PutObject", "smn:topic:publish"} <= set(found)
    assert [a for a in found if "*" in a or "Delete" in a or a.startswith(("iam:", "modelarts:"))] == []


def test_who_may_authorize(official: Official, tenant: Tenant, stranger: Tenant) -> None:
    client = official(tenant)
    agency(client, "a")
    user = tenant.user([CLERK])
    # Giving somebody an agency hands its rights on, so it takes the right to pass that agency on.
    message = refused(403, "ModelArts.0103", lambda: authorize(official(user), "ma_agency_a", user_id=user.user_id))
    assert "iam:agencies:pass" in message
    refused(403, "ModelArts.0103", lambda: agency(official(user), "b"))
    assert listed(official(stranger)) == []
    message = refused(
        400, "ModelArts.0101", lambda: authorize(official(stranger), "ma_agency_a", user_id=stranger.user_id)
    )
    assert "there is no agency 'ma_agency_a'" in message
    refused(400, "ModelArts.0101", lambda: authorize(client, "ma_agency_a", user_id=stranger.user_id))
    bare_agency(tenant, "theirs", ALL, trusted=stranger.account_id)
    message = refused(400, "ModelArts.0101", lambda: authorize(client, "theirs", user_id=user.user_id))
    assert "trusts another account" in message
    keys = {"type": "credential", "secret_key": "S" * 40}
    refused(400, "ModelArts.0112", lambda: authorize(client, "A" * 20, user_id=user.user_id, **keys))
    refused(400, "ModelArts.0112", lambda: authorize(client, "ma_agency_a", user_type="federate", user_name="x"))
    refused(400, "ModelArts.0101", lambda: authorize(client, "ma_agency_a"))
    assert listed(client) == []


def test_strict_and_loose(official: Official, tenant: Tenant) -> None:
    client = official(tenant)
    nobody = tenant.user()
    denied = tenant.user([{"Version": "1.1", "Statement": [{"Effect": "Deny", "Action": ["modelarts:*:list"]}]}])

    def mode(by: Any = client) -> tuple[str, str]:
        shown = by.show_authmode_detail(ShowAuthmodeDetailRequest())
        return shown.domain_id, shown.mode

    def switch(wanted: str, by: Any = client) -> None:
        changed = by.update_auth_mode(UpdateAuthModeRequest(body=UpdateAuthModeRequestBody(mode=wanted)))
        assert (changed.domain_id, changed.mode) == (tenant.account_id, wanted)

    def look(who: Tenant) -> Any:
        return official(who).list_workspace(ListWorkspaceRequest())

    assert mode() == (tenant.account_id, "strict")
    refused(403, "ModelArts.0103", lambda: look(nobody))
    refused(403, "ModelArts.0103", lambda: mode(official(nobody)))
    refused(403, "ModelArts.0103", lambda: switch("loose", official(nobody)))
    switch("loose")
    assert mode() == (tenant.account_id, "loose")
    assert look(nobody).total_count == 1
    assert mode(official(nobody)) == (tenant.account_id, "loose")
    refused(403, "ModelArts.0103", lambda: look(denied))
    # Administration, and what is not ModelArts, needs explicit rights in either mode.
    refused(403, "ModelArts.0103", lambda: switch("strict", official(nobody)))
    refused(403, "ModelArts.0103", lambda: agency(official(nobody), "n"))
    with pytest.raises(ApiFailure) as stays:
        nobody.client.get("/v3/users")
    assert stays.value.status == 403
    switch("strict")
    refused(403, "ModelArts.0103", lambda: look(nobody))
    refused(400, "ModelArts.0101", lambda: switch("open"))


SCRIPT = """
import argparse, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--data_url", type=pathlib.Path)
print("read", (parser.parse_known_args()[0].data_url / "a.txt").read_text())
"""


def test_a_job_reads_what_its_agency_may_read(official: Official, tenant: Tenant) -> None:
    client = official(tenant)
    code, data = tenant.create_bucket(), tenant.create_bucket()
    tenant.objects.put(f"s3://{code}/code/train.py", SCRIPT.encode())
    tenant.objects.put(f"s3://{data}/data/a.txt", b"the data")
    ann, bob = tenant.user([ALL]), tenant.user([ALL])
    flavor = tenant.client.get("/v2/{project_id}/training-job-flavors")["flavors"][0]["flavor_id"]

    def submit(who: Tenant, name: str) -> str:
        body = {
            "kind": "job",
            "metadata": {"name": name},
            "algorithm": {
                "code_dir": f"/{code}/code/",
                "boot_file": f"/{code}/code/train.py",
                "engine": {
                    "engine_name": "Scikit_Learn",
                    "engine_version": f"Scikit_Learn-{version('scikit-learn')}-python3.11",
                },
                "inputs": [{"name": "data_url", "remote": {"obs": {"obs_url": f"/{data}/data/"}}}],
                "outputs": [{"name": "train_url", "remote": {"obs": {"obs_url": f"/{code}/out-{name}/"}}}],
            },
            "spec": {
                "resource": {"flavor_id": flavor, "node_count": 1},
                "log_export_path": {"obs_url": f"/{code}/log-{name}/"},
            },
        }
        return str(who.client.post("/v2/{project_id}/training-jobs", body)["metadata"]["id"])

    def completed(job: str) -> bool:
        shown = tenant.client.get(f"/v2/{{project_id}}/training-jobs/{job}")
        assert shown["status"]["phase"] != "Failed", shown
        return bool(shown["status"]["phase"] == "Completed")

    only_code = {
        "Version": "1.1",
        "Statement": [{"Effect": "Allow", "Action": ["obs:*:*"], "Resource": [f"obs:*:*:object:{code}/*"]}],
    }
    bare_agency(tenant, "only-code", only_code)
    authorize(client, "only-code", user_id=ann.user_id)
    with pytest.raises(ApiFailure) as missing:
        submit(ann, "ann-1")
    assert (missing.value.status, missing.value.error_code) == (403, "ModelArts.0103")
    assert f"{data}/data/" in missing.value.message
    assert "(agency)" in missing.value.message
    assert f"{code}/code/" not in missing.value.message

    bobs = submit(bob, "bob-1")  # without an agency he acts with his own rights
    agency(client, "reader")
    authorize(client, "ma_agency_reader", user_id=ann.user_id)
    anns = submit(ann, "ann-2")
    assert wait_until(lambda: completed(anns) and completed(bobs), 90)
