"""Which events someone may follow: by the type of an event, and by the workspace of the thing it is about.

The right is ``bottega:event:subscribe`` on ``bottega:<plugin>:<project>:event/<type>``, wherever events are read: over
NATS, over HTTP, by a webhook. A statement without resources allows all types.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bottega.context import Principal
from bottega.entities import Project
from bottega.errors import Forbidden, Invalid
from bottega.events import Envelope, Event
from bottega.plugins import Plugins
from bottega.urn import Urn
from bottega.workspaces import Room

if TYPE_CHECKING:
    from bottega.platform import Platform

SUBSCRIBE = "bottega:event:subscribe"
FOLLOW_LOGS = "bottega:log:subscribe"
_KEPT_S = 5.0


def event_types(plugins: Plugins) -> dict[str, type[Event]]:
    """What the core and the plugins that are on publish, by type."""
    from bottega.runtime import CORE_EVENTS  # it imports the routes, and they import this

    return {e.type: e for e in (*CORE_EVENTS, *(e for p in plugins.on() for e in p.events_out))}


class EventRights:
    """What `principal` may follow of one project.

    Decisions are kept until rights change, and for a few seconds at most: a condition may speak of the time.
    """

    def __init__(self, platform: Platform, principal: Principal, project: Project, source_ip: str | None = None):
        self._platform = platform
        self._principal = principal
        self._project = project
        self._source_ip = source_ip
        self._decided: dict[tuple[str, str, str], bool] = {}
        self._generation = -1
        self._until = 0.0

    async def sees(self, envelope: Envelope) -> bool:
        """Whether the principal may see this event now."""
        rooms = await self._platform.workspaces.rooms(self._project.id)
        if not rooms:
            return await self.sees_type(envelope.type)
        place = await workspace_of(self._platform, envelope)
        room = rooms.get(place, Room(self._project.id))
        if not await self._platform.workspaces.may_enter(self._principal, room, self._source_ip):
            return False
        return await self.sees_type(envelope.type, room.enterprise_project_id)

    async def sees_type(self, type: str, enterprise_project_id: str = "0") -> bool:
        """Whether events of a type may be seen, about things of workspaces bound to that enterprise project."""
        return await self._may(SUBSCRIBE, f"{type.partition('.')[0]}:{{}}:event/{type}", enterprise_project_id)

    async def types(self) -> list[str]:
        """The types that may be seen in some workspace at least, of those that are published here."""
        scopes = await self._scopes()
        known = event_types(self._platform.shared.plugins)
        return [t for t in sorted(known) if any([await self.sees_type(t, scope) for scope in scopes])]

    async def require_any(self) -> list[str]:
        """As `types`. Raises Forbidden when there is none."""
        found = await self.types()
        if not found:
            identity = self._platform.identity
            context = await identity.conditions(self._principal, self._project, self._source_ip)
            decision = await identity.decide(self._principal, self._project.id, SUBSCRIBE, "*", context)
            raise Forbidden(f"{SUBSCRIBE} on events of project '{self._project.id}': {decision.explain()}")
        return found

    async def subjects(self) -> list[str]:
        """What to subscribe to on NATS: the fewest subjects that hold nothing the principal may not see.

        Raises Forbidden when some workspace of the project is closed to the principal: subjects cannot be cut by
        workspace.
        """
        rooms = await self._platform.workspaces.rooms(self._project.id)
        for room in rooms.values():
            if not await self._platform.workspaces.may_enter(self._principal, room, self._source_ip):
                raise Forbidden(
                    "this project has workspaces that are closed to you, and NATS subjects cannot be cut by workspace; "
                    "use a webhook or GET /v1/{project_id}/events, which leave out what is closed"
                )
        by_plugin: dict[str, list[str]] = {p: [] for p in ("core", *self._platform.shared.plugins.all)}
        for type in sorted(event_types(self._platform.shared.plugins)):
            by_plugin[type.partition(".")[0]].append(type)
        found: list[str] = []
        complete = await self._everywhere("*:{}:event/*")
        for plugin, types in by_plugin.items():
            allowed = [t for t in types if await self._everywhere(f"{plugin}:{{}}:event/{t}")]
            if allowed == types and await self._everywhere(f"{plugin}:{{}}:event/{plugin}.*"):
                found.append(f"evt.{self._project.id}.{plugin}.>")
            else:
                complete = False
                found += [f"evt.{self._project.id}.{t}" for t in allowed]
        return [f"evt.{self._project.id}.>"] if complete else found

    async def follows_logs(self) -> bool:
        """Whether the principal may listen to the lines, metrics and progress of the project's workloads."""
        return await self._may(FOLLOW_LOGS, "core:{}:log/*", "0")

    async def _everywhere(self, resource: str) -> bool:
        return all([await self._may(SUBSCRIBE, resource, scope) for scope in await self._scopes()])

    async def _scopes(self) -> Sequence[str]:
        rooms = await self._platform.workspaces.rooms(self._project.id)
        return sorted({"0", *(room.enterprise_project_id for room in rooms.values())})

    async def _may(self, action: str, resource: str, enterprise_project_id: str) -> bool:
        identity = self._platform.identity
        if self._generation != identity.generation or time.monotonic() > self._until:
            self._decided.clear()
            self._generation, self._until = identity.generation, time.monotonic() + _KEPT_S
        key = (action, resource, enterprise_project_id)
        known = self._decided.get(key)
        if known is None:
            context = await identity.conditions(self._principal, self._project, self._source_ip)
            urn = f"bottega:{resource.format(self._project.id)}"
            decision = await identity.decide(
                self._principal, self._project.id, action, urn, context, enterprise_project_id
            )
            known = self._decided[key] = decision.allowed
        return known


async def workspace_of(platform: Platform, envelope: Envelope) -> str:
    """The workspace of the thing an event is about; the default one for what is in none.

    An event about a workload or a call belongs where the thing is that it is for.
    """
    about = [envelope.urn, envelope.data.get("resource_urn"), envelope.data.get("resource")]
    for text in about:
        try:
            urn = Urn.parse(text) if isinstance(text, str) else None
        except Invalid:
            continue
        if urn is not None and urn.project == envelope.project_id:
            place = await platform.workspaces.of(urn.project, urn.id)
            if place != "0":
                return place
    return "0"
