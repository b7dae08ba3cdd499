"""What the tests of datasets share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from bottega.cli_support import OPTIONS
from bottega.client import Client
from bottega.entities import Agency, Authorization, Policy, PolicyGrant
from bottega.identity import ALL_USERS
from bottega.testing import RunningPlatform, Tenant
from bottega_dataset.client import Datasets
from bottega_dataset.commands import datasets as commands
from bottega_dataset.team.commands import teams

PNG = b"\x89PNG\r\n\x1a\n"


class Cli:
    """``bottega datasets`` and ``bottega teams`` as somebody types them."""

    def __init__(self) -> None:
        self._app = typer.Typer()
        self._app.add_typer(commands, name="datasets")
        self._app.add_typer(teams, name="teams")

    def run(self, *words: str, group: str = "datasets", piped: str | None = None) -> Result:
        return CliRunner().invoke(self._app, [group, *words], input=piped)

    def json(self, *words: str, group: str = "datasets") -> Any:
        result = self.run(*words, group=group)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def done(self, *words: str, group: str = "datasets", piped: str | None = None) -> None:
        result = self.run(*words, group=group, piped=piped)
        assert result.exit_code == 0, (result.output, result.exception)


@pytest.fixture
def cli(tenant: Tenant, tmp_path: Path) -> Iterator[Cli]:
    file = tmp_path / "credentials.json"
    keys = {"access_key": tenant.access_key, "secret_key": tenant.secret_key}
    file.write_text(json.dumps({"url": tenant.running.url, "project_id": tenant.project_id, **keys}))
    OPTIONS.credentials, OPTIONS.as_json = file, True
    yield Cli()
    OPTIONS.credentials, OPTIONS.as_json = None, False


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
