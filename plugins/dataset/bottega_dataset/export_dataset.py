"""Exporting into a new dataset (``export_dest`` NEW_DATASET)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anyio.lowlevel

from bottega.errors import NotFound
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset import export_folder, labels, samples, versions
from bottega_dataset.datasets import Datasets, Found
from bottega_dataset.entities import Label, Task
from bottega_dataset.events import LabelsChanged
from bottega_dataset.export_folder import ExportFolder
from bottega_dataset.export_staging import Staged
from bottega_dataset.extension_points import DatasetType, ImportRequest
from bottega_dataset.import_manifest import ManifestImporter
from bottega_dataset.kinds import Kinds
from bottega_dataset.sample import Problem, SampleRecord
from bottega_dataset.snapshot import ManifestFile
from bottega_dataset.storage_rights import Rights
from bottega_dataset.tasks import Running


class NewDatasets:
    """Fills a new dataset from a manifest kept in storage, chunk after chunk, each with the place it reached.

    With a ``path`` the objects are copied there, and it becomes the new dataset's input folder.
    """

    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds
        self._datasets = Datasets(platform)

    @staticmethod
    def has_begun(task: Task) -> bool:
        """Whether the dataset is there, and to be filled on."""
        return "new_dataset_id" in task.cursor

    async def begin(self, running: Running, staged: Staged) -> None:
        """Keep what is to be in the dataset, make it, fill it."""
        task, params = running.task, running.task.params
        work_path = ObjectPath.parse(params["export_new_dataset_work_path"]).folder
        manifest = work_path / f"export-{task.id}.manifest"
        with ManifestFile() as file:
            for batch in staged.batches():
                file.write(batch)
                await anyio.lowlevel.checkpoint()
            await self._platform.objects.upload(file.finish(), manifest, "application/json-lines")
        async with self._platform.database.transaction() as tx:
            source = await self._datasets.get(tx.session, task.project_id, task.dataset_id)
            made = await self._datasets.create(
                tx,
                name=params["export_new_dataset_name"],
                dataset_type=source.dataset.dataset_type,
                description="",
                data_path=ObjectPath.parse(params["path"]) if params["path"] else None,
                work_path=work_path,
                label_format=source.dataset.label_format,
                options=source.dataset.options,
                project_id=task.project_id,
                user_id=task.user_id,
                workspace_id=source.resource.workspace_id,
            )
            assert made.dataset.key is not None
            for one in await labels.of_dataset(tx.session, source.dataset):
                kept = one.model_dump(exclude={"key", "dataset_key"})
                tx.session.add(Label(dataset_key=made.dataset.key, **kept))
            cursor = {"new_dataset_id": made.dataset.id, "manifest": str(manifest), "within": {}}
            await running.commit(tx, cursor=cursor, counted={"total": staged.total})
        await self.fill(running)

    async def fill(self, running: Running) -> None:
        """Go on where it was left, to the end."""
        task, params = running.task, running.task.params
        manifest = ObjectPath.parse(task.cursor["manifest"])
        async with self._platform.database.read() as session:
            made = await self._datasets.get(session, task.project_id, task.cursor["new_dataset_id"])
        kind = self._kinds.of(made.dataset.dataset_type)
        rights = await Rights.of(self._platform, task.user_id, task.project_id)
        request = ImportRequest(manifest, kind, self._platform.objects, {}, rights.reason)
        cursor = dict(task.cursor)
        target = ObjectPath.parse(params["path"]) if params["path"] else made.dataset.work_path
        with ExportFolder(
            self._platform.objects,
            ObjectPath.parse(str(target)),
            origin=running.dataset.data_path,
            refusal=rights.refusal,
            copies=bool(params["path"]),
        ) as folder:
            async for chunk in ManifestImporter().read(request, cursor["within"]):
                # The manifest lies in a bucket of the user's, who may have written other sources into it meanwhile.
                refused = [(one, await rights.refusal(one)) for one in chunk.samples]
                records = await self._copied(folder, [one for one, reason in refused if reason is None])
                strange = [Problem(one.source, reason) for one, reason in refused if reason]
                found, folder.problems = [*folder.problems, *chunk.problems, *strange], []
                cursor = {**cursor, "within": dict(chunk.cursor)}
                counted = {"written": len(records), "left_out": len(chunk.samples) - len(records)}
                await self._add(running, made, kind, records, cursor, counted, found, chunk.progress)
        async with self._platform.database.transaction() as tx:
            current = await self._datasets.get(tx.session, task.project_id, made.dataset.id)
            if params.get("export_dataset_version_name"):
                await versions.request(
                    tx,
                    current.dataset,
                    name=params["export_dataset_version_name"],
                    description="",
                    train_ratio=1.0,
                    options={"keep_usage": True, "keep_hard": not params["clear_hard_property"]},
                    project_id=task.project_id,
                    user_id=task.user_id,
                )
            source = await self._datasets.get(tx.session, task.project_id, task.dataset_id)
            await self._platform.resources.link(tx, source.resource.urn, current.resource.urn, "exported from")
            await running.commit(tx, progress=1.0, state="completed")
        await self._platform.objects.delete([manifest])

    async def undo(self, task: Task) -> None:
        """Remove the dataset, and what was stored for it, of a task that did not come to its end."""
        if not self.has_begun(task):
            return
        async with self._platform.database.transaction() as tx:
            try:
                made = await self._datasets.get(tx.session, task.project_id, task.cursor["new_dataset_id"])
            except NotFound:
                return
            await self._datasets.delete(tx, made)
        if task.params["path"]:
            await export_folder.clear(self._platform.objects, ObjectPath.parse(task.params["path"]))
        await self._platform.objects.delete([ObjectPath.parse(task.cursor["manifest"])])

    async def _add(
        self,
        running: Running,
        made: Found,
        kind: DatasetType,
        records: list[SampleRecord],
        cursor: dict[str, Any],
        counted: dict[str, int],
        found: list[Problem],
        progress: float | None,
    ) -> None:
        async with self._platform.database.transaction() as tx:
            added = await samples.add(tx.session, made.dataset, kind, records)
            await running.commit(tx, cursor=cursor, counted=counted, progress=progress, found=found)
            if added.new_labels:
                tx.emit(LabelsChanged(dataset_id=made.dataset.id, created=added.new_labels), made.resource.urn)

    @staticmethod
    async def _copied(folder: ExportFolder, records: list[SampleRecord]) -> list[SampleRecord]:
        """The records with their objects in the new input folder; as they are when nothing is copied."""
        if not folder.copies:
            return records
        places = {id(one): folder.place_of(one) for one in records if one.source.startswith("s3://")}
        there = await folder.copy([(one, places[id(one)]) for one in records if id(one) in places])
        copied = {id(one) for one in there}
        return [
            replace(one, source=str(folder.path / places[id(one)]), id=None) if id(one) in copied else one
            for one in records
            if id(one) in copied or id(one) not in places
        ]
