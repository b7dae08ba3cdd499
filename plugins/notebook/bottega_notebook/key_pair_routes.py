"""``/v3/{project_id}/keypairs`` in the shapes of the vendor's key pair service (client ``huaweicloudsdkkps``)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from bottega.errors import Invalid
from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega_notebook.entities import KeyPair
from bottega_notebook.key_pairs import KeyPairs

CREATE, LIST, GET = "kps:keypair:create", "kps:keypair:list", "kps:keypair:get"
UPDATE, DELETE = "kps:keypair:update", "kps:keypair:delete"
_BASE = "/v3/{project_id}/keypairs"
_ONE = _BASE + "/{keypair_name}"
_MINE = "keypair/{keypair_name}"
_Description = Annotated[str, Field(max_length=256, pattern=r"^[^<>\x00-\x1f]*$")]


class NewKeyPair(BaseModel):
    """Without `public_key` a pair is made, and its private key is in the answer, once."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    type: Literal["ssh"] = "ssh"
    public_key: str | None = Field(None, max_length=16_384)
    scope: Literal["user"] = "user"
    user_id: str | None = Field(None, max_length=64)
    description: _Description = ""


class CreateKeyPair(BaseModel):
    keypair: NewKeyPair


class Described(BaseModel):
    description: _Description


class DescribeKeyPair(BaseModel):
    keypair: Described


def router(platform: Platform) -> APIRouter:
    routes, pairs = APIRouter(), KeyPairs(platform)

    @routes.post(_BASE)
    async def create_key_pair(body: CreateKeyPair, caller: Caller = requires(CREATE)) -> dict[str, Any]:
        """Make a key pair, or import the public key of one; it belongs to who asks."""
        wanted = body.keypair
        if wanted.user_id not in (None, caller.user_id):
            raise Invalid("keypair.user_id: a key pair is made by whom it belongs to; leave it out")
        caller.about(name=wanted.name)
        pair, private_key = await pairs.create(
            caller.project_id, caller.user_id, wanted.name, wanted.public_key, wanted.description
        )
        shown = {**_shape(pair), "user_id": pair.user_id}
        return {"keypair": shown | ({"private_key": private_key} if private_key else {})}

    @routes.get(_BASE)
    async def list_key_pairs(
        limit: int = Query(50, ge=1, le=1000),
        marker: int = Query(0, ge=0, le=2**53, description="The id of the last one of the page before."),
        caller: Caller = requires(LIST),
    ) -> dict[str, Any]:
        """The caller's own, oldest first."""
        rows = await pairs.list(caller.project_id, caller.user_id, marker, limit + 1)
        page = rows[:limit]
        after = str(page[-1].key) if len(rows) > limit else None
        return {
            "keypairs": [{"keypair": _shape(pair)} for pair in page],
            "page_info": {"next_marker": after, "previous_marker": str(marker or ""), "current_count": len(page)},
        }

    @routes.get(_ONE)
    async def show_key_pair(keypair_name: str, caller: Caller = requires(GET, _MINE)) -> dict[str, Any]:
        pair = await pairs.get(caller.project_id, caller.user_id, keypair_name)
        shown = {"id": pair.key, "description": pair.description, "user_id": pair.user_id}
        shown["frozen_state"] = 0  # the vendor has a text in lists, and a number here
        return {"keypair": _shape(pair) | shown | {"create_time": pair.created_at, "deleted": False}}

    @routes.put(_ONE, status_code=204, response_class=Response)
    async def describe_key_pair(
        keypair_name: str, body: DescribeKeyPair, caller: Caller = requires(UPDATE, _MINE)
    ) -> None:
        caller.about(name=keypair_name)
        await pairs.describe(caller.project_id, caller.user_id, keypair_name, body.keypair.description)

    @routes.delete(_ONE, status_code=204, response_class=Response)
    async def delete_key_pair(keypair_name: str, caller: Caller = requires(DELETE, _MINE)) -> None:
        """What it has opened is closed within half a minute."""
        caller.about(name=keypair_name)
        await pairs.delete(caller.project_id, caller.user_id, keypair_name)

    return routes


def _shape(pair: KeyPair) -> dict[str, Any]:
    return {
        "name": pair.name,
        "type": "ssh",
        "scope": "user",
        "public_key": pair.public_key,
        "fingerprint": pair.fingerprint,
        "is_key_protection": False,
        "frozen_state": "0",
    }
