"""What the vendor's client knows and this platform does not offer: it says so, instead of "no such API"."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter

from bottega.errors import NotSupported
from bottega.gateway import Caller, requires

_FEDERATION = "federation (identity providers, mappings, protocols) is not offered: users log in with a password"
_MFA = "second factors (MFA devices) are not offered: users log in with a password or an access key"
_CONSOLE = "login tokens for a web console are not offered: use a token of POST /v3/auth/tokens"

_PROVIDER = "/v3/OS-FEDERATION/identity_providers"
_PROTOCOL = _PROVIDER + "/{idp_id}/protocols/{protocol_id}"
_METADATA = "/v3-ext/OS-FEDERATION/identity_providers/{idp_id}/protocols/{protocol_id}/metadata"
_OPEN_ID = "/v3.0/OS-FEDERATION/identity-providers/{idp_id}/openid-connect-config"

_ROUTES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (_FEDERATION, _PROVIDER, ("GET",)),
    (_FEDERATION, _PROVIDER + "/{idp_id}", ("GET", "PUT", "PATCH", "DELETE")),
    (_FEDERATION, _PROVIDER + "/{idp_id}/protocols", ("GET",)),
    (_FEDERATION, _PROTOCOL, ("GET", "PUT", "PATCH", "DELETE")),
    (_FEDERATION, _PROTOCOL + "/auth", ("POST",)),
    (_FEDERATION, "/v3/OS-FEDERATION/mappings", ("GET",)),
    (_FEDERATION, "/v3/OS-FEDERATION/mappings/{mapping_id}", ("GET", "PUT", "PATCH", "DELETE")),
    (_FEDERATION, "/v3/OS-FEDERATION/domains", ("GET",)),
    (_FEDERATION, "/v3/OS-FEDERATION/projects", ("GET",)),
    (_FEDERATION, "/v3.0/OS-FEDERATION/tokens", ("POST",)),
    (_FEDERATION, "/v3.0/OS-AUTH/id-token/tokens", ("POST",)),
    (_FEDERATION, _METADATA, ("GET", "POST")),
    (_FEDERATION, _OPEN_ID, ("GET", "POST", "PUT")),
    (_CONSOLE, "/v3.0/OS-AUTH/securitytoken/logintokens", ("POST",)),
    (_MFA, "/v3.0/OS-MFA/virtual-mfa-devices", ("GET", "POST", "DELETE")),
    (_MFA, "/v3.0/OS-MFA/mfa-devices/bind", ("PUT",)),
    (_MFA, "/v3.0/OS-MFA/mfa-devices/unbind", ("PUT",)),
    (_MFA, "/v3.0/OS-MFA/users/{user_id}/virtual-mfa-device", ("GET",)),
)


def add_unsupported_routes(router: APIRouter) -> None:
    for reason, path, methods in _ROUTES:
        router.add_api_route(path, _refusal(reason), methods=list(methods), name=path, include_in_schema=False)


def _refusal(reason: str) -> Callable[..., Awaitable[None]]:
    async def refuse(_: Caller = requires("iam:unsupported:use", everyone=True)) -> None:
        raise NotSupported(reason)

    return refuse
