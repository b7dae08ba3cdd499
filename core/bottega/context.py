"""Who is acting and what caused it: set once at the edge, read by events, logs and audit, never passed by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated actor. `account_id` owns and pays, `user_id` acts (002 §10.1).

    `kind` is ``user``, ``workload`` (a program the platform runs for a user) or ``system``.
    `scope` is the project a token is limited to; None means every project of the account.
    `session_policy` is the text of a policy that limits this credential further; None means no limit.
    `agency_id` names the agency whose rights it has instead of the user's own; None means its own rights.
    `token_id` is the token it came with, so that it can be revoked; `issued_at` and `expires_at` (epoch ms) are when
    that begins and ends. `parents` are the tokens that one was made with, from one to the next, and `access_key` is
    the permanent key at the beginning of it all, where there is one: when any of them ends, so does this.
    """

    account_id: str
    user_id: str
    user_name: str
    kind: str = "user"
    is_account_root: bool = False
    scope: str | None = None
    workload_id: str | None = None
    session_policy: str | None = None
    agency_id: str | None = None
    token_id: str | None = None
    expires_at: int | None = None
    issued_at: int | None = None
    parents: tuple[str, ...] = ()
    access_key: str | None = None

    @property
    def actor(self) -> str:
        return f"{self.kind}:{self.user_id}"


SYSTEM = Principal(account_id="_", user_id="system", user_name="system", kind="system")


@dataclass(frozen=True, slots=True)
class Context:
    principal: Principal = SYSTEM
    request_id: str | None = None
    source_ip: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    traceparent: str | None = None


_current: ContextVar[Context] = ContextVar("bottega_context")
_DEFAULT = Context()


def current() -> Context:
    return _current.get(_DEFAULT)


@contextmanager
def acting(context: Context | None = None, **changes: object) -> Iterator[Context]:
    """Run a block under `context` (default: the present one) with some of its fields replaced."""
    entered = context or current()
    if changes:
        entered = replace(entered, **changes)  # type: ignore[arg-type]  # field names, checked at run time
    token = _current.set(entered)
    try:
        yield entered
    finally:
        _current.reset(token)


def act_as(principal: Principal) -> None:
    """From here to the end of the surrounding `acting` block, `principal` is the actor."""
    _current.set(replace(current(), principal=principal))


_moved_ms = 0


def now_ms() -> int:
    """Epoch milliseconds, the platform's unit of time (sdk_spec §1.6)."""
    return time.time_ns() // 1_000_000 + _moved_ms


def move_clock(by_ms: int) -> None:
    """Move `now_ms` of this process ahead of (or back to) the machine's clock, for tests of what takes days."""
    global _moved_ms
    _moved_ms += by_ms
