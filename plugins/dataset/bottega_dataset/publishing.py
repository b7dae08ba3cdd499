"""Performing publications: the manifest and the index of a version are in storage before anyone can see the version."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource
from bottega.errors import Invalid
from bottega.events import Received
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset import annotation_files, labels, version_index
from bottega_dataset.comparing import local_index
from bottega_dataset.entities import Dataset, DatasetVersion, Task
from bottega_dataset.events import TaskFinished
from bottega_dataset.export_folder import ExportFolder
from bottega_dataset.extension_points import DatasetType, ExportRequest
from bottega_dataset.kinds import Kinds
from bottega_dataset.manifest import format_line, parse_line
from bottega_dataset.query import SampleFilter
from bottega_dataset.sample import SampleRecord, identity
from bottega_dataset.snapshot import Form, ManifestFile, Row, Split, content, rows, snapshot, together
from bottega_dataset.storage_rights import Rights
from bottega_dataset.tasks import Running
from bottega_dataset.version_index import ADDED, MODIFIED, REMOVED, Index, IndexWriter, differences
from bottega_dataset.versions import CREATING, CSV, FAILED, NORMAL, announce, folder, get

_AT_ONCE = 1000
"""Samples."""


class Publishing:
    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def perform(self, running: Running) -> None:
        task, dataset = running.task, running.dataset
        kind = self._kinds.of(dataset.dataset_type)
        async with self._platform.database.read() as session:
            version = await get(session, dataset, task.params["version_id"])
            previous = await session.get(DatasetVersion, version.previous_id) if version.previous_id else None
            resource = await self._platform.resources.get(session, "dataset", task.project_id, dataset.id)
        target = folder(dataset, resource.name, version.name)
        version.manifest_path = str(target / f"{version.name}.manifest")
        with ManifestFile() as file, IndexWriter() as index:
            async with snapshot(self._platform.database) as session:
                version.label_stats = await labels.counts(session, dataset)
                written = _Written(file, index)
                rights = await Rights.of(self._platform, task.user_id, task.project_id)
                await self._write(session, dataset, kind, version, target, written, rights)
            finished = file.finish()
            if version.options.get("version_format") == CSV:
                await self._write_table(dataset, kind, version, finished, target, rights)
            sorted_index = await anyio.to_thread.run_sync(index.finish)
            version.changes = await self.changes(kind, previous, Index(sorted_index))
            await self._platform.objects.upload(sorted_index, version_index.path_of(version))
            manifest = ObjectPath.parse(version.manifest_path)
            await self._platform.objects.upload(finished, manifest, "application/json-lines")
        async with self._platform.database.transaction() as tx:
            await running.commit(tx, counted={"written": file.lines}, progress=1.0, state="completed")
            version.status, version.updated_at = NORMAL, now_ms()
            version.manifest_sha256 = file.sha256
            version.total_samples, version.labeled_samples = file.lines, written.labeled
            version.multi_label = written.multi
            tx.session.add(await tx.session.merge(version))
            entry = await tx.session.get(Resource, resource.id)
            assert entry is not None
            await announce(tx, self._platform, entry, task.user_id, version)

    async def _write(
        self,
        session: AsyncSession,
        dataset: Dataset,
        kind: DatasetType,
        version: DatasetVersion,
        target: ObjectPath,
        written: _Written,
        rights: Rights,
    ) -> None:
        options = version.options
        split = Split(version.train_ratio, int(options.get("seed", 0)))
        await split.prepare(session, dataset)
        form = await Form.of(session, dataset, kind.annotation_type, hard=bool(options.get("keep_hard")))

        def usage(row: Row) -> str | None:
            """What a sample is for in this version; an unlabeled one is for nothing, unless it has been said before."""
            kept = row[3] if options.get("keep_usage") else None
            return kept or (split.usage(split.stratum(one[0] for one in row[5]), row[1]) if row[5] else None)

        async for batch in rows(session, dataset, SampleFilter()):
            written.count(batch)
            if options.get("export_images") or kind.has_files:
                records = [replace(form.record(row), usage=usage(row)) for row in batch]
                said = [together([content(one) for one in record.annotations]) for record in records]
                if options.get("export_images"):
                    records = await self._copied(records, target, rights)
                if kind.has_files:
                    records = await annotation_files.publish(self._platform.objects, kind, records, target)
                lines = [(format_line(record), what) for record, what in zip(records, said, strict=True)]
            else:
                lines = [form.line(row, usage(row)) for row in batch]
            written.add(batch, lines)
            await anyio.lowlevel.checkpoint()

    async def _write_table(
        self,
        dataset: Dataset,
        kind: DatasetType,
        version: DatasetVersion,
        manifest: Path,
        target: ObjectPath,
        rights: Rights,
    ) -> None:
        """The samples of the manifest as a table beside it. Raises Invalid for one that has no place in it."""

        async def samples() -> AsyncIterator[Sequence[SampleRecord]]:
            with manifest.open("rb") as lines:
                while batch := [parse_line(line) for line in islice(lines, _AT_ONCE)]:
                    yield batch
                    await anyio.lowlevel.checkpoint()

        exporter = self._kinds.exporter(CSV.lower(), dataset.dataset_type)
        names = [one["name"] for one in version.label_stats]
        origin, store = dataset.data_path, self._platform.objects
        with _Table(store, target, origin=origin, refusal=rights.refusal, copies=False) as folder:
            await exporter.write(ExportRequest(version.name, kind, names, samples(), folder, version.options))
            await folder.finish()

    async def changes(self, kind: DatasetType, previous: DatasetVersion | None, index: Index) -> dict[str, int]:
        """What changed since the version before: the vendor's counts of the new version."""
        if previous is None or previous.status != NORMAL:
            return {ADDED: index.count, REMOVED: 0, MODIFIED: 0, "previous_total": 0, "previous_labeled": 0}
        with tempfile.TemporaryDirectory(prefix="bottega-compare-") as place:
            before = await local_index(self._platform.objects, kind, previous, Path(place) / "before")
            counted = await anyio.to_thread.run_sync(
                lambda: Counter(change for change, *_ in differences(before, index))
            )
        totals = {"previous_total": previous.total_samples, "previous_labeled": previous.labeled_samples}
        return {change: counted[change] for change in (ADDED, REMOVED, MODIFIED)} | totals

    async def _copied(self, records: list[SampleRecord], target: ObjectPath, rights: Rights) -> list[SampleRecord]:
        """The same records with their objects copied beside the manifest, each under an own name.

        Raises Forbidden when one must not be read by who publishes: others may have brought it in.
        """
        copied = list(records)

        async def copy(index: int, record: SampleRecord) -> None:
            path = ObjectPath.parse(record.source, "source")
            await rights.check(path)
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
                version.options = version.options | {"error_code": task.error_code if task else None}
                tx.session.add(version)


class _Table(ExportFolder):
    """Every sample has a place in a version's table, or there is none; what it cannot say of one the manifest says."""

    def leave_out(self, record: SampleRecord, reason: str) -> None:
        raise Invalid(f"version_format {CSV}: {record.source[:200]}: {reason}")

    def note(self, record: SampleRecord, reason: str) -> None:
        pass


class _Written:
    """A manifest and its index, as far as they are written, and what is to be told of the version."""

    def __init__(self, file: ManifestFile, index: IndexWriter) -> None:
        self._file = file
        self._index = index
        self.labeled = 0
        self.multi = False

    def count(self, batch: Sequence[Row]) -> None:
        sizes = [len(row[5]) for row in batch]
        self.labeled += len(sizes) - sizes.count(0)
        self.multi = self.multi or max(sizes, default=0) > 1

    def add(self, batch: Sequence[Row], lines: Sequence[tuple[bytes, bytes]]) -> None:
        self._index.add((row[1], said, len(line)) for row, (line, said) in zip(batch, lines, strict=True))
        self._file.write_lines([line for line, _ in lines])
