"""``/v3.0/OS-CREDENTIAL/credentials``: permanent access keys."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from bottega.gateway import Caller, requires

from .credentials import Credentials
from .identities import iam_urn
from .permission import account_wide, own_or_allowed
from .shapes import credential_json

KEYS = "manage_accesskey"


class _NewCredential(BaseModel):
    user_id: str
    description: str = Field("", max_length=255)


class NewCredential(BaseModel):
    credential: _NewCredential


class _CredentialChanges(BaseModel):
    status: Literal["active", "inactive"] | None = None
    description: str | None = Field(None, max_length=255)


class CredentialChanges(BaseModel):
    credential: _CredentialChanges


def add_credential_routes(router: APIRouter, credentials: Credentials) -> None:
    base = "/v3.0/OS-CREDENTIAL/credentials"

    @router.get(base)
    async def list_credentials(
        user_id: str | None = None, caller: Caller = requires("iam:credentials:listCredentials", everyone=True)
    ) -> dict[str, Any]:
        """The caller's own access keys, or with the right another user's."""
        user_id = user_id or caller.user_id
        await own_or_allowed(caller, user_id, "iam:credentials:listCredentials", "user", user_id)
        found = await credentials.list(caller.principal.account_id, user_id)
        return {"credentials": [credential_json(c) for c in found]}

    @router.post(base, status_code=201)
    async def create_credential(
        body: NewCredential, caller: Caller = requires("iam:credentials:createCredential", everyone=True)
    ) -> dict[str, Any]:
        """The secret is in this answer and never shown again."""
        account_wide(caller)
        user_id = body.credential.user_id
        await own_or_allowed(caller, user_id, "iam:credentials:createCredential", "user", user_id, KEYS)
        row, issued = await credentials.create(caller.principal, user_id, body.credential.description)
        caller.about(resource=iam_urn("credential", row.access_key), name=row.access_key)
        return {"credential": credential_json(row) | {"secret": issued.secret_key}}

    @router.get(base + "/{access_key}")
    async def show_credential(
        access_key: str,
        caller: Caller = requires("iam:credentials:getCredential", "credential/{access_key}", everyone=True),
    ) -> dict[str, Any]:
        row = await credentials.get(caller.principal.account_id, access_key)
        await own_or_allowed(caller, row.user_id, "iam:credentials:getCredential", "credential", access_key)
        return {"credential": credential_json(row)}

    @router.put(base + "/{access_key}")
    async def update_credential(
        access_key: str,
        body: CredentialChanges,
        caller: Caller = requires("iam:credentials:updateCredential", "credential/{access_key}", everyone=True),
    ) -> dict[str, Any]:
        """``inactive`` makes the key useless at once."""
        row = await credentials.get(account_wide(caller), access_key)
        await own_or_allowed(caller, row.user_id, "iam:credentials:updateCredential", "credential", access_key, KEYS)
        status = body.credential.status
        enabled = None if status is None else status == "active"
        row = await credentials.update(caller.principal, access_key, enabled, body.credential.description)
        return {"credential": credential_json(row)}

    @router.delete(base + "/{access_key}", status_code=204)
    async def delete_credential(
        access_key: str,
        caller: Caller = requires("iam:credentials:deleteCredential", "credential/{access_key}", everyone=True),
    ) -> None:
        row = await credentials.get(account_wide(caller), access_key)
        await own_or_allowed(caller, row.user_id, "iam:credentials:deleteCredential", "credential", access_key, KEYS)
        await credentials.delete(caller.principal, access_key)
