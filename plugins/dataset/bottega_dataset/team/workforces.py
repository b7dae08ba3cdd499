"""Teams (resources of kind ``workforce``) and their members."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource
from bottega.errors import Conflict, Invalid, NotFound
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_dataset.team import handing_over
from bottega_dataset.team.entities import DELETED, LOGGED_IN, Labeler, TeamMember, Worker
from bottega_dataset.team.events import (
    WorkerAdded,
    WorkerRemoved,
    WorkerUpdated,
    WorkforceCreated,
    WorkforceDeleted,
    WorkforceUpdated,
)
from bottega_dataset.team.labelers import Labelers, check_email
from bottega_dataset.team.mails import Mails

KIND = "workforce"
MOST_OF_A_ROLE = 100
"""Annotators a task may have, and reviewers; a team has no more."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DESCRIPTION = re.compile(r"""[^\^!<>=&"']{0,256}""")


@dataclass(frozen=True, slots=True)
class Member:
    """A worker with its address; '' once it is deleted."""

    worker: Worker
    email: str


def check_name(name: str, field: str = "workforce_name") -> str:
    """Raises Invalid."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"{field} '{name}' must have 1-64 letters, digits, '_' or '-'")
    return name


def check_description(text: str) -> str:
    """Raises Invalid."""
    if not _DESCRIPTION.fullmatch(text):
        raise Invalid("description must have at most 256 characters and none of ^ ! < > = & \" '")
    return text


def urn_of(project_id: str, workforce_id: str) -> str:
    return str(Urn("dataset", project_id, KIND, workforce_id))


class Workforces:
    def __init__(self, platform: Platform, labelers: Labelers, mails: Mails) -> None:
        self._platform = platform
        self._labelers = labelers
        self._mails = mails

    # -- teams ---------------------------------------------------------------------------------------------------

    async def create(
        self, tx: Transaction, project_id: str, user_id: str, name: str, description: str, workspace_id: str
    ) -> Resource:
        """Raises Conflict when the name is taken."""
        team = await self._platform.resources.create(
            tx,
            kind=KIND,
            project_id=project_id,
            owner_id=user_id,
            name=check_name(name),
            description=check_description(description),
            workspace_id=workspace_id,
        )
        tx.emit(WorkforceCreated(workforce_id=team.id, name=name), team.urn)
        return team

    async def get(self, session: AsyncSession, project_id: str, workforce_id: str) -> Resource:
        return await self._platform.resources.get(session, KIND, project_id, workforce_id)

    async def modify(self, tx: Transaction, team: Resource, name: str | None, description: str | None) -> None:
        if name is not None and name != team.name:
            await self._platform.resources.rename(tx, team, check_name(name))
        if description is not None:
            team.description, team.updated_at = check_description(description), now_ms()
            tx.session.add(team)
        tx.emit(WorkforceUpdated(workforce_id=team.id, name=team.name), team.urn)

    async def delete(self, tx: Transaction, team: Resource) -> Sequence[Worker]:
        """Delete a team with its members, who are returned; what they labeled stays."""
        members = (await tx.session.exec(select(Worker).where(*_present(team.id)))).all()
        for worker in members:
            await self.remove(tx, worker)
        await self._platform.resources.delete(tx, team)
        tx.emit(WorkforceDeleted(workforce_id=team.id, name=team.name), team.urn)
        return members

    async def counts(self, session: AsyncSession, ids: Sequence[str]) -> dict[str, int]:
        """How many members teams have, by id."""
        query = (
            select(Worker.workforce_id, func.count())
            .where(col(Worker.workforce_id).in_(ids), Worker.status != DELETED)
            .group_by(col(Worker.workforce_id))
        )
        return dict((await session.exec(query)).all())

    # -- members -------------------------------------------------------------------------------------------------

    async def add(
        self,
        tx: Transaction,
        team: Resource,
        email: str,
        role: int,
        description: str,
        initial: tuple[str, str],
    ) -> tuple[Worker, str | None]:
        """A new member, invited by e-mail, and its initial password if it got `initial` (password, hash) as one.

        Somebody who labels in this project already keeps its own password. Raises Conflict for a member of the team.
        """
        check_email(email)
        labeler = await self._labelers.ensure(tx, team.project_id, email)
        query = select(Worker).where(Worker.workforce_id == team.id, Worker.labeler_id == labeler.id)
        if (await tx.session.exec(query)).first() is not None:
            raise Conflict("emails: one of these addresses is in the team already")
        counted = select(func.count()).select_from(Worker).where(*_present(team.id), Worker.role == role)
        if (await tx.session.exec(counted)).one() >= MOST_OF_A_ROLE:
            raise Conflict(f"the team has {MOST_OF_A_ROLE} members of role {role} already; no task may have more")
        worker = Worker(
            project_id=team.project_id,
            workforce_id=team.id,
            labeler_id=labeler.id,
            role=role,
            description=check_description(description),
        )
        tx.session.add(worker)
        await tx.session.flush()
        password = None
        if labeler.last_login_at is None:
            password, hashed = initial
            self._labelers.set_initial(tx, labeler, hashed)
        await self._mails.invite(tx, labeler, team.name, password)
        tx.emit(WorkerAdded(workforce_id=team.id, worker_id=worker.id, role=role), team.urn)
        return worker, password

    async def member(self, session: AsyncSession, project_id: str, workforce_id: str, worker_id: str) -> Worker:
        """Raises NotFound, also for one that was deleted."""
        query = select(Worker).where(Worker.id == worker_id, *_present(workforce_id), Worker.project_id == project_id)
        found = (await session.exec(query)).first()
        if found is None:
            raise NotFound(f"the labeling team has no member '{worker_id}'")
        return found

    async def members(
        self, session: AsyncSession, project_id: str, workforce_id: str | None = None, role: int | None = None
    ) -> list[Member]:
        """Those of a team, or of all teams of a project that the caller may see; the oldest first."""
        visible = select(Resource.id).where(
            Resource.kind == KIND,
            Resource.project_id == project_id,
            col(Resource.deleted_at).is_(None),
            self._platform.resources.visible(Resource.workspace_id),
        )
        query = select(Worker).where(
            Worker.project_id == project_id, Worker.status != DELETED, col(Worker.workforce_id).in_(visible)
        )
        if workforce_id is not None:
            query = query.where(Worker.workforce_id == workforce_id)
        if role is not None:
            query = query.where(Worker.role == role)
        workers = (await session.exec(query.order_by(col(Worker.created_at), col(Worker.key)))).all()
        return await self.with_emails(session, workers)

    async def with_emails(self, session: AsyncSession, workers: Sequence[Worker]) -> list[Member]:
        emails = await self._labelers.emails(session, {w.labeler_id for w in workers if w.labeler_id})
        return [Member(worker, emails.get(worker.labeler_id or "", "")) for worker in workers]

    async def change(self, tx: Transaction, worker: Worker, role: int | None, description: str | None) -> None:
        """A new role counts in tasks that are to come; those under way keep theirs."""
        if role is not None:
            worker.role = role
        if description is not None:
            worker.description = check_description(description)
        worker.updated_at = now_ms()
        tx.session.add(worker)
        self._emit_updated(tx, worker)

    async def renew_password(self, tx: Transaction, worker: Worker, initial: tuple[str, str]) -> None:
        """Give a member a new initial password, by e-mail; what it is logged in with ends."""
        labeler = await tx.session.get_one(Labeler, worker.labeler_id)
        password, hashed = initial
        self._labelers.set_initial(tx, labeler, hashed)
        await self._mails.renew(tx, labeler, password)
        self._emit_updated(tx, worker)

    async def remove(self, tx: Transaction, worker: Worker) -> None:
        """Take a member out: what it has not labeled goes to others of the same tasks; what it has labeled stays.

        Its address is forgotten with its last team.
        """
        assert worker.key is not None
        await handing_over.give_away(tx, worker.key)
        labeler_id, worker.labeler_id = worker.labeler_id, None
        worker.status, worker.updated_at = DELETED, now_ms()
        tx.session.add(worker)
        await tx.session.flush()
        tx.emit(
            WorkerRemoved(workforce_id=worker.workforce_id, worker_id=worker.id),
            urn_of(worker.project_id, worker.workforce_id),
        )
        query = select(func.count()).select_from(Worker).where(Worker.labeler_id == labeler_id)
        if labeler_id is not None and not (await tx.session.exec(query)).one():
            await tx.session.exec(delete(Labeler).where(col(Labeler.id) == labeler_id))
        await purge(tx.session, worker.project_id)

    async def logged_in(self, tx: Transaction, labeler: Labeler) -> None:
        """Note that a labeler has logged in, in every team it is in."""
        query = select(Worker).where(Worker.labeler_id == labeler.id, Worker.status < LOGGED_IN)
        for worker in (await tx.session.exec(query)).all():
            worker.status, worker.updated_at = LOGGED_IN, now_ms()
            tx.session.add(worker)
            self._emit_updated(tx, worker)

    def _emit_updated(self, tx: Transaction, worker: Worker) -> None:
        event = WorkerUpdated(
            workforce_id=worker.workforce_id, worker_id=worker.id, role=worker.role, status=worker.status
        )
        tx.emit(event, urn_of(worker.project_id, worker.workforce_id))


async def purge(session: AsyncSession, project_id: str) -> None:
    """Delete the rows of deleted members of whose work nothing is left: who has items in a task is a member of it."""
    kept = select(TeamMember.worker_key)
    gone = (col(Worker.project_id) == project_id, col(Worker.status) == DELETED, col(Worker.key).not_in(kept))
    await session.exec(delete(Worker).where(*gone))


def _present(workforce_id: str) -> tuple[bool, bool]:
    return Worker.workforce_id == workforce_id, Worker.status != DELETED
