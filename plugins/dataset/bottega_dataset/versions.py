"""Versions of a dataset: published as a whole or not at all, and never changed afterwards (002 §2.5, §2.6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
from sqlmodel import col, func, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource
from bottega.errors import Conflict, Invalid, NotFound
from bottega.events import Received
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_dataset import annotation_files, labels, samples, tasks
from bottega_dataset.entities import Dataset, DatasetVersion, Task
from bottega_dataset.events import TaskFinished, VersionDeleted, VersionPublished
from bottega_dataset.kinds import Kinds
from bottega_dataset.query import SampleFilter
from bottega_dataset.sample import SampleRecord, identity
from bottega_dataset.snapshot import ManifestFile, Split, read, snapshot
from bottega_dataset.tasks import Running

CREATING, NORMAL, FAILED = 0, 1, 4
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
    session: AsyncSession, dataset: Dataset, *, status: int | None = None, offset: int = 0, limit: int = 1000
) -> tuple[int, Sequence[DatasetVersion]]:
    """The number of versions, and some of them, the newest first."""
    chosen = [col(DatasetVersion.dataset_id) == dataset.id, col(DatasetVersion.deleted_at).is_(None)]
    if status is not None:
        chosen.append(col(DatasetVersion.status) == status)
    total = (await session.exec(select(func.count()).select_from(DatasetVersion).where(*chosen))).one()
    order = (col(DatasetVersion.created_at).desc(), col(DatasetVersion.name).desc())
    rows = await session.exec(select(DatasetVersion).where(*chosen).order_by(*order).offset(offset).limit(limit))
    return total, rows.all()


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

    :param options: ``seed``, ``export_images``, ``keep_usage``, ``keep_hard``.
    """
    assert dataset.key is not None
    if not (await samples.counts(tx.session, [dataset.key]))[dataset.key][0]:
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


class Publishing:
    """Performs publish tasks. The manifest is in storage before the version is there for anyone to see."""

    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def perform(self, running: Running) -> None:
        task, dataset = running.task, running.dataset
        kind = self._kinds.of(dataset.dataset_type)
        async with self._platform.database.read() as session:
            version = await get(session, dataset, task.params["version_id"])
            resource = await self._platform.resources.get(session, "dataset", task.project_id, dataset.id)
        target = folder(dataset, resource.name, version.name)
        manifest = target / f"{version.name}.manifest"
        labeled, multi = 0, False
        with ManifestFile() as file:
            async with snapshot(self._platform.database) as session:
                stats = await labels.counts(session, dataset)
                label_keys = {(one.type, one.name): one.key for one in await labels.of_dataset(session, dataset)}
                split = Split(version.train_ratio, int(version.options.get("seed", 0)))
                await split.prepare(session, dataset)
                async for batch in read(session, dataset, kind.annotation_type, SampleFilter()):
                    records = []
                    for _, ident, record in batch:
                        labeled += bool(record.annotations)
                        multi = multi or len(record.annotations) > 1
                        usage = None
                        if record.annotations:
                            first = record.annotations[0]
                            key = label_keys.get((kind.label_type(first.type), first.name)) or labels.NO_LABEL
                            usage = split.usage(key, ident)
                        records.append(self._published(record, usage, version.options))
                    if version.options.get("export_images"):
                        records = await self._copied(records, target)
                    if kind.has_files:
                        records = await annotation_files.publish(self._platform.objects, kind, records, target)
                    file.write(records)
            await self._platform.objects.upload(file.finish(), manifest, "application/json-lines")
        async with self._platform.database.transaction() as tx:
            await running.commit(tx, counted={"written": file.lines}, progress=1.0, state="completed")
            version.status, version.updated_at = NORMAL, now_ms()
            version.manifest_path, version.manifest_sha256 = str(manifest), file.sha256
            version.total_samples, version.labeled_samples = file.lines, labeled
            version.multi_label, version.label_stats = multi, stats
            tx.session.add(await tx.session.merge(version))
            entry = await tx.session.get(Resource, resource.id)
            assert entry is not None
            await announce(tx, self._platform, entry, task.user_id, version)

    @staticmethod
    def _published(record: SampleRecord, usage: str | None, options: dict[str, Any]) -> SampleRecord:
        kept = record.usage if options.get("keep_usage") else None
        annotations = record.annotations
        if not options.get("keep_hard"):
            annotations = [replace(one, hard=None) for one in annotations]
        return replace(record, usage=kept or usage, annotations=annotations)

    async def _copied(self, records: list[SampleRecord], target: ObjectPath) -> list[SampleRecord]:
        """The same records with their objects copied beside the manifest, each under an own name."""
        copied = list(records)

        async def copy(index: int, record: SampleRecord) -> None:
            path = ObjectPath.parse(record.source, "source")
            to = target / f"{identity(record).hex()}-{path.name}"
            await self._platform.objects.put(to, await self._platform.objects.get(path))
            copied[index] = replace(record, source=str(to))

        try:
            async with anyio.create_task_group() as group:
                for index, record in enumerate(records):
                    if record.source.startswith("s3://"):
                        group.start_soon(copy, index, record)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        return copied

    async def on_finished(self, received: Received[TaskFinished], tx: Transaction) -> None:
        """A publish task that failed leaves a failed version that says why."""
        event = received.event
        if (event.kind, event.state) == ("publish", "failed"):
            task = await tx.session.get(Task, event.task_id)
            version = await tx.session.get(DatasetVersion, task.params["version_id"]) if task else None
            if version is not None and version.status == CREATING:
                version.status, version.message, version.updated_at = FAILED, event.error_msg or "", now_ms()
                tx.session.add(version)
