"""The life of an intelligent task: its samples written out, its workload followed, its results taken over.

A task is *preparing* (the platform writes the samples into a manifest), *working* (a workload learns) and *settling*
(the results enter the database, in one transaction with ``dataset.task.finished``). Each phase can be taken up again
after a crash; the workload goes on by itself while the platform is away.
"""

from __future__ import annotations

import os.path
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from sqlmodel import col, func, select

from bottega.backends import LogChunk, Transfer, WorkloadFinished, WorkloadSpec
from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Workload
from bottega.errors import ApiError, Conflict, NotFound
from bottega.events import Received
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_dataset import samples, tasks
from bottega_dataset.datasets import Datasets, Found
from bottega_dataset.entities import Dataset, Task
from bottega_dataset.events import DatasetDeleted, TaskRequested
from bottega_dataset.intelligent import results
from bottega_dataset.intelligent.planner import (
    AUTO_GROUPING,
    OPEN,
    TASK_TYPES,
    Foreseen,
    IntelligentPlanner,
    UsersModel,
    check_ready,
)
from bottega_dataset.intelligent.requests import OUTPUTS, TO_SAMPLES, NewTask, SmartTaskConfig
from bottega_dataset.kinds import Kinds
from bottega_dataset.labeling import Author
from bottega_dataset.query import SampleFilter
from bottega_dataset.sample import LABELED, UNLABELED, Problem, SampleRecord
from bottega_dataset.snapshot import ManifestFile, read, snapshot
from bottega_dataset.storage_rights import Rights
from bottega_dataset.tasks import Running

MANIFEST, LOG = "samples.manifest", "log.txt"
_MOST_FOLDERS = 1000
_REASON = "exit code 1: auto labeling failed: "
_FIGURES = {"ambiguity": "clarity", "image_brightness": "brightness", "image_colorfulness": "colorfulness"}
"""By what pictures are grouped when the vendor's switches ask for it: figures of `Learner.figures`."""


