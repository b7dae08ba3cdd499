"""What a processing task means before there is one: operators read, input and output found, rights, machine."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import col, select

from bottega.database import AsyncSession
from bottega.errors import Conflict, Invalid, NotFound, NotSupported
from bottega.gateway import Caller, workspace_of
from bottega.objects import ObjectPath
from bottega.plans import Need, Plan, Use
from bottega.platform import Platform
from bottega.urn import Urn, new_id
from bottega_dataset import versions
from bottega_dataset.datasets import Datasets, Found, check_description, check_name
from bottega_dataset.entities import DatasetVersion
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.kinds import Kinds
from bottega_dataset.processing.entities import COMPLETED, ProcessorTask, ProcessorVersion
from bottega_dataset.processing.processors import TEMPLATES, Processors, Step, Template
from bottega_dataset.processing.requests import NewTask, NewTaskVersion, Source, WorkPath
from bottega_dataset.query import SampleFilter
from bottega_dataset.sample import LABELED, UNLABELED
from bottega_dataset.search import narrowed

KIND = "processor-task"
TASKS = "/v2/{project_id}/processor-tasks"
CREATE, GET, STOP = "modelarts:processTask:create", "modelarts:processTask:get", "modelarts:processTask:stop"
_NAME = re.compile(r"[A-Za-z0-9_\-\u4e00-\u9fff]{1,100}")
_SAMPLE_ID = re.compile(r"[0-9a-f]{32}")


@dataclass
class Foreseen:
    """A request that was read. `plan` is what its version will keep; `origins` are the URNs or paths it comes from."""

    template: Template
    steps: list[Step]
    kind: DatasetType
    inputs: list[dict[str, Any]]
    version_id: str
    flavor: str
    plan: dict[str, Any]
    request: dict[str, Any]
    target: Found | None = None
    """The dataset that gets a new version."""
    version_name: str | None = None
    needs: list[Need] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)


class ProcessingPlanner:
    def __init__(self, platform: Platform, kinds: Kinds, processors: Processors) -> None:
        self._platform = platform
        self._kinds = kinds
        self._processors = processors
        self._datasets = Datasets(platform)

    async def plan(self, caller: Caller, body: NewTask) -> Plan:
        """Raises Invalid and NotFound as the creation would."""
        foreseen = await self.foresee(caller, body)
        return Plan((Use("dataset", foreseen.flavor),), tuple(foreseen.needs), workspace_of(body.workspace_id))

    async def foresee(
        self, caller: Caller, body: NewTaskVersion, task: ProcessorTask | None = None, name: str = ""
    ) -> Foreseen:
        """What a version of `task` (None: of a new one) will do; what `body` leaves out is as the task has it.

        Raises Invalid, NotFound, NotSupported saying what is wrong and what would be right.
        """
        request = _request(body, task)
        name = check_task_name(body.name or "") if task is None else name
        check_description(body.description)
        sources = [Source.model_validate(one) for one in request["inputs"]]
        if not sources:
            raise Invalid("data_source (or inputs) is missing: say what is to be processed")
        needs = [
            Need(CREATE, f"bottega:dataset:{caller.project_id}:*", "the task is created"),
            Need(GET, str(Urn("dataset", caller.project_id, KIND, "*")), "the task and its result are followed"),
            Need(STOP, str(Urn("dataset", caller.project_id, KIND, "*")), "the task is stopped when it shall end"),
        ]
        template_id = request["template"].get("id") or ""
        if template_id not in TEMPLATES:
            raise Invalid(f"template.id '{template_id}' is none of {', '.join(TEMPLATES)}")
        async with self._platform.database.read() as session:
            inputs = [await self._input(session, caller.project_id, source, needs) for source in sources]
            kind = self._kind(inputs)
            steps = self._processors.steps(template_id, request["template"].get("operator_params") or [], kind)
            foreseen = Foreseen(
                TEMPLATES[template_id],
                steps,
                kind,
                inputs,
                new_id(),
                self._flavor(body.flavor),
                plan={},
                request=request,
                needs=needs,
                origins=[one["origin"] for one in inputs],
            )
            await self._output(session, caller.project_id, foreseen, name)
        return foreseen

    # -- what goes in ----------------------------------------------------------------------------------------------

    async def _input(self, session: AsyncSession, project_id: str, source: Source, needs: list[Need]) -> dict[str, Any]:
        if source.type == "OBS":
            path = ObjectPath.parse(source.source, "data_source.source").folder
            needs += Need.path(path, "the samples are read from data_source")
            kind = self._kinds.of(source.dataset_type)
            self._kinds.importer("dir", kind.code)
            return {"type": "OBS", "path": str(path), "dataset_type": kind.code, "origin": str(path)}
        if source.type == "TASK":
            return await self._of_task(session, project_id, source, needs)
        if source.type == "CUSTOM":
            raise NotSupported("data_source.type 'CUSTOM' is not offered; use OBS, TASK or DATASET")
        return await self._of_dataset(session, project_id, source, needs)

    async def _of_dataset(
        self, session: AsyncSession, project_id: str, source: Source, needs: list[Need]
    ) -> dict[str, Any]:
        found = await self._datasets.get(session, project_id, source.source)
        dataset = found.dataset
        needs.append(Need("modelarts:dataset:listSamples", found.resource.urn, "the samples of the dataset are read"))
        answer = {
            "type": "DATASET",
            "dataset_id": dataset.id,
            "name": found.resource.name,
            "dataset_type": dataset.dataset_type,
            "origin": found.resource.urn,
        }
        chosen = bool(source.samples or source.sample_state or source.search_conditions)
        if source.version_id or source.version_name:
            if chosen:
                raise Invalid("samples, sample_state and search_conditions choose from a dataset, not from a version")
            version = await self._version(session, project_id, found, source)
            needs += Need.path(ObjectPath.parse(version.manifest_path), "the manifest of the version is read")
            return answer | {
                "version_id": version.id,
                "version_name": version.name,
                "manifest": version.manifest_path,
                "origin": versions.urn(project_id, version.id),
            }
        if dataset.data_path:
            needs += Need.path(ObjectPath.parse(dataset.data_path), "the objects of the dataset are read")
        if source.sample_state not in (None, "", LABELED, UNLABELED):
            raise Invalid(f"sample_state '{source.sample_state}' is none of {LABELED}, {UNLABELED}")
        strange = next((one for one in source.samples if not _SAMPLE_ID.fullmatch(one)), None)
        if strange is not None:
            raise Invalid(f"samples: '{strange}' is no sample id (32 hexadecimal digits)")
        for condition in source.search_conditions:
            narrowed(SampleFilter(), condition)
        return answer | {
            "samples": source.samples,
            "sample_state": source.sample_state,
            "search_conditions": source.search_conditions,
        }

    @staticmethod
    async def _version(session: AsyncSession, project_id: str, found: Found, source: Source) -> DatasetVersion:
        if source.version_id:
            version: DatasetVersion | None = await versions.get(session, found.dataset, source.version_id)
        else:
            chosen = (
                DatasetVersion.dataset_id == found.dataset.id,
                DatasetVersion.name == source.version_name,
                col(DatasetVersion.deleted_at).is_(None),
            )
            version = (await session.exec(select(DatasetVersion).where(*chosen))).first()
        if version is None:
            raise NotFound(f"dataset '{found.resource.name}' has no version '{source.version_name}'")
        if version.status != versions.NORMAL:
            raise Conflict(f"version '{version.name}' is not a normal one (yet); only such can be processed")
        return version

    async def _of_task(
        self, session: AsyncSession, project_id: str, source: Source, needs: list[Need]
    ) -> dict[str, Any]:
        resource = await self._platform.resources.get(session, KIND, project_id, source.source)
        chosen = [ProcessorVersion.task_id == resource.id, ProcessorVersion.status == COMPLETED]
        if source.version_id:
            chosen.append(ProcessorVersion.id == source.version_id)
        order = col(ProcessorVersion.created_at).desc()
        version = (await session.exec(select(ProcessorVersion).where(*chosen).order_by(order))).first()
        if version is None or not version.plan["manifest"]:
            raise Invalid(f"task '{resource.name}' has no completed version whose result could be processed")
        manifest = ObjectPath.parse(version.plan["data_path"]) / version.plan["manifest"]
        needs.append(Need(GET, resource.urn, "the result of the task is read"))
        needs += Need.path(manifest, "the result of the task is read")
        return {
            "type": "TASK",
            "task_id": resource.id,
            "name": resource.name,
            "dataset_type": version.plan["dataset_type"],
            "manifest": str(manifest),
            "origin": resource.urn,
        }

    def _kind(self, inputs: Sequence[dict[str, Any]]) -> DatasetType:
        codes = list(dict.fromkeys(one["dataset_type"] for one in inputs))
        if len(codes) > 1:
            names = ", ".join(self._kinds.of(code).name for code in codes)
            raise Invalid(f"inputs are of different types ({names}); a task processes samples of one type")
        return self._kinds.of(codes[0])

    def _flavor(self, asked: str | None) -> str:
        offered = self._platform.workloads.flavors("dataset")
        default: Any = self._platform.settings.processing_flavor
        wanted = asked or default or (offered[0].id if offered else "")
        return self._platform.workloads.flavor(wanted, "dataset").id

    # -- what comes out --------------------------------------------------------------------------------------------

    async def _output(self, session: AsyncSession, project_id: str, foreseen: Foreseen, name: str) -> None:
        """Fill in `plan`, `target` and `version_name`, and add what writing needs."""
        wanted = WorkPath.model_validate(foreseen.request["work_path"] or {})
        makes, label = foreseen.template.makes_samples, foreseen.version_id[:8]
        plan: dict[str, Any] = {
            "inputs": foreseen.inputs,
            "steps": [
                {
                    "id": step.processor.id,
                    "processor": f"{type(step.processor).__module__}:{type(step.processor).__qualname__}",
                    "params": step.params.model_dump(mode="json"),
                }
                for step in foreseen.steps
            ],
            "dataset_type": foreseen.kind.code,
            "seed": foreseen.request["seed"],
        }
        new_name = wanted.name if wanted.type == "DATASET" and makes and not wanted.path else None
        if new_name:
            if not wanted.output_path:
                raise Invalid("work_path.output_path is missing: the output folder of the new dataset")
            check_name(new_name)
            base = ObjectPath.parse(wanted.output_path, "work_path.output_path").folder
            await self._check_free(session, project_id, new_name)
            plan["dataset"] = {"name": new_name, "work_path": str(base)}
            needed = "modelarts:dataset:create"
            foreseen.needs.append(Need(needed, f"bottega:dataset:{project_id}:*", "the new dataset is created"))
            base = base / f"processing/{foreseen.version_id}/"
        elif wanted.type == "DATASET" and wanted.path:
            found = await self._datasets.get(session, project_id, wanted.path)
            if makes and found.dataset.dataset_type != foreseen.kind.code:
                raise Invalid(f"work_path.path: dataset '{found.resource.name}' is not of type {foreseen.kind.name}")
            base = _inner(found) / f"processing/{foreseen.version_id}/"
            if makes:
                foreseen.target, foreseen.version_name = found, wanted.version_name or None
                needed = "modelarts:dataset:publish"
                foreseen.needs.append(Need(needed, found.resource.urn, "the new version is made"))
        elif wanted.path:
            folder = ObjectPath.parse(wanted.path, "work_path.path").folder
            if not folder.key:
                raise Invalid(f"work_path.path '{folder}' is a whole bucket; name a folder in it")
            base = folder / f"{name}-{label}/"
        else:
            first = next((one for one in foreseen.inputs if one["type"] == "DATASET"), None)
            if first is None:
                raise Invalid("work_path.path is missing: the folder for the result")
            found = await self._datasets.get(session, project_id, first["dataset_id"])
            base = _inner(found) / f"processing/{foreseen.version_id}/"
        for source in foreseen.inputs:
            if source["type"] == "OBS" and ObjectPath.parse(source["path"]).contains(base):
                raise Invalid(f"work_path {base} lies in the input {source['path']}; choose one outside of it")
        plan["report_path"], plan["data_path"] = str(base / "report/"), str(base / "result/")
        plan["manifest"] = f"{name}.manifest" if makes else ""
        foreseen.needs += Need.path(base, "the report and the result are written to work_path", write=True)
        if foreseen.target is not None:
            whole = ObjectPath.parse(foreseen.target.dataset.work_path)
            foreseen.needs += Need.path(whole, "the new version is written to the dataset's work_path", write=True)
        foreseen.plan = plan

    async def _check_free(self, session: AsyncSession, project_id: str, name: str) -> None:
        _, found = await self._platform.resources.list(session, "dataset", project_id, name_contains=name, limit=1000)
        if any(one.name == name for one in found):
            raise Conflict(f"a dataset named '{name}' exists in this project; choose another name")


def check_task_name(name: str) -> str:
    """Raises Invalid."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"name '{name}' must have 1-100 letters, digits, '_', '-' or Chinese characters")
    return name


