"""One attempt at one event: may its owner see it, is it taken, and when is it tried again."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from bottega.context import now_ms
from bottega.event_rights import EventRights
from bottega.events import Envelope
from bottega.platform import Platform
from bottega_billing_iam.notify.http import Client, NotSent

from . import signing
from .deliveries import DEAD, DELIVERED, FAILED, TEST, WITHHELD, Outcome
from .entities import Webhook, WebhookDelivery
from .registry import Hook

_FIRST_MS, _LONGEST_MS = 5_000, 3_600_000
_LONGEST_HOLD_MS = 86_400_000
_ASKS_FOR_TIME = (429, 503)


@dataclass(frozen=True, slots=True)
class Sent:
    """An attempt, when the event may be tried again, and how long the receiver asked to be left alone (ms)."""

    outcome: Outcome
    again_ms: int = 0
    hold_ms: int = 0


class Sender:
    def __init__(self, platform: Platform, client: Client) -> None:
        self._platform = platform
        self._client = client
        self._rights: dict[tuple[str, str], EventRights] = {}

    async def send(self, hook: Hook, row: WebhookDelivery) -> Sent:
        """Raises Unauthenticated or Forbidden when the owner of the webhook is gone, disabled or shut out."""
        attempt = row.attempts + 1
        if not await self._may_see(hook.row, Envelope.decode(row.payload)):
            reason = "not sent: the owner of this webhook may not see such events"
            return Sent(Outcome(row, WITHHELD, now_ms(), attempt, answer=reason))
        status, latency_ms, answer, retry_after = await self._post(hook, row.event_id, row.payload)
        if status is not None and 200 <= status < 300:
            return Sent(Outcome(row, DELIVERED, now_ms(), attempt, status, latency_ms, answer))
        return self.failed(row, answer, status, latency_ms, retry_after)

    def failed(
        self,
        row: WebhookDelivery,
        answer: str,
        status: int | None = None,
        latency_ms: float | None = None,
        retry_after: str | None = None,
    ) -> Sent:
        """What follows from an attempt that was not taken."""
        settings, now, attempt = self._platform.settings, now_ms(), row.attempts + 1
        last = attempt >= settings.webhook_attempts or now - row.since >= settings.webhook_max_age_h * 3_600_000
        outcome = Outcome(row, DEAD if last else FAILED, now, attempt, status, latency_ms, answer)
        hold_ms = min(_LONGEST_HOLD_MS, _wait_ms(retry_after)) if status in _ASKS_FOR_TIME else 0
        backoff = min(_LONGEST_MS, _FIRST_MS * 2 ** min(attempt - 1, 20)) * random.uniform(0.75, 1.25)  # noqa: S311  # spreads retries, guards nothing
        return Sent(outcome, max(round(backoff), hold_ms), hold_ms)

    async def test(self, hook: Hook, envelope: Envelope) -> Outcome:
        """Send an event now, whatever waits, and never again."""
        payload = envelope.encode()
        row = WebhookDelivery(
            webhook_id=hook.id,
            event_id=envelope.id,
            lane_id="",
            sequence=0,
            type=envelope.type,
            urn=envelope.urn,
            payload=payload,
            since=now_ms(),
        )
        status, latency_ms, answer, _ = await self._post(hook, envelope.id, payload)
        return Outcome(row, TEST, now_ms(), 1, status, latency_ms, answer)

    async def _post(self, hook: Hook, event_id: str, body: bytes) -> tuple[int | None, float, str, str | None]:
        now = now_ms()
        if not hook.secrets:
            return None, 0.0, "not sent: the secret of this webhook cannot be read; rotate it", None
        secrets = hook.secrets if now < hook.row.previous_until else hook.secrets[:1]
        headers = [
            ("Content-Type", "application/cloudevents+json; charset=utf-8"),
            ("User-Agent", "Bottega-Webhooks/1"),
            *signing.headers(event_id, now // 1000, body, secrets),
        ]
        began = time.perf_counter()
        try:
            answer = await self._client.post(hook.url, headers, body)
        except NotSent as e:
            return None, _ms_since(began), str(e), None
        return answer.status, _ms_since(began), answer.excerpt, answer.retry_after

    async def _may_see(self, row: Webhook, envelope: Envelope) -> bool:
        identity = self._platform.identity
        principal = await identity.principal(row.owner_id)
        project = await identity.check_project(principal, row.project_id)
        key = (row.owner_id, row.project_id)
        rights = self._rights.get(key)
        if rights is None:
            rights = self._rights[key] = EventRights(self._platform, principal, project)
        return await rights.sees(envelope)


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)


def _wait_ms(retry_after: str | None) -> int:
    """Of a ``Retry-After``: seconds, or a date; 0 for none that can be understood."""
    if not retry_after:
        return 0
    if retry_after.isdecimal():
        return int(retry_after[:9]) * 1000
    try:
        return max(0, round(parsedate_to_datetime(retry_after).timestamp() * 1000) - now_ms())
    except (ValueError, OverflowError):
        return 0
