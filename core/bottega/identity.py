"""Who is asking and what they may do: tokens, access keys, compiled rights. Administration is a plugin's business.

Everything looked up is cached and forgotten as soon as an ``iam.…`` event commits, so a revoked right or key stops
working at once in this process, and in others on the same database as soon as they hear of it (`bottega.hearing`).
"""

from __future__ import annotations

import secrets
import string
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sqlmodel import col, select

from bottega.addresses import allowed
from bottega.context import SYSTEM, Principal, now_ms
from bottega.database import Database, Transaction
from bottega.entities import (
    Account,
    Authorization,
    Bucket,
    Credential,
    Project,
    User,
    Workload,
)
from bottega.errors import Forbidden, NotFound, Unauthenticated
from bottega.events import Envelope, Event
from bottega.iam import Decision
from bottega.rights import DEFAULT_ENTERPRISE_PROJECT, Rights
from bottega.sealing import Sealer
from bottega.tokens import Tokens
from bottega.urn import PLATFORM, Urn

_NOTHING = {"Version": "1.1", "Statement": [{"Effect": "Deny", "Action": ["*:*:*"]}]}
_AK_ALPHABET = string.ascii_uppercase + string.digits
_CACHE = 10_000
_REMEMBERED = 256
ALL_USERS = "all-users"
"""In place of a user id: the authorization of all users of an account who have none of their own (sdk_spec §3.6)."""


class AccountStandingChanged(Event, type="core.account.standing_changed.v1"):
    """An account fell into arrears or left them. `standing` is ``normal`` or ``arrears``."""

    account_id: str
    standing: str


@dataclass(frozen=True, slots=True)
class AccessKey:
    principal: Principal
    secret: str
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class Issued:
    """A fresh access key; the secret is shown this once."""

    access_key: str
    secret_key: str


