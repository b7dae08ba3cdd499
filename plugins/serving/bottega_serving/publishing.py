"""Feeding the data planes: routes and callers into the key-value bucket, reports out of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import nats.errors
import orjson
import structlog
from nats.js.errors import KeyNotFoundError
from sqlmodel import col, select

from bottega.backends import WorkloadFinished
from bottega.entities import Credential, Group, GroupMember, Policy, PolicyGrant, Resource, User
from bottega.errors import ApiError, Unauthenticated
from bottega.events import Received
from bottega.iam import PolicyDocument, compile_policies, parse_policy
from bottega.iam_conditions import ENTERPRISE_PROJECT, RESOURCE_TAG
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.workspaces import Room
from bottega_serving.entities import Model, Service
from bottega_serving.events import ServiceChanged, ServiceDeleted
from bottega_serving.feed_keys import ACTION, BUCKET, CALLERS, REPORT, ROUTE, key
from bottega_serving.lifecycle import Lifecycle
from bottega_serving.runtimes import Runtimes
from bottega_serving.services import LIVE, service_urn

log = structlog.get_logger("bottega.serving.publishing")
_URL_LIFE_S = 86_400
_LOOSE_DOCUMENT = {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": [ACTION]}]}
_LOOSE = parse_policy(_LOOSE_DOCUMENT, "loose authorization")
_IDENTITY_EVERY_S = 0.2


class Publisher:
    """Writes what data planes need. Everything can be written again at any time: the content is the whole truth."""

    def __init__(self, platform: Platform, runtimes: Runtimes, lifecycle: Lifecycle) -> None:
        self._platform = platform
        self._runtimes = runtimes
        self._lifecycle = lifecycle
        self._taken: dict[str, bytes] = {}

    async def changed(self, received: Received[ServiceChanged]) -> None:
        await self.publish(received.event.service_id)

    async def deleted(self, received: Received[ServiceDeleted]) -> None:
        bucket = await self._platform.bus.kv(BUCKET)
        for name in (ROUTE, CALLERS, REPORT):
            await bucket.purge(key(received.event.service_id, name))

    async def ended(self, received: Received[WorkloadFinished]) -> None:
        """Count the calls of a data plane's last moments."""
        if received.event.kind == "serving":
            await self._take_report(received.event.resource_urn.rpartition("/")[2])

    async def publish(self, service_id: str) -> None:
        """Write the route of a service and who may call it."""
        async with self._platform.database.read() as session:
            service = await session.get(Service, service_id)
            if service is None:
                return
            ids = [entry["model_id"] for entry in service.config]
            rows = (await session.exec(select(Model).where(col(Model.id).in_(ids)))).all()
        await self._publish_callers(service)
        models = {model.id: model for model in rows}
        route = {
            **await self._identity_of(service),
            "revision": service.revision,
            "versions": [self._entry(entry, models[entry["model_id"]]) for entry in service.config],
        }
        bucket = await self._platform.bus.kv(BUCKET)
        await bucket.put(key(service.id, ROUTE), orjson.dumps(route))

    async def _identity_of(self, service: Service) -> dict[str, Any]:
        project = await self._platform.identity.project(service.project_id)
        return {
            "service_id": service.id,
            "urn": service_urn(service),
            "project_id": service.project_id,
            "project_name": project.name,
            "account_id": service.account_id,
        }

    def _entry(self, entry: dict[str, Any], model: Model) -> dict[str, Any]:
        runtime = self._runtimes.of(model.model_type)
        settings = self._platform.settings
        location = ObjectPath.parse(model.location)
        return {
            "model_id": model.id,
            "model_name": model.name,
            "model_version": model.version,
            "weight": entry["weight"],
            "instance_count": entry["instance_count"],
            "envs": entry["envs"],
            "loader": runtime.loader,
            "inline": runtime.inline,
            "config": model.config,
            "load_timeout_s": settings.load_timeout_s,
            "predict_timeout_s": settings.predict_timeout_s,
            "files": [
                {
                    "path": file["path"],
                    "sha256": file["sha256"],
                    "url": self._platform.objects.presign("GET", location / file["path"], _URL_LIFE_S),
                }
                for file in model.files
            ],
        }

    async def _publish_callers(self, service: Service) -> None:
        bucket = await self._platform.bus.kv(BUCKET)
        await bucket.put(key(service.id, CALLERS), orjson.dumps(await self._callers(service)))

    async def _callers(self, service: Service) -> dict[str, Any]:
        """The users of the service's account with their policies, and the secrets of those who may call it.

        Nobody calls a service in a workspace he may not enter, or by a grant that does not count there. A policy's
        conditions (the caller's address, the time) are for the data plane to judge, call by call.
        """
        rooms = await self._platform.workspaces.rooms(service.project_id)
        room = rooms.get(service.workspace_id, Room(service.project_id))
        async with self._platform.database.read() as session:
            resource = await session.get(Resource, service.id)
            tags = resource.tags if resource else {}
            here = User.account_id == service.account_id
            users = (await session.exec(select(User).where(here, col(User.enabled).is_(True)))).all()
            granted = (
                select(GroupMember.user_id, Policy, Group.name)
                .join(PolicyGrant, col(PolicyGrant.group_id) == GroupMember.group_id)
                .join(Policy, col(Policy.id) == PolicyGrant.policy_id)
                .join(Group, col(Group.id) == GroupMember.group_id)
                .join(User, col(User.id) == GroupMember.user_id)
                .where(
                    here,
                    col(PolicyGrant.scope).in_(("domain", "all_projects"))
                    | (col(PolicyGrant.project_id) == service.project_id)
                    | (col(PolicyGrant.enterprise_project_id) == room.enterprise_project_id),
                )
                .order_by(Policy.name)
            )
            grants = (await session.exec(granted)).all()
            direct = select(PolicyGrant.user_id, Policy).join(Policy, col(Policy.id) == PolicyGrant.policy_id)
            direct = direct.join(User, col(User.id) == PolicyGrant.user_id)
            bound = PolicyGrant.enterprise_project_id == room.enterprise_project_id
            own = (await session.exec(direct.where(here, bound).order_by(Policy.name))).all()
            keys = (
                await session.exec(
                    select(Credential.access_key, Credential.user_id)
                    .join(User, col(User.id) == Credential.user_id)
                    .where(here, col(Credential.enabled).is_(True))
                )
            ).all()
        documents: dict[tuple[str, str], int] = {}
        policies: list[dict[str, Any]] = []
        parsed: list[tuple[PolicyDocument, str]] = []
        held: dict[str | None, list[int]] = {}
        for user_id, policy, group in grants:
            index = documents.setdefault((policy.id, group), len(policies))
            if index == len(policies):
                source = f"group {group}"
                policies.append({"name": policy.name, "source": source, "document": policy.document})
                parsed.append((parse_policy(policy.document, policy.name), source))
            held.setdefault(user_id, []).append(index)
        for owner, policy in own:
            held.setdefault(owner, []).append(len(policies))
            policies.append({"name": policy.name, "source": "the user", "document": policy.document})
            parsed.append((parse_policy(policy.document, policy.name), "the user"))
        account = await self._platform.identity.account(service.account_id)
        if account.auth_mode == "loose":
            # As a statement it allows what no other one denies, which is what loose authorization means (003 §9).
            for user in users:
                held.setdefault(user.id, []).append(len(policies))
            policies.append({"name": _LOOSE.name, "source": "the account", "document": _LOOSE_DOCUMENT})
            parsed.append((_LOOSE, "the account"))
        callers, allowed = {}, set()
        for user in users:
            mine = held.get(user.id, []) if await self._enters(user, room) else []
            callers[user.id] = {
                "name": user.name,
                "account_id": user.account_id,
                "root": user.is_account_root,
                "valid_from": user.tokens_valid_from,
                "policies": mine,
            }
            if user.is_account_root or _may_call([parsed[i] for i in mine], service_urn(service)):
                allowed.add(user.id)
        secrets = {}
        for access_key, user_id in keys:
            if user_id in allowed:
                with contextlib.suppress(Unauthenticated):  # expired meanwhile
                    known = await self._platform.identity.access_key(access_key)
                    secrets[access_key] = {"secret": known.secret, "user_id": user_id, "expires_at": known.expires_at}
        tokens = self._platform.identity.tokens
        return {
            "users": callers,
            "keys": secrets,
            "policies": policies,
            "public_keys": tokens.keys.public_pems,
            "temporary": tokens.keys.account_secrets(service.account_id),
            "conditions": {
                "g:DomainName": account.name,
                ENTERPRISE_PROJECT: room.enterprise_project_id,
                **{f"{RESOURCE_TAG}{key}": value for key, value in tags.items()},
            },
            "revoked": await tokens.revoked(),
        }

    async def _enters(self, user: User, room: Room) -> bool:
        if room.opens_to(user.id):
            return True
        principal = await self._platform.identity.principal(user.id)
        return await self._platform.workspaces.may_enter(principal, room, None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the data planes fed as long as the platform runs."""
        settings = self._platform.settings
        tasks = [
            asyncio.create_task(_regularly(what, every, step))
            for what, every, step in (
                ("identity", _IDENTITY_EVERY_S, self._follow_identity()),
                ("reports", settings.report_every_s, self._take_reports),
            )
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _follow_identity(self) -> Callable[[], Awaitable[None]]:
        identity = self._platform.identity
        seen: int | None = None
        loop = asyncio.get_running_loop()
        again_at = 0.0

        async def step() -> None:
            nonlocal seen, again_at
            generation = identity.generation
            if generation == seen and loop.time() < again_at:
                return
            first = seen is None
            for service in await self._live():
                if first:
                    # What was committed just before the platform went down may not have been published.
                    await self.publish(service.id)
                else:
                    await self._publish_callers(service)
            seen, again_at = generation, loop.time() + self._platform.settings.callers_every_s

        return step

    async def _live(self) -> list[Service]:
        async with self._platform.database.read() as session:
            return list((await session.exec(select(Service).where(col(Service.status).in_(LIVE)))).all())

    async def _take_reports(self) -> None:
        for service in await self._live():
            await self._take_report(service.id)
        await self._lifecycle.stop_due()

    async def _take_report(self, service_id: str) -> None:
        bucket = await self._platform.bus.kv(BUCKET)
        try:
            entry = await bucket.get(key(service_id, REPORT))
        except KeyNotFoundError:
            return
        if entry.value and self._taken.get(service_id) != entry.value:
            await self._lifecycle.take_report(service_id, orjson.loads(entry.value))
            self._taken[service_id] = entry.value


def _may_call(policies: list[tuple[PolicyDocument, str]], urn: str) -> bool:
    conditional = any(statement.conditions for document, _ in policies for statement in document.statements)
    return conditional or compile_policies(policies).decide(ACTION, urn, {}).allowed


async def _regularly(what: str, every_s: float, step: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await step()
        except (ApiError, nats.errors.Error, OSError) as problem:
            log.debug("publishing.put_off", what=what, reason=str(problem) or type(problem).__name__)
        except Exception:  # a mistake in one round must not end the next ones
            log.exception("publishing.failed", what=what)
        await asyncio.sleep(every_s)
