"""What the questions about money have in common: whose, and of when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import Depends, Query

from bottega.errors import Invalid
from bottega.gateway import Caller

from .bill import Scope

VIEW = "bss:bill:view"
_MS = timedelta(milliseconds=1)
LAST = 253_402_300_800_000
"""The end of the year 9999, epoch ms: what lies beyond cannot be written as a date."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The query parameters as they came."""

    start: str | None
    end: str | None
    whole: bool
    workspace_id: str | None
    user_id: str | None
    tag: str | None

    def period(self, now: int) -> tuple[int, int]:
        """From and to, epoch ms; the month so far when neither is given. Raises Invalid."""
        begin = moment("from", self.start) if self.start else month_of(now)
        end = moment("to", self.end) if self.end else now
        if end < begin:
            raise Invalid("to: lies before from")
        return begin, end

    async def scope(self, caller: Caller, action: str = VIEW) -> Scope:
        """What is asked for. Raises Forbidden when the whole account is, and only the project may be seen."""
        key, separator, value = (self.tag or "").partition(":")
        if self.tag is not None and not (key and separator):
            raise Invalid(f"tag: '{self.tag[:80]}' is not key:value")
        tag = (key, value) if self.tag else None
        if self.whole:
            account_id = await caller.check_account(action)
            return Scope(account_id, None, self.workspace_id, self.user_id, tag)
        project = caller.call.project
        account_id = project.account_id if project else caller.principal.account_id
        return Scope(account_id, caller.project_id, self.workspace_id, self.user_id, tag)


def asking() -> Any:
    """The query parameters ``from``, ``to``, ``scope``, ``workspace_id``, ``user_id`` and ``tag``."""

    def read(
        start: Annotated[str | None, Query(alias="from")] = None,
        end: Annotated[str | None, Query(alias="to")] = None,
        scope: Literal["project", "account"] = "project",
        workspace_id: str | None = None,
        user_id: str | None = None,
        tag: str | None = None,
    ) -> Asked:
        return Asked(start, end, scope == "account", workspace_id, user_id, tag)

    return Depends(read)


def moment(what: str, text: str) -> int:
    """Epoch ms of epoch ms or of a date and time in ISO 8601 (UTC when it says nothing). Raises Invalid."""
    if text.isascii() and text.isdecimal() and len(text) <= 15:
        at = int(text)
    else:
        try:
            parsed = datetime.fromisoformat(text)
        except ValueError:
            raise Invalid(
                f"{what}: {text[:80]!r} is neither epoch milliseconds nor a date such as 2026-01-31"
            ) from None
        aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        at = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // _MS
    if not 0 <= at < LAST:
        raise Invalid(f"{what}: {text[:80]!r} lies outside of the years 1970 to 9999")
    return at


def month_of(at: int) -> int:
    """The beginning of the month, UTC."""
    day = datetime.fromtimestamp(at / 1000, UTC)
    return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp() * 1000)


def month_after(at: int, months: int = 1) -> int:
    """The same time of day so many months later; the last day of a month that is shorter."""
    day = datetime.fromtimestamp(at / 1000, UTC)
    index = day.year * 12 + day.month - 1 + months
    first = datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)
    following = datetime((index + 1) // 12, (index + 1) % 12 + 1, 1, tzinfo=UTC)
    since = day - datetime(day.year, day.month, 1, tzinfo=UTC)
    longest = (following - first).days - 1
    if since.days > longest:
        since = timedelta(days=longest, seconds=since.seconds, microseconds=since.microseconds)
    return int(first.timestamp() * 1000) + since // _MS
