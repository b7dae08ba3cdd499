"""After the worker: its report read, its result taken in piece by piece, and shown as a whole in one transaction."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import delete, insert, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from bottega.backends import WorkloadFinished, WorkloadStarted
from bottega.bus import Retry
from bottega.context import now_ms
from bottega.database import Transaction
from bottega.entities import Resource
from bottega.errors import ApiError, Conflict, Unavailable, is_full_disk
from bottega.events import Received
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import Urn, new_id
from bottega_dataset import annotation_files, labels, lookup, samples, versions
from bottega_dataset.comparing import local_index
from bottega_dataset.entities import SAMPLES_PER_DATASET, AnnotationRow, Dataset, DatasetVersion, Label, Sample
from bottega_dataset.events import DatasetCreated
from bottega_dataset.extension_points import DatasetType, check
from bottega_dataset.kinds import Kinds
from bottega_dataset.manifest import MAX_LINE, parse_line
from bottega_dataset.processing.entities import (
    COMPLETED,
    FAILED,
    INITIALIZED,
    RUNNING,
    STOPPED,
    ProcessorResult,
    ProcessorTask,
    ProcessorVersion,
)
from bottega_dataset.processing.planner import KIND
from bottega_dataset.processing.read_back import COUNTS, read_outcome, read_report
from bottega_dataset.processing.service import OPEN, Processing
from bottega_dataset.processing.worker import RESULTS, SAMPLES
from bottega_dataset.publishing import Publishing
from bottega_dataset.sample import BadSample, SampleRecord, identity
from bottega_dataset.snapshot import ManifestFile
from bottega_dataset.storage_rights import Rights
from bottega_dataset.tasks import DISK_FULL, DISK_FULL_S

log = structlog.get_logger("bottega.dataset")
_CHUNK = 1000
_STORE_AWAY_S = 3.0
_REASON = "exit code 1: processing failed: "


class _Superseded(Exception):
    """Someone else takes this result in, or it was settled meanwhile."""


@dataclass
class Made:
    """What is to be told of the samples of a result. `stats` counts samples by type and name of their labels."""

    total: int = 0
    labeled: int = 0
    multi: bool = False
    stats: Counter[tuple[int, str]] = field(default_factory=Counter)
    sha256: str = ""
    changes: dict[str, int] | None = None

    def count(self, kind: DatasetType, records: Sequence[SampleRecord]) -> None:
        self.total += len(records)
        for record in records:
            self.labeled += bool(record.annotations)
            self.multi = self.multi or len(record.annotations) > 1
            self.stats.update({(kind.label_type(one.type), one.name) for one in record.annotations if one.name})


class Settlement:
    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds
        self._service = Processing(platform)

    async def on_started(self, received: Received[WorkloadStarted], tx: Transaction) -> None:
        """The worker runs."""
        event = received.event
        if not self._is_mine(event.resource_urn):
            return
        query = select(ProcessorVersion).where(ProcessorVersion.workload_id == event.workload_id)
        version = (await tx.session.exec(query)).first()
        if version is None or version.status != INITIALIZED:
            return  # its end may have been handled first: nothing orders the two kinds of handler
        version.status, version.started_at, version.updated_at = RUNNING, event.started_at, now_ms()
        tx.session.add(version)
        task = await tx.session.get(ProcessorTask, version.task_id)
        if task is not None and task.latest_id == version.id:
            task.status = RUNNING
            tx.session.add(task)

    async def on_finished(self, received: Received[WorkloadFinished]) -> None:
        """The worker ended: take in what it made, or say why there is nothing. Twice is once."""
        event = received.event
        if not self._is_mine(event.resource_urn):
            return
        async with self._platform.database.read() as session:
            query = select(ProcessorVersion).where(ProcessorVersion.workload_id == event.workload_id)
            version = (await session.exec(query)).first()
        if version is not None:
            await self.finish(version, event.state, event.reason, event.started_at, event.finished_at)

    async def finish(
        self, version: ProcessorVersion, state: str, reason: str, started_at: int | None, ended_at: int
    ) -> None:
        """What the end of a version's worker brings. Raises Retry while the object store is away."""
        if version.status not in OPEN:
            return
        version.started_at = started_at
        try:
            if state == "succeeded":
                await self._take_in(version, ended_at)
            elif state == "stopped" and version.stop_requested:
                await self._end(version, STOPPED, "", ended_at)
            else:
                why = reason.removeprefix(_REASON) or "the worker ended without a report"
                await self._end(version, FAILED, why, ended_at)
        except _Superseded:
            log.info("result taken in elsewhere", version=version.id)
        except Unavailable as e:
            raise Retry(_STORE_AWAY_S, e.message) from e
        except (SQLAlchemyError, OSError) as e:
            if is_full_disk(e):
                raise Retry(DISK_FULL_S, DISK_FULL) from e
            raise
        except ApiError as e:
            await self._end(version, FAILED, e.message, ended_at)

    # -- taking in -------------------------------------------------------------------------------------------------

    async def _take_in(self, version: ProcessorVersion, ended_at: int) -> None:
        store, plan = self._platform.objects, version.plan
        report_path = ObjectPath.parse(plan["report_path"])
        report = await read_report(store, report_path)
        made = Made()
        if plan["manifest"]:
            with tempfile.TemporaryDirectory(prefix="bottega-processing-") as folder:
                results, manifest = Path(folder) / RESULTS, Path(folder) / SAMPLES
                await store.download(report_path / RESULTS, results)
                await store.download(report_path / SAMPLES, manifest)
                rights = await Rights.of(self._platform, version.user_id, version.project_id, version.agency_id)
                await self._take_results(version, results, rights)
                made = await self._take_samples(version, manifest, rights)
                if version.output_version_id is not None:
                    await self._compare(version, made, Path(folder))
        async with self._platform.database.transaction() as tx:
            await self._advance(tx, version, {"done": True})
            row = await tx.session.get(ProcessorVersion, version.id)
            assert row is not None
            row.counts = row.counts | report.model_dump(include=COUNTS)
            row.operators, row.result = report.operators, report.findings
            row.started_at, row.ended_at = version.started_at, ended_at
            resource = await tx.session.get(Resource, row.task_id)
            assert resource is not None  # a task with an open version is not deleted
            if row.output_version_id is not None:
                await self._show_version(tx, row, made)
            elif "dataset" in plan:
                await self._show_dataset(tx, row, resource)
            else:
                path = plan["data_path"] if plan["manifest"] else plan["report_path"]
                await self._platform.resources.link(tx, resource.urn, path, "written by")
            await self._service.settle(tx, row, COMPLETED)

    async def _take_results(self, version: ProcessorVersion, file: Path, rights: Rights) -> None:
        start = version.cursor.get("results", 0)
        there = ObjectPath.parse(version.plan["report_path"]) / RESULTS
        own = ObjectPath.parse(version.plan["data_path"])
        for offset, lines in _chunks(file, start):
            number = version.cursor.get("result_count", 0)
            rows: list[dict[str, Any]] = []
            for line in lines:
                at = number + len(rows)
                rows.append({"version_id": version.id, "number": at, **read_outcome(line, there, at + 1).model_dump()})
            # Their addresses are presigned for whoever looks at the result.
            await rights.check_read_back(there, (row[name] for row in rows for name in ("origin", "new")), own)
            async with self._platform.database.transaction() as tx:
                await tx.session.exec(insert(ProcessorResult), params=rows)
                await self._advance(tx, version, {"results": offset, "result_count": number + len(rows)})

    async def _take_samples(self, version: ProcessorVersion, file: Path, rights: Rights) -> Made:
        """Check each sample of the result, write its manifest, and add it to the dataset that is made, if one is."""
        kind, store = self._kinds.of(version.plan["dataset_type"]), self._platform.objects
        target = ObjectPath.parse(version.plan["data_path"])
        there = ObjectPath.parse(version.plan["report_path"]) / SAMPLES
        adding = "dataset" in version.plan
        if adding and version.output_dataset_id is None:
            await self._make_dataset(version)
        made = Made()
        taken = version.cursor.get("samples", 0)
        with ManifestFile() as manifest:
            for offset, lines in _chunks(file, 0):
                records = [self._sample(kind, line, version) for line in lines]
                await rights.check_read_back(there, (record.source for record in records), target)
                made.count(kind, records)
                if adding and offset > taken:
                    async with self._platform.database.transaction() as tx:
                        query = select(Dataset).where(Dataset.id == version.output_dataset_id)
                        dataset = (await tx.session.exec(query)).one()
                        await samples.add(tx.session, dataset, kind, records)
                        await self._advance(tx, version, {"samples": offset})
                if version.output_version_id is not None and kind.has_files:
                    named = [replace(one, id=one.id or identity(one).hex()) for one in records]
                    records = await annotation_files.publish(store, kind, named, target)
                manifest.write(records)
            await store.upload(manifest.finish(), target / version.plan["manifest"], "application/json-lines")
        made.sha256 = manifest.sha256
        return made

    async def _compare(self, version: ProcessorVersion, made: Made, folder: Path) -> None:
        """Count what the new version has otherwise than the one before."""
        kind = self._kinds.of(version.plan["dataset_type"])
        async with self._platform.database.read() as session:
            row = await session.get(DatasetVersion, version.output_version_id)
            previous = await session.get(DatasetVersion, row.previous_id) if row and row.previous_id else None
        if row is None:
            raise Conflict("the dataset was deleted meanwhile")
        row.manifest_path = version.plan["data_path"] + version.plan["manifest"]
        index = await local_index(self._platform.objects, kind, row, folder / "index")
        made.changes = await Publishing(self._platform, self._kinds).changes(kind, previous, index)

    @staticmethod
    def _sample(kind: DatasetType, line: bytes, version: ProcessorVersion) -> SampleRecord:
        try:
            return check(kind, parse_line(line))
        except BadSample as e:
            names = ", ".join(step["id"] for step in version.plan["steps"])
            raise Conflict(f"an operator ({names}) made a sample that breaks the rules: {e}: {line[:200]!r}") from e

    async def _make_dataset(self, version: ProcessorVersion) -> None:
        """The dataset being filled. Nobody sees it until it has an entry in the registry."""
        dataset = Dataset(
            id=new_id(), dataset_type=version.plan["dataset_type"], work_path=version.plan["dataset"]["work_path"]
        )
        async with self._platform.database.transaction() as tx:
            tx.session.add(dataset)
            await tx.session.flush()
            await self._advance(tx, version, {}, output_dataset_id=dataset.id)

    async def _advance(self, tx: Transaction, version: ProcessorVersion, cursor: dict[str, Any], **values: Any) -> None:
        """Record in `tx` how far the result was taken in. Raises _Superseded when someone else does that by now."""
        cursor = version.cursor | cursor
        query = (
            update(ProcessorVersion)
            .where(
                col(ProcessorVersion.id) == version.id,
                col(ProcessorVersion.step) == version.step,
                col(ProcessorVersion.status).in_(OPEN),
            )
            .values(step=version.step + 1, cursor=cursor, updated_at=now_ms(), **values)
        )
        if (await tx.session.exec(query)).rowcount != 1:
            raise _Superseded
        version.step, version.cursor = version.step + 1, cursor
        for name, value in values.items():
            setattr(version, name, value)

    # -- showing ---------------------------------------------------------------------------------------------------

    async def _show_version(self, tx: Transaction, row: ProcessorVersion, made: Made) -> None:
        version = await tx.session.get(DatasetVersion, row.output_version_id)
        entry = await tx.session.get(Resource, row.output_dataset_id)
        if version is None or entry is None or entry.deleted_at is not None:
            raise Conflict("the dataset was deleted meanwhile")
        dataset = (await tx.session.exec(select(Dataset).where(Dataset.id == version.dataset_id))).one()
        known = {(one.type, one.name): labels.shape(one) for one in await labels.of_dataset(tx.session, dataset)}
        version.status, version.updated_at = versions.NORMAL, now_ms()
        version.manifest_path = row.plan["data_path"] + row.plan["manifest"]
        version.manifest_sha256 = made.sha256
        version.total_samples, version.labeled_samples = made.total, made.labeled
        version.multi_label, version.changes = made.multi, made.changes
        version.label_stats = [
            {
                **known.get((code, name), {"name": name, "type": code, "property": {}, "attributes": []}),
                "count": number,
                "sample_count": number,
            }
            for (code, name), number in sorted(made.stats.items())
        ]
        tx.session.add(version)
        await versions.announce(tx, self._platform, entry, row.user_id, version)
        task_urn = str(Urn("dataset", row.project_id, KIND, row.task_id))
        await self._platform.resources.link(tx, task_urn, versions.urn(row.project_id, version.id), "written by")

    async def _show_dataset(self, tx: Transaction, row: ProcessorVersion, task: Resource) -> None:
        plan = row.plan["dataset"]
        assert row.output_dataset_id is not None
        entry = await self._platform.resources.create(
            tx,
            kind="dataset",
            id=row.output_dataset_id,
            project_id=row.project_id,
            owner_id=row.user_id,
            name=plan["name"],
            status="normal",
            workspace_id=task.workspace_id,
            description=f"made by processing task {task.name} ({row.name})",
        )
        dataset = (await tx.session.exec(select(Dataset).where(Dataset.id == row.output_dataset_id))).one()
        await self._copy_labels(tx, dataset, row)
        created = DatasetCreated(
            dataset_id=dataset.id, name=entry.name, dataset_type=dataset.dataset_type, work_path=dataset.work_path
        )
        tx.emit(created, entry.urn)
        await self._platform.resources.link(tx, task.urn, entry.urn, "written by")

    @staticmethod
    async def _copy_labels(tx: Transaction, dataset: Dataset, row: ProcessorVersion) -> None:
        """Colors, shortcuts and attributes as in the datasets that were processed, and the labels nobody bears yet."""
        ids = [one["dataset_id"] for one in row.plan["inputs"] if one["type"] == "DATASET"]
        sources = (await tx.session.exec(select(Dataset).where(col(Dataset.id).in_(ids)))).all()
        there = {(one.type, one.name): one for one in await labels.of_dataset(tx.session, dataset)}
        assert dataset.key is not None
        for source in sources:
            for label in await labels.of_dataset(tx.session, source):
                mine = there.get((label.type, label.name))
                if mine is None:
                    mine = Label(dataset_key=dataset.key, type=label.type, name=label.name)
                    there[label.type, label.name] = mine
                if not mine.property:
                    mine.property, mine.attributes = dict(label.property), list(label.attributes)
                tx.session.add(mine)

    async def _end(self, version: ProcessorVersion, status: int, reason: str, ended_at: int) -> None:
        """Settle a version that gives no result; what was taken in of one is taken away again."""
        async with self._platform.database.transaction() as tx:
            row = await tx.session.get(ProcessorVersion, version.id, with_for_update=True)
            if row is None or row.status not in OPEN:
                return
            row.started_at, row.ended_at = version.started_at, ended_at
            await tx.session.exec(delete(ProcessorResult).where(col(ProcessorResult.version_id) == row.id))
            if "dataset" in row.plan and row.output_dataset_id is not None:
                await self._forget(tx, row.output_dataset_id)
                row.output_dataset_id = None
            await self._service.settle(tx, row, status, reason)

    @staticmethod
    async def _forget(tx: Transaction, dataset_id: str) -> None:
        dataset = (await tx.session.exec(select(Dataset).where(Dataset.id == dataset_id))).first()
        if dataset is None or dataset.key is None:
            return
        first = dataset.key * SAMPLES_PER_DATASET
        mine = col(AnnotationRow.sample_key).between(first, first + SAMPLES_PER_DATASET - 1)
        await tx.session.exec(delete(AnnotationRow).where(mine))
        await lookup.forget(tx.session, dataset)
        await tx.session.exec(delete(Sample).where(col(Sample.dataset_key) == dataset.key))
        await tx.session.exec(delete(Label).where(col(Label.dataset_key) == dataset.key))
        await tx.session.delete(dataset)

    def _is_mine(self, resource_urn: str) -> bool:
        urn = Urn.parse(resource_urn)
        return (urn.plugin, urn.kind) == (self._platform.name, KIND)


def _chunks(file: Path, start: int) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of a file from byte `start` on, a thousand at a time, with the offset behind them."""
    with file.open("rb") as stream:
        stream.seek(start)
        lines: list[bytes] = []
        while line := stream.readline(16 * MAX_LINE):
            lines.append(line)
            if len(lines) == _CHUNK:
                yield stream.tell(), lines
                lines = []
        if lines:
            yield stream.tell(), lines
