"""Ids from names, for commands: people name users, groups and the rest; the API wants ids."""

from __future__ import annotations

from typing import Any

from bottega.client import ApiFailure, Client

CUSTOM = "/v3.0/OS-ROLE/roles"
AGENCIES = "/v3.0/OS-AGENCY/agencies"
ENTERPRISE_PROJECTS = "/v1.0/enterprise-projects"


def account_id(client: Client) -> str:
    return str(client.get("/v1/whoami")["account_id"])


def user_named(client: Client, name: str) -> str:
    return str(one("user", name, client.get("/v3/users", {"name": name})["users"])["id"])


def group_id(client: Client, name: str) -> str:
    return str(one("group", name, client.get("/v3/groups", {"name": name})["groups"])["id"])


def agency_id(client: Client, name: str) -> str:
    return str(one("agency", name, client.get(AGENCIES, {"name": name})["agencies"])["id"])


def project_id(client: Client, name: str) -> str:
    """By name, or by id."""
    every = client.get("/v3/projects")["projects"]
    return str(one("project", name, [p for p in every if name in (p["name"], p["id"])])["id"])


def enterprise_project_id(client: Client, name: str) -> str:
    """By name, or by id."""
    every = client.get(ENTERPRISE_PROJECTS)["enterprise_projects"]
    return str(one("enterprise project", name, [p for p in every if name in (p["name"], p["id"])])["id"])


def policy(client: Client, name: str) -> dict[str, Any]:
    """A system policy, or one of the account."""
    asked = {"display_name": name}
    found = client.get("/v3/roles", asked)["roles"]
    found += client.get("/v3/roles", asked | {"domain_id": account_id(client)})["roles"]
    return one("policy", name, [role for role in found if role["display_name"] == name])


def one(kind: str, name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The first that was found. Raises ApiFailure when there is none."""
    if not found:
        raise ApiFailure(404, "ModelArts.0104", f"there is no {kind} '{name}'", "-")
    return found[0]
