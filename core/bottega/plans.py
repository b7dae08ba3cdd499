"""What a request to create something will need and use over its whole life, told before anything is made.

One description serves three: the creation itself checks it (`Caller.require`), ``POST <path>/preflight`` answers it
without creating, and ``POST <path>/quote`` prices it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

from bottega.objects import ObjectPath

if TYPE_CHECKING:
    from bottega.gateway import Caller


@dataclass(frozen=True, slots=True)
class Use:
    """What will be used until it ends: `count` machines of a flavor for a kind of workload, or as many GB of a disk."""

    kind: str
    flavor: str
    count: int = 1
    measure: Literal["node", "gb"] = "node"


@dataclass(frozen=True, slots=True)
class Need:
    """A permission that must hold, and what for. `by`: the caller's own, or of the agency that acts for it."""

    action: str
    resource: str
    why: str
    by: Literal["caller", "agency"] = "caller"

    @classmethod
    def path(cls, path: ObjectPath, why: str, *, write: bool = False) -> tuple[Need, Need]:
        """Reading or writing an object path takes the right twice: the caller's, and the agency's that will do it."""
        action = "obs:object:PutObject" if write else "obs:object:GetObject"
        return cls(action, path.urn, why), cls(action, path.urn, why, "agency")

    @property
    def bucket(self) -> str | None:
        """The bucket this is about; None for what is not in the object store."""
        stored = self.resource.startswith(("obs:::object:", "obs:::bucket:"))
        return self.resource.split(":", 4)[4].partition("/")[0] if stored else None

    @property
    def topic_project(self) -> str | None:
        """The project of the topic this is about (``urn:smn:<region>:<project>:<name>``); None for what is none."""
        parts = self.resource.split(":")
        return parts[3] if parts[:2] == ["urn", "smn"] and len(parts) == 5 else None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request will use and need, and the workspace its things will be made in (None: the default one)."""

    uses: tuple[Use, ...] = ()
    needs: tuple[Need, ...] = ()
    workspace_id: str | None = None


@dataclass(frozen=True, slots=True)
class Planner:
    """How a plugin foresees the requests of one of its creating routes.

    `path` and `action` are those of the route, `body` the model of its request. `plan` raises what the creation
    itself would raise for a malformed request; it changes nothing.
    """

    path: str
    action: str
    body: type[BaseModel]
    plan: Callable[[Caller, Any], Awaitable[Plan]]