class IntelligentTasks:
    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds
        self._planner = IntelligentPlanner(platform, kinds)
        self._datasets = Datasets(platform)

    # -- what users do -------------------------------------------------------------------------------------------

    async def start(self, caller: Caller, found: Found, body: NewTask, foreseen: Foreseen) -> Task:
        """Check everything about the task, then have it done. Raises Invalid, Conflict, Forbidden before."""
        await caller.require(foreseen.needs)
        dataset, resource = found.dataset, found.resource
        kind = self._kinds.of(dataset.dataset_type)
        learner = self._planner.learner(kind, foreseen.model)
        task = Task(
            kind=body.task_type,
            dataset_id=dataset.id,
            project_id=caller.project_id,
            user_id=caller.user_id,
            params={
                "name": body.config.name or f"{body.task_type}-{now_ms()}",
                "dataset_name": resource.name,
                "dataset_type": dataset.dataset_type,
                "learner": _class_of(learner) if learner else None,
                "flavor": foreseen.flavor,
                "workspace_id": resource.workspace_id,
                "agency_id": caller.principal.agency_id,
                "model": _model_shown(foreseen.model),
                "scope": list(foreseen.scope),
                "collect_key_sample": body.collect_key_sample,
                "config": body.config.model_dump(exclude_defaults=True),
            },
        )
        async with self._platform.database.transaction() as tx:
            await samples.lock(tx.session, dataset)
            await check_ready(tx.session, dataset, body.task_type, learner)
            await self._platform.workloads.admit(tx.session, self._draft(task))
            await tasks.request(tx, task)
        return task

    async def stop(self, project_id: str, dataset_id: str, task_id: str) -> Task:
        """End a task: at once, or when its workload has. Raises NotFound, Conflict for one that has ended."""
        async with self._platform.database.transaction() as tx:
            task = await tx.session.get(Task, task_id, with_for_update=True)
            if task is None or task.dataset_id != dataset_id or task.kind not in TASK_TYPES:
                raise NotFound(f"the dataset has no intelligent task '{task_id}'")
            if task.state not in OPEN:
                raise Conflict(f"task '{task_id}' has ended ({task.state}); only running ones can be stopped")
            workload_id = task.cursor.get("workload_id")
            task.step += 1  # whoever is preparing or settling it stops
            if workload_id and task.cursor["phase"] == "working":
                task.state, task.updated_at = "stopping", now_ms()
                tx.session.add(task)
                await self._platform.workloads.stop(tx, str(workload_id))
            else:
                tasks.end(tx, task, "stopped")
        return task

    async def listing(
        self,
        session: AsyncSession,
        dataset_id: str,
        kinds: Sequence[str],
        name: str | None,
        offset: int,
        limit: int,
    ) -> tuple[int, Sequence[Task]]:
        """The number of a dataset's tasks of these kinds, and some of them, the newest first."""
        chosen = [col(Task.dataset_id) == dataset_id, col(Task.kind).in_(kinds)]
        if name:
            chosen.append(col(Task.params)["name"].as_string().contains(name, autoescape=True))
        total = (await session.exec(select(func.count()).select_from(Task).where(*chosen))).one()
        order = (col(Task.created_at).desc(), col(Task.id).desc())
        return total, (
            await session.exec(select(Task).where(*chosen).order_by(*order).offset(offset).limit(limit))
        ).all()

    async def read_log(self, task: Task, offset: int, limit: int) -> LogChunk:
        """What the workload said, from its backend or from the output folder. Raises NotFound before it began."""
        workload_id = task.cursor.get("workload_id")
        if workload_id is None:
            raise NotFound(f"task '{task.id}' has no log yet; it is {task.state}")
        async with self._platform.database.read() as session:
            workload = await self._platform.workloads.get(session, str(workload_id))
        try:
            return await self._platform.workloads.read_log(workload, offset, limit)
        except NotFound:
            kept = await self._platform.objects.get(_log_of(task, ObjectPath.parse(task.cursor["folder"])))
        start = max(0, len(kept) + offset) if offset < 0 else min(offset, len(kept))
        piece = kept[start : start + limit]
        ended = start + len(piece)
        return LogChunk(
            text=piece.decode("utf-8", "replace"), offset=start, next_offset=ended, size=len(kept), complete=True
        )

    # -- preparing -----------------------------------------------------------------------------------------------

    async def perform(self, running: Running) -> None:
        """What is the platform's to do, at the beginning and at the end; nothing while the workload works."""
        phase = running.task.cursor.get("phase", "preparing")
        if phase == "preparing":
            await self._prepare(running)
        elif phase == "settling":
            await self._settle(running)

    async def _prepare(self, running: Running) -> None:
        task, dataset = running.task, running.dataset
        kind = self._kinds.of(dataset.dataset_type)
        async with self._platform.database.read() as session:
            found = await self._datasets.get(session, task.project_id, dataset.id)
        folder = self._folder(task, found)
        rights = await Rights.of(self._platform, task.user_id, task.project_id, task.params["agency_id"])
        problems: list[Problem] = []
        folders: set[str] = set()
        with ManifestFile() as file:
            async for records in self._records(task, dataset, kind.annotation_type):
                kept = []
                for record in records:
                    reason = await rights.refusal(record)
                    if reason:
                        problems.append(Problem(record.source[:500], reason))
                        continue
                    kept.append(record)
                    if record.source.startswith("s3://"):
                        folders.add(record.source.rpartition("/")[0] + "/")
                file.write(kept)
            if not file.lines:
                raise Conflict("there is no sample this task may look at")
            await self._platform.objects.upload(file.finish(), folder / MANIFEST, "application/json-lines")
        may_read = _merged(folders)
        for path in may_read:
            await rights.check(ObjectPath.parse(path))
        spec = self._spec(task, kind.annotation_type, folder, may_read, file.sha256)
        async with self._platform.database.transaction() as tx:
            workload = await self._platform.workloads.request(
                tx,
                spec,
                kind="dataset",
                flavor_id=task.params["flavor"],
                resource_urn=tasks.urn_of(task),
                project_id=task.project_id,
                user_id=task.user_id,
                workspace_id=task.params["workspace_id"],
            )
            cursor = {
                "phase": "working",
                "workload_id": workload.id,
                "folder": str(folder),
                "times": {"working": now_ms()},
            }
            await running.commit(tx, cursor=cursor, counted={"samples": file.lines}, found=problems)

    async def _records(self, task: Task, dataset: Dataset, annotation_type: str) -> AsyncIterator[list[SampleRecord]]:
        """The samples the workload gets, with the dataset's ids: the labeled ones and those that were asked for."""
        chosen = {one["sample_id"] for one in task.params["config"].get("samples", ())}
        most = int(self._platform.settings.max_intelligent_samples)
        async with snapshot(self._platform.database) as session:
            for state, left in ((LABELED, most // 2), (UNLABELED, most - most // 2)):
                async for batch in read(session, dataset, annotation_type, SampleFilter(state=state)):
                    records = []
                    for _, ident, record in batch:
                        record.id = ident.hex()
                        if state == LABELED or not chosen or record.id in chosen:
                            records.append(record)
                    yield records[:left]
                    left -= len(records)
                    if left <= 0:
                        break

    def _folder(self, task: Task, found: Found) -> ObjectPath:
        asked = next((path for name in OUTPUTS if (path := task.params["config"].get(name))), None)
        if asked:
            return ObjectPath.parse(asked, "output").folder / f"{task.id}/"
        name = f"{found.resource.name}-{found.dataset.id}/annotation/{task.kind}/{task.id}/"
        return ObjectPath.parse(found.dataset.work_path, "work_path").folder / name

    def _spec(
        self, task: Task, annotation_type: str, folder: ObjectPath, may_read: Sequence[str], sha256: str
    ) -> WorkloadSpec:
        config = SmartTaskConfig.model_validate(task.params["config"])
        model = task.params["model"]
        order: dict[str, Any] = {
            "task_type": task.kind,
            "learner": task.params["learner"],
            "manifest": MANIFEST,
            "manifest_sha256": sha256,
            "output": "output",
            "annotation_type": annotation_type,
            "accurate": config.algorithm_type == "accurate",
            "seed": config.seed,
            "backbone": str(self._platform.settings.image_backbone or "") or None,
            "model": "model" if model else None,
            "scope": task.params["scope"],
            "ranked": config.ranked,
            "groups": config.n_clusters,
            "group_by": [figure for switch, figure in _FIGURES.items() if getattr(config, switch)],
        }
        inputs = [Transfer(path=str(folder / MANIFEST), local=MANIFEST)]
        outputs = [Transfer(path=str(folder), local="output/")]
        if task.params["collect_key_sample"]:
            order["hard_output"] = "hard"
            where = config.key_sample_output
            to = ObjectPath.parse(where, "key_sample_output").folder if where else folder / "hard/"
            outputs.append(Transfer(path=str(to), local="hard/"))
        if model:
            inputs.append(Transfer(path=model["folder"], local="model/"))
        return WorkloadSpec(
            command=["{python}", "-m", "bottega_dataset.learning.worker", "task.json"],
            files={"task.json": orjson.dumps(order).decode()},
            inputs=inputs,
            outputs=outputs,
            log_path=str(_log_of(task, folder)),
            may_read=list(may_read),
            timeout_s=config.stop_time * 60 if config.stop_time else self._platform.settings.intelligent_timeout_s,
            agency_id=task.params["agency_id"],
        )

    def _draft(self, task: Task) -> Workload:
        """The workload as admissions look at it before there is one: may this account run more?"""
        flavor = self._platform.workloads.flavor(task.params["flavor"], "dataset")
        return Workload(
            project_id=task.project_id,
            workspace_id=task.params["workspace_id"],
            user_id=task.user_id,
            kind="dataset",
            resource_urn=tasks.urn_of(task),
            backend=flavor.backend,
            flavor=flavor.id,
            spec={},
        )

    # -- what the workload's life brings ------------------------------------------------------------------------

    async def on_finished(self, received: Received[WorkloadFinished], tx: Transaction) -> None:
        """The workload ended: have its results taken over, or say why there are none."""
        event = received.event
        urn = Urn.parse(event.resource_urn)
        if (urn.plugin, urn.kind) != (self._platform.name, "task"):
            return
        task = await tx.session.get(Task, urn.id, with_for_update=True)
        if task is None or task.kind not in TASK_TYPES or task.state not in OPEN:
            return
        if task.cursor.get("workload_id") != event.workload_id:
            return
        if event.state == "succeeded" and task.state != "stopping":
            times = task.cursor.get("times", {}) | {"settling": now_ms()}
            task.cursor = task.cursor | {"phase": "settling", "times": times}
            task.step, task.updated_at = task.step + 1, now_ms()
            tx.session.add(task)
            tx.emit(TaskRequested(task_id=task.id, dataset_id=task.dataset_id, kind=task.kind), tasks.urn_of(task))
        elif task.state == "stopping":
            tasks.end(tx, task, "stopped")
        else:
            reason = event.reason.removeprefix(_REASON) or "its workload ended without saying why"
            tasks.end(tx, task, "failed", ApiError(reason))

    async def on_dataset_deleted(self, received: Received[DatasetDeleted], tx: Transaction) -> None:
        """Nobody waits for the results any more."""
        query = select(Task).where(
            Task.dataset_id == received.event.dataset_id, col(Task.kind).in_(TASK_TYPES), col(Task.state).in_(OPEN)
        )
        for task in (await tx.session.exec(query)).all():
            workload_id = task.cursor.get("workload_id")
            if workload_id:
                await self._platform.workloads.stop(tx, str(workload_id), "the dataset was deleted")
            task.step += 1
            tasks.end(tx, task, "failed", NotFound("the dataset was deleted"))

    # -- settling ------------------------------------------------------------------------------------------------

    async def _settle(self, running: Running) -> None:
        task, dataset = running.task, running.dataset
        folder = ObjectPath.parse(task.cursor["folder"], "folder")
        store = self._platform.objects
        grouping = task.kind == AUTO_GROUPING
        with tempfile.TemporaryDirectory(prefix="bottega-results-") as scratch:
            names = [results.REPORT, results.PROBLEMS, results.GROUPS if grouping else results.SUGGESTIONS]
            files = {name: Path(scratch) / name for name in names}
            for name, file in files.items():
                await store.download(folder / name, file)
            report = orjson.loads(files[results.REPORT].read_bytes())
            problems = [Problem(one["place"], one["reason"]) for one in results.lines(files[results.PROBLEMS])]
            lines = results.lines(files[names[-1]])
            said = await self._said(task, dataset) if grouping else None
            async with self._platform.database.transaction() as tx:
                await samples.lock(tx.session, dataset)
                if grouping:
                    counted = await results.keep_groups(tx.session, dataset, task.id, lines, said)
                else:
                    counted = await results.keep_suggestions(tx.session, dataset, task.id, lines)
                cursor = task.cursor | {"phase": "done", "report": report}
                await running.commit(
                    tx, cursor=cursor, counted=counted, progress=1.0, found=problems, state="completed"
                )

    async def _said(self, task: Task, dataset: Dataset) -> results.SaidOfSamples | None:
        """Where ``result_type`` is 1 samples say in which group they are."""
        config = SmartTaskConfig.model_validate(task.params["config"])
        if config.result_type != TO_SAMPLES:
            return None
        who = await self._platform.identity.principal(task.user_id)
        author = Author(who.user_name, AUTO_GROUPING)
        return results.SaidOfSamples(config.property, self._kinds.of(dataset.dataset_type), author)


def _log_of(task: Task, folder: ObjectPath) -> ObjectPath:
    """Where the output of a task's workload is kept: in the folder it was told, else with its results."""
    asked = task.params["config"].get("log_url")
    return ObjectPath.parse(asked, "log_url").folder / f"{task.id}.txt" if asked else folder / LOG


def _class_of(learner: object) -> str:
    return f"{type(learner).__module__}:{type(learner).__qualname__}"


def _model_shown(model: UsersModel | None) -> dict[str, str] | None:
    if model is None:
        return None
    return {"folder": str(model.folder), "id": model.id, "name": model.name, "version": model.version}


def _merged(folders: Iterable[str]) -> list[str]:
    """At most a thousand folders that cover all: where there are more, those of a bucket become their common parent."""
    found = sorted(folders)
    if len(found) <= _MOST_FOLDERS:
        return found
    buckets: dict[str, list[str]] = {}
    for folder in found:
        buckets.setdefault(folder.split("/")[2], []).append(folder)
    return [os.path.commonpath(some).replace("s3:/", "s3://", 1) + "/" for some in buckets.values()]
