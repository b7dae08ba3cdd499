"""Logging in with a password: who it is, how often it may be wrong, and the account's rules for it (002 §10.1)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sqlmodel import select

from bottega.addresses import allowed
from bottega.context import Principal, now_ms
from bottega.database import AsyncSession
from bottega.entities import Account, Project, User
from bottega.errors import Forbidden, Unauthenticated
from bottega.platform import Platform
from bottega.throttle import Lockout, Throttle, record_as

from .entities import LoginFailure
from .passwords import Passwords, expires_at
from .security import DAY_MS, MINUTE_MS, LoginPolicy, PasswordPolicy, policy_of

_FORCED = '{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["iam:users:setPassword"]}]}'


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a login says it is: a user id, or a name in the account of that id or name."""

    user_id: str | None = None
    user_name: str | None = None
    account_id: str | None = None
    account_name: str | None = None

    @property
    def text(self) -> str:
        return self.user_id or f"{self.account_id or self.account_name}/{self.user_name}"

    @property
    def key(self) -> str:
        """What failures of a login that names nobody count under: not the text, which may be a mistyped secret."""
        return hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Session:
    """What a right password is worth: a token for so many seconds, with a limit when the password has to be changed."""

    lifetime_s: float
    session_policy: str | None


class Login:
    def __init__(self, platform: Platform, passwords: Passwords) -> None:
        self._platform = platform
        self._passwords = passwords
        self._throttle = Throttle(platform.database, LoginFailure, platform.settings.login_attempts_per_address)

    async def find(self, claim: Claim) -> tuple[User | None, Principal | None]:
        """The user meant, if there is one, and how the attempt is recorded (None: not even the account exists)."""
        async with self._platform.database.read() as session:
            if claim.user_id is not None:
                user = await session.get(User, claim.user_id)
            else:
                account = await _account(session, claim)
                if account is None:
                    return None, None
                query = select(User).where(User.account_id == account.id, User.name == claim.user_name)
                user = (await session.exec(query)).first()
                if user is None:
                    return None, Principal(account.id, "", claim.user_name or "")
        if user is None:
            return None, None
        return user, Principal(user.account_id, user.id, user.name, "user", user.is_account_root)

    async def verify(self, user: User | None, claim: Claim, password: str, address: str | None) -> User:
        """The user, when the password is right. Raises Unauthenticated, saying no more, or TooManyRequests."""
        place, who = address or "?", user.id if user else claim.key
        policy = LoginPolicy() if user is None else policy_of(await self._account_of(user), LoginPolicy)
        await self._throttle.admit(place)
        async with self._throttle.turn(who):
            await self._throttle.check(
                who,
                place,
                Lockout(
                    policy.login_failed_times,
                    policy.period_with_login_failures * MINUTE_MS,
                    policy.lockout_duration * MINUTE_MS,
                ),
            )
            right = await self._passwords.matches(user.password_hash if user else None, password)
            if user is None or not right or not user.enabled:
                wrong = Unauthenticated("the account, the user name or the password is wrong")
                record_as(wrong)
                await self._throttle.failed(who, place)
                raise wrong
        return user

    async def enter(self, user: User, address: str | None) -> Session:
        """What a login with the right password gives, by the account's policies.

        Raises Forbidden for a user that does not log in with passwords, from a wrong address, or was away too long.
        """
        account = await self._account_of(user)
        logins, passwords = policy_of(account, LoginPolicy), policy_of(account, PasswordPolicy)
        if user.access_mode == "programmatic":
            raise Forbidden(f"user '{user.name}' has programmatic access only; use its access keys")
        if not user.is_account_root:
            if not allowed(account.security.get("console_acl", {}), address):
                raise Forbidden(f"the account does not let its users log in from your address {address}")
            away = now_ms() - max(user.last_login_at or 0, user.password_changed_at or 0, user.created_at)
            if logins.account_validity_period and away > logins.account_validity_period * DAY_MS:
                days = logins.account_validity_period
                raise Forbidden(f"this user has not logged in for {days} days; an administrator sets a new password")
        await self._succeeded(user, address or "?")
        lifetime = float(self._platform.settings.token_lifetime_s)
        if "session_timeout" in account.security.get(LoginPolicy.kind, {}):
            lifetime = min(lifetime, logins.session_timeout * 60.0)
        ends = expires_at(user, passwords)
        forced = user.must_change_password or (ends is not None and ends <= now_ms())
        return Session(lifetime, _FORCED if forced else None)

    async def _succeeded(self, user: User, address: str) -> None:
        """Forget the failures of a user from an address, and note when it was."""
        async with self._platform.database.transaction() as tx:
            await self._throttle.forget(tx.session, user.id, address)
            row = await tx.session.get(User, user.id)
            if row is not None:
                row.last_login_at = now_ms()
                tx.session.add(row)

    async def password_ends(self, user: User) -> int | None:
        """When the user's password must have been changed (epoch ms); None: never."""
        return expires_at(user, policy_of(await self._account_of(user), PasswordPolicy))

    async def scope(
        self, account_id: str, project_id: str | None, project_name: str | None, domain: tuple[str | None, str | None]
    ) -> Project | None:
        """The project a token is to be limited to; None for a domain or nothing.

        Raises Forbidden for a foreign or disabled one, and when the account `domain` (id, name) is another one.
        """
        account = await self._platform.identity.account(account_id)
        id, name = domain
        if id not in (None, account.id) or name not in (None, account.name):
            raise Forbidden(f"account '{id or name}' is not yours")
        if project_id is None and project_name is None:
            return None
        async with self._platform.database.read() as session:
            wanted = Project.id == project_id if project_id is not None else Project.name == project_name
            project = (await session.exec(select(Project).where(Project.account_id == account_id, wanted))).first()
        if project is None or not project.enabled:
            raise Forbidden(f"project '{project_id or project_name}' is not one of yours, or is disabled")
        return project

    async def _account_of(self, user: User) -> Account:
        return await self._platform.identity.account(user.account_id)


async def _account(session: AsyncSession, claim: Claim) -> Account | None:
    if claim.account_id is not None:
        return await session.get(Account, claim.account_id)
    return (await session.exec(select(Account).where(Account.name == claim.account_name))).first()
