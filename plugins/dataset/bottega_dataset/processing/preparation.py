"""Before the worker of a processing task: the manifest it reads, the rights it gets, the workload asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from bottega.backends import Transfer, WorkloadSpec
from bottega.bus import Retry
from bottega.context import now_ms
from bottega.entities import Resource, Workload
from bottega.errors import ApiError, Invalid, NotFound, Unavailable, is_full_disk
from bottega.events import Received
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import Urn
from bottega.workloads import FINAL
from bottega_dataset.entities import Dataset
from bottega_dataset.events import ProcessingRequested
from bottega_dataset.extension_points import DatasetType, Importer, ImportRequest
from bottega_dataset.kinds import Kinds
from bottega_dataset.processing.entities import FAILED, INITIALIZED, ProcessorTask, ProcessorVersion
from bottega_dataset.processing.planner import KIND
from bottega_dataset.processing.service import OPEN, Processing
from bottega_dataset.processing.settlement import Settlement
from bottega_dataset.processing.worker import INPUT
from bottega_dataset.query import SampleFilter
from bottega_dataset.sample import Problem, SampleRecord, identity
from bottega_dataset.search import narrowed
from bottega_dataset.settings import DatasetSettings
from bottega_dataset.snapshot import ManifestFile, read, snapshot
from bottega_dataset.storage_rights import Rights
from bottega_dataset.tasks import DISK_FULL, DISK_FULL_S

log = structlog.get_logger("bottega.dataset")
LOG = "log.txt"
_STORE_AWAY_S = 3.0
_MOST_FOLDERS = 5000
_PROBLEMS_KEPT = 100


class Preparation:
    def __init__(self, platform: Platform, kinds: Kinds, settlement: Settlement) -> None:
        self._platform = platform
        self._kinds = kinds
        self._service = Processing(platform)
        self._settlement = settlement
        self._settings: DatasetSettings = platform.settings

    async def on_requested(self, received: Received[ProcessingRequested]) -> None:
        """Write the worker's manifest and ask for the worker; of one that has ended, take in the result. Twice is once.

        Raises Retry while the object store is away.
        """
        version_id = received.event.task_version_id
        async with self._platform.database.read() as session:
            version = await session.get(ProcessorVersion, version_id)
            workload = await session.get(Workload, version.workload_id) if version and version.workload_id else None
        if version is None or version.status not in OPEN:
            return
        if workload is not None:
            if workload.state in FINAL and workload.finished_at is not None:
                times = workload.started_at, workload.finished_at
                await self._settlement.finish(version, workload.state, workload.reason, *times)
            return
        try:
            await self._ask(version_id, *await self._write(version))
        except Unavailable as e:
            raise Retry(_STORE_AWAY_S, e.message) from e
        except ApiError as e:
            await self._fail(version_id, e.message)
        except Exception as e:  # importers and types are foreign code; the user must see that the task ended
            if is_full_disk(e):
                raise Retry(DISK_FULL_S, DISK_FULL) from e
            if isinstance(e, SQLAlchemyError):
                raise
            log.error("processing not prepared", version=version_id, exc_info=e)
            await self._fail(version_id, f"an error inside the platform ({type(e).__name__}); its log has the details")

    async def resume(self) -> None:
        """After a start: announce again what was interrupted, at once instead of when the bus delivers it again."""
        async with self._platform.database.read() as session:
            query = select(ProcessorVersion, ProcessorTask).join(
                ProcessorTask, col(ProcessorTask.id) == ProcessorVersion.task_id
            )
            left = (await session.exec(query.where(col(ProcessorVersion.status).in_(OPEN)))).all()
        if left:
            async with self._platform.database.transaction() as tx:
                for version, task in left:
                    asked = ProcessingRequested(
                        task_id=task.id, task_version_id=version.id, template_id=task.template_id
                    )
                    tx.emit(asked, str(Urn("dataset", task.project_id, KIND, task.id)))

    async def _write(self, version: ProcessorVersion) -> tuple[list[str], str, list[Problem]]:
        """Store the manifest of everything that goes in. Returns its folders, its SHA-256, and what is left out."""
        kind = self._kinds.of(version.plan["dataset_type"])
        rights = await Rights.of(self._platform, version.user_id, version.project_id, version.agency_id)
        folders: set[str] = set()
        problems: list[Problem] = []
        seen: set[bytes] = set()
        several = len(version.plan["inputs"]) > 1
        with ManifestFile() as file:
            for source in version.plan["inputs"]:
                async for batch in self._records(source, kind, rights, problems):
                    kept = []
                    for record in batch:
                        if several and (ident := identity(record)) in seen:
                            continue
                        if several:
                            seen.add(ident)
                        reason = await rights.refusal(record)
                        if reason:
                            problems.append(Problem(record.source, reason))
                            continue
                        if folder := _folder(record):
                            folders.add(folder)
                        kept.append(record)
                    file.write(kept)
            if not file.lines:
                why = f": {problems[0].place}: {problems[0].reason}" if problems else ""
                raise Invalid(f"there are no samples to process{why}")
            path = ObjectPath.parse(version.plan["report_path"]) / INPUT
            await self._platform.objects.upload(file.finish(), path, "application/json-lines")
        if len(folders) > _MOST_FOLDERS:
            raise Invalid(f"the samples lie in {len(folders)} folders; at most {_MOST_FOLDERS} are taken")
        return sorted(folders), file.sha256, problems

    def _records(
        self, source: Mapping[str, Any], kind: DatasetType, rights: Rights, problems: list[Problem]
    ) -> AsyncIterator[list[SampleRecord]]:
        if "manifest" in source:
            importer = self._kinds.importer("manifest", kind.code)
            return self._imported(importer, ObjectPath.parse(source["manifest"]), kind, rights, problems)
        if source["type"] == "OBS":
            importer = self._kinds.importer("dir", kind.code)
            return self._imported(importer, ObjectPath.parse(source["path"]), kind, rights, problems)
        return self._of_dataset(source, kind)

    async def _imported(
        self, importer: Importer, path: ObjectPath, kind: DatasetType, rights: Rights, problems: list[Problem]
    ) -> AsyncIterator[list[SampleRecord]]:
        await rights.check(path)
        request = ImportRequest(path, kind, self._platform.objects, {}, rights.reason)
        async for chunk in importer.read(request, {}):
            problems += chunk.problems
            yield list(chunk.samples)

    async def _of_dataset(self, source: Mapping[str, Any], kind: DatasetType) -> AsyncIterator[list[SampleRecord]]:
        base = SampleFilter(state=source["sample_state"] or None)
        wanted = [narrowed(base, one) for one in source["search_conditions"]] or [base]
        chosen = {bytes.fromhex(one) for one in source["samples"]}
        async with snapshot(self._platform.database) as session:
            query = select(Dataset).where(Dataset.id == source["dataset_id"])
            dataset = (await session.exec(query)).first()
            if dataset is None:
                raise NotFound(f"dataset '{source['name']}' was deleted meanwhile")
            seen: set[int] = set()
            for one in wanted:
                async for batch in read(session, dataset, kind.annotation_type, one):
                    yield [
                        record for key, ident, record in batch if key not in seen and (not chosen or ident in chosen)
                    ]
                    if len(wanted) > 1:
                        seen.update(key for key, *_ in batch)

    async def _ask(self, version_id: str, folders: list[str], sha256: str, problems: list[Problem]) -> None:
        async with self._platform.database.transaction() as tx:
            version = await tx.session.get(ProcessorVersion, version_id, with_for_update=True)
            if version is None or version.status != INITIALIZED or version.workload_id is not None:
                return
            resource = await tx.session.get(Resource, version.task_id)
            assert resource is not None  # a task with an open version is not deleted
            workload = await self._platform.workloads.request(
                tx,
                self._spec(version, folders, sha256),
                kind="dataset",
                flavor_id=version.flavor,
                resource_urn=resource.urn,
                project_id=version.project_id,
                user_id=version.user_id,
                workspace_id=resource.workspace_id,
            )
            version.workload_id, version.updated_at = workload.id, now_ms()
            version.counts = {"left_out": len(problems)}
            version.problems = [
                {"place": p.place, "reason": p.reason, "text": p.text} for p in problems[:_PROBLEMS_KEPT]
            ]
            tx.session.add(version)

    def _spec(self, version: ProcessorVersion, folders: list[str], sha256: str) -> WorkloadSpec:
        plan, settings = version.plan, self._settings
        kind = self._kinds.of(plan["dataset_type"])
        report = ObjectPath.parse(plan["report_path"])
        task = {
            "steps": [{"processor": step["processor"], "params": step["params"]} for step in plan["steps"]],
            "seed": plan["seed"],
            "sample_type": kind.sample_type,
            "annotation_type": kind.annotation_type,
            "target": plan["data_path"],
            "makes_samples": bool(plan["manifest"]),
            "largest_mb": settings.processing_largest_mb,
            "cache_mb": settings.processing_cache_mb,
            "input_sha256": sha256,
        }
        outputs = [Transfer(path=plan["report_path"], local="report/")]
        if plan["manifest"]:
            outputs.append(Transfer(path=plan["data_path"], local="result/"))
        return WorkloadSpec(
            command=["{python}", "-m", "bottega_dataset.processing.worker", "task.json"],
            files={"task.json": orjson.dumps(task).decode()},
            inputs=[Transfer(path=str(report / INPUT), local=INPUT)],
            outputs=outputs,
            log_path=str(report / LOG),
            may_read=folders,
            agency_id=version.agency_id,
            timeout_s=settings.processing_timeout_s,
        )

    async def _fail(self, version_id: str, reason: str) -> None:
        async with self._platform.database.transaction() as tx:
            version = await tx.session.get(ProcessorVersion, version_id, with_for_update=True)
            if version is not None and version.status == INITIALIZED and version.workload_id is None:
                await self._service.settle(tx, version, FAILED, reason)


def _folder(record: SampleRecord) -> str:
    """The folder in storage a sample lies in; '' for a text and for what lies elsewhere."""
    return record.source[: record.source.rindex("/") + 1] if record.source.startswith("s3://") else ""
