"""Keeping a dataset like its input path (002 §2.4): new objects enter, changed ones are noted, vanished ones leave.

By listing (a task, taken up again where it was interrupted), and for datasets that are watched by the store's events,
object by object. Labels stay with samples whose objects change; what is taken out keeps none.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, select, update
from sqlmodel import col

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource
from bottega.errors import Conflict, Invalid
from bottega.events import Event, Received
from bottega.objects import ObjectInfo, ObjectPath, ObjectStore
from bottega.platform import Platform
from bottega_dataset import counting, removal, samples, tasks
from bottega_dataset.entities import Dataset, Sample, Signature, Task
from bottega_dataset.events import SamplesDeleted, SamplesUploaded, TaskFinished
from bottega_dataset.imports import Imports, request_of
from bottega_dataset.kinds import Kinds
from bottega_dataset.requests import DataSource, NewImport
from bottega_dataset.sample import CONTENT, SIZE, SampleRecord, identity
from bottega_dataset.storage_rights import Rights
from bottega_dataset.task_routes import import_params
from bottega_dataset.tasks import Running

KIND = "sync"
_AT_ONCE = 1000
_SAMPLE: Any = Sample.__table__  # type: ignore[attr-defined]  # plain rows: there may be a million


def params(dataset: Dataset) -> dict[str, Any]:
    """Of a sync task: those of an import of the input path. Raises Invalid when the dataset has none."""
    if not dataset.data_path:
        raise Invalid("the dataset has no input path to synchronize with; import into it instead")
    options = dataset.options or {}
    source = options.get("data_source")
    body = NewImport(
        import_path=dataset.data_path,
        import_annotations=options.get("import_annotations", True),
        data_source=DataSource.model_validate(source) if source else None,
    )
    return import_params(body)


async def request(tx: Transaction, dataset: Dataset, project_id: str, user_id: str) -> Task:
    """Have a dataset synchronized, by somebody's rights. Raises Invalid when it has no input path."""
    task = Task(kind=KIND, dataset_id=dataset.id, project_id=project_id, user_id=user_id, params=params(dataset))
    return await tasks.request(tx, task)


class Sync:
    """Performs sync tasks. The cursor is the importer's while new objects are read, then ``phase``."""

    def __init__(self, platform: Platform, kinds: Kinds, imports: Imports) -> None:
        self._platform = platform
        self._kinds = kinds
        self._imports = imports

    async def perform(self, running: Running) -> None:
        task, dataset = running.task, running.dataset
        path = ObjectPath.parse(task.params["import_path"], "data_path").folder
        if task.cursor.get("phase") is None:
            await self._check_there(dataset, path)
            await self._imports.fill(running)
            async with self._platform.database.transaction() as tx:
                await running.commit(tx, cursor={"phase": "compare", "after": ""}, progress=0.5)
        there = await self._compared(running, path)
        await self._vanished(running, path, there)
        async with self._platform.database.transaction() as tx:
            await running.commit(tx, progress=1.0, state="completed")

    async def _check_there(self, dataset: Dataset, path: ObjectPath) -> None:
        """Raises Conflict when nothing lies there any more, though there are samples: that is hardly meant."""
        async for _ in self._platform.objects.list(path, limit=1):
            return
        async with self._platform.database.read() as session:
            assert dataset.key is not None
            total, _ = (await counting.counts(session, [dataset.key]))[dataset.key]
        if total:
            raise Conflict(
                f"nothing lies in {path} any more, but the dataset has {total} samples; nothing was removed: "
                "delete samples yourself if that is what you want"
            )

    async def _compared(self, running: Running, path: ObjectPath) -> array[int]:
        """Note the objects that changed. Returns what is there: the beginnings of the objects' sample ids, sorted."""
        there = array("Q")
        page: list[ObjectInfo] = []
        done = running.task.cursor["after"]
        async for info in self._platform.objects.list(path):
            there.append(_short(_ident(info.path)))
            if info.path.key > done:
                page.append(info)
            if len(page) == _AT_ONCE:
                await self._note(running, page)
                page = []
        if page:
            await self._note(running, page)
        return array("Q", sorted(there))

    async def _note(self, running: Running, page: Sequence[ObjectInfo]) -> None:
        async with self._platform.database.transaction() as tx:
            changed = await note_changes(tx.session, running.dataset, page)
            cursor = {"phase": "compare", "after": page[-1].path.key}
            await running.commit(tx, cursor=cursor, counted={"changed": changed})

    async def _vanished(self, running: Running, path: ObjectPath, there: array[int]) -> None:
        """Take out the samples whose objects, or lines, are gone; a thousand in one transaction."""
        dataset, prefix = running.dataset, str(path)
        lines = await self._lines(running, path)
        last = -1
        while True:
            async with self._platform.database.read() as session:
                rows = await _after(session, dataset, last)
            if not rows:
                return
            last = rows[-1].key
            gone = [
                bytes(row.sample_id)
                for row in rows
                if (row.source.startswith(prefix) and not _holds(there, row.sample_id))
                or (
                    row.source.startswith(CONTENT)
                    and ((row.extra or {}).get("file") or "").startswith(prefix)
                    and not _holds(lines, row.sample_id)
                )
            ]
            if gone:
                async with self._platform.database.transaction() as tx:
                    _, sources = await removal.remove(tx.session, dataset, gone)
                    await running.commit(tx, counted={"deleted": len(sources)})
                    event = SamplesDeleted(dataset_id=dataset.id, count=len(sources))
                    tx.emit(event, self._kinds.urn(running.task.project_id, dataset.id))

    async def _lines(self, running: Running, path: ObjectPath) -> array[int]:
        """The texts that files of the input path hold, as the beginnings of their sample ids, sorted."""
        dataset, found = running.dataset, array("Q")
        kind = self._kinds.of(dataset.dataset_type)
        if not kind.texts:
            return found
        importer = self._kinds.importer("dir", dataset.dataset_type)
        rights = await Rights.of(self._platform, running.task.user_id, running.task.project_id)
        request = request_of(dataset, kind, running.task.params, self._platform.objects, rights)
        async for chunk in importer.read(request, {}):
            found.extend(_short(identity(record)) for record in chunk.samples)
        return array("Q", sorted(found))


