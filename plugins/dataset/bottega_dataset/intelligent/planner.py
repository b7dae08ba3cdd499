"""What an intelligent task means before there is one: who learns, where, with which rights, and if it can begin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, func, select

from bottega.database import AsyncSession
from bottega.entities import Resource
from bottega.errors import Conflict, Invalid
from bottega.gateway import Caller
from bottega.objects import ObjectPath
from bottega.plans import Need, Plan, Use
from bottega.platform import Platform
from bottega.urn import Urn
from bottega.workspaces import closed_to_caller
from bottega_dataset import labels
from bottega_dataset.entities import Dataset, Sample, Task
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.intelligent.requests import OUTPUTS, NewTask, SmartTaskConfig
from bottega_dataset.kinds import Kinds
from bottega_dataset.learner import Learner

START, STOP, LIST = "modelarts:dataset:startTask", "modelarts:dataset:stopTask", "modelarts:dataset:listTasks"
TASKS = "/v2/{project_id}/datasets/{dataset_id}/tasks"
AUTO_LABEL, PRE_LABEL, AUTO_GROUPING = "auto-label", "pre-label", "auto-grouping"
TASK_TYPES = (AUTO_LABEL, PRE_LABEL, AUTO_GROUPING)
OPEN = ("queued", "running", "stopping")
_SCOPE = re.compile(r"(0(?:\.\d+)?|1(?:\.0+)?)-(0(?:\.\d+)?|1(?:\.0+)?)")


@dataclass(frozen=True)
class UsersModel:
    """A model of the user's: `folder` holds ``config.json`` and the model itself."""

    folder: ObjectPath
    id: str = ""
    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class Foreseen:
    """A request whose names and paths have been read; nobody has looked yet whether the dataset is ready for it."""

    flavor: str
    model: UsersModel | None
    scope: tuple[float, float]
    needs: tuple[Need, ...]


class IntelligentPlanner:
    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def plan(self, caller: Caller, body: NewTask) -> Plan:
        """Raises Invalid as the start would."""
        foreseen = await self.foresee(caller, body)
        return Plan((Use("dataset", foreseen.flavor),), foreseen.needs)

    async def foresee(self, caller: Caller, body: NewTask) -> Foreseen:
        """Raises Invalid saying what is wrong and what would be right."""
        mine = str(Urn("dataset", caller.project_id, "dataset", "*"))
        needs = [
            Need(START, mine, "the task is started"),
            Need(LIST, mine, "the task is followed"),
            Need(STOP, mine, "the task is stopped when it shall cost no more"),
        ]
        config = body.config
        model = await self._model(caller, body, needs)
        for field in ("key_sample_output", "log_url", *OUTPUTS):
            if text := getattr(config, field):
                path = ObjectPath.parse(text, f"config.{field}").folder
                needs += Need.path(path, f"results are written to config.{field}", write=True)
        return Foreseen(self._flavor(config), model, scope(config.confidence_scope), tuple(needs))

    def learner(self, kind: DatasetType, model: UsersModel | None) -> Learner | None:
        """Who learns; None only where a model of the user's does without. Raises Invalid when nobody can."""
        found = self._kinds.learners(kind.code)
        for learner in found:
            if not learner.missing():
                return learner
        if model is not None:
            return None
        if found:
            raise Invalid(f"{found[0].id}, which learns {kind.name}, cannot work here: {found[0].missing()}")
        raise Invalid(
            f"there is no learner for {kind.name} here; start a pre-label task with a model of your own, "
            "or add a plugin that brings one"
        )

    def _flavor(self, config: SmartTaskConfig) -> str:
        offered = self._platform.workloads.flavors("dataset")
        default: Any = self._platform.settings.intelligent_flavor
        wanted = config.flavor.code or default or (offered[0].id if offered else "")
        return self._platform.workloads.flavor(wanted, "dataset").id

    async def _model(self, caller: Caller, body: NewTask, needs: list[Need]) -> UsersModel | None:
        config = body.config
        model_id, path = body.model_id or config.model_id, config.model_path
        by_name = config.model_name if not model_id else None
        if body.task_type != PRE_LABEL:
            if model_id or path or by_name:
                raise Invalid(f"{body.task_type} takes no model; task_type pre-label does")
            return None
        if bool(model_id or by_name) == bool(path):
            raise Invalid("pre-label takes one model: give model_id, or config.model_path, a folder with its package")
        if path:
            folder = ObjectPath.parse(path, "config.model_path").folder
            needs += Need.path(folder, "the model is read from config.model_path")
            return UsersModel(folder)
        mine = select(Resource).where(
            Resource.plugin == "serving",
            Resource.kind == "model",
            Resource.project_id == caller.project_id,
            col(Resource.deleted_at).is_(None),
        )
        named = f"{by_name} {config.model_version}"
        async with self._platform.database.read() as session:
            query = mine.where(Resource.name == named) if by_name else mine.where(Resource.id == model_id)
            resource = (await session.exec(query)).first()
        if resource is None or resource.workspace_id in closed_to_caller():
            raise Invalid(f"there is no model '{named if by_name else model_id}' in this project")
        location = resource.properties.get("location")
        if resource.status != "published" or not location:
            raise Invalid(f"model '{resource.name}' cannot be used: it is {resource.status}; import it again")
        needs.append(Need("modelarts:model:get", resource.urn, "the model makes the suggestions"))
        name, _, version = resource.name.rpartition(" ")
        folder = ObjectPath.parse(str(location), "location").folder / "model/"
        return UsersModel(folder, resource.id, name, version)


