"""Performing exports: a manifest, a folder in another format, or a new dataset (002 §2.3.2.2)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio.lowlevel

from bottega.errors import Conflict
from bottega.events import Received
from bottega.objects import ObjectPath, ObjectStore
from bottega.platform import Platform
from bottega_dataset import annotation_files, export_folder, labels
from bottega_dataset.entities import Task
from bottega_dataset.events import TaskFinished
from bottega_dataset.export_dataset import NewDatasets
from bottega_dataset.export_folder import ExportFolder
from bottega_dataset.export_staging import Staged, stage
from bottega_dataset.extension_points import DatasetType, ExportRequest
from bottega_dataset.kinds import Kinds
from bottega_dataset.sample import Problem, SampleRecord
from bottega_dataset.snapshot import ManifestFile
from bottega_dataset.storage_rights import Rights
from bottega_dataset.tasks import Running

MANIFEST = "manifest"
REPORT = ".export.json"
"""What the name of the report ends with, which is stored last and beside the folder: one that has it is whole."""
_TELL_S = 1.0


def stamped(task: Task, name: str) -> str:
    """``DatasetName-VersionName`` (002 §2.3.2.2), the time of the request standing for the version."""
    moment = datetime.fromtimestamp(task.created_at / 1000, UTC)
    return f"{name}-v{moment.strftime('%Y%m%d%H%M%S')}{task.created_at % 1000:03d}"


class Exports:
    """Performs export tasks. One that was interrupted begins again; one that failed or was stopped leaves nothing."""

    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds
        self._datasets = NewDatasets(platform, kinds)

    async def perform(self, running: Running) -> None:
        task, dataset = running.task, running.dataset
        if self._datasets.has_begun(task):
            await self._datasets.fill(running)
            return
        kind = self._kinds.of(dataset.dataset_type)
        async with self._platform.database.transaction() as tx:
            await running.restart(tx)
        with ManifestFile() as file:
            staged = await stage(self._platform, dataset, kind, task.params, file)
            if task.params.get("export_dest") == "NEW_DATASET":
                await self._datasets.begin(running, staged)
            elif task.params.get("format", MANIFEST) == MANIFEST:
                await self._manifest(running, kind, staged)
            else:
                await self._folder(running, kind, staged)

    async def on_finished(self, received: Received[TaskFinished]) -> None:
        """Remove what an export has written that did not come to its end."""
        event = received.event
        if event.kind != "export" or event.state == "completed":
            return
        async with self._platform.database.read() as session:
            task = await session.get(Task, event.task_id)
        if task is None:
            return
        if task.cursor.get("folder"):
            await export_folder.clear(self._platform.objects, ObjectPath.parse(task.cursor["folder"]))
        await self._datasets.undo(task)

    async def _manifest(self, running: Running, kind: DatasetType, staged: Staged) -> None:
        """The files of annotations lie in a folder beside the manifest, of the same name."""
        task = running.task
        name = await self._stamped(task)
        folder = ObjectPath.parse(task.params["path"], "path").folder
        path = folder / f"{name}.manifest"
        prefix = task.params.get("source_type_header") or "s3://"
        if staged.as_it_is and not kind.has_files and prefix == "s3://":
            await self._platform.objects.upload(staged.as_it_is, path, "application/json-lines")
            async with self._platform.database.transaction() as tx:
                counted = {"total": staged.total, "written": staged.total}
                cursor = {"manifest_path": str(path)}
                await running.commit(tx, cursor=cursor, counted=counted, progress=1.0, state="completed")
            return
        follower = _Follower(self._platform, running, staged, None)
        with ManifestFile() as file:
            async for batch in follower.samples():
                if kind.has_files:
                    batch = await annotation_files.publish(self._platform.objects, kind, batch, folder / f"{name}/")
                file.write(_addressed(record, prefix) for record in batch)
            await self._platform.objects.upload(file.finish(), path, "application/json-lines")
        async with self._platform.database.transaction() as tx:
            cursor = {"manifest_path": str(path)}
            await running.commit(tx, cursor=cursor, progress=1.0, state="completed", **follower.news())

    async def _folder(self, running: Running, kind: DatasetType, staged: Staged) -> None:
        task, dataset = running.task, running.dataset
        exporter = self._kinds.exporter(task.params["format"], dataset.dataset_type)
        name = await self._stamped(task)
        path = ObjectPath.parse(task.params["path"], "path").folder / f"{name}/"
        if not task.cursor.get("folder"):
            await self._claim(running, path)
        rights = await Rights.of(self._platform, task.user_id, task.project_id)
        async with self._platform.database.read() as session:
            names = [one.name for one in await labels.of_dataset(session, dataset)]
        with ExportFolder(
            self._platform.objects,
            path,
            origin=dataset.data_path,
            refusal=rights.refusal,
            copies=bool(task.params.get("export_images", True)),
        ) as folder:
            await folder.clear()
            follower = _Follower(self._platform, running, staged, folder)
            await exporter.write(ExportRequest(name, kind, names, follower.samples(), folder, task.params))
            await folder.finish()
            async with self._platform.database.transaction() as tx:
                await running.commit(tx, **follower.news())
            report = ObjectPath(path.bucket, path.key.rstrip("/") + REPORT)
            await self._platform.objects.put(report, self._report(task), "application/json")
        async with self._platform.database.transaction() as tx:
            await running.commit(tx, progress=1.0, state="completed")

    async def _claim(self, running: Running, path: ObjectPath) -> None:
        """Raises Conflict when something lies in the folder that this task has not put there."""
        await check_empty(self._platform.objects, path)
        async with self._platform.database.transaction() as tx:
            await running.commit(tx, cursor={"folder": str(path)})

    async def _stamped(self, task: Task) -> str:
        async with self._platform.database.read() as session:
            resource = await self._platform.resources.get(session, "dataset", task.project_id, task.dataset_id)
        return stamped(task, resource.name)

    @staticmethod
    def _report(task: Task) -> bytes:
        counts = task.counts
        said = {
            "format": task.params["format"],
            "dataset_id": task.dataset_id,
            "version_id": task.params.get("version_id"),
            "task_id": task.id,
            "samples": counts.get("written", 0),
            "left_out": counts.get("left_out", 0),
            "problems": counts.get("bad", 0),
            "requested_at": task.created_at,
        }
        return json.dumps(said, indent=2).encode() + b"\n"


async def check_empty(store: ObjectStore, path: ObjectPath) -> None:
    """Raises Conflict when something lies there."""
    async for _ in store.list(path, limit=1):
        raise Conflict(f"something lies in {path} already; name an empty folder")


class _Follower:
    """Tells the task how far its samples were dealt with, every second; that also finds out when it was stopped."""

    def __init__(self, platform: Platform, running: Running, staged: Staged, folder: ExportFolder | None) -> None:
        self._platform = platform
        self._running = running
        self._staged = staged
        self._folder = folder
        self._done = self._told = self._left_out = 0

    async def samples(self) -> AsyncIterator[list[SampleRecord]]:
        async with self._platform.database.transaction() as tx:
            await self._running.commit(tx, counted={"total": self._staged.total})
        told_at = time.monotonic()
        for batch in self._staged.batches():
            yield batch
            self._done += len(batch)
            await anyio.lowlevel.checkpoint()
            if time.monotonic() - told_at > _TELL_S:
                async with self._platform.database.transaction() as tx:
                    await self._running.commit(tx, progress=self._done / self._staged.total, **self.news())
                told_at = time.monotonic()

    def news(self) -> dict[str, Any]:
        """What `Running.commit` has not been told yet."""
        found: list[Problem] = []
        left_out = 0
        if self._folder:
            found, self._folder.problems = self._folder.problems, []
            left_out = self._folder.left_out - self._left_out
        written = self._done - self._told - left_out
        self._told, self._left_out = self._done, self._left_out + left_out
        return {"counted": {"written": written, "left_out": left_out}, "found": found}


def _addressed(record: SampleRecord, prefix: str) -> SampleRecord:
    """The record with its source below another prefix than ``s3://``, as some programs want it."""
    if prefix == "s3://" or not record.source.startswith("s3://"):
        return record
    return replace(record, source=prefix + record.source[5:])