async def note_changes(session: AsyncSession, dataset: Dataset, page: Sequence[ObjectInfo]) -> int:
    """Bring size and time of samples up to date with their objects; returns how many had changed."""
    infos = {_ident(info.path): info for info in page}
    row = _SAMPLE.c
    connection = await session.connection()
    query = select(row.key, row.sample_id, row.size, row.modified_at, row.extra)
    query = query.where(row.dataset_key == dataset.key, row.sample_id.in_(list(infos)))
    values, changed = [], []
    for key, ident, size, modified_at, extra in (await connection.execute(query)).all():
        info = infos[bytes(ident)]
        if (size, modified_at) == (info.size, info.modified_at):
            continue
        if modified_at is not None and (size is None or size != info.size or info.modified_at > modified_at):
            changed.append(key)
            prop = {k: v for k, v in ((extra or {}).get("property") or {}).items() if k != SIZE}
            extra = {k: v for k, v in {**(extra or {}), "property": prop}.items() if v} or None
        values.append({"k": key, "size": info.size, "modified_at": info.modified_at, "extra": extra})
    if values:
        await samples.lock(session, dataset)
        new: dict[str, Any] = {name: bindparam(name) for name in ("size", "modified_at", "extra")}
        await connection.execute(update(_SAMPLE).where(row.key == bindparam("k")).values(**new), values)
    if changed:
        await session.exec(delete(Signature).where(col(Signature.sample_key).in_(changed)))
    return len(changed)


class ObjectsWritten(Event, type="store-s3.objects.written.v1"):
    bucket: str
    keys: Sequence[str]


class ObjectsRemoved(Event, type="store-s3.objects.removed.v1"):
    bucket: str
    keys: Sequence[str]