def _inner(found: Found) -> ObjectPath:
    work_path = ObjectPath.parse(found.dataset.work_path, "work_path").folder
    return work_path / f"{found.resource.name}-{found.dataset.id}/"


def _request(body: NewTaskVersion, task: ProcessorTask | None) -> dict[str, Any]:
    """What was asked for, as it is kept: inputs, template, work_path, seed."""
    if body.data_source and body.inputs:
        raise Invalid("give data_source or inputs, not both")
    before = task.request if task else {"inputs": [], "template": {}, "work_path": None, "seed": None}
    inputs = [body.data_source] if body.data_source else body.inputs
    given = [one.model_dump(mode="json", exclude_none=True) for one in inputs]
    if body.version_id:
        for one in given or [dict(one) for one in before["inputs"]]:
            if one["type"] == "DATASET":
                one.setdefault("version_id", body.version_id)
    seed = body.seed if body.seed is not None else before["seed"]
    return {
        "inputs": given or before["inputs"],
        "data_source": body.data_source is not None or (not given and before.get("data_source", False)),
        "template": body.template.model_dump(mode="json", exclude_none=True) if body.template else before["template"],
        "work_path": body.work_path.model_dump(mode="json", exclude_none=True)
        if body.work_path
        else before["work_path"],
        "seed": secrets.randbits(31) if seed is None else seed,
    }
