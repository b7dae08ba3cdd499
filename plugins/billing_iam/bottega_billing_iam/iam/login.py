"""Logging in with a password: who it is, at a bounded rate, and what the token says (002 §10.1, 10.2)."""

from __future__ import annotations

from dataclasses import dataclass

from limits import RateLimitItem
from limits import parse as parse_limit
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from sqlmodel import col, or_, select

from bottega.context import Principal
from bottega.database import AsyncSession
from bottega.entities import Account, GroupMember, Policy, PolicyGrant, Project, User
from bottega.errors import Forbidden, TooManyRequests, Unauthenticated
from bottega.platform import Platform

from .passwords import Passwords
from .settings import IamSettings


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


class Throttle:
    """Bounds tries per user and address, and per address; kept in this process's memory."""

    def __init__(self, settings: IamSettings) -> None:
        self._per_user: RateLimitItem = parse_limit(settings.login_attempts)
        self._per_address: RateLimitItem = parse_limit(settings.login_attempts_per_address)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    async def count(self, who: str, address: str | None) -> None:
        """Count a try before it is made, so that tries at the same time cannot slip through. Raises TooManyRequests."""
        place = address or "?"
        if not await self._limiter.hit(self._per_address, "address", place):
            raise TooManyRequests(f"more than {self._per_address} logins from your address; wait and try again")
        if not await self._limiter.hit(self._per_user, "user", who, place):
            raise TooManyRequests(f"more than {self._per_user} failed logins of this user; wait and try again")

    async def forgive(self, who: str, address: str | None) -> None:
        await self._limiter.clear(self._per_user, "user", who, address or "?")


class Login:
    def __init__(self, platform: Platform, passwords: Passwords) -> None:
        self._platform = platform
        self._passwords = passwords
        self._throttle = Throttle(platform.settings)

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

    async def verify(self, user: User | None, who: str, password: str, address: str | None) -> User:
        """The user, when the password is right. Raises Unauthenticated, saying no more, or TooManyRequests."""
        who = user.id if user else who
        await self._throttle.count(who, address)
        right = await self._passwords.matches(user.password_hash if user else None, password)
        if user is None or not right or not user.enabled:
            raise Unauthenticated("the account, the user name or the password is wrong")
        await self._throttle.forgive(who, address)
        return user

    async def check_domain(self, user: User, id: str | None, name: str | None) -> None:
        """Raises Forbidden when the account a token is asked for is not the user's."""
        account = await self._platform.identity.account(user.account_id)
        if id not in (None, account.id) or name not in (None, account.name):
            raise Forbidden(f"account '{id or name}' is not yours")

    async def scope(self, user: User, project_id: str | None, project_name: str | None) -> Project | None:
        """The project a token is to be limited to. Raises Forbidden for a foreign or disabled one."""
        if project_id is None and project_name is None:
            return None
        async with self._platform.database.read() as session:
            wanted = Project.id == project_id if project_id is not None else Project.name == project_name
            query = select(Project).where(Project.account_id == user.account_id, wanted)
            project = (await session.exec(query)).first()
        if project is None or not project.enabled:
            raise Forbidden(f"project '{project_id or project_name}' is not one of yours, or is disabled")
        return project

    async def granted(self, user_id: str, project_id: str | None) -> list[Policy]:
        """The policies that reach a user, account-wide and in one project, by name."""
        async with self._platform.database.read() as session:
            query = (
                select(Policy)
                .join(PolicyGrant, col(PolicyGrant.policy_id) == Policy.id)
                .join(GroupMember, col(GroupMember.group_id) == PolicyGrant.group_id)
                .where(
                    GroupMember.user_id == user_id,
                    or_(col(PolicyGrant.project_id).is_(None), PolicyGrant.project_id == (project_id or "")),
                )
                .order_by(Policy.name)
            )
            found = {policy.id: policy for policy in (await session.exec(query)).all()}
        return list(found.values())


async def _account(session: AsyncSession, claim: Claim) -> Account | None:
    if claim.account_id is not None:
        return await session.get(Account, claim.account_id)
    return (await session.exec(select(Account).where(Account.name == claim.account_name))).first()
