"""``bottega quotas``: limits and what is used of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bottega.cli_support import connect, show

app = typer.Typer(help="How many jobs, notebooks, services … there may be.", no_args_is_help=True)

_WORKSPACE = "/v1/{project_id}/workspaces/%s/quotas"
_Resource = Annotated[str, typer.Argument(help="Such as notebook.instance; `bottega quotas list` names them.")]
_Account = Annotated[str | None, typer.Option(help="Id of another account (the platform's first one only).")]


@app.command("list")
def listing(
    account: _Account = None, workspace: Annotated[str | None, typer.Option(help="Id of a workspace.")] = None
) -> None:
    """Show the limits of the account, or of a workspace, and what is used of them."""
    client = connect()
    if workspace:
        rows = client.get(_WORKSPACE % workspace)["quotas"]
        show(rows, {"resource": "resource", "name_en": "name", "quota": "quota", "max_quota": "of the account"})
        return
    path = f"/v1/accounts/{account}/quotas" if account else "/v1/{project_id}/quotas"
    show(
        client.get(path)["quotas"]["resources"], {"type": "resource", "name": "name", "quota": "quota", "used": "used"}
    )


@app.command("set")
def change(
    resource: _Resource,
    quota: Annotated[str, typer.Argument(help="A number, or `default` to have none of its own.")],
    account: _Account = None,
    workspace: Annotated[str | None, typer.Option(help="Id of the workspace it is for.")] = None,
    user: Annotated[str | None, typer.Option(help="Id of the user whose training jobs it is for.")] = None,
) -> None:
    """Change the limit of an account, a workspace, or the training jobs of a user."""
    if sum(each is not None for each in (account, workspace, user)) != 1:
        raise typer.BadParameter("name one: --account, --workspace or --user")
    if quota != "default" and not quota.isdecimal():
        raise typer.BadParameter(f"'{quota}' is neither a number nor `default`", param_hint="QUOTA")
    own: int | None = None if quota == "default" else int(quota)
    client = connect()
    answer: Any
    if account is not None:
        answer = client.put(f"/v1/accounts/{account}/quotas", {"quotas": [{"type": resource, "quota": own}]})
        show([row for row in answer["quotas"]["resources"] if row["type"] == resource])
        return
    limit = {"quota": -1 if own is None else own}
    if workspace is not None:
        answer = client.put(_WORKSPACE % workspace, {"quotas": [{"resource": resource, **limit}]})
    else:
        named = "job-num" if resource == "training.job" else resource
        body = {"user_id": user, "quotas": [{"resource": named, **limit}]}
        answer = client.put("/v2/{project_id}/training-quotas", body)
    show(answer["quotas"], ["resource", "quota"])