def scope(text: str) -> tuple[float, float]:
    """Raises Invalid for what is no span of confidences such as ``0.10-0.90``."""
    match = _SCOPE.fullmatch(text)
    if match is None or float(match[1]) > float(match[2]):
        raise Invalid(f"config.confidence_scope '{text}' must be two numbers from 0 to 1, such as 0.10-0.90")
    return float(match[1]), float(match[2])


async def check_ready(session: AsyncSession, dataset: Dataset, task_type: str, learner: Learner | None) -> None:
    """The conditions of 002 §2.4.1. Raises Conflict naming the one that does not hold."""
    query = select(Task.id).where(
        Task.dataset_id == dataset.id, col(Task.kind).in_(TASK_TYPES), col(Task.state).in_(OPEN)
    )
    running = (await session.exec(query)).first()
    if running:
        raise Conflict(f"intelligent task '{running}' of this dataset is running; wait for its end, or stop it")
    counted = select(col(Sample.labeled), func.count()).where(Sample.dataset_key == dataset.key)
    numbers: dict[bool, int] = dict((await session.exec(counted.group_by(col(Sample.labeled)))).all())
    if task_type == AUTO_GROUPING:
        if sum(numbers.values()) < 2:
            raise Conflict("the dataset has fewer than 2 samples; there is nothing to group")
        return
    if not numbers.get(False):
        raise Conflict("the dataset has no unlabeled samples; there is nothing to label")
    if task_type == PRE_LABEL or learner is None:
        return
    if not learner.minimum_labels:
        if numbers.get(True, 0) < learner.minimum_samples:
            raise Conflict(
                f"learning needs at least {learner.minimum_samples} labeled samples; "
                f"the dataset has {numbers.get(True, 0)}"
            )
        return
    found = {one["name"]: one["sample_count"] for one in await labels.counts(session, dataset)}
    enough = [name for name, count in found.items() if count >= learner.minimum_samples]
    if len(enough) < learner.minimum_labels:
        have = ", ".join(f"{name} {count}" for name, count in list(found.items())[:20]) or "no label"
        raise Conflict(
            f"learning needs at least {learner.minimum_labels} labels with {learner.minimum_samples} labeled samples "
            f"each; the dataset has: {have}"
        )
