"""Datasets: creating, finding, changing, deleting (002 §2.2, §2.7, §2.8)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete
from sqlmodel import col, func, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource
from bottega.errors import Conflict, Invalid
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset import lookup, restoring, samples
from bottega_dataset.entities import (
    AnnotationRow,
    Dataset,
    DatasetChange,
    DatasetVersion,
    GroupMember,
    Label,
    Revision,
    Sample,
    SavedFilter,
    Signature,
    Suggestion,
)
from bottega_dataset.events import DatasetCreated, DatasetDeleted, DatasetUpdated
from bottega_dataset.query import span
from bottega_dataset.versions import NORMAL
from bottega_dataset.versions import get as get_version

EXPORTABLE = (0, 1, 900)
"""The types of datasets the vendor's ``support_export`` lists."""
_NAME = re.compile(r"[A-Za-z0-9_\-\u4e00-\u9fff]{1,100}")
_DESCRIPTION = re.compile(r"""[^\^!<>=&"']{0,256}""")


@dataclass(frozen=True, slots=True)
class Found:
    """A dataset with its row of the registry."""

    dataset: Dataset
    resource: Resource


def check_name(name: str) -> str:
    """Raises Invalid (002 §2.2, table 2-1)."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"dataset_name '{name}' must have 1-100 letters, digits, '_', '-' or Chinese characters")
    return name


def check_description(text: str) -> str:
    """Raises Invalid."""
    if not _DESCRIPTION.fullmatch(text):
        raise Invalid("description must have at most 256 characters and none of ^ ! < > = & \" '")
    return text


def check_paths(data_path: ObjectPath | None, work_path: ObjectPath) -> None:
    """Raises Invalid: the output must be a folder, and neither the input nor inside it."""
    if not work_path.key.strip("/"):
        raise Invalid(f"work_path '{work_path}' is a whole bucket; name a folder in it")
    if data_path is None:
        return
    if data_path.folder == work_path.folder:
        raise Invalid(f"work_path and the input path are both '{work_path}'; they must be different")
    if not data_path.key or data_path.folder.contains(work_path.folder):
        raise Invalid(f"work_path '{work_path}' lies in the input path '{data_path}'; choose one outside of it")


class Datasets:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def create(
        self,
        tx: Transaction,
        *,
        name: str,
        dataset_type: int,
        description: str,
        data_path: ObjectPath | None,
        work_path: ObjectPath,
        label_format: dict[str, Any],
        options: dict[str, Any] | None = None,
        watch: bool = False,
        project_id: str,
        user_id: str,
        workspace_id: str,
    ) -> Found:
        """Raises Conflict when the name is taken, QuotaExceeded."""
        resource = await self._platform.resources.create(
            tx,
            kind="dataset",
            project_id=project_id,
            owner_id=user_id,
            name=check_name(name),
            status="normal",
            workspace_id=workspace_id,
            description=check_description(description),
        )
        dataset = Dataset(
            id=resource.id,
            dataset_type=dataset_type,
            data_path=str(data_path) if data_path else "",
            work_path=str(work_path.folder),
            label_format=label_format,
            options=options,
        )
        self.watch(tx, Found(dataset, resource), watch)
        tx.session.add(dataset)
        await tx.session.flush()
        event = DatasetCreated(
            dataset_id=resource.id, name=name, dataset_type=dataset_type, work_path=dataset.work_path
        )
        tx.emit(event, resource.urn)
        return Found(dataset, resource)

    async def get(self, session: AsyncSession, project_id: str, dataset_id: str) -> Found:
        """Raises NotFound."""
        resource = await self._platform.resources.get(session, "dataset", project_id, dataset_id)
        return Found((await session.exec(select(Dataset).where(Dataset.id == dataset_id))).one(), resource)

    async def listing(
        self,
        session: AsyncSession,
        project_id: str,
        *,
        dataset_type: int | None = None,
        contains: str | None = None,
        workspace_id: str | None = None,
        published: bool | None = None,
        exportable: bool = False,
        ratios: tuple[float, float] | None = None,
        by_name: bool = False,
        descending: bool = True,
        offset: int = 0,
        limit: int = 10,
    ) -> tuple[int, list[Found]]:
        """The number of datasets that match, and a page of them."""
        wanted = [
            col(Resource.plugin) == self._platform.name,
            col(Resource.kind) == "dataset",
            col(Resource.project_id) == project_id,
            col(Resource.deleted_at).is_(None),
            self._platform.resources.visible(Resource.workspace_id),
        ]
        if contains:
            wanted.append(col(Resource.name).contains(contains, autoescape=True))
        if workspace_id:
            wanted.append(col(Resource.workspace_id) == workspace_id)
        if dataset_type is not None:
            wanted.append(col(Dataset.dataset_type) == dataset_type)
        if published is not None:
            current = col(Dataset.current_version_id)
            wanted.append(current.is_not(None) if published else current.is_(None))
        if exportable:
            wanted.append(col(Dataset.dataset_type).in_(EXPORTABLE))
        if ratios is not None:
            fitting = select(DatasetVersion.id).where(col(DatasetVersion.train_ratio).between(*ratios))
            wanted.append(col(Dataset.current_version_id).in_(fitting))
        joined = select(Dataset, Resource).join(Resource, col(Resource.id) == Dataset.id).where(*wanted)
        total = (await session.exec(select(func.count()).select_from(joined.subquery()))).one()
        key = col(Resource.name) if by_name else col(Resource.created_at)
        order = (key.desc(), col(Dataset.key).desc()) if descending else (key.asc(), col(Dataset.key).asc())
        rows = await session.exec(joined.order_by(*order).offset(offset).limit(limit))
        return total, [Found(*row) for row in rows.all()]

    async def modify(
        self,
        tx: Transaction,
        found: Found,
        *,
        name: str | None = None,
        description: str | None = None,
        current_version_id: str | None = None,
    ) -> None:
        """Raises Invalid, NotFound (no such version), Conflict (the name is taken, the version no normal one)."""
        dataset, resource = found.dataset, found.resource
        if name is not None and name != resource.name:
            await self._platform.resources.rename(tx, resource, check_name(name))
        if description is not None:
            resource.description, resource.updated_at = check_description(description), now_ms()
            tx.session.add(resource)
        if current_version_id is not None:
            version = await get_version(tx.session, dataset, current_version_id)
            if version.status != NORMAL:
                raise Conflict(f"version '{version.name}' is not a normal one; only such can be the current version")
            dataset.current_version_id = version.id
            tx.session.add(dataset)
        event = DatasetUpdated(dataset_id=dataset.id, name=resource.name, current_version_id=dataset.current_version_id)
        tx.emit(event, resource.urn)

    @staticmethod
    def watch(tx: Transaction, found: Found, on: bool) -> None:
        """Follow the input path, or follow it no longer. Raises Invalid when there is none."""
        if on and not found.dataset.data_path:
            raise Invalid("the dataset has no input path that could be watched")
        found.dataset.watched = on
        rest = {key: value for key, value in found.resource.properties.items() if key != "watches"}
        found.resource.properties = rest | ({"watches": found.dataset.data_path} if on else {})
        tx.session.add(found.dataset)
        tx.session.add(found.resource)

    async def delete(self, tx: Transaction, found: Found) -> None:
        """Delete a dataset with its versions; all objects stay in storage (002 §2.8)."""
        dataset, resource = found.dataset, found.resource
        assert dataset.key is not None
        await samples.lock(tx.session, dataset)
        versions = (await tx.session.exec(select(DatasetVersion).where(DatasetVersion.dataset_id == dataset.id))).all()
        for version in versions:
            if version.deleted_at is None and version.status == NORMAL:
                entry = await self._platform.resources.get(tx.session, "version", resource.project_id, version.id)
                await self._platform.resources.delete(tx, entry)
            await tx.session.delete(version)
        first, last = span(dataset)
        for table in (AnnotationRow, Revision, Suggestion, Signature, GroupMember):
            mine = col(table.sample_key).between(first, last)
            await tx.session.exec(delete(table).where(mine), execution_options={"synchronize_session": False})
        await restoring.forget(tx.session, dataset, first, last)
        await lookup.forget(tx.session, dataset)
        for own in (Sample, DatasetChange, SavedFilter):
            theirs = col(own.dataset_key) == dataset.key
            await tx.session.exec(delete(own).where(theirs), execution_options={"synchronize_session": False})
        await tx.session.exec(delete(Label).where(col(Label.dataset_key) == dataset.key))
        await tx.session.delete(dataset)
        await self._platform.resources.delete(tx, resource)
        tx.emit(DatasetDeleted(dataset_id=dataset.id, name=resource.name), resource.urn)


async def versions_by_id(session: AsyncSession, ids: Sequence[str | None]) -> dict[str | None, DatasetVersion]:
    query = select(DatasetVersion).where(col(DatasetVersion.id).in_([i for i in ids if i]))
    return {version.id: version for version in (await session.exec(query)).all()}


async def version_counts(session: AsyncSession, ids: Sequence[str]) -> dict[str, int]:
    """How many versions datasets have, by dataset id."""
    query = (
        select(DatasetVersion.dataset_id, func.count())
        .where(col(DatasetVersion.dataset_id).in_(ids), col(DatasetVersion.deleted_at).is_(None))
        .group_by(col(DatasetVersion.dataset_id))
    )
    return dict((await session.exec(query)).all())
