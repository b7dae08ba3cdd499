"""Who may use the labeling console: labelers by their own token, and nobody by anything else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlmodel import col, or_, select
from starlette.requests import HTTPConnection

from bottega.calls import Call, current_call
from bottega.context import Principal, act_as
from bottega.database import AsyncSession
from bottega.errors import Forbidden, NotFound, Unauthenticated
from bottega.gateway import Requirement
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_dataset.team.assembly import Teams
from bottega_dataset.team.entities import DELETED, Labeler, TeamMember, TeamTask, Worker
from bottega_dataset.team.team_tasks import CREATED


@dataclass(frozen=True, slots=True)
class LabelerCaller:
    """A labeler that passed its route's check."""

    labeler: Labeler
    principal: Principal
    project_id: str
    token: str = field(repr=False)
    call: Call = field(repr=False)

    @property
    def address(self) -> str:
        return self.call.source_ip or "?"


@dataclass(frozen=True, slots=True)
class Part:
    """What a labeler is in a task: one of its workers, in its role there."""

    task: TeamTask
    worker: Worker
    member: TeamMember

    @property
    def actor(self) -> str:
        return f"worker:{self.worker.id}"


@dataclass(frozen=True, slots=True)
class ByLabeler(Requirement):
    """The check of the labeling console's routes.

    An IAM policy does not count here, nor access to workspaces: what a labeler may see is what its teams were given.
    `fresh` lets somebody in who has to change its password first.
    """

    teams: Teams = field(kw_only=True)
    fresh: bool = False

    async def __call__(self, connection: HTTPConnection) -> LabelerCaller:  # type: ignore[override]  # no IAM caller
        platform: Platform = connection.app.state.platform
        call = current_call.get()
        assert call is not None
        call.describe(self.action, platform.action(self.action), connection.scope.get("route"))
        call.trace = self.trace or call.trace
        call.keep_body = self.keep_body
        project_id = connection.path_params["project_id"]
        try:
            token = connection.headers.get("x-auth-token")
            if token is None:
                raise Unauthenticated("no labeling token: log in to the labeling console and send it as X-Auth-Token")
            labeler = await self.teams.labelers.holder(project_id, token)
            principal = call.principal = await self.teams.labelers.principal(labeler)
        except (Unauthenticated, NotFound):
            # Each refusal is recorded, so whoever guesses is held back before the records fill the disk.
            await platform.shared.limiter.hit(f"address {call.source_ip}")
            raise
        act_as(principal)
        await platform.limit_rate(principal)
        platform.check_owner(self.action)
        call.project = await platform.identity.check_project(principal, project_id)
        call.resource = str(Urn("dataset", project_id, "labeler", labeler.id))
        if labeler.must_change_password and not self.fresh:
            raise Forbidden("your initial password has to be changed first")
        return LabelerCaller(labeler, principal, project_id, token, call)


def parts_query(labeler: Labeler) -> Any:
    """The parts of a labeler in tasks, with their rows; a task that was not started yet only for who starts it."""
    return (
        select(TeamTask, Worker, TeamMember)
        .join(TeamMember, col(TeamMember.task_key) == TeamTask.key)
        .join(Worker, col(Worker.key) == TeamMember.worker_key)
        .where(
            Worker.labeler_id == labeler.id,
            Worker.status != DELETED,
            or_(col(TeamTask.status) != CREATED, col(TeamTask.agency) == col(Worker.id)),
        )
    )


async def part_of(session: AsyncSession, labeler: Labeler, task_id: str) -> Part:
    """Raises NotFound for a task in which the labeler has no part, as for one that does not exist.

    Somebody who is in it through several teams acts in its highest role.
    """
    rows = (await session.exec(parts_query(labeler).where(TeamTask.id == task_id))).all()
    if not rows:
        raise NotFound(f"you have no labeling task '{task_id}'")
    return max((Part(*row) for row in rows), key=lambda part: (part.member.role, -(part.worker.key or 0)))
