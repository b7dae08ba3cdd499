"""Agencies: rights an account hands to another account, or to the platform itself (002 §10.1, 003 §9)."""

from __future__ import annotations

from sqlmodel import col, delete, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Account, Agency, Authorization, PolicyGrant
from bottega.errors import Conflict, Invalid, NotFound
from bottega.platform import Platform

from .events import AgencyChanged
from .identities import flush_unique, iam_urn, owned
from .listing import Part, Window, part_of
from .names import check_name
from .quotas import Quotas
from .security import DAY_MS

SERVICE = "op_svc_modelarts"
"""As the trusted account: the platform itself."""
_SERVICES = "op_svc_"
_MOST_DAYS = 3650


class Agencies:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._quotas = Quotas(platform)

    async def list(
        self, account_id: str, window: Window, name: str | None = None, trusted: str | None = None
    ) -> Part[Agency]:
        async with self._platform.database.read() as session:
            query = select(Agency).where(Agency.account_id == account_id).order_by(Agency.name)
            if name is not None:
                query = query.where(Agency.name == name)
            if trusted is not None:
                id = None if trusted.startswith(_SERVICES) else trusted
                query = query.where(col(Agency.trusted_account_id).is_not_distinct_from(id))
            return await part_of(session, query, window)

    async def get(self, account_id: str, agency_id: str) -> Agency:
        async with self._platform.database.read() as session:
            return await owned(session, Agency, agency_id, account_id)

    async def create(
        self, account_id: str, name: str, trusted: tuple[str | None, str | None], duration: object, description: str
    ) -> Agency:
        """Make an agency without rights; it gets them by grants.

        :param trusted: id or name of the account that may use it; ``op_svc_…`` is the platform itself.
        :param duration: ``FOREVER`` (or None), ``ONEDAY``, or days.
        """
        name = check_name("agency", name)
        expires = _expiry(duration)
        async with self._platform.database.transaction() as tx:
            await self._quotas.admit(tx, account_id, "agency")
            trusted_id = await _trusted(tx.session, account_id, *trusted)
            agency = Agency(
                account_id=account_id,
                name=name,
                description=description,
                trusted_account_id=trusted_id,
                expires_at=expires,
            )
            tx.session.add(agency)
            await flush_unique(tx, f"an agency named '{name}' exists in this account; choose another name")
            self._changed(tx, agency, "created")
        return agency

    async def update(
        self,
        account_id: str,
        agency_id: str,
        trusted: tuple[str | None, str | None] | None,
        duration: object | None,
        description: str | None,
    ) -> Agency:
        """Change who is trusted, for how long from now, or the description; None leaves each as it is."""
        async with self._platform.database.transaction() as tx:
            agency = await owned(tx.session, Agency, agency_id, account_id)
            if trusted is not None:
                agency.trusted_account_id = await _trusted(tx.session, account_id, *trusted)
            if duration is not None:
                agency.expires_at = _expiry(duration)
            if description is not None:
                agency.description = description
            tx.session.add(agency)
            self._changed(tx, agency, "updated")
        return agency

    async def delete(self, account_id: str, agency_id: str) -> None:
        """Delete an agency with its grants; whoever uses it loses them at once.

        Raises Conflict while the platform is authorized to act by it.
        """
        async with self._platform.database.transaction() as tx:
            agency = await owned(tx.session, Agency, agency_id, account_id)
            used = select(Authorization.user_id).where(Authorization.agency_id == agency_id)
            if (await tx.session.exec(used)).first() is not None:
                raise Conflict(f"agency '{agency.name}' is used by an authorization; delete that first")
            await tx.session.exec(delete(PolicyGrant).where(col(PolicyGrant.agency_id) == agency_id))
            await tx.session.delete(agency)
            self._changed(tx, agency, "deleted")

    async def trusting(self, account_id: str | None, account_name: str | None, agency_name: str, by: str) -> Agency:
        """The agency of that account which trusts account `by`. Raises NotFound, saying no more, for any other."""
        async with self._platform.database.read() as session:
            query = select(Agency).join(Account, col(Account.id) == Agency.account_id)
            owner = Account.id == account_id if account_id is not None else Account.name == account_name
            found = (await session.exec(query.where(owner, Agency.name == agency_name))).first()
        if found is None or found.trusted_account_id != by or _is_over(found):
            where = account_id or account_name
            raise NotFound(f"account '{where}' has no agency '{agency_name}' that trusts your account now")
        return found

    async def names(self, agencies: Part[Agency]) -> dict[str | None, str]:
        """The names of the accounts that some agencies trust, by id."""
        wanted = {agency.trusted_account_id for agency in agencies.rows} - {None}
        async with self._platform.database.read() as session:
            rows = (await session.exec(select(Account.id, Account.name).where(col(Account.id).in_(wanted)))).all()
        return {None: SERVICE, **dict(rows)}

    def _changed(self, tx: Transaction, agency: Agency, change: str) -> None:
        event = AgencyChanged(account_id=agency.account_id, agency_id=agency.id, name=agency.name, change=change)
        tx.emit(event, iam_urn("agency", agency.id))


def duration_text(agency: Agency) -> str:
    """How long it lives in all, as the vendor says it: ``FOREVER``, or hours."""
    if agency.expires_at is None:
        return "FOREVER"
    return str(max(0, round((agency.expires_at - agency.created_at) / 3_600_000)))


def _is_over(agency: Agency) -> bool:
    return agency.expires_at is not None and agency.expires_at <= now_ms()


def _expiry(duration: object) -> int | None:
    text = str(duration or "FOREVER")
    if text == "FOREVER":
        return None
    days = "1" if text == "ONEDAY" else text
    if not (days.isascii() and days.isdigit() and 1 <= int(days) <= _MOST_DAYS):
        raise Invalid(f"duration: '{duration}' is none; write FOREVER, ONEDAY, or 1 to {_MOST_DAYS} days")
    return now_ms() + int(days) * DAY_MS


async def _trusted(session: AsyncSession, account_id: str, id: str | None, name: str | None) -> str | None:
    """The id of the account to trust, None for the platform."""
    if (id or name or "").startswith(_SERVICES):
        return None
    if not id and not name:
        raise Invalid("trust_domain_name: name the account that may use the agency, or op_svc_modelarts")
    query = select(Account.id).where(Account.id == id if id else Account.name == name)
    found = (await session.exec(query)).first()
    if found is None:
        raise Invalid(f"trust_domain_name: there is no account '{id or name}'")
    if found == account_id:
        raise Invalid("trust_domain_name: this is your own account; trust another one, or op_svc_modelarts")
    return found
