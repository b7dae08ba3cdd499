"""Getting messages to their subscribers: claimed, sent, and taken off the list; tried again when that fails.

Each is sent at least once. A process that dies between sending and noting it sends it once more.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx
import orjson
import structlog
from sqlalchemy import delete, update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from bottega import mail
from bottega.context import now_ms
from bottega.platform import Platform

from .addresses import Addresses
from .http import Client
from .topic_entities import CANCELLED, CONFIRMED, Dispatch, Subscription, Topic
from .topics import Topics, subscription_urn

log = structlog.get_logger("bottega.notify")
_LEASE_MS, _IDLE_S, _TIMEOUT_S = 60_000, 1.0, 15.0
_AT_ONCE, _AT_ONCE_EACH = 128, 4
"""Messages on their way at a time, in all and to one subscriber: a slow one holds up nobody but itself."""
_FIRST_PAUSE_MS, _LONGEST_PAUSE_MS = 5_000, 3_600_000
_KEEP_FAILED_MS = 7 * 86_400_000


class _NotTaken(Exception):
    """The subscriber did not take a message."""


class Dispatcher:
    def __init__(self, platform: Platform, http: Client) -> None:
        self._platform = platform
        self._topics = Topics(platform)
        self._http = http
        self._busy: Counter[str] = Counter()
        """Messages on their way, by subscription."""
        self._freed = anyio.Event()

    async def run(self) -> None:
        """Send what is due until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                self._freed = anyio.Event()
                try:
                    claimed = await self._claim()
                except Exception:  # a database that is away comes back; nothing due is lost meanwhile
                    log.warning("no messages sent", exc_info=True)
                    claimed = []
                for dispatch in claimed:
                    self._busy[dispatch.subscription_id] += 1
                    tasks.start_soon(self._work, dispatch)
                if not claimed:
                    with anyio.move_on_after(_IDLE_S):
                        await self._freed.wait()

    async def _work(self, dispatch: Dispatch) -> None:
        try:
            await self._deliver(dispatch)
        except Exception:
            log.warning("message not settled", message=dispatch.message_id, exc_info=True)
        finally:
            self._busy -= Counter([dispatch.subscription_id])
            self._freed.set()

    async def _claim(self) -> list[Dispatch]:
        """Take what is due, for as long as sending may last; another process then leaves it alone."""
        now, room = now_ms(), _AT_ONCE - self._busy.total()
        full = [subscription for subscription, busy in self._busy.items() if busy >= _AT_ONCE_EACH]
        if room <= 0:
            return []
        async with self._platform.database.read() as session:
            due = select(Dispatch).where(col(Dispatch.failed).is_(False), Dispatch.due_at <= now)
            due = due.where(col(Dispatch.subscription_id).not_in(full)).order_by(col(Dispatch.due_at)).limit(room)
            found, taken = [], Counter(self._busy)
            for dispatch in (await session.exec(due)).all():
                taken[dispatch.subscription_id] += 1
                if taken[dispatch.subscription_id] <= _AT_ONCE_EACH:
                    found.append(dispatch)
        if not found:
            return []
        mine = []
        async with self._platform.database.transaction() as tx:
            for dispatch in found:
                claim = (
                    update(Dispatch)
                    .where(col(Dispatch.id) == dispatch.id, col(Dispatch.due_at) == dispatch.due_at)
                    .values(due_at=now + _LEASE_MS, attempts=dispatch.attempts + 1)
                )
                result: Any = await tx.session.execute(claim)
                if result.rowcount:
                    mine.append(dispatch)
            old = (col(Dispatch.failed), col(Dispatch.created_at) < now - _KEEP_FAILED_MS)
            await tx.session.execute(delete(Dispatch).where(*old))
        return mine

    async def _deliver(self, dispatch: Dispatch) -> None:
        async with self._platform.database.read() as session:
            subscription = await session.get(Subscription, dispatch.subscription_id)
            topic = await session.get(Topic, subscription.topic_id) if subscription else None
        wanted = subscription is not None and subscription.status != CANCELLED
        wanted = wanted and (dispatch.kind != "Notification" or subscription.status == CONFIRMED)  # type: ignore[union-attr]  # wanted
        if subscription is None or topic is None or not wanted or _expired(dispatch):
            await self._settle(dispatch)
            return
        try:
            await self._send(topic, subscription, dispatch)
        except SQLAlchemyError:
            raise  # no fault of the message: its lease runs out
        except Exception as e:  # whatever one message meets, it is tried again or given up, and the others go on
            await self._again(dispatch, str(e) or type(e).__name__)
        else:
            await self._settle(dispatch)

    async def _send(self, topic: Topic, subscription: Subscription, dispatch: Dispatch) -> None:
        endpoint = self._topics.endpoint(subscription)
        text = self._platform.sealer.unseal(dispatch.text, f"dispatch:{dispatch.message_id}")
        text, _, confirm_url = text.partition("\0")
        leave = f"{self._platform.url}/rest/v2/notifications/subscription/unsubscribe?subscription_urn="
        leave += subscription_urn(topic, subscription)
        if subscription.protocol == "email":
            smtp = self._platform.smtp
            if smtp is None:
                raise _NotTaken("no mail server is configured ([smtp])")
            footer = "" if confirm_url else f"\n\n--\nTo hear no more of '{topic.name}': {leave}\n"
            await mail.send(smtp, endpoint, dispatch.subject, text + footer, dispatch.message_id)
            return
        body: dict[str, Any] = {
            "type": dispatch.kind,
            "message_id": dispatch.message_id,
            "topic_urn": topic.urn,
            "timestamp": datetime.fromtimestamp(dispatch.created_at / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "subject": dispatch.subject,
            "message": text,
        }
        body |= {"subscribe_url": confirm_url} if confirm_url else {"unsubscribe_url": leave}
        headers = {
            **subscription.headers,
            "Content-Type": "application/json; charset=utf-8",
            "X-SMN-MESSAGE-TYPE": dispatch.kind,
            "X-SMN-MESSAGE-ID": dispatch.message_id,
            "X-SMN-TOPIC-URN": topic.urn,
            "X-SMN-SUBSCRIPTION-URN": subscription_urn(topic, subscription),
        }
        answer = await self._http.post(httpx.URL(endpoint), list(headers.items()), orjson.dumps(body))
        if not 200 <= answer.status < 300:
            raise _NotTaken(f"the endpoint answered {answer.status}")

    async def _settle(self, dispatch: Dispatch) -> None:
        async with self._platform.database.transaction() as tx:
            await tx.session.execute(delete(Dispatch).where(col(Dispatch.id) == dispatch.id))

    async def _again(self, dispatch: Dispatch, why: str) -> None:
        attempts = dispatch.attempts + 1
        given_up = attempts >= self._platform.settings.message_attempts
        pause = min(_FIRST_PAUSE_MS * 4 ** (attempts - 1), _LONGEST_PAUSE_MS)
        pause = round(pause * random.uniform(0.8, 1.2))  # noqa: S311  # spreads retries, guards nothing
        log.warning("message not taken", message=dispatch.message_id, attempts=attempts, given_up=given_up, why=why)
        async with self._platform.database.transaction() as tx:
            await tx.session.execute(
                update(Dispatch)
                .where(col(Dispatch.id) == dispatch.id)
                .values(failed=given_up, error=why[:500], due_at=now_ms() + pause)
            )


def _expired(dispatch: Dispatch) -> bool:
    return dispatch.expires_at is not None and dispatch.expires_at <= now_ms()


@asynccontextmanager
async def dispatching(platform: Platform) -> AsyncIterator[None]:
    """Deliver messages as long as the block lasts."""
    http = Client(Addresses(platform.settings.allowed_networks), _TIMEOUT_S)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Dispatcher(platform, http).run)
            yield
            tasks.cancel_scope.cancel()
    finally:
        http.close()
