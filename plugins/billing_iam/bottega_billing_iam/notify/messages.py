"""What is published to a topic: its text for each protocol, and one dispatch for each subscriber who wants it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlmodel import select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Project
from bottega.errors import Conflict, Invalid, NotFound
from bottega.events import Received
from bottega.notifications import NotificationRequested
from bottega.platform import Platform
from bottega.sealing import Sealer

from .topic_entities import CONFIRMED, Dispatch, Subscription, Template, Topic
from .topics import PROTOCOLS

log = structlog.get_logger("bottega.notify")
MAX_MESSAGE, MAX_SUBJECT = 256 * 1024, 512
TAG = re.compile(r"\{([A-Za-z0-9_.-]{1,32})\}")


async def deliver(
    tx: Transaction,
    sealer: Sealer,
    topic: Topic,
    subject: str,
    texts: Mapping[str, str],
    attributes: Mapping[str, Any] | None = None,
    time_to_live_s: int | None = None,
    message_id: str | None = None,
) -> str:
    """Line a message up for all who hear `topic` and want it. Returns its id.

    `texts` maps a protocol to its text; ``default`` is for those without one. Subscriptions whose filters
    `attributes` do not meet are left out.
    """
    message_id = message_id or secrets.token_hex(16)
    query = select(Subscription).where(Subscription.topic_id == topic.id, Subscription.status == CONFIRMED)
    now = now_ms()
    for subscription in (await tx.session.exec(query)).all():
        text = texts.get(subscription.protocol, texts.get("default"))
        if text is None or not _wanted(subscription.filters, attributes or {}):
            continue
        tx.session.add(
            Dispatch(
                subscription_id=subscription.id,
                message_id=message_id,
                subject=subject,
                text=sealer.seal(text, f"dispatch:{message_id}"),
                expires_at=now + time_to_live_s * 1000 if time_to_live_s else None,
            )
        )
    return message_id


def _wanted(filters: Sequence[Mapping[str, Any]], attributes: Mapping[str, Any]) -> bool:
    """Whether the message's attributes meet every filter of a subscription."""
    for one in filters:
        value = attributes.get(one["name"])
        values = value if isinstance(value, list) else [value]
        if not set(values) & set(one["string_equals"]):
            return False
    return True


async def texts_of(
    session: AsyncSession,
    project_id: str,
    message: str | None,
    structure: str | None,
    template: str | None,
    tags: Mapping[str, str],
) -> dict[str, str]:
    """The text for each protocol, from exactly one of a message, a structure of them, and a template.

    Raises Invalid, NotFound for a template that is not there.
    """
    given = [name for name, value in _named(message, structure, template) if value is not None]
    if len(given) != 1:
        raise Invalid(
            f"give exactly one of message, message_structure and message_template_name, not {len(given)}: {given}"
        )
    if template is not None:
        return await _filled(session, project_id, template, tags)
    texts = {"default": message} if message is not None else _structure(structure or "")
    for protocol, text in texts.items():
        if not text:
            raise Invalid(f"the message for {protocol} is empty")
        if len(text.encode("utf-8", "surrogatepass")) > MAX_MESSAGE:
            raise Invalid(f"the message for {protocol} is larger than {MAX_MESSAGE // 1024} KB")
    return texts


def _named(message: str | None, structure: str | None, template: str | None) -> list[tuple[str, str | None]]:
    return [("message", message), ("message_structure", structure), ("message_template_name", template)]


def _structure(text: str) -> dict[str, str]:
    right = 'write {"default": "…", "email": "…"}'
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise Invalid(f"message_structure is not JSON: {e}; {right}") from e
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Invalid(f"message_structure must map protocols to texts: {right}")
    if "default" not in found:
        raise Invalid(f"message_structure has no text for 'default': {right}")
    return found


async def _filled(session: AsyncSession, project_id: str, name: str, tags: Mapping[str, str]) -> dict[str, str]:
    query = select(Template).where(Template.project_id == project_id, Template.name == name)
    found = (await session.exec(query)).all()
    if not found:
        raise NotFound(f"there is no message template '{name}' in this project")
    return {t.protocol: TAG.sub(lambda m: tags.get(m[1], m[0]), t.content) for t in found}


class Templates:
    """The message templates of a project; one name has a text for ``default`` and may have one for each protocol."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def get(self, session: AsyncSession, project_id: str, template_id: str) -> Template:
        template = await session.get(Template, template_id)
        if template is None or template.project_id != project_id:
            raise NotFound(f"there is no message template '{template_id}' in this project")
        return template

    async def create(self, tx: Transaction, project_id: str, name: str, protocol: str, content: str) -> Template:
        """Raises Invalid for an unknown protocol, Conflict when name and protocol have a text already."""
        if protocol not in ("default", *PROTOCOLS):
            raise Invalid(f"protocol '{protocol}' is not served here; there are: default, {', '.join(PROTOCOLS)}")
        mine = select(Template).where(Template.project_id == project_id, Template.name == name)
        have = {template.protocol for template in (await tx.session.exec(mine)).all()}
        if protocol in have:
            raise Conflict(f"template '{name}' has a text for '{protocol}' already; change that one")
        if protocol != "default" and "default" not in have:
            raise Invalid(f"template '{name}' has no text for 'default' yet; make that one first")
        template = Template(project_id=project_id, name=name, protocol=protocol, content=content)
        tx.session.add(template)
        return template


def tag_names(content: str) -> list[str]:
    return list(dict.fromkeys(TAG.findall(content)))


def on_requested(platform: Platform) -> Any:
    """What to do when a part of the platform asks for a message to a topic."""

    async def handle(received: Received[NotificationRequested], tx: Transaction) -> None:
        event = received.event
        topic = (await tx.session.exec(select(Topic).where(Topic.urn == event.topic_urn))).first()
        project = await tx.session.get(Project, received.project_id)
        if topic is None or project is None or project.account_id != topic.account_id:
            # Whoever named the topic may name any; nobody reaches the topics of another account.
            log.warning("no such topic", topic=event.topic_urn, about=received.urn)
            return
        subject = event.subject[:MAX_SUBJECT]
        texts = {"default": event.message}
        await deliver(tx, platform.sealer, topic, subject, texts, message_id=received.envelope.id)

    return handle
