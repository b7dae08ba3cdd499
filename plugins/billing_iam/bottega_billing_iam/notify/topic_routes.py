"""Topics, publishing and templates, in the shapes of the vendor's Simple Message Notification."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Query
from sqlalchemy import func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.errors import Invalid, NotFound
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router, join

from .messages import Templates, deliver, tag_names, texts_of
from .topic_entities import Template, Topic
from .topic_requests import Attribute, ChangedTemplate, ChangedTopic, NewTemplate, NewTopic, Publication
from .topics import PROTOCOLS, Topics, resource_urn

TOPICS = "/v2/{project_id}/notifications/topics"
TEMPLATES = "/v2/{project_id}/notifications/message_template"
ATTRIBUTES = ("access_policy", "introduction")
_TOPIC = "topic/{topic_urn}"


def timestamp(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def topic_json(topic: Topic) -> dict[str, Any]:
    return {
        "topic_urn": topic.urn,
        "topic_id": topic.id,
        "name": topic.name,
        "display_name": topic.display_name,
        "push_policy": 0,
        "enterprise_project_id": topic.enterprise_project_id,
        "create_time": timestamp(topic.created_at),
        "update_time": timestamp(topic.updated_at),
    }


def template_json(template: Template) -> dict[str, Any]:
    return {
        "message_template_id": template.id,
        "message_template_name": template.name,
        "protocol": template.protocol,
        "tag_names": tag_names(template.content),
        "create_time": timestamp(template.created_at),
        "update_time": timestamp(template.updated_at),
    }


def attribute_name(name: str) -> str:
    """Raises NotFound for an attribute topics do not have."""
    if name not in ATTRIBUTES:
        raise NotFound(f"topics have no attribute '{name}'; there are: {', '.join(ATTRIBUTES)}")
    return name


def router(platform: Platform) -> APIRouter:
    return join(_topics(platform), _templates(platform))


def _topics(platform: Platform) -> APIRouter:
    router = Router()
    topics = Topics(platform)

    @router.post(TOPICS, status_code=201)
    async def create(body: NewTopic, caller: Caller = requires("smn:topic:create")) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            topic = await topics.create(
                tx, caller.principal.account_id, caller.project_id, caller.user_id, body.model_dump()
            )
            caller.about(resource=resource_urn(topic), name=topic.name)
        return {"request_id": caller.request_id, "topic_urn": topic.urn}

    @router.get(TOPICS)
    async def find(
        name: str | None = None,
        fuzzy_name: str | None = None,
        fuzzy_display_name: str | None = None,
        topic_id: str | None = None,
        enterprise_project_id: str | None = None,
        page: Page = paging(100, 100),
        caller: Caller = requires("smn:topic:list"),
    ) -> dict[str, Any]:
        filters = {
            "name": name,
            "fuzzy_name": fuzzy_name,
            "fuzzy_display_name": fuzzy_display_name,
            "topic_id": topic_id,
            "enterprise_project_id": enterprise_project_id,
        }
        async with platform.database.read() as session:
            total, rows = await topics.find(session, caller.project_id, filters, page.offset, page.limit)
        found = [topic_json(topic) for topic in rows]
        return {"request_id": caller.request_id, "topic_count": total, "topics": found}

    @router.get(TOPICS + "/{topic_urn}")
    async def show(topic_urn: str, caller: Caller = requires("smn:topic:get", _TOPIC)) -> dict[str, Any]:
        async with platform.database.read() as session:
            topic = await topics.get(session, caller.project_id, topic_urn)
        return {"request_id": caller.request_id, **topic_json(topic)}

    @router.put(TOPICS + "/{topic_urn}")
    async def change(
        topic_urn: str, body: ChangedTopic, caller: Caller = requires("smn:topic:update", _TOPIC)
    ) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            topic = await topics.get(tx.session, caller.project_id, topic_urn)
            topic.display_name, topic.updated_at = body.display_name, now_ms()
            tx.session.add(topic)
        return {"request_id": caller.request_id}

    @router.delete(TOPICS + "/{topic_urn}")
    async def delete(topic_urn: str, caller: Caller = requires("smn:topic:delete", _TOPIC)) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            await topics.delete(tx, await topics.get(tx.session, caller.project_id, topic_urn, lock=True))
        return {"request_id": caller.request_id}

    @router.get(TOPICS + "/{topic_urn}/attributes")
    async def attributes(
        topic_urn: str, name: str | None = None, caller: Caller = requires("smn:topic:get", _TOPIC)
    ) -> dict[str, Any]:
        async with platform.database.read() as session:
            topic = await topics.get(session, caller.project_id, topic_urn)
        wanted = ATTRIBUTES if name is None else (attribute_name(name),)
        times = {"create_time": timestamp(topic.created_at), "update_time": timestamp(topic.updated_at)}
        found = {one: getattr(topic, one) for one in wanted}
        return {"request_id": caller.request_id, "attributes": {**found, **times}}

    @router.put(TOPICS + "/{topic_urn}/attributes/{name}")
    async def set_attribute(
        topic_urn: str, name: str, body: Attribute, caller: Caller = requires("smn:topic:update", _TOPIC)
    ) -> dict[str, str]:
        """The introduction, or the access policy, which is kept as written: other accounts do not reach a topic."""
        if attribute_name(name) == "access_policy" and not _is_policy(body.value):
            raise Invalid("value is not a JSON object with a Version and a Statement list")
        return await _set(caller, topic_urn, {name: body.value})

    @router.delete(TOPICS + "/{topic_urn}/attributes/{name}")
    async def clear_attribute(
        topic_urn: str, name: str, caller: Caller = requires("smn:topic:update", _TOPIC)
    ) -> dict[str, str]:
        return await _set(caller, topic_urn, {attribute_name(name): ""})

    @router.delete(TOPICS + "/{topic_urn}/attributes")
    async def clear_attributes(topic_urn: str, caller: Caller = requires("smn:topic:update", _TOPIC)) -> dict[str, str]:
        return await _set(caller, topic_urn, dict.fromkeys(ATTRIBUTES, ""))

    async def _set(caller: Caller, urn: str, values: dict[str, str]) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            topic = await topics.get(tx.session, caller.project_id, urn)
            topic.sqlmodel_update({**values, "updated_at": now_ms()})
            tx.session.add(topic)
        return {"request_id": caller.request_id}

    @router.post(TOPICS + "/{topic_urn}/publish")
    async def publish(
        topic_urn: str, body: Publication, caller: Caller = requires("smn:topic:publish", _TOPIC)
    ) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            topic = await topics.get(tx.session, caller.project_id, topic_urn)
            texts = await texts_of(
                tx.session,
                caller.project_id,
                body.message,
                body.message_structure,
                body.message_template_name,
                body.tags,
            )
            life = int(body.time_to_live) if body.time_to_live else None
            message_id = await deliver(tx, platform.sealer, topic, body.subject, texts, body.attributes(), life)
        return {"request_id": caller.request_id, "message_id": message_id}

    @router.get("/v2/notifications/protocols")
    async def protocols(caller: Caller = requires("smn:protocol:list", everyone=True)) -> dict[str, Any]:
        return {"request_id": caller.request_id, "protocols": list(PROTOCOLS)}

    return router


def _templates(platform: Platform) -> APIRouter:
    router = Router()
    templates = Templates(platform)
    one = "template/{template_id}"

    @router.post(TEMPLATES, status_code=201)
    async def create(body: NewTemplate, caller: Caller = requires("smn:template:create")) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            made = await templates.create(
                tx, caller.project_id, body.message_template_name, body.protocol, body.content
            )
        return {"request_id": caller.request_id, "message_template_id": made.id}

    @router.get(TEMPLATES)
    async def find(
        message_template_name: str | None = None,
        protocol: str | None = Query(None),
        page: Page = paging(100, 100),
        caller: Caller = requires("smn:template:list"),
    ) -> dict[str, Any]:
        matching: list[Any] = [Template.project_id == caller.project_id]
        if message_template_name:
            matching.append(col(Template.name).contains(message_template_name, autoescape=True))
        if protocol:
            matching.append(Template.protocol == protocol)
        async with platform.database.read() as session:
            total = (await session.exec(select(func.count()).select_from(Template).where(*matching))).one()
            query = select(Template).where(*matching).order_by(col(Template.name), col(Template.protocol))
            rows = (await session.exec(query.offset(page.offset).limit(page.limit))).all()
        found = [template_json(template) for template in rows]
        return {"request_id": caller.request_id, "message_template_count": total, "message_templates": found}

    @router.get(TEMPLATES + "/{template_id}")
    async def show(template_id: str, caller: Caller = requires("smn:template:get", one)) -> dict[str, Any]:
        async with platform.database.read() as session:
            template = await templates.get(session, caller.project_id, template_id)
        return {"request_id": caller.request_id, **template_json(template), "content": template.content}

    @router.put(TEMPLATES + "/{template_id}")
    async def change(
        template_id: str, body: ChangedTemplate, caller: Caller = requires("smn:template:update", one)
    ) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            template = await templates.get(tx.session, caller.project_id, template_id)
            template.content, template.updated_at = body.content, now_ms()
            tx.session.add(template)
        return {"request_id": caller.request_id}

    @router.delete(TEMPLATES + "/{template_id}")
    async def delete(template_id: str, caller: Caller = requires("smn:template:delete", one)) -> dict[str, str]:
        async with platform.database.transaction() as tx:
            await tx.session.delete(await templates.get(tx.session, caller.project_id, template_id))
        return {"request_id": caller.request_id}

    return router


def _is_policy(text: str) -> bool:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "Version" in found and isinstance(found.get("Statement"), list)
