"""Versions of a dataset: published as a whole or not at all, and never changed afterwards (002 §2.5, §2.6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sqlmodel import col, func, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource
from bottega.errors import Conflict, Invalid, NotFound
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_dataset import counting, samples, tasks
from bottega_dataset.entities import Dataset, DatasetVersion, Task
from bottega_dataset.events import VersionDeleted, VersionPublished

CREATING, NORMAL, FAILED = 0, 1, 4
DEFAULT, CSV = "Default", "CSV"
_FORMATS = {0: DEFAULT, 2: CSV}
"""The API's ``version_format``, by number."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")


def folder(dataset: Dataset, dataset_name: str, version_name: str) -> ObjectPath:
    """Where a version's files are (002 §2.5)."""
    base = ObjectPath.parse(dataset.work_path, "work_path").folder
    return base / f"{dataset_name}-{dataset.id}/annotation/{version_name}/"


async def get(session: AsyncSession, dataset: Dataset, version_id: str) -> DatasetVersion:
    version = await session.get(DatasetVersion, version_id)
    if version is None or version.dataset_id != dataset.id or version.deleted_at is not None:
        raise NotFound(f"the dataset has no version '{version_id}'")
    return version


async def listing(
    session: AsyncSession,
    dataset: Dataset,
    *,
    status: int | None = None,
    ratio: tuple[float, float] | None = None,
    form: int | None = None,
    offset: int = 0,
    limit: int = 1000,
) -> tuple[int, Sequence[DatasetVersion]]:
    """The number of versions, and some of them, the newest first.

    :param ratio: the least and the largest part that is for training.
    :param form: the API's ``version_format``: 0 for ``Default``, 2 for ``CSV``; of others there are none.
    """
    chosen = [col(DatasetVersion.dataset_id) == dataset.id, col(DatasetVersion.deleted_at).is_(None)]
    if status is not None:
        chosen.append(col(DatasetVersion.status) == status)
    if ratio is not None:
        chosen.append(col(DatasetVersion.train_ratio).between(*ratio))
    if form is not None:
        own = col(DatasetVersion.options)["version_format"].as_string()
        chosen.append(func.coalesce(own, DEFAULT) == _FORMATS.get(form, ""))
    total = (await session.exec(select(func.count()).select_from(DatasetVersion).where(*chosen))).one()
    order = (col(DatasetVersion.created_at).desc(), col(DatasetVersion.name).desc())
    rows = await session.exec(select(DatasetVersion).where(*chosen).order_by(*order).offset(offset).limit(limit))
    return total, rows.all()


def normal(version: DatasetVersion) -> DatasetVersion:
    """Raises Conflict for one that is not (yet) whole."""
    if version.status != NORMAL:
        raise Conflict(f"version '{version.name}' is not a normal one (yet)")
    return version


async def reserve(
    tx: Transaction,
    dataset: Dataset,
    *,
    name: str | None,
    description: str,
    train_ratio: float = 1.0,
    options: dict[str, Any],
) -> DatasetVersion:
    """A version that is being made: named `name`, or V001, V002, … Raises Invalid, Conflict (the name is taken)."""
    if name is not None and not _NAME.fullmatch(name):
        raise Invalid(f"version_name '{name}' must have 1-32 letters, digits, '-' or '_'")
    await samples.lock(tx.session, dataset)
    await tx.session.refresh(dataset)
    query = select(DatasetVersion.name).where(DatasetVersion.dataset_id == dataset.id)
    taken = set((await tx.session.exec(query)).all())
    if name in taken:
        raise Conflict(f"the dataset has, or had, a version '{name}', whose files are kept; choose another name")
    number = dataset.next_version
    while name is None:
        name = candidate if (candidate := f"V{number:03d}") not in taken else None
        number += 1
    dataset.next_version = max(number, dataset.next_version + 1)
    tx.session.add(dataset)
    version = DatasetVersion(
        dataset_id=dataset.id,
        name=name,
        description=description,
        train_ratio=train_ratio,
        options=options,
        previous_id=dataset.current_version_id,
    )
    tx.session.add(version)
    return version


async def request(
    tx: Transaction,
    dataset: Dataset,
    *,
    name: str | None,
    description: str,
    train_ratio: float,
    options: dict[str, Any],
    project_id: str,
    user_id: str,
) -> DatasetVersion:
    """Have a version published: named `name`, or V001, V002, … Raises Invalid, Conflict.

    :param options: ``seed``, ``export_images``, ``keep_usage``, ``keep_hard``, ``version_format``,
        ``with_column_header``.
    """
    assert dataset.key is not None
    if not (await counting.counts(tx.session, [dataset.key]))[dataset.key][0]:
        raise Conflict("the dataset has no samples to publish; import some first")
    version = await reserve(tx, dataset, name=name, description=description, train_ratio=train_ratio, options=options)
    task = Task(
        kind="publish",
        dataset_id=dataset.id,
        project_id=project_id,
        user_id=user_id,
        params={"version_id": version.id},
    )
    await tasks.request(tx, task)
    return version


async def remove(
    tx: Transaction, platform: Platform, dataset: Dataset, project_id: str, version: DatasetVersion
) -> None:
    """Take a version out of the lists; its files stay. Of a failed one nothing stays, and its name is free again."""
    if version.status == CREATING:
        raise Conflict(f"version '{version.name}' is being published; wait until that has ended")
    if version.status == FAILED:
        await tx.session.delete(version)
    else:
        version.deleted_at = now_ms()
        tx.session.add(version)
        await platform.resources.delete(tx, await platform.resources.get(tx.session, "version", project_id, version.id))
    if dataset.current_version_id == version.id:
        _, left = await listing(tx.session, dataset, status=NORMAL, limit=2)
        dataset.current_version_id = next((other.id for other in left if other.id != version.id), None)
        tx.session.add(dataset)
    event = VersionDeleted(dataset_id=dataset.id, version_id=version.id, version_name=version.name)
    tx.emit(event, urn(project_id, version.id))


def urn(project_id: str, version_id: str) -> str:
    return str(Urn("dataset", project_id, "version", version_id))


async def announce(
    tx: Transaction, platform: Platform, dataset_entry: Resource, user_id: str, version: DatasetVersion
) -> None:
    """Enter a version that is written into the registry, where other plugins find it by its id, and tell them."""
    await platform.resources.create(
        tx,
        kind="version",
        id=version.id,
        project_id=dataset_entry.project_id,
        workspace_id=dataset_entry.workspace_id,
        owner_id=user_id,
        name=f"{dataset_entry.name}/{version.name}",
        status="normal",
        description=version.description,
        unique_name=False,
        properties={
            "manifest_path": version.manifest_path,
            "dataset_id": version.dataset_id,
            "dataset_name": dataset_entry.name,
            "output_path": version.manifest_path.rpartition("/")[0] + "/",
        },
    )
    dataset = (await tx.session.exec(select(Dataset).where(Dataset.id == version.dataset_id))).one()
    dataset.current_version_id = version.id
    tx.session.add(dataset)
    await platform.resources.link(tx, dataset_entry.urn, urn(dataset_entry.project_id, version.id), "published from")
    published = VersionPublished(
        dataset_id=version.dataset_id,
        dataset_name=dataset_entry.name,
        version_id=version.id,
        version_name=version.name,
        manifest_path=version.manifest_path,
        manifest_sha256=version.manifest_sha256,
        sample_count=version.total_samples,
    )
    tx.emit(published, urn(dataset_entry.project_id, version.id))
