"""Subscriptions to topics: asking an address, its answer, filters, and leaving again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Query
from sqlalchemy import func
from sqlmodel import col, select

from bottega.database import AsyncSession, Transaction
from bottega.errors import ApiError, Conflict, Invalid
from bottega.gateway import Caller, Page, paging, public, requires
from bottega.platform import Platform
from bottega.routing import Router, join

from .addresses import Addresses
from .topic_entities import Subscription, Topic
from .topic_requests import (
    ChangedSubscription,
    Filters,
    NewSubscription,
    OneSubscription,
    SubscriptionUrns,
    WithoutFilters,
)
from .topic_routes import TOPICS
from .topics import Topics, check_endpoint, digest, resource_urn, subscription_urn

SUBSCRIPTIONS = "/v2/{project_id}/notifications/subscriptions"
_TOPIC = "topic/{topic_urn}"
_TOKEN = "the token that was sent to the address says who answers"  # noqa: S105  # words about a token
_LINK = "whoever got a message has its subscription's unguessable name"


def router(platform: Platform) -> APIRouter:
    # Filters come before the paths in which anything may stand in their place.
    return join(_filters(platform), _kept(platform), _answers(platform))


def _kept(platform: Platform) -> APIRouter:
    router = Router()
    topics = Topics(platform)
    addresses = Addresses(platform.settings.allowed_networks)

    def subscription_json(topic: Topic, subscription: Subscription) -> dict[str, Any]:
        return {
            "topic_urn": topic.urn,
            "subscription_urn": subscription_urn(topic, subscription),
            "protocol": subscription.protocol,
            "owner": subscription.project_id,
            "endpoint": topics.endpoint(subscription),
            "remark": subscription.remark,
            "status": subscription.status,
            "filter_polices": subscription.filters,
        }

    async def page_of(session: AsyncSession, matching: Sequence[Any], page: Page, request_id: str) -> dict[str, Any]:
        joined = select(Subscription, Topic).join(Topic, col(Topic.id) == Subscription.topic_id).where(*matching)
        count = select(func.count()).select_from(Subscription).where(*matching)
        total = (await session.exec(count)).one()
        ordered = joined.order_by(col(Subscription.created_at), col(Subscription.id))
        rows = (await session.exec(ordered.offset(page.offset).limit(page.limit))).all()
        found = [subscription_json(topic, subscription) for subscription, topic in rows]
        return {"request_id": request_id, "subscription_count": total, "subscriptions": found}

    @router.post(TOPICS + "/{topic_urn}/subscriptions", status_code=201)
    async def subscribe(
        topic_urn: str, body: NewSubscription, caller: Caller = requires("smn:topic:subscribe", _TOPIC)
    ) -> dict[str, Any]:
        """Ask one address, or several at once with an answer for each."""
        if body.subscriptions is None:
            if not body.protocol or not body.endpoint:
                raise Invalid("give protocol and endpoint, or subscriptions, a list of them")
            one = OneSubscription(
                protocol=body.protocol, endpoint=body.endpoint, remark=body.remark, extension=body.extension
            )
            urn = await ask(caller, topic_urn, one)
            return {"request_id": caller.request_id, "subscription_urn": urn}
        results = []
        for one in body.subscriptions:
            try:
                urn = await ask(caller, topic_urn, one)
                results.append({"endpoint": one.endpoint, "subscription_urn": urn, "code": "SMN.0000"})
            except ApiError as e:
                results.append({"endpoint": one.endpoint, "code": e.code, "message": e.message})
        return {"request_id": caller.request_id, "subscriptions_result": results}

    async def ask(caller: Caller, topic_urn: str, one: OneSubscription) -> str:
        if one.protocol == "email" and platform.smtp is None:
            raise Invalid("protocol 'email': this installation has no mail server ([smtp])")
        headers = one.extension.header if one.extension else {}
        await check_endpoint(addresses, one.protocol, one.endpoint, headers)
        async with platform.database.transaction() as tx:
            topic = await topics.get(tx.session, caller.project_id, topic_urn)
            subscription = await topics.subscribe(
                tx, topic, caller.user_id, one.protocol, one.endpoint, one.remark, headers
            )
            caller.about(resource=resource_urn(topic), name=topic.name)
        return subscription_urn(topic, subscription)

    @router.get(TOPICS + "/{topic_urn}/subscriptions")
    async def of_topic(
        topic_urn: str,
        fuzzy_remark: str | None = None,
        page: Page = paging(100, 100),
        caller: Caller = requires("smn:subscription:list", _TOPIC),
    ) -> dict[str, Any]:
        async with platform.database.read() as session:
            topic = await topics.get(session, caller.project_id, topic_urn)
            matching: list[Any] = [Subscription.topic_id == topic.id, *_remark(fuzzy_remark)]
            return await page_of(session, matching, page, caller.request_id)

    @router.get(SUBSCRIPTIONS)
    async def find(
        protocol: str | None = None,
        status: int | None = Query(None, ge=0, le=9),
        endpoint: str | None = None,
        fuzzy_remark: str | None = None,
        page: Page = paging(100, 100),
        caller: Caller = requires("smn:subscription:list"),
    ) -> dict[str, Any]:
        matching: list[Any] = [Subscription.project_id == caller.project_id, *_remark(fuzzy_remark)]
        if protocol:
            matching.append(Subscription.protocol == protocol)
        if status is not None:
            matching.append(Subscription.status == status)
        if endpoint:
            # Addresses are encrypted, so one is found by its digest: whole, not in part.
            matching.append(col(Subscription.digest).in_([digest(endpoint), digest(endpoint.casefold())]))
        async with platform.database.read() as session:
            return await page_of(session, matching, page, caller.request_id)

    @router.put(TOPICS + "/{topic_urn}/subscriptions/{subscription_urn}")
    async def change(
        topic_urn: str,
        subscription_urn: str,
        body: ChangedSubscription,
        caller: Caller = requires("smn:subscription:update", _TOPIC),
    ) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            _, subscription = await topics.subscription(tx.session, caller.project_id, subscription_urn)
            subscription.remark = body.remark
            tx.session.add(subscription)
        return {"request_id": caller.request_id}

    @router.delete(SUBSCRIPTIONS + "/{subscription_urn}")
    async def cancel(
        subscription_urn: str,
        caller: Caller = requires("smn:subscription:cancel", "subscription/{subscription_urn}"),
    ) -> dict[str, str]:
        await leave(caller, subscription_urn)
        return {"request_id": caller.request_id}

    @router.delete(TOPICS + "/{topic_urn}/subscriptions/{subscription_urn}")
    async def cancel_of_topic(
        topic_urn: str, subscription_urn: str, caller: Caller = requires("smn:subscription:cancel", _TOPIC)
    ) -> dict[str, str]:
        await leave(caller, subscription_urn, topic_urn)
        return {"request_id": caller.request_id}

    @router.delete(SUBSCRIPTIONS)
    async def cancel_many(
        body: SubscriptionUrns, caller: Caller = requires("smn:subscription:cancel")
    ) -> dict[str, Any]:
        return {"subscriptions_result": await _each(caller, body, None)}

    @router.delete(TOPICS + "/{topic_urn}/subscriptions")
    async def cancel_many_of_topic(
        topic_urn: str, body: SubscriptionUrns, caller: Caller = requires("smn:subscription:cancel", _TOPIC)
    ) -> dict[str, Any]:
        return {"subscriptions_result": await _each(caller, body, topic_urn)}

    async def leave(caller: Caller, urn: str, topic_urn: str | None = None) -> None:
        async with platform.database.transaction() as tx:
            topic, subscription = await topics.subscription(tx.session, caller.project_id, urn)
            if topic_urn is not None and topic.urn != topic_urn:
                raise Invalid(f"subscription '{urn}' is not one of topic '{topic_urn}'")
            await topics.cancel(tx, subscription)

    async def _each(caller: Caller, body: SubscriptionUrns, topic_urn: str | None) -> list[dict[str, Any]]:
        results = []
        for one in body.subscription_urns:
            result: dict[str, Any] = {"request_id": caller.request_id, "subscription_urn": one.subscription_urn}
            try:
                await leave(caller, one.subscription_urn, topic_urn)
                results.append({**result, "http_code": 200})
            except ApiError as e:
                results.append({**result, "http_code": e.status, "code": e.code, "message": e.message})
        return results

    return router


def _filters(platform: Platform) -> APIRouter:
    """Filters on the attributes of messages: a subscriber hears only those that have one of the values."""
    router = Router()
    topics = Topics(platform)
    path = SUBSCRIPTIONS + "/filter_polices"

    async def apply(tx: Transaction, caller: Caller, urn: str, filters: list[dict[str, Any]], has: bool | None) -> None:
        _, subscription = await topics.subscription(tx.session, caller.project_id, urn)
        if has is not None and bool(subscription.filters) is not has:
            raise Conflict(f"subscription '{urn}' has {'a filter already' if not has else 'no filter yet'}")
        subscription.filters = filters
        tx.session.add(subscription)

    async def each(caller: Caller, wanted: dict[str, list[dict[str, Any]]], has: bool | None) -> dict[str, Any]:
        results = []
        for urn, filters in wanted.items():
            try:
                async with platform.database.transaction() as tx:
                    await apply(tx, caller, urn, filters, has)
                results.append({"subscription_urn": urn, "code": "SMN.0000", "message": "ok"})
            except ApiError as e:
                results.append({"subscription_urn": urn, "code": e.code, "message": e.message})
        return {"request_id": caller.request_id, "batch_result": results}

    def wanted(body: Filters) -> dict[str, list[dict[str, Any]]]:
        return {one.subscription_urn: [f.model_dump() for f in one.filter_polices] for one in body.polices}

    @router.post(path, status_code=201)
    async def create(body: Filters, caller: Caller = requires("smn:subscription:update")) -> dict[str, Any]:
        return await each(caller, wanted(body), has=False)

    @router.put(path)
    async def change(body: Filters, caller: Caller = requires("smn:subscription:update")) -> dict[str, Any]:
        return await each(caller, wanted(body), has=True)

    @router.delete(path)
    async def remove(body: WithoutFilters, caller: Caller = requires("smn:subscription:update")) -> dict[str, Any]:
        return await each(caller, {urn: [] for urn in body.subscription_urns}, has=None)

    return router


def _answers(platform: Platform) -> APIRouter:
    """What the links in messages open. They change something by GET, because an e-mail program can do no more."""
    router = Router()
    topics = Topics(platform)

    @router.get("/rest/v2/notifications/subscription/confirm")
    @router.get("/v2/notifications/subscriptions/subscribe")
    async def confirm(
        topic_urn: str,
        token: str,
        endpoint: str = "",
        call: Any = public(_TOKEN, "smn:subscription:confirm"),
    ) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            urn = await topics.confirm(tx, topic_urn, token)
        return {"request_id": call.request_id, "subscription_urn": urn}

    @router.get("/rest/v2/notifications/subscription/unsubscribe")
    @router.get("/v2/notifications/subscriptions/unsubscribe")
    async def unsubscribe(
        subscription_urn: str, call: Any = public(_LINK, "smn:subscription:cancel")
    ) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            await topics.unsubscribe(tx, subscription_urn)
        return {"request_id": call.request_id, "message": "you will hear no more of this topic"}

    return router


def _remark(text: str | None) -> list[Any]:
    return [col(Subscription.remark).contains(text, autoescape=True)] if text else []
