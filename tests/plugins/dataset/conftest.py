"""What the tests of datasets share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import Client
from bottega.testing import Tenant
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