class Watch:
    """Follows single objects of watched datasets: what the store says was written or removed."""

    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def on_written(self, received: Received[ObjectsWritten]) -> None:
        for key in received.event.keys:
            path = ObjectPath(received.event.bucket, key)
            for dataset, project_id, owner_id in await self._watching(path):
                await self._take(dataset, project_id, owner_id, path)

    async def on_removed(self, received: Received[ObjectsRemoved]) -> None:
        for key in received.event.keys:
            path = ObjectPath(received.event.bucket, key)
            for dataset, project_id, _ in await self._watching(path):
                async with self._platform.database.transaction() as tx:
                    gone = [_ident(path), *await _texts_of(tx.session, dataset, str(path), self._kinds)]
                    _, sources = await removal.remove(tx.session, dataset, gone)
                    if sources:
                        event = SamplesDeleted(dataset_id=dataset.id, count=len(sources))
                        tx.emit(event, self._kinds.urn(project_id, dataset.id))

    async def on_finished(self, received: Received[TaskFinished], tx: Transaction) -> None:
        """What an export has written below an input path went to the store past the platform's doors: look there."""
        if (received.event.kind, received.event.state) != ("export", "completed"):
            return
        task = await tx.session.get(Task, received.event.task_id)
        written = (task.cursor.get("folder") or task.params.get("path")) if task else None
        if written:
            for dataset, project_id, owner_id in await self._watching(ObjectPath.parse(written)):
                await request(tx, dataset, project_id, owner_id)

    async def _watching(self, path: ObjectPath) -> list[tuple[Dataset, str, str]]:
        """The datasets that follow this object, with their projects and owners."""
        query = select(Dataset, Resource).join(Resource, col(Resource.id) == Dataset.id)
        query = query.where(col(Dataset.watched).is_(True), col(Resource.deleted_at).is_(None))
        query = query.where(col(Dataset.data_path).startswith(f"s3://{path.bucket}/", autoescape=True))
        async with self._platform.database.read() as session:
            rows = (await session.execute(query)).all()
        return [
            (dataset, resource.project_id, resource.owner_id)
            for dataset, resource in rows
            if ObjectPath.parse(dataset.data_path).folder.contains(path)
        ]

    async def _take(self, dataset: Dataset, project_id: str, owner_id: str, path: ObjectPath) -> None:
        """Read one object, with what lies beside it under the same name (labels), as an import of the folder would."""
        kind = self._kinds.of(dataset.dataset_type)
        rights = await Rights.of(self._platform, owner_id, project_id)
        if await rights.reason(path):
            return
        request = request_of(dataset, kind, params(dataset), _Beside(self._platform.objects, path), rights)
        importer = self._kinds.importer("dir", dataset.dataset_type)
        async for chunk in importer.read(request, {}):
            records = list(chunk.samples)
            async with self._platform.database.transaction() as tx:
                added = await samples.add(tx.session, dataset, kind, records)
                if added.imported:
                    event = SamplesUploaded(dataset_id=dataset.id, count=added.imported)
                    tx.emit(event, self._kinds.urn(project_id, dataset.id))
        if not kind.texts:
            async for info in self._platform.objects.list(path, limit=1):
                if info.path == path:
                    async with self._platform.database.transaction() as tx:
                        await note_changes(tx.session, dataset, [info])


class _Beside:
    """A store in whose listings is only one object, and those of the same name with another suffix."""

    def __init__(self, store: ObjectStore, path: ObjectPath) -> None:
        self._store = store
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def list(
        self, folder: ObjectPath, *, start_after: str = "", limit: int | None = None
    ) -> AsyncIterator[ObjectInfo]:
        stem = _stem(self._path.key)
        async for info in self._store.list(ObjectPath(self._path.bucket, stem)):
            mine = _stem(info.path.key) == stem and info.path.key.startswith(folder.key)
            if mine and info.path.key > start_after:
                yield info


def _stem(key: str) -> str:
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}".removesuffix("_result")


def _ident(path: ObjectPath) -> bytes:
    return identity(SampleRecord(str(path)))


def _short(ident: bytes) -> int:
    return int.from_bytes(ident[:8], "big")


def _holds(there: array[int], ident: bytes) -> bool:
    wanted = _short(bytes(ident))
    at = bisect_left(there, wanted)
    return at < len(there) and there[at] == wanted


async def _after(session: AsyncSession, dataset: Dataset, last: int) -> Sequence[Any]:
    row = _SAMPLE.c
    query = select(row.key, row.sample_id, row.source, row.extra)
    query = query.where(row.dataset_key == dataset.key, row.key > last).order_by(row.key).limit(_AT_ONCE)
    return (await (await session.connection()).execute(query)).all()


async def _texts_of(session: AsyncSession, dataset: Dataset, file: str, kinds: Kinds) -> list[bytes]:
    """The texts that were read from a file."""
    if not kinds.of(dataset.dataset_type).texts:
        return []
    row = _SAMPLE.c
    mine = row.extra["file"].as_string() == file
    query = select(row.sample_id).where(row.dataset_key == dataset.key, row.extra.is_not(None), mine)
    return [bytes(one) for one in (await (await session.connection()).execute(query)).scalars()]


def duration_s(task: Task) -> int:
    return ((task.finished_at or now_ms()) - task.started_at) // 1000 if task.started_at else 0
