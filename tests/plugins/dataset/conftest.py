"""What the tests of datasets share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import Client
from bottega.entities import Agency, Authorization, Policy, PolicyGrant
from bottega.identity import ALL_USERS
from bottega.testing import RunningPlatform, Tenant
from bottega_dataset.client import Datasets

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def datasets(tenant: Tenant) -> Datasets:
    return Datasets(tenant.client)


@pytest.fixture
def pictures(tenant: Tenant, bucket: str) -> str:
    """A folder in the layout of image classification: 6 cats, 4 dogs, 3 unlabeled, and a file that is none."""
    names = [f"Cat/{n}.png" for n in range(6)] + [f"Dog/{n}.JPG" for n in range(4)] + [f"{n}.bmp" for n in range(3)]
    folder = f"s3://{bucket}/pictures/"
    tenant.objects.put_many({folder + name: PNG + name.encode() for name in [*names, "Cat/notes.txt"]})
    return folder


@pytest.fixture
def make(datasets: Datasets, bucket: str) -> Callable[..., str]:
    """Makes a dataset and returns its name; without `data_path` it is empty."""

    def make(name: str = "animals", **options: Any) -> str:
        answer = datasets.create(name, f"/{bucket}/output/{name}/", **options)
        if answer["import_task_id"]:
            datasets.wait_import(name, answer["import_task_id"])
        return name

    return make


@pytest.fixture
def one(client: Client, datasets: Datasets) -> Callable[[str], str]:
    """The API path of a dataset by its name."""
    return lambda name: f"/v2/{{project_id}}/datasets/{datasets.get(name)['dataset_id']}"


@pytest.fixture
def programs_may_touch(running: RunningPlatform, tenant: Tenant) -> Callable[[str], None]:
    """Has an agency act for all users of the account, which may do with objects (``bucket/key*``) what it likes."""

    async def authorize(objects: str) -> None:
        statement = {"Effect": "Allow", "Action": ["obs:object:*"], "Resource": [f"obs:*:*:object:{objects}"]}
        async with running.platform().database.transaction() as tx:
            agency = Agency(account_id=tenant.account_id, name="programs")
            document = {"Version": "1.1", "Statement": [statement]}
            policy = Policy(account_id=tenant.account_id, name="what programs may touch", document=document)
            tx.session.add_all([agency, policy])
            await tx.session.flush()
            tx.session.add(PolicyGrant(policy_id=policy.id, agency_id=agency.id))
            tx.session.add(Authorization(account_id=tenant.account_id, user_id=ALL_USERS, agency_id=agency.id))
        running.platform().identity.invalidate()

    return lambda objects: running.run(authorize(objects))


@pytest.fixture
def mine(tenant: Tenant) -> Any:
    """boto3 at the platform's S3 endpoint, with the tenant's own access key."""
    import boto3
    from botocore.client import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=f"{tenant.running.url}/s3",
        region_name="us-east-1",
        aws_access_key_id=tenant.access_key,
        aws_secret_access_key=tenant.secret_key,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
    )


@pytest.fixture
def refused() -> Callable[..., tuple[int, str]]:
    """Status and code with which a call of boto3 is refused: ``refused(client.get_object, Bucket=…, Key=…)``."""
    from botocore.exceptions import ClientError

    def call(method: Callable[..., Any], **arguments: Any) -> tuple[int, str]:
        with pytest.raises(ClientError) as e:
            method(**arguments)
        response: Any = e.value.response
        return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]

    return call
