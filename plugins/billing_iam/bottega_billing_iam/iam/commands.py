"""``bottega users|groups|policies|projects|keys`` …: administration from the command line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bottega.cli_support import connect, note, show
from bottega.errors import Invalid
from bottega.private_files import write_private

from .account_commands import accounts, password
from .agency_commands import agencies, enterprise_projects
from .finding import CUSTOM, account_id, group_id, project_id, user_named
from .finding import policy as policy_of
from .granting import Where, Whom, grant_call, holder_id, named_grant
from .security_commands import security
from .temporary_key_command import temporary
from .token_command import token

KEYS = "/v3.0/OS-CREDENTIAL/credentials"
InProject = Annotated[str | None, typer.Option("--project", help="Name or id of one project.")]
AllProjects = Annotated[bool, typer.Option("--all-projects", help="In every project, rather than on the account.")]
InEnterpriseProject = Annotated[
    str | None, typer.Option("--enterprise-project", help="Name or id of an enterprise project.")
]
ToWhom = Annotated[Whom, typer.Option("--to", help="What the name means.")]

users = typer.Typer(no_args_is_help=True, help="Users of the account. A new one has no rights.")
groups = typer.Typer(no_args_is_help=True, help="Groups: rights reach users through them only.")
policies = typer.Typer(no_args_is_help=True, help="System and custom policies, and granting them.")
projects = typer.Typer(no_args_is_help=True, help="Projects of the account.")
keys = typer.Typer(no_args_is_help=True, help="Access keys.")


def add_to(cli: typer.Typer) -> None:
    for name, app in (
        ("accounts", accounts),
        ("users", users),
        ("groups", groups),
        ("policies", policies),
        ("projects", projects),
        ("keys", keys),
        ("agencies", agencies),
        ("enterprise-projects", enterprise_projects),
        ("security", security),
    ):
        cli.add_typer(app, name=name)
    cli.command("token")(token)
    keys.command("temporary")(temporary)
    users.command("password")(password)


@users.command("list")
def list_users() -> None:
    """List the users."""
    show(connect().get("/v3/users")["users"], ["id", "name", "enabled", "is_domain_owner", "create_time"])


@users.command("create")
def create_user(
    name: str, ask_password: Annotated[bool, typer.Option(help="Ask for a password to log in with.")] = False
) -> None:
    """Make a user; without a password it works with access keys only."""
    password = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if ask_password else None
    show(connect().post("/v3/users", {"user": {"name": name, "password": password}})["user"], ["id", "name", "enabled"])


@users.command("disable")
def disable_user(name: str) -> None:
    """Disable a user; its tokens and keys stop working at once."""
    _enable(name, False)


@users.command("enable")
def enable_user(name: str) -> None:
    """Enable a user again."""
    _enable(name, True)


@users.command("delete")
def delete_user(name: str) -> None:
    """Delete a user with its access keys."""
    client = connect()
    client.delete(f"/v3/users/{user_named(client, name)}")
    note(f"user {name} is deleted")


@groups.command("list")
def list_groups() -> None:
    """List the groups."""
    show(connect().get("/v3/groups")["groups"], ["id", "name", "description"])


@groups.command("create")
def create_group(name: str, description: str = "") -> None:
    """Make a group."""
    group = connect().post("/v3/groups", {"group": {"name": name, "description": description}})["group"]
    show(group, ["id", "name", "description"])


@groups.command("delete")
def delete_group(name: str) -> None:
    """Delete a group."""
    client = connect()
    client.delete(f"/v3/groups/{group_id(client, name)}")
    note(f"group {name} is deleted")


@groups.command("add")
def add_member(group: str, user: str) -> None:
    """Put USER into GROUP."""
    client = connect()
    client.put(f"/v3/groups/{group_id(client, group)}/users/{user_named(client, user)}")
    note(f"{user} is in {group}")


@groups.command("remove")
def remove_member(group: str, user: str) -> None:
    """Take USER out of GROUP."""
    client = connect()
    client.delete(f"/v3/groups/{group_id(client, group)}/users/{user_named(client, user)}")
    note(f"{user} is not in {group} any more")


@groups.command("show")
def show_group(group: str) -> None:
    """Show the members of GROUP and what is granted to it for all of the account."""
    client = connect()
    id = group_id(client, group)
    members = client.get(f"/v3/groups/{id}/users")["users"]
    granted = client.get(f"/v3/domains/{account_id(client)}/groups/{id}/roles")["roles"]
    show({"name": group, "users": [u["name"] for u in members], "policies": [r["display_name"] for r in granted]})


@policies.command("list")
def list_policies(custom: Annotated[bool, typer.Option(help="Only those made in this account.")] = False) -> None:
    """List the policies."""
    client = connect()
    found = client.get(CUSTOM)["roles"]
    if not custom:
        found = client.get("/v3/roles")["roles"] + found
    show(found, {"id": "id", "display_name": "name", "catalog": "catalog", "description": "description"})


@policies.command("show")
def show_policy(name: str) -> None:
    """Print the document of a policy."""
    sys.stdout.write(json.dumps(policy_of(connect(), name)["policy"], indent=2, ensure_ascii=False) + "\n")


@policies.command("create")
def create_policy(
    name: str, document: Annotated[Path, typer.Argument(help="JSON file.")], description: str = ""
) -> None:
    """Make a custom policy; mistakes in it are named with their position."""
    role = {"display_name": name, "type": "AA", "description": description, "policy": _document(document, name)}
    show(connect().post(CUSTOM, {"role": role})["role"], ["id", "display_name", "description"])


@policies.command("update")
def update_policy(name: str, document: Annotated[Path, typer.Argument(help="JSON file.")]) -> None:
    """Give a custom policy another document, which counts at once for all who have it."""
    read = _document(document, name)
    client = connect()
    client.request("PATCH", f"{CUSTOM}/{policy_of(client, name)['id']}", json={"role": {"policy": read}})
    note(f"policy {name} is changed")


@policies.command("check")
def check(document: Annotated[Path, typer.Argument(help="JSON file.")]) -> None:
    """Tell every mistake of a policy with its position, and make nothing; exit code 1 when there is one."""
    from bottega.iam import check_policy

    found = check_policy(_text(document))
    show([{"position": problem.position, "reason": problem.reason} for problem in found], ["position", "reason"])
    if found:
        raise typer.Exit(1)


@policies.command("delete")
def delete_policy(name: str) -> None:
    """Delete a custom policy that is granted to nobody."""
    client = connect()
    client.delete(f"{CUSTOM}/{policy_of(client, name)['id']}")
    note(f"policy {name} is deleted")


@policies.command("grant")
def grant(
    policy: str,
    holder: Annotated[str, typer.Argument(help="Name of the group, or agency or user.")],
    to: ToWhom = Whom.group,
    project: InProject = None,
    all_projects: AllProjects = False,
    enterprise_project: InEnterpriseProject = None,
) -> None:
    """Grant POLICY to a group, in one project or all of the account, or in an enterprise project."""
    client = connect()
    where = Where(project, all_projects, enterprise_project)
    path, body = grant_call(client, policy, holder, to, where)
    client.put(path, body)
    note(f"{holder} has {policy}{where.words}")


@policies.command("revoke")
def revoke(
    policy: str,
    holder: Annotated[str, typer.Argument(help="Name of the group, or agency or user.")],
    to: ToWhom = Whom.group,
    project: InProject = None,
    all_projects: AllProjects = False,
    enterprise_project: InEnterpriseProject = None,
) -> None:
    """Take POLICY from a group, agency or user, in the scope it was granted in."""
    client = connect()
    where = Where(project, all_projects, enterprise_project)
    path, body = grant_call(client, policy, holder, to, where)
    client.delete(path, body)
    note(f"{holder} has {policy} no more{where.words}")


@policies.command("grants")
def list_grants(
    holder: Annotated[str | None, typer.Argument(help="Only those of this group, agency or user.")] = None,
    to: ToWhom = Whom.group,
) -> None:
    """List every grant of the account; those of a user with those of its groups."""
    client = connect()
    asked = {f"subject.{to.value}_id": holder_id(client, holder, to)} if holder else {}
    found = client.get("/v3.0/OS-PERMISSION/role-assignments", asked)["role_assignments"]
    show([named_grant(client, row) for row in found], ["policy", "holder", "scope", "place"])


@projects.command("list")
def list_projects() -> None:
    """List the projects."""
    show(connect().get("/v3/projects")["projects"], ["id", "name", "enabled", "description"])


@projects.command("create")
def create_project(
    name: str,
    description: str = "",
    parent: Annotated[str | None, typer.Option(help="Name of the project it is a part of.")] = None,
) -> None:
    """Make a project, or a part of one."""
    client = connect()
    body = {"name": name, "description": description}
    body |= {"parent_id": project_id(client, parent)} if parent else {}
    project = client.post("/v3/projects", {"project": body})["project"]
    show(project, ["id", "name", "description"])


@projects.command("delete")
def delete_project(name: str) -> None:
    """Delete a project that never held anything."""
    client = connect()
    client.delete(f"/v3/projects/{project_id(client, name)}")
    note(f"project {name} is deleted")


@keys.command("list")
def list_keys(user: str | None = None) -> None:
    """List one's own access keys, or those of USER."""
    client = connect()
    found = client.get(KEYS, {"user_id": user_named(client, user) if user else None})["credentials"]
    show(found, ["access", "status", "create_time", "description"])


