"""Acting for another account by an agency of it: who may, and as whom (002 §10.1, 003 §9)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlmodel import col, select

from bottega.context import Principal, now_ms
from bottega.entities import Account, Agency
from bottega.errors import Forbidden, Invalid, NotFound
from bottega.gateway import Caller

from .permission import account_wide

ASSUME = "iam:agencies:assume"


@dataclass(frozen=True, slots=True)
class AgencyClaim:
    """An agency by name, in the account of that id or name."""

    agency_name: str
    account_id: str | None = None
    account_name: str | None = None


async def assume(caller: Caller, claim: AgencyClaim) -> tuple[Principal, Agency]:
    """The caller as it acts for the account that made the agency: with the agency's rights, without its own.

    Raises Forbidden for credentials that are limited, or an agency's themselves (no chains), and without the right
    ``iam:agencies:assume``; NotFound unless the agency exists, has not expired and trusts the caller's account.
    """
    if claim.account_id is None and claim.account_name is None:
        raise Invalid("assume_role: give domain_id or domain_name, the account that made the agency")
    own = caller.principal
    if own.agency_id is not None:
        raise Forbidden("an agency's credentials cannot assume another agency; use a user's own")
    account_wide(caller)
    async with caller.platform.database.read() as session:
        query = select(Agency).join(Account, col(Account.id) == Agency.account_id)
        query = query.where(Agency.name == claim.agency_name, Agency.trusted_account_id == own.account_id)
        if claim.account_id is not None:
            query = query.where(Account.id == claim.account_id)
        if claim.account_name is not None:
            query = query.where(Account.name == claim.account_name)
        agency = (await session.exec(query)).first()
    if agency is None or (agency.expires_at is not None and agency.expires_at <= now_ms()):
        place = claim.account_name or claim.account_id
        raise NotFound(f"account '{place}' has no agency '{claim.agency_name}' that trusts your account")
    # Policies of the trusted account name the agency as the vendor does.
    await caller.check(ASSUME, f"/iam/agencies/{agency.id}")
    # The rest stays: what is made of it must not outlive the credential it was made with.
    return replace(own, account_id=agency.account_id, is_account_root=False, agency_id=agency.id), agency
