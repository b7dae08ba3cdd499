"""Somebody with fewer rights, to show what a refusal says."""

from __future__ import annotations

from bottega.client import Client


def hire_intern(client: Client, mark: str) -> Client:
    """A new user who may do the common operations, but delete nothing and touch no storage; the user's own client."""
    domain = client.get("/v1/whoami")["account_id"]
    user = client.post("/v3/users", {"user": {"name": f"intern-{mark}", "domain_id": domain}})["user"]
    group = client.post("/v3/groups", {"group": {"name": f"interns-{mark}"}})["group"]
    client.put(f"/v3/groups/{group['id']}/users/{user['id']}")
    no_deletion = {"Version": "1.1", "Statement": [{"Effect": "Deny", "Action": ["modelarts:*:*delete*"]}]}
    role = {"display_name": f"no-deletion-{mark}", "type": "XA", "policy": no_deletion, "description": ""}
    own = client.post("/v3.0/OS-ROLE/roles", {"role": role})["role"]
    common = next(r for r in client.get("/v3/roles")["roles"] if r["display_name"] == "ModelArts CommonOperations")
    for granted in (own, common):
        client.put(f"/v3/projects/{client.project_id}/groups/{group['id']}/roles/{granted['id']}")
    key = client.post("/v3.0/OS-CREDENTIAL/credentials", {"credential": {"user_id": user["id"]}})["credential"]
    return Client(client.url, client.project_id, key["access"], key["secret"])