@keys.command("create")
def create_key(
    user: str | None = None,
    description: str = "",
    output: Annotated[Path | None, typer.Option(help="Write credentials.json (mode 0600) for --credentials.")] = None,
) -> None:
    """Make an access key; its secret is shown, or written to a file, this once."""
    client = connect()
    if output is not None and not os.access(output.parent, os.W_OK):
        # Found out before: a key whose secret nobody got would stay behind.
        raise Invalid(f"cannot write {output}: '{output.parent}' is no directory you may write in")
    if output is not None and output.exists():
        raise Invalid(f"{output} exists; choose another file")
    user_id = user_named(client, user) if user else client.get("/v1/whoami")["user_id"]
    made = client.post(KEYS, {"credential": {"user_id": user_id, "description": description}})["credential"]
    if output is None:
        show(made, ["access", "secret", "user_id"])
        return
    keys = {"access_key": made["access"], "secret_key": made["secret"]}
    write_private(output, json.dumps({"url": client.url, "project_id": client.project_id, **keys}, indent=2) + "\n")
    note(f"{output} holds the key {made['access']}; use it with --credentials")


@keys.command("disable")
def disable_key(access_key: str) -> None:
    """Make an access key useless, at once."""
    connect().put(f"{KEYS}/{access_key}", {"credential": {"status": "inactive"}})
    note(f"{access_key} is disabled")


@keys.command("enable")
def enable_key(access_key: str) -> None:
    """Enable an access key again."""
    connect().put(f"{KEYS}/{access_key}", {"credential": {"status": "active"}})
    note(f"{access_key} is enabled")


@keys.command("delete")
def delete_key(access_key: str) -> None:
    """Delete an access key."""
    connect().delete(f"{KEYS}/{access_key}")
    note(f"{access_key} is deleted")


def _text(document: Path) -> str:
    try:
        return document.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise Invalid(f"cannot read the policy {document}: {getattr(e, 'strerror', None) or 'not a text'}") from e


def _document(document: Path, name: str) -> dict[str, Any]:
    """A policy that is one. Raises Invalid, with every mistake, for another."""
    from bottega.iam import parse_policy

    text = _text(document)
    parse_policy(text, name)
    read: dict[str, Any] = json.loads(text)
    return read


def _enable(name: str, enabled: bool) -> None:
    client = connect()
    user = client.request("PATCH", f"/v3/users/{user_named(client, name)}", json={"user": {"enabled": enabled}}).json()[
        "user"
    ]
    show(user, ["id", "name", "enabled"])
