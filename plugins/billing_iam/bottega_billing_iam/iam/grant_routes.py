"""Who has which policy where: the vendor's routes for groups, agencies and users, one set for each scope."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from bottega.entities import PolicyGrant
from bottega.errors import NotFound
from bottega.gateway import Caller, requires
from bottega.platform import Platform

from .grants import ALL_PROJECTS, DOMAIN, GrantFilter, Grants, Holder, Scope
from .listing import Window, windowing
from .permission import about_own, account_wide
from .shapes import role_json

_INHERITED = "/inherited_to_projects"
_PERMISSION = "/v3.0/OS-PERMISSION"


@dataclass(frozen=True, slots=True)
class Place:
    """One set of routes: who holds, where it counts, and the path of the list; `end` follows the policy's id.

    The path's ``{place}`` is the project, the enterprise project or, with `of_account`, the account itself.
    """

    holder: str
    scope: str
    path: str
    end: str = ""

    @property
    def of_account(self) -> bool:
        return self.scope in ("domain", "all_projects")

    def scope_of(self, caller: Caller, place: str) -> Scope:
        if self.of_account:
            about_own(caller, place)
            return DOMAIN if self.scope == "domain" else ALL_PROJECTS
        return Scope(self.scope, place)


PLACES = (
    Place("group", "project", "/v3/projects/{place}/groups/{holder}/roles"),
    Place("group", "domain", "/v3/domains/{place}/groups/{holder}/roles"),
    Place("group", "all_projects", "/v3/OS-INHERIT/domains/{place}/groups/{holder}/roles", _INHERITED),
    Place("group", "enterprise_project", _PERMISSION + "/enterprise-projects/{place}/groups/{holder}/roles"),
    Place("user", "enterprise_project", _PERMISSION + "/enterprise-projects/{place}/users/{holder}/roles"),
    Place("agency", "project", "/v3.0/OS-AGENCY/projects/{place}/agencies/{holder}/roles"),
    Place("agency", "domain", "/v3.0/OS-AGENCY/domains/{place}/agencies/{holder}/roles"),
    Place("agency", "all_projects", "/v3.0/OS-INHERIT/domains/{place}/agencies/{holder}/roles", _INHERITED),
)


class _Assignment(BaseModel):
    agency_id: str
    enterprise_project_id: str
    role_id: str


class Assignments(BaseModel):
    role_assignments: list[_Assignment] = Field(min_length=1, max_length=100)

    @property
    def wanted(self) -> list[tuple[Holder, str, Scope]]:
        return [
            (Holder("agency", a.agency_id), a.role_id, Scope("enterprise_project", a.enterprise_project_id))
            for a in self.role_assignments
        ]


def add_grant_routes(router: APIRouter, platform: Platform, grants: Grants) -> None:
    for place in PLACES:
        _add(router, platform, grants, place)
    add_enterprise_grant_routes(router, grants)


def _add(router: APIRouter, platform: Platform, grants: Grants, at: Place) -> None:
    """The four routes of one place: list, check, grant, revoke."""
    kind = at.holder.capitalize()
    name: Callable[[str], str] = f"{{}}_{at.holder}_{at.scope}".format
    see = requires(f"iam:permissions:listRolesFor{kind}", f"{at.holder}/{{holder}}")
    one = at.path + "/{role_id}" + at.end

    @router.get(at.path + at.end, name=name("list_grants"))
    async def list_grants(
        holder: str, place: str, window: Window = windowing(), caller: Caller = see
    ) -> dict[str, Any]:
        scope, account_id = at.scope_of(caller, place), caller.principal.account_id
        found = await grants.granted(account_id, Holder(at.holder, holder), scope, window)
        rows = [role_json(platform, policy) for policy in found.rows]
        return {"roles": rows, "links": window.links(platform, found.more)}

    @router.head(one, status_code=204, name=name("check_grant"))
    async def check_grant(holder: str, place: str, role_id: str, caller: Caller = see) -> None:
        scope, account_id = at.scope_of(caller, place), caller.principal.account_id
        if not await grants.is_granted(account_id, Holder(at.holder, holder), role_id, scope):
            raise NotFound(f"policy '{role_id}' is not granted to {at.holder} '{holder}' there")

    @router.put(one, status_code=204, name=name("grant"))
    async def grant(
        holder: str,
        place: str,
        role_id: str,
        caller: Caller = requires(f"iam:permissions:grantRoleTo{kind}", f"{at.holder}/{{holder}}"),
    ) -> None:
        scope = at.scope_of(caller, place)
        await grants.grant(account_wide(caller), Holder(at.holder, holder), role_id, scope)

    @router.delete(one, status_code=204, name=name("revoke"))
    async def revoke(
        holder: str,
        place: str,
        role_id: str,
        caller: Caller = requires(f"iam:permissions:revokeRoleFrom{kind}", f"{at.holder}/{{holder}}"),
    ) -> None:
        scope = at.scope_of(caller, place)
        await grants.revoke(account_wide(caller), Holder(at.holder, holder), role_id, scope)


def add_enterprise_grant_routes(router: APIRouter, grants: Grants) -> None:
    """Enterprise projects: agencies in one body, and who has anything where; then all grants of the account."""
    several = _PERMISSION + "/subjects/agency/scopes/enterprise-project/role-assignments"

    @router.put(several, status_code=204)
    async def grant_to_agencies(
        body: Assignments, caller: Caller = requires("iam:permissions:grantRoleToAgency")
    ) -> None:
        """All of them, or none."""
        await grants.grant_all(account_wide(caller), body.wanted)

    @router.delete(several, status_code=204)
    async def revoke_from_agencies(
        body: Assignments, caller: Caller = requires("iam:permissions:revokeRoleFromAgency")
    ) -> None:
        """All of them, or none."""
        await grants.revoke_all(account_wide(caller), body.wanted)

    @router.get(_PERMISSION + "/groups/{group_id}/enterprise-projects")
    async def enterprise_projects_of_group(
        group_id: str,
        window: Window = windowing(),
        caller: Caller = requires("iam:permissions:listRolesForGroup", "group/{group_id}"),
    ) -> dict[str, Any]:
        return await where(caller, Holder("group", group_id), window)

    @router.get(_PERMISSION + "/users/{user_id}/enterprise-projects")
    async def enterprise_projects_of_user(
        user_id: str,
        window: Window = windowing(),
        caller: Caller = requires("iam:permissions:listRolesForUser", "user/{user_id}"),
    ) -> dict[str, Any]:
        return await where(caller, Holder("user", user_id), window)

    @router.get(_PERMISSION + "/enterprise-projects/{place}/groups")
    async def groups_of_enterprise_project(
        place: str,
        window: Window = windowing(),
        caller: Caller = requires("iam:groups:listGroups", "enterprise-project/{place}"),
    ) -> dict[str, Any]:
        found = await grants.groups(caller.principal.account_id, Scope("enterprise_project", place), window)
        rows = [
            {
                "id": group.id,
                "name": group.name,
                "description": group.description,
                "domainId": group.account_id,
                "createTime": group.created_at,
            }
            for group in found.rows
        ]
        return {"groups": rows}

    @router.get(_PERMISSION + "/enterprise-projects/{place}/users")
    async def users_of_enterprise_project(
        place: str,
        window: Window = windowing(),
        caller: Caller = requires("iam:users:listUsers", "enterprise-project/{place}"),
    ) -> dict[str, Any]:
        """Users with grants of their own there, not those of groups."""
        scope = Scope("enterprise_project", place)
        found, counts = await grants.users(caller.principal.account_id, scope, window)
        rows = [
            {
                "id": user.id,
                "name": user.name,
                "domain_id": user.account_id,
                "enabled": user.enabled,
                "description": user.description,
                "policy_num": counts[user.id],
                "lastest_policy_time": 0,
            }
            for user in found.rows
        ]
        return {"users": rows}

    @router.get(_PERMISSION + "/role-assignments")
    async def role_assignments(
        domain_id: str | None = None,
        role_id: str | None = None,
        subject: Literal["user", "group", "agency"] | None = None,
        user_id: str | None = Query(None, alias="subject.user_id"),
        group_id: str | None = Query(None, alias="subject.group_id"),
        agency_id: str | None = Query(None, alias="subject.agency_id"),
        scope: Literal["project", "domain", "enterprise_project"] | None = None,
        project_id: str | None = Query(None, alias="scope.project_id"),
        scope_domain_id: str | None = Query(None, alias="scope.domain_id"),
        enterprise_project_id: str | None = Query(None, alias="scope.enterprise_projects_id"),
        is_inherited: bool | None = None,
        include_group: bool = True,
        window: Window = windowing(),
        caller: Caller = requires("iam:permissions:listRoleAssignments"),
    ) -> dict[str, Any]:
        """Every grant of the account. With a user and ``include_group`` those of its groups, too."""
        account_id = about_own(caller, domain_id)
        about_own(caller, scope_domain_id)
        wanted = GrantFilter(
            role_id,
            subject if user_id is None else None,
            group_id,
            agency_id,
            user_id,
            include_group,
            scope or ("domain" if scope_domain_id else None),
            project_id,
            enterprise_project_id,
            is_inherited,
        )
        found = await grants.search(account_id, wanted, window)
        rows = [_assignment_json(account_id, grant) for grant in found.rows]
        return {"total_num": found.total, "role_assignments": rows}

    async def where(caller: Caller, holder: Holder, window: Window) -> dict[str, Any]:
        found = await grants.enterprise_projects(caller.principal.account_id, holder, window)
        return {"enterprise-projects": [{"projectId": id} for id in found.rows]}


def _assignment_json(account_id: str, grant: PolicyGrant) -> dict[str, Any]:
    holders = {"user": grant.user_id, "group": grant.group_id, "agency": grant.agency_id}
    places = {"project": grant.project_id, "enterprise_project": grant.enterprise_project_id}
    if grant.scope in ("domain", "all_projects"):
        places["domain"] = account_id
    return {
        **{kind: {"id": id} for kind, id in holders.items() if id},
        "role": {"id": grant.policy_id},
        "scope": {kind: {"id": id} for kind, id in places.items() if id},
        "is_inherited": grant.scope == "all_projects",
    }
