"""Which route a grant takes from the command line: whom, which policy, where."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bottega.client import Client
from bottega.errors import Invalid

from .finding import account_id, agency_id, enterprise_project_id, group_id, policy, project_id, user_named


class Whom(StrEnum):
    """Who can have a policy."""

    group = "group"
    agency = "agency"
    user = "user"


@dataclass(frozen=True, slots=True)
class Where:
    """The scope of a grant as the options say it; without any, the account."""

    project: str | None = None
    all_projects: bool = False
    enterprise_project: str | None = None

    @property
    def words(self) -> str:
        """The scope for a message."""
        if self.enterprise_project:
            return f" in enterprise project {self.enterprise_project}"
        return f" in {self.project}" if self.project else " in all projects" if self.all_projects else ""


def holder_id(client: Client, name: str, whom: Whom) -> str:
    find = {Whom.group: group_id, Whom.agency: agency_id, Whom.user: user_named}
    return find[whom](client, name)


def grant_call(
    client: Client, policy_name: str, holder: str, whom: Whom, where: Where
) -> tuple[str, dict[str, Any] | None]:
    """The path to put or delete, and the body. Raises Invalid for a scope that the holder cannot have."""
    if sum((bool(where.project), where.all_projects, bool(where.enterprise_project))) > 1:
        raise Invalid("give one of --project, --all-projects, --enterprise-project")
    if whom == Whom.user and not where.enterprise_project:
        raise Invalid("a user has policies of its own in an enterprise project only; put it into a group for the rest")
    id, role = holder_id(client, holder, whom), policy(client, policy_name)["id"]
    holders = {Whom.group: "groups", Whom.agency: "agencies", Whom.user: "users"}[whom]
    if where.enterprise_project:
        place = enterprise_project_id(client, where.enterprise_project)
        if whom == Whom.agency:
            row = {"agency_id": id, "enterprise_project_id": place, "role_id": role}
            path = "/v3.0/OS-PERMISSION/subjects/agency/scopes/enterprise-project/role-assignments"
            return path, {"role_assignments": [row]}
        return f"/v3.0/OS-PERMISSION/enterprise-projects/{place}/{holders}/{id}/roles/{role}", None
    place = f"projects/{project_id(client, where.project)}" if where.project else f"domains/{account_id(client)}"
    if where.all_projects:
        base = "/v3/OS-INHERIT" if whom == Whom.group else "/v3.0/OS-INHERIT"
        return f"{base}/{place}/{holders}/{id}/roles/{role}/inherited_to_projects", None
    base = "/v3" if whom == Whom.group else "/v3.0/OS-AGENCY"
    return f"{base}/{place}/{holders}/{id}/roles/{role}", None


def named_grant(client: Client, row: dict[str, Any]) -> dict[str, Any]:
    """A grant with names for people where the API tells ids."""
    kind = next(kind for kind in ("group", "agency", "user") if kind in row)
    id = row[kind]["id"]
    paths = {"group": f"/v3/groups/{id}", "agency": f"/v3.0/OS-AGENCY/agencies/{id}", "user": f"/v3/users/{id}"}
    [(scope, place)] = row["scope"].items()
    return {
        "policy": client.get(f"/v3/roles/{row['role']['id']}")["role"]["display_name"],
        "holder": f"{kind} {client.get(paths[kind])[kind]['name']}",
        "scope": "all projects" if row["is_inherited"] else scope.replace("_", " "),
        "place": place["id"],
    }
