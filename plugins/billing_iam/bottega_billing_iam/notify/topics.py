"""Topics and who subscribed to them, as the vendor's Simple Message Notification has them."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from email.errors import HeaderParseError
from email.headerregistry import Address
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import delete, func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Resource
from bottega.errors import Conflict, Forbidden, Invalid, NotFound, QuotaExceeded
from bottega.platform import Platform
from bottega.urn import Urn

from .addresses import Addresses
from .topic_entities import CANCELLED, CONFIRMED, UNCONFIRMED, Dispatch, Subscription, Topic

PROTOCOLS = ("email", "http", "https")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,64}")
_TOKEN_LIFE_MS = 48 * 3_600_000
_ASK_AGAIN_MS = 60_000


def topic_urn(region: str, project_id: str, name: str) -> str:
    return f"urn:smn:{region}:{project_id}:{name}"


def subscription_urn(topic: Topic, subscription: Subscription) -> str:
    return f"{topic.urn}:{subscription.id}"


def resource_urn(topic: Topic) -> str:
    """The topic as policies, events and lineage see it."""
    return str(Urn("notify", topic.project_id, "topic", topic.id))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Topics:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    # -- topics --------------------------------------------------------------------------------------------------

    async def create(
        self, tx: Transaction, account_id: str, project_id: str, owner_id: str, fields: dict[str, Any]
    ) -> Topic:
        """Make a topic; one of that name that exists is answered as it is, as the vendor's service does.

        Raises QuotaExceeded when the account has as many as it may.
        """
        urn = topic_urn(self._platform.settings.region, project_id, fields["name"])
        existing = (await tx.session.exec(select(Topic).where(Topic.urn == urn))).first()
        if existing is not None:
            return existing
        resource = await self._platform.resources.create(
            tx, kind="topic", project_id=project_id, owner_id=owner_id, name=fields["name"]
        )
        topic = Topic(id=resource.id, urn=urn, account_id=account_id, project_id=project_id, **fields)
        tx.session.add(topic)
        await tx.session.flush()
        return topic

    async def get(self, session: AsyncSession, project_id: str, urn: str, *, lock: bool = False) -> Topic:
        """Raises NotFound when there is no such topic in this project."""
        query = select(Topic).where(Topic.urn == urn, Topic.project_id == project_id)
        topic = (await session.exec(query.with_for_update() if lock else query)).first()
        if topic is None:
            raise NotFound(f"there is no topic '{urn}' in this project")
        await self._platform.resources.get(session, "topic", project_id, topic.id)
        return topic

    async def find(
        self, session: AsyncSession, project_id: str, filters: dict[str, str | None], offset: int, limit: int
    ) -> tuple[int, Sequence[Topic]]:
        """One page, newest first, and how many match."""
        visible = self._platform.resources.visible(col(Resource.workspace_id))
        found: list[Any] = [Topic.project_id == project_id, visible]
        for name, column in (("name", Topic.name), ("topic_id", Topic.id), ("enterprise_project_id", None)):
            if filters.get(name):
                found.append((Topic.enterprise_project_id if column is None else column) == filters[name])
        for name, column in (("fuzzy_name", Topic.name), ("fuzzy_display_name", Topic.display_name)):
            if filters.get(name):
                found.append(col(column).contains(filters[name], autoescape=True))
        joined = select(Topic).join(Resource, col(Resource.id) == Topic.id).where(*found)
        total = (await session.exec(select(func.count()).select_from(joined.subquery()))).one()
        ordered = joined.order_by(col(Topic.created_at).desc(), col(Topic.id)).offset(offset).limit(limit)
        return total, (await session.exec(ordered)).all()

    async def delete(self, tx: Transaction, topic: Topic) -> None:
        """Take a topic away with its subscriptions and what is not yet delivered of it."""
        mine = select(Subscription.id).where(Subscription.topic_id == topic.id)
        await tx.session.execute(delete(Dispatch).where(col(Dispatch.subscription_id).in_(mine)))
        await tx.session.execute(delete(Subscription).where(col(Subscription.topic_id) == topic.id))
        resource = await self._platform.resources.get(tx.session, "topic", topic.project_id, topic.id)
        await tx.session.delete(topic)
        await self._platform.resources.delete(tx, resource)

    # -- subscriptions -------------------------------------------------------------------------------------------

    async def subscribe(
        self,
        tx: Transaction,
        topic: Topic,
        owner_id: str,
        protocol: str,
        endpoint: str,
        remark: str = "",
        headers: dict[str, str] | None = None,
    ) -> Subscription:
        """Ask an address whether it wants to hear a topic. It hears nothing but that question until it agrees.

        Asking again while it has not answered sends the question again, at most once a minute.
        Raises Conflict for an address asked a moment ago, QuotaExceeded. Whether `endpoint` may be reached at all is
        for `check_endpoint` to say first.
        """
        key = digest(endpoint.casefold() if protocol == "email" else endpoint)
        query = select(Subscription).where(
            Subscription.topic_id == topic.id, Subscription.protocol == protocol, Subscription.digest == key
        )
        found = (await tx.session.exec(query)).first()
        now = now_ms()
        if found is not None and found.status == CONFIRMED:
            return found
        if found is not None and found.status == UNCONFIRMED and now - found.asked_at < _ASK_AGAIN_MS:
            raise Conflict("this address was asked less than a minute ago; wait before asking it again")
        if found is None:
            counted = select(func.count()).select_from(Subscription).where(Subscription.topic_id == topic.id)
            maximum = self._platform.settings.subscriptions_per_topic
            if (await tx.session.exec(counted)).one() >= maximum:
                raise QuotaExceeded(f"the topic has {maximum} subscriptions, as many as it may; cancel one first")
            found = Subscription(
                topic_id=topic.id,
                project_id=topic.project_id,
                owner_id=owner_id,
                protocol=protocol,
                endpoint=b"",
                digest=key,
                remark=remark,
                headers=headers or {},
            )
            found.endpoint = self._platform.sealer.seal(endpoint, f"subscription:{found.id}")
        token = secrets.token_urlsafe(32)
        found.status, found.token_digest, found.asked_at, found.owner_id = UNCONFIRMED, digest(token), now, owner_id
        tx.session.add(found)
        await tx.session.flush()
        self._ask(tx, topic, found, endpoint, token)
        return found

    def endpoint(self, subscription: Subscription) -> str:
        return self._platform.sealer.unseal(subscription.endpoint, f"subscription:{subscription.id}")

    async def subscription(self, session: AsyncSession, project_id: str, urn: str) -> tuple[Topic, Subscription]:
        """Raises NotFound when there is no such subscription in this project."""
        subscription = await session.get(Subscription, urn.rpartition(":")[2])
        if subscription is None or subscription.project_id != project_id:
            raise NotFound(f"there is no subscription '{urn}' in this project")
        topic = await session.get(Topic, subscription.topic_id)
        assert topic is not None  # the subscription's foreign key
        if subscription_urn(topic, subscription) != urn:
            raise NotFound(f"there is no subscription '{urn}' in this project")
        return topic, subscription

    async def cancel(self, tx: Transaction, subscription: Subscription) -> None:
        await tx.session.execute(delete(Dispatch).where(col(Dispatch.subscription_id) == subscription.id))
        await tx.session.delete(subscription)

    async def confirm(self, tx: Transaction, urn: str, token: str) -> str:
        """The address agreed, by the token it was sent. Returns the subscription's URN.

        Raises Forbidden when the token is not the one sent last, or older than two days.
        """
        refused = Forbidden("the confirmation is not valid; ask for another one by subscribing again")
        topic = (await tx.session.exec(select(Topic).where(Topic.urn == urn))).first()
        if topic is None:
            raise refused
        query = select(Subscription).where(
            Subscription.topic_id == topic.id, Subscription.token_digest == digest(token)
        )
        subscription = (await tx.session.exec(query)).first()
        if subscription is None or now_ms() - subscription.asked_at > _TOKEN_LIFE_MS:
            raise refused
        if subscription.status == UNCONFIRMED:
            subscription.status = CONFIRMED
            tx.session.add(subscription)
        return subscription_urn(topic, subscription)

    async def unsubscribe(self, tx: Transaction, urn: str) -> None:
        """The address no longer wants to hear; whoever got a message has the URN. Twice is once."""
        subscription = await tx.session.get(Subscription, urn.rpartition(":")[2])
        topic = await tx.session.get(Topic, subscription.topic_id) if subscription else None
        if subscription is None or topic is None or subscription_urn(topic, subscription) != urn:
            raise NotFound("there is no such subscription")
        subscription.status, subscription.token_digest = CANCELLED, ""
        tx.session.add(subscription)
        await tx.session.execute(delete(Dispatch).where(col(Dispatch.subscription_id) == subscription.id))

    def _ask(self, tx: Transaction, topic: Topic, subscription: Subscription, endpoint: str, token: str) -> None:
        asked = urlencode({"topic_urn": topic.urn, "endpoint": endpoint, "token": token})
        url = f"{self._platform.url}/rest/v2/notifications/subscription/confirm?{asked}"
        name = topic.display_name or topic.name
        text = (
            f"You were asked to subscribe to '{name}'. To agree, open this address within 48 hours:\n\n{url}\n\n"
            "If you do not want that, do nothing: you will hear no more of it."
        )
        message_id = secrets.token_hex(16)
        tx.session.add(
            Dispatch(
                subscription_id=subscription.id,
                message_id=message_id,
                kind="SubscriptionConfirmation",
                subject=f"Subscribe to {name}?",
                # The link holds the token, so it is kept like a secret.
                text=self._platform.sealer.seal(text + "\0" + url, f"dispatch:{message_id}"),
                expires_at=now_ms() + _TOKEN_LIFE_MS,
            )
        )


_HOP_BY_HOP = {"host", "content-length", "content-type", "connection", "transfer-encoding", "te", "upgrade", "trailer"}


async def check_endpoint(addresses: Addresses, protocol: str, endpoint: str, headers: Mapping[str, str]) -> None:
    """Raises Invalid for a protocol not served here, an endpoint that is none of it or may not be reached."""
    if protocol not in PROTOCOLS:
        raise Invalid(f"protocol '{protocol}' is not served here; there are: {', '.join(PROTOCOLS)}")
    if protocol == "email":
        try:
            parsed = Address(addr_spec=endpoint)
        except (HeaderParseError, ValueError, IndexError) as e:
            raise Invalid(f"endpoint is not an e-mail address such as ops@example.com: {e}") from e
        if not parsed.username or not parsed.domain or len(endpoint) > 254 or not endpoint.isprintable():
            raise Invalid("endpoint is not an e-mail address such as ops@example.com")
        return
    if not endpoint.startswith(f"{protocol}://"):
        raise Invalid(f"endpoint must be an address that begins with {protocol}://")
    await addresses.check(endpoint, "endpoint")
    for name, value in headers.items():
        allowed = _HEADER.fullmatch(name) and name.lower() not in _HOP_BY_HOP and not name.lower().startswith("x-smn-")
        if not allowed or not value.isascii() or not value.isprintable():
            raise Invalid(f"extension.header: '{name}' cannot be sent along, or its value holds other than plain text")