class Identity:
    def __init__(self, database: Database, sealer: Sealer, secrets_dir: Path) -> None:
        self._database = database.bind("core")
        self._sealer = sealer
        self._issuer = Tokens(self._database, secrets_dir, self.user)
        self._users: dict[str, User] = {}
        self._keys: dict[str, AccessKey] = {}
        self._tokens: dict[str, Principal] = {}
        self._temporary: dict[tuple[str, str], AccessKey] = {}
        self._good: dict[Principal, bool] = {}
        self._projects: dict[str, Project] = {}
        self._accounts: dict[str, Account] = {}
        self._buckets: dict[str, str] = {}
        self._delegates: dict[tuple[str, str], str | None] = {}
        self._platform_account: str | None = None
        self._observed: deque[str] = deque(maxlen=_REMEMBERED)
        """The ids of the events that were observed last."""
        self.rights = Rights(self._database, self.account, self.delegate)
        self.generation = 0

    # -- lookups -------------------------------------------------------------------------------------------------

    def observe(self, envelopes: Sequence[Envelope]) -> None:
        """Forget what is cached when identity changed; the database calls this at every commit."""
        if any(e.type.startswith(("iam.", "core.account.")) for e in envelopes):
            self._observed.extend(e.id for e in envelopes)
            self.invalidate(envelopes)

    def hear(self, envelope: Envelope) -> None:
        """Forget what another process has changed; one's own changes, which come by here too, are observed already."""
        if envelope.id not in self._observed:
            self.invalidate([envelope])

    def invalidate(self, envelopes: Sequence[Envelope] = ()) -> None:
        for cache in (
            self._users,
            self._keys,
            self._tokens,
            self._temporary,
            self._good,
            self._projects,
            self._accounts,
            self._buckets,
            self._delegates,
        ):
            cache.clear()
        self.rights.forget(envelopes)
        self.generation += 1

    def _keep(self, cache: dict[Any, Any], key: Any, value: Any, generation: int) -> None:
        """Cache what was read, unless identity has changed since `generation`: then it may be of before the change."""
        if generation == self.generation:
            _remember(cache, key, value)

    async def user(self, user_id: str) -> User:
        """Raises Unauthenticated when the user is gone or disabled."""
        generation = self.generation
        user = self._users.get(user_id)
        if user is None:
            async with self._database.read() as session:
                user = await session.get(User, user_id)
            if user is None or not user.enabled:
                raise Unauthenticated("the user of these credentials does not exist any more or is disabled")
            self._keep(self._users, user_id, user, generation)
        return user

    async def account(self, account_id: str) -> Account:
        generation = self.generation
        account = self._accounts.get(account_id)
        if account is None:
            async with self._database.read() as session:
                account = await session.get(Account, account_id)
            if account is None:
                raise NotFound(f"there is no account '{account_id}'")
            self._keep(self._accounts, account_id, account, generation)
        return account

    async def project(self, project_id: str) -> Project:
        generation = self.generation
        project = self._projects.get(project_id)
        if project is None:
            async with self._database.read() as session:
                project = await session.get(Project, project_id)
            if project is None:
                raise NotFound(f"there is no project '{project_id}'")
            self._keep(self._projects, project_id, project, generation)
        return project

    async def principal(self, user_id: str, *, scope: str | None = None) -> Principal:
        user = await self.user(user_id)
        return Principal(user.account_id, user.id, user.name, "user", user.is_account_root, scope)

    async def delegate(self, principal: Principal) -> Principal:
        """Who acts for `principal` on storage: the agency authorized for that user, else the user itself (003 §9).

        Somebody who already acts by an agency goes on by that one: what all users of the account may is not theirs.
        """
        if principal.agency_id is not None:
            return principal
        generation = self.generation
        key = (principal.account_id, principal.user_id)
        agency_id = self._delegates.get(key, "")
        if agency_id == "":
            async with self._database.read() as session:
                for user_id in (principal.user_id, ALL_USERS):
                    row = await session.get(Authorization, (principal.account_id, user_id))
                    if row is not None:
                        break
            agency_id = row.agency_id if row else None
            self._keep(self._delegates, key, agency_id, generation)
        return replace(principal, agency_id=agency_id) if agency_id else principal

    async def set_standing(self, tx: Transaction, account_id: str, standing: str) -> None:
        """Set an account ``normal`` or ``arrears``; every check of it sees that as soon as `tx` commits."""
        account = await tx.session.get(Account, account_id, with_for_update=True)
        if account is None:
            raise NotFound(f"there is no account '{account_id}'")
        if account.standing == standing:
            return
        account.standing = standing
        tx.session.add(account)
        tx.speaking_as("core").emit(
            AccountStandingChanged(account_id=account_id, standing=standing),
            Urn("core", PLATFORM, "account", account_id),
        )

    async def bucket_account(self, bucket: str) -> str:
        """The account a bucket belongs to; one that nobody registered is the platform's own (first) account's."""
        generation = self.generation
        owner = self._buckets.get(bucket)
        if owner is None:
            async with self._database.read() as session:
                row = await session.get(Bucket, bucket)
            owner = row.account_id if row else await self.platform_account()
            self._keep(self._buckets, bucket, owner, generation)
        return owner

    async def platform_account(self) -> str:
        """The account the installation was made with: its operator's."""
        if self._platform_account is None:
            async with self._database.read() as session:
                query = select(Account.id).order_by(col(Account.created_at), col(Account.id)).limit(1)
                self._platform_account = (await session.exec(query)).first()
        return self._platform_account or SYSTEM.account_id

    # -- authentication ------------------------------------------------------------------------------------------

    @property
    def tokens(self) -> Tokens:
        """Issues and reads tokens; its keys can be rotated."""
        return self._issuer

    def issue_token(
        self,
        principal: Principal,
        expires_s: float,
        *,
        workload_id: str | None = None,
        session_policy: str | None = None,
    ) -> str:
        """A signed token for `principal` (JWT, EdDSA). See `bottega.tokens` for what ends it."""
        return self._issuer.issue(principal, expires_s, workload_id=workload_id, session_policy=session_policy)

    async def issue_workload_token(self, workload: Workload, expires_s: float) -> str:
        """The short-lived identity of a workload: acts for its user, in its project, limited by its spec's policy.

        What somebody asked for by an agency acts by that agency, and no longer than it lasts.
        """
        policy = workload.spec.get("session_policy")
        principal = await self.principal(workload.user_id, scope=workload.project_id)
        agency_id = workload.spec.get("agency_id")
        if agency_id is not None:
            account_id = (await self.project(workload.project_id)).account_id
            principal = replace(principal, account_id=account_id, is_account_root=False, agency_id=agency_id)
        return self.issue_token(
            principal,
            expires_s,
            workload_id=workload.id,
            session_policy=orjson.dumps(policy or _NOTHING).decode(),
        )

    async def authenticate_token(self, token: str) -> Principal:
        """Raises Unauthenticated for a token that is malformed, tampered with, expired, or whose user is gone."""
        generation = self.generation
        cached = self._tokens.get(token)
        if cached and now_ms() < (cached.expires_at or 0):
            return cached
        principal = await self._issuer.holder(token)
        self._keep(self._tokens, token, principal, generation)
        return principal

    async def revoke_token(self, tx: Transaction, token: str) -> Principal:
        """End a token or temporary key: it is refused as soon as `tx` commits. Raises InvalidToken for another."""
        return await self._issuer.revoke(tx, token)

    async def access_key(self, access_key: str, security_token: str = "") -> AccessKey:
        """The secret behind an access key; of a temporary one only together with its security token.

        Raises Unauthenticated when it is unknown, disabled, expired, or of another token.
        """
        generation = self.generation
        if security_token:
            cached = self._temporary.get((access_key, security_token))
            if cached and now_ms() < (cached.expires_at or 0):
                return cached
            principal, secret = await self._issuer.temporary_key(access_key, security_token)
            temporary = AccessKey(principal, secret, principal.expires_at)
            self._keep(self._temporary, (access_key, security_token), temporary, generation)
            return temporary
        key = self._keys.get(access_key)
        if key is None:
            async with self._database.read() as session:
                row = await session.get(Credential, access_key)
            if row is None or not row.enabled:
                raise Unauthenticated(
                    "the access key does not exist or is disabled; a temporary one needs its X-Security-Token"
                )
            secret = self._sealer.read(row, "secret") or ""
            principal = await self.principal(row.user_id)
            principal = replace(principal, expires_at=row.expires_at, access_key=access_key)
            key = AccessKey(principal, secret, row.expires_at)
            self._keep(self._keys, access_key, key, generation)
        if key.expires_at is not None and key.expires_at <= now_ms():
            raise Unauthenticated("the access key has expired")
        return key

    async def check_credential(self, principal: Principal) -> None:
        """Raises Unauthenticated when the credential that `principal` came with has ended since."""
        user = await self.user(principal.user_id)
        if principal.expires_at is not None and principal.expires_at <= now_ms():
            raise Unauthenticated("the credential has expired")
        generation = self.generation
        if principal not in self._good:
            await self._issuer.check(principal, user)
            self._keep(self._good, principal, True, generation)

    async def create_access_key(
        self, tx: Transaction, user_id: str, *, description: str = "", expires_at: int | None = None
    ) -> Issued:
        issued = Issued("".join(secrets.choice(_AK_ALPHABET) for _ in range(20)), secrets.token_urlsafe(30))
        sealed = self._sealer.seal(issued.secret_key, f"credential:{issued.access_key}")
        tx.session.add(
            Credential(
                access_key=issued.access_key,
                user_id=user_id,
                secret=sealed,
                description=description,
                expires_at=expires_at,
            )
        )
        await tx.session.flush()
        return issued

    # -- authorization -------------------------------------------------------------------------------------------

    def decide(
        self,
        principal: Principal,
        project_id: str | None,
        action: str,
        resource: str,
        context: Mapping[str, Any],
        enterprise_project_id: str = DEFAULT_ENTERPRISE_PROJECT,
    ) -> Coroutine[Any, Any, Decision]:
        """May `principal` do `action` on `resource` in `project_id`? See `bottega.rights`.

        :param enterprise_project_id: that of the workspace the resource is in.
        """
        return self.rights.decide(principal, project_id, action, resource, context, enterprise_project_id)

    async def check_address(self, principal: Principal, source_ip: str | None) -> None:
        """Raises Forbidden when the account lets its users call from other addresses only (its list ``api_acl``).

        The account's own login and what the platform runs for a user are let through.
        """
        if principal.kind != "user" or principal.is_account_root:
            return
        lists = (await self.account(principal.account_id)).security.get("api_acl")
        if lists and not allowed(lists, source_ip):
            raise Forbidden(f"the account does not let its users call from your address {source_ip}")

    async def check_project(self, principal: Principal, project_id: str) -> Project:
        """Raises Forbidden unless the project is of the principal's account and within its token's scope.

        A project that does not exist gives the same answer: strangers learn nothing.
        """
        refused = Forbidden(f"project '{project_id}' is not one of yours")
        try:
            project = await self.project(project_id)
        except NotFound:
            raise refused from None
        if principal.kind != "system" and project.account_id != principal.account_id:
            raise refused
        if principal.scope and principal.scope != project_id:
            raise Forbidden(f"this token is scoped to project '{principal.scope}', not '{project_id}'")
        if not project.enabled:
            raise Forbidden(f"project '{project_id}' is disabled")
        return project

    async def conditions(self, principal: Principal, project: Project | None, source_ip: str | None) -> dict[str, Any]:
        """The global condition keys (``g:…``) of a request; ``g:TokenAge`` is in seconds."""
        now = now_ms()
        known: dict[str, Any] = {
            "g:CurrentTime": datetime.fromtimestamp(now / 1000, UTC),
            "g:UserName": principal.user_name,
            "g:UserId": principal.user_id,
            "g:DomainId": principal.account_id,
            "g:DomainName": (await self.account(principal.account_id)).name,
            "g:MFAPresent": False,
        }
        if source_ip:
            known["g:SourceIp"] = source_ip
        if principal.issued_at is not None:
            known["g:TokenAge"] = (now - principal.issued_at) // 1000
        if project is not None:
            known["g:ProjectId"], known["g:ProjectName"] = project.id, project.name
        return known

    # -- first start ---------------------------------------------------------------------------------------------

    async def bootstrap(self, account_name: str, password_hash: str | None) -> tuple[Account, Project, Issued | None]:
        """The first account with its root user, `admin` group and project; a new access key only when just made."""
        async with self._database.transaction() as tx:
            existing = (await tx.session.exec(select(Account).order_by(col(Account.created_at)).limit(1))).first()
            if existing:
                query = select(Project).where(Project.account_id == existing.id).order_by(col(Project.created_at))
                return (
                    existing,
                    (await tx.session.exec(query)).first() or Project(account_id=existing.id, name=""),
                    None,
                )
            account = Account(name=account_name)
            tx.session.add(account)
            await tx.session.flush()
            user = User(
                id=account.id,
                account_id=account.id,
                name=account_name,
                is_account_root=True,
                password_hash=password_hash,
            )
            project = Project(account_id=account.id, name="local-1")
            tx.session.add_all([user, project])
            await tx.session.flush()
            return account, project, await self.create_access_key(tx, user.id, description="first start")


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    if len(cache) >= _CACHE:
        cache.clear()
    cache[key] = value
