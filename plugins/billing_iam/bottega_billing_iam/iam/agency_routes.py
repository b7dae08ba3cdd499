"""``/v3.0/OS-AGENCY/agencies``: rights handed to other accounts, or to the platform itself."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bottega.entities import Agency
from bottega.gateway import Caller, requires
from bottega.platform import Platform

from .agencies import Agencies
from .identities import iam_urn
from .listing import Part, Window, windowing
from .permission import about_own, account_wide, in_own
from .shapes import agency_json

BASE = "/v3.0/OS-AGENCY/agencies"


class _Changes(BaseModel):
    trust_domain_id: str | None = Field(None, max_length=64)
    trust_domain_name: str | None = Field(None, max_length=64)
    description: str | None = Field(None, max_length=255)
    duration: int | str | None = None

    @property
    def trusted(self) -> tuple[str | None, str | None]:
        return self.trust_domain_id, self.trust_domain_name


class _NewAgency(_Changes):
    name: str
    domain_id: str | None = None


class NewAgency(BaseModel):
    """``trust_domain_name`` is an account, or ``op_svc_modelarts`` for the platform itself.

    ``duration``: ``FOREVER`` (or nothing), ``ONEDAY``, or a number of days.
    """

    agency: _NewAgency


class AgencyChanges(BaseModel):
    agency: _Changes


def add_agency_routes(router: APIRouter, platform: Platform, agencies: Agencies) -> None:

    async def out(agency: Agency) -> dict[str, Any]:
        names = await agencies.names(Part([agency], False, 1))
        return agency_json(agency, names[agency.trusted_account_id])

    @router.get(BASE)
    async def list_agencies(
        domain_id: str | None = None,
        trust_domain_id: str | None = None,
        name: str | None = None,
        window: Window = windowing(),
        caller: Caller = requires("iam:agencies:listAgencies"),
    ) -> dict[str, Any]:
        found = await agencies.list(about_own(caller, domain_id), window, name, trust_domain_id)
        names = await agencies.names(found)
        rows = [agency_json(agency, names[agency.trusted_account_id]) for agency in found.rows]
        return {"agencies": rows, "links": window.links(platform, found.more)}

    @router.post(BASE, status_code=201)
    async def create_agency(body: NewAgency, caller: Caller = requires("iam:agencies:createAgency")) -> dict[str, Any]:
        """A new agency has no rights until policies are granted to it."""
        asked = body.agency
        agency = await agencies.create(
            in_own(caller, asked.domain_id), asked.name, asked.trusted, asked.duration, asked.description or ""
        )
        caller.about(resource=iam_urn("agency", agency.id), name=agency.name)
        return {"agency": await out(agency)}

    @router.get(BASE + "/{agency_id}")
    async def show_agency(
        agency_id: str, caller: Caller = requires("iam:agencies:getAgency", "agency/{agency_id}")
    ) -> dict[str, Any]:
        return {"agency": await out(await agencies.get(caller.principal.account_id, agency_id))}

    @router.put(BASE + "/{agency_id}")
    async def update_agency(
        agency_id: str,
        body: AgencyChanges,
        caller: Caller = requires("iam:agencies:updateAgency", "agency/{agency_id}"),
    ) -> dict[str, Any]:
        """A new duration counts from now; who is trusted no more loses it at once."""
        change = body.agency
        trusted = change.trusted if any(change.trusted) else None
        agency = await agencies.update(account_wide(caller), agency_id, trusted, change.duration, change.description)
        caller.about(name=agency.name)
        return {"agency": await out(agency)}

    @router.delete(BASE + "/{agency_id}", status_code=204)
    async def delete_agency(
        agency_id: str, caller: Caller = requires("iam:agencies:deleteAgency", "agency/{agency_id}")
    ) -> None:
        """With its grants; tokens and temporary keys by it end at once."""
        await agencies.delete(account_wide(caller), agency_id)
