"""Rooms inside a project: who may enter them, and which rights count inside (003 §9, Managing Resource Access).

A user needs both, access to the workspace and a permission that applies to the enterprise project it is bound to. Both
are decided once a request, at the edge, before anything is read or changed; what is closed to the caller stands in
`Call.closed` then, and `bottega.resources` keeps to it for every plugin. Handlers of events and other work of the
platform itself is no request and sees everything.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlmodel import col, select

from bottega.calls import Call, current_call
from bottega.context import Principal
from bottega.database import Database
from bottega.entities import DEFAULT_WORKSPACE, Resource, Workload, Workspace, WorkspaceUser
from bottega.errors import ApiError, Forbidden, Invalid, NotFound
from bottega.iam import Decision
from bottega.urn import PLATFORM

if TYPE_CHECKING:
    from bottega.identity import Identity
    from bottega.plugins import Plugins

ADMINISTER = "iam:permissions:grantRoleToGroup"
"""Whoever may do this in the account enters every workspace: he could let himself in anyway."""
PUBLIC, PRIVATE, INTERNAL = "PUBLIC", "PRIVATE", "INTERNAL"
_CACHE = 10_000


@dataclass(frozen=True, slots=True)
class Room:
    """A workspace as the checks see it; `users` are those an INTERNAL one lists."""

    project_id: str
    id: str = DEFAULT_WORKSPACE
    auth_type: str = PUBLIC
    owner_id: str = ""
    enterprise_project_id: str = "0"
    users: frozenset[str] = frozenset()

    def opens_to(self, user_id: str) -> bool:
        return self.auth_type == PUBLIC or user_id == self.owner_id or user_id in self.users


def closed_to_caller() -> Collection[str]:
    """The workspaces whose things do not exist for the request being served; none outside of requests."""
    call = current_call.get()
    return call.closed if call else ()


class Workspaces:
    """The workspaces of all projects, cached until identity changes (every change of one emits ``iam.workspace…``)."""

    def __init__(self, database: Database, identity: Identity, plugins: Plugins) -> None:
        self._database = database.bind("core")
        self._identity = identity
        self._plugins = plugins
        self._rooms: dict[str, dict[str, Room]] = {}
        self._generation = identity.generation
        self._places: dict[str, tuple[str, str]] = {}

    async def rooms(self, project_id: str) -> Mapping[str, Room]:
        """Those beside the default one, by id."""
        if self._generation != self._identity.generation:
            self._rooms.clear()
            self._generation = self._identity.generation
        generation = self._generation
        found = self._rooms.get(project_id)
        if found is None:
            async with self._database.read() as session:
                rows = (await session.exec(select(Workspace).where(Workspace.project_id == project_id))).all()
                query = select(WorkspaceUser).join(Workspace, col(Workspace.id) == WorkspaceUser.workspace_id)
                users = (await session.exec(query.where(Workspace.project_id == project_id))).all() if rows else ()
            found = {
                row.id: Room(
                    project_id,
                    row.id,
                    row.auth_type,
                    row.owner_id,
                    row.enterprise_project_id,
                    frozenset(u.user_id for u in users if u.workspace_id == row.id and row.auth_type == INTERNAL),
                )
                for row in rows
            }
            if generation == self._identity.generation:
                _remember(self._rooms, project_id, found)
        return found

    async def admit(self, call: Call, principal: Principal, project_id: str, named: str, *, guarded: bool) -> None:
        """Find out where a request takes place, and what is closed to it.

        :param named: the thing it is about, ``kind/id``, or ``*``.
        :param guarded: whether a permission is needed for its action; else only access to the workspace counts.
        :raises NotFound: it is about a thing in a workspace the caller may not enter.
        """
        rooms = await self.rooms(project_id)
        if not rooms:
            return
        default = Room(project_id)
        kind, _, id = named.partition("/")
        if not id:
            others = {room.enterprise_project_id for room in rooms.values()} - {default.enterprise_project_id}
            call.enterprise_projects = (default.enterprise_project_id, *sorted(others))
        else:
            place = id if kind == "workspace" else await self.of(project_id, id)
            call.enterprise_projects = (rooms.get(place, default).enterprise_project_id,)
        call.closed = await self._closed(call, principal, (default, *rooms.values()), guarded=guarded)
        if id and kind != "workspace" and isinstance(call.closed.get(place), Invalid):
            raise NotFound(f"there is no {kind} '{id}' in this project")

    async def enter(self, call: Call, project_id: str, workspace_id: str) -> None:
        """From here on the request is about things of one workspace only; it may ask so before it creates one.

        Raises Invalid when there is none such that the caller may enter, Forbidden without the permission there.
        """
        check_open(workspace_id)
        rooms = await self.rooms(project_id)
        if workspace_id != DEFAULT_WORKSPACE and workspace_id not in rooms:
            raise no_such(workspace_id)
        room = rooms.get(workspace_id, Room(project_id))
        call.enterprise_projects = (room.enterprise_project_id,)

    async def may_enter(self, principal: Principal, room: Room, source_ip: str | None) -> bool:
        """Its creator, those it lists and the administrators; everybody of the account where it is PUBLIC."""
        if principal.kind == "system" or room.opens_to(principal.user_id):
            return True
        context = await self._identity.conditions(principal, None, source_ip)
        resource = f"bottega:{self._plugins.owner(ADMINISTER)}:{PLATFORM}:*"
        return (await self._identity.decide(principal, None, ADMINISTER, resource, context)).allowed

    async def of(self, project_id: str, resource_id: str) -> str:
        """The workspace of a resource or workload, which never changes; the default one for anything else."""
        place = self._places.get(resource_id)
        if place is None:
            if not resource_id.isprintable():
                return DEFAULT_WORKSPACE
            row: Resource | Workload | None
            async with self._database.read() as session:
                row = await session.get(Resource, resource_id)
                row = row or await session.get(Workload, resource_id)
            if row is None:
                return DEFAULT_WORKSPACE
            place = (row.project_id, row.workspace_id)
            _remember(self._places, resource_id, place)
        return place[1] if place[0] == project_id else DEFAULT_WORKSPACE

    async def _closed(
        self, call: Call, principal: Principal, rooms: Collection[Room], *, guarded: bool
    ) -> dict[str, ApiError]:
        """Each workspace that is closed to a request, with what it is told when it tries."""
        closed: dict[str, ApiError] = {}
        decisions: dict[str, Decision] = {}
        for room in rooms:
            if not await self.may_enter(principal, room, call.source_ip):
                closed[room.id] = no_such(room.id)
            elif guarded and call.action and call.resource:
                scope = room.enterprise_project_id
                if scope not in decisions:
                    decisions[scope] = await self._decide(principal, room, call.action, call.resource, call.source_ip)
                if not decisions[scope].allowed:
                    closed[room.id] = Forbidden(
                        f"{call.action} in workspace '{room.id}' (enterprise project {scope}): "
                        f"{decisions[scope].explain()}"
                    )
        return closed

    async def _decide(
        self, principal: Principal, room: Room, action: str, resource: str, source_ip: str | None
    ) -> Decision:
        project = await self._identity.project(room.project_id)
        context = await self._identity.conditions(principal, project, source_ip)
        return await self._identity.decide(
            principal, room.project_id, action, resource, context, room.enterprise_project_id
        )


def check_open(workspace_id: str) -> None:
    """Raises what the request being served is told of a workspace that is closed to it."""
    call = current_call.get()
    if call and (refusal := call.closed.get(workspace_id)) is not None:
        raise refusal


def no_such(workspace_id: str) -> Invalid:
    """The same for one that is not there and for one that is closed: strangers learn nothing."""
    return Invalid(f"workspace_id: there is no workspace '{workspace_id}' in this project; '0' is the default one")


def _remember(cache: dict[str, Any], key: str, value: Any) -> None:
    if len(cache) >= _CACHE:
        cache.clear()
    cache[key] = value
