"""``/v1/secrets``: the keys under which the installation keeps secrets, for its operator only."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from bottega.errors import NotFound
from bottega.gateway import Caller, requires
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.rotation import reseal
from bottega.routing import Router

ACTIONS = (
    Action("bottega:secret:list", "See which keys secrets are kept under"),
    Action("bottega:secret:rotate", "Change the keys secrets are kept under", "secret", "rotateSecrets"),
)
_STEP_S = 5.0


class RotationRequest(BaseModel):
    """`new_key`: begin with new keys; otherwise go on with what was begun."""

    new_key: bool = False


def router(platform: Platform) -> APIRouter:
    routes = Router(tags=["core"])

    async def operator(caller: Caller) -> None:
        await caller.check_operator(NotFound("the keys of the installation are its operator's business"))

    def keys() -> dict[str, Any]:
        sealing = platform.sealer.key_ids
        return {"sealing_keys": sealing, "rotating": len(sealing) > 1, "token_keys": platform.identity.tokens.keys.ids}

    @routes.get("/v1/secrets")
    async def show(caller: Caller = requires("bottega:secret:list")) -> dict[str, Any]:
        """The ids of the keys, never the keys; the last of each is the one in use."""
        await operator(caller)
        return keys()

    @routes.post("/v1/secrets/rotation")
    async def rotate(body: RotationRequest, caller: Caller = requires("bottega:secret:rotate")) -> dict[str, Any]:
        """Work on a rotation for some seconds; call it again, without `new_key`, until it is `complete`.

        With `new_key` and none under way, the key of secrets at rest and the key that signs tokens are replaced.
        """
        await operator(caller)
        if body.new_key and len(platform.sealer.key_ids) == 1:
            platform.sealer.add_key()
            platform.identity.tokens.keys.rotate()
            platform.identity.tokens.keys.prune()
            platform.identity.invalidate()
        progress = await reseal(platform.database, platform.sealer, platform.shared.plugins, for_s=_STEP_S)
        return {
            **keys(),
            "complete": progress.complete,
            "resealed": progress.resealed,
            "unreadable": progress.unreadable,
            "waiting_for_plugins": progress.waiting,
        }

    return routes
