"""Who the platform acts for by which agency, and whether users need explicit rights at all (003 §9).

An authorization ties a user, or all who have none of their own, to an agency that trusts the platform; one agency may
serve many. What the platform then does on storage for such a user it does with the agency's rights
(`Identity.delegate`). Users without any act with their own rights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import col, delete, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Account, Agency, Authorization, User
from bottega.errors import Conflict, Invalid, NotFound
from bottega.identity import ALL_USERS
from bottega.platform import Platform

from .agencies import SERVICE, Agencies
from .events import AuthModeChanged, AuthorizationChanged
from .grants import ALL_PROJECTS, Grants, Holder
from .identities import iam_urn
from .listing import Part, Window
from .policies import system_policy_id
from .system_policies import AGENCY

EVERYBODY = "all"
"""As the user of a request: all users, whatever was authorized for single ones before."""
_PREFIX, _DEFAULT = "ma_agency_", "modelarts_agency"


@dataclass(frozen=True, slots=True)
class Authorized:
    user_id: str
    user_name: str
    agency: str
    created_at: int


class Authorizations:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._agencies = Agencies(platform)
        self._grants = Grants(platform)

    async def create_agency(self, account_id: str, suffix: str) -> Agency:
        """An agency by which the platform may do what it does for users, and nothing else; made twice it is the same.

        Raises Conflict when one of that name trusts somebody else.
        """
        name = f"{_PREFIX}{suffix}" if suffix else _DEFAULT
        window = Window(0, 1, None, "", ())
        found: Part[Agency] = await self._agencies.list(account_id, window, name)
        if found.rows:
            agency = found.rows[0]
            if agency.trusted_account_id is not None:
                raise Conflict(f"agency '{name}' trusts another account; choose another name")
        else:
            what = "By this the platform reads and writes a user's storage"
            agency = await self._agencies.create(account_id, name, (None, SERVICE), None, what)
        await self._grants.grant(account_id, Holder("agency", agency.id), system_policy_id(AGENCY), ALL_PROJECTS)
        return agency

    async def list(
        self, account_id: str, *, by_time: bool, descending: bool, offset: int, limit: int
    ) -> tuple[int, Sequence[Authorized]]:
        """How many there are, and one part of them."""
        async with self._platform.database.read() as session:
            counted = select(func.count()).select_from(Authorization).where(Authorization.account_id == account_id)
            total = (await session.exec(counted)).one()
            name = func.coalesce(User.name, Authorization.user_id)
            query = (
                select(Authorization, name, Agency.name)
                .join(Agency, col(Agency.id) == Authorization.agency_id)
                .outerjoin(User, col(User.id) == Authorization.user_id)
                .where(Authorization.account_id == account_id)
            )
            key = col(Authorization.created_at) if by_time else name
            query = query.order_by(key.desc() if descending else key, col(Authorization.user_id))
            rows = (await session.exec(query.offset(offset).limit(limit))).all()
        return total, [Authorized(row.user_id, user, agency, row.created_at) for row, user, agency in rows]

    async def agency_named(self, account_id: str, name: str) -> Agency:
        """Raises Invalid unless the account has an agency of that name which trusts the platform now."""
        async with self._platform.database.read() as session:
            query = select(Agency).where(Agency.account_id == account_id, Agency.name == name)
            agency = (await session.exec(query)).first()
        if agency is None:
            raise Invalid(f"content: there is no agency '{name}' in this account")
        if agency.trusted_account_id is not None:
            raise Invalid(f"content: agency '{name}' trusts another account; use one that trusts {SERVICE}")
        if agency.expires_at is not None and agency.expires_at <= now_ms():
            raise Invalid(f"content: agency '{name}' is over")
        return agency

    async def authorize(self, account_id: str, user_id: str, agency: Agency) -> None:
        """Let the platform act by `agency` for a user, for those without an authorization (ALL_USERS), or EVERYBODY."""
        async with self._platform.database.transaction() as tx:
            if user_id == EVERYBODY:
                await self._forget(tx, account_id, await _of(tx.session, account_id, None))
                user_id = ALL_USERS
            elif user_id != ALL_USERS:
                await _check_user(tx.session, account_id, user_id)
            row = await tx.session.get(Authorization, (account_id, user_id))
            row = row or Authorization(account_id=account_id, user_id=user_id, agency_id=agency.id)
            row.agency_id, row.created_at = agency.id, now_ms()
            tx.session.add(row)
            await tx.session.flush()
            self._tell(tx, account_id, user_id, agency.id)

    async def delete(self, account_id: str, user_id: str) -> None:
        """Take the authorization of a user, of ALL_USERS, or all there are (EVERYBODY) away.

        Raises NotFound when the one named has none.
        """
        async with self._platform.database.transaction() as tx:
            rows = await _of(tx.session, account_id, None if user_id == EVERYBODY else user_id)
            if not rows and user_id != EVERYBODY:
                raise NotFound(f"there is no authorization for user '{user_id}'")
            await self._forget(tx, account_id, rows)

    async def set_mode(self, account_id: str, mode: str) -> None:
        """``strict``: users do what policies allow; ``loose``: of ModelArts also what none denies."""
        async with self._platform.database.transaction() as tx:
            account = await tx.session.get_one(Account, account_id, with_for_update=True)
            if account.auth_mode == mode:
                return
            account.auth_mode = mode
            tx.session.add(account)
            tx.emit(AuthModeChanged(account_id=account_id, mode=mode), iam_urn("account", account_id))

    async def _forget(self, tx: Transaction, account_id: str, rows: Sequence[Authorization]) -> None:
        gone = [row.user_id for row in rows]
        where = (col(Authorization.account_id) == account_id, col(Authorization.user_id).in_(gone))
        for row in rows:
            tx.session.expunge(row)
        await tx.session.exec(delete(Authorization).where(*where))
        for user_id in gone:
            self._tell(tx, account_id, user_id, None)

    def _tell(self, tx: Transaction, account_id: str, user_id: str, agency_id: str | None) -> None:
        event = AuthorizationChanged(account_id=account_id, user_id=user_id, agency_id=agency_id)
        tx.emit(event, iam_urn("authorization", user_id))


async def _of(session: AsyncSession, account_id: str, user_id: str | None) -> Sequence[Authorization]:
    query = select(Authorization).where(Authorization.account_id == account_id)
    if user_id is not None:
        query = query.where(Authorization.user_id == user_id)
    return (await session.exec(query)).all()


async def _check_user(session: AsyncSession, account_id: str, user_id: str) -> None:
    user = await session.get(User, user_id) if user_id.isprintable() else None
    if user is None or user.account_id != account_id:
        raise Invalid(f"user_id: there is no user '{user_id}' in this account; write all, or {ALL_USERS}")
