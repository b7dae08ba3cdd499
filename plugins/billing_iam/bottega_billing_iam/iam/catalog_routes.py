"""Versions, catalog, services, endpoints and regions: what clients ask to find their way (Keystone v3)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from bottega.errors import NotFound
from bottega.gateway import Caller, public, requires
from bottega.platform import Platform

from .catalog import SERVICES, Service, catalog, endpoint_id, url_of
from .shapes import links, own_links

_DISCOVERY = "a client asks this before it logs in"
_LOOK = "iam:catalog:list"


def add_catalog_routes(router: APIRouter, platform: Platform) -> None:
    version = {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }

    def version_json() -> dict[str, Any]:
        return version | {"links": [{"rel": "self", "href": f"{platform.url}/v3/"}]}

    @router.get("/", dependencies=[public(_DISCOVERY)])
    async def list_versions() -> dict[str, Any]:
        return {"versions": {"values": [version_json()]}}

    @router.get("/v3", dependencies=[public(_DISCOVERY)])
    async def show_version() -> dict[str, Any]:
        return {"version": version_json()}

    @router.get("/v3/auth/catalog")
    async def show_catalog(caller: Caller = requires(_LOOK, everyone=True)) -> dict[str, Any]:
        """The catalog for the project the credential is limited to; without one its addresses name no project."""
        rows = catalog(platform, caller.principal.scope)
        return {"catalog": rows, "links": own_links(platform, "/v3/auth/catalog")}

    @router.get("/v3/services")
    async def list_services(type: str | None = None, _: Caller = requires(_LOOK, everyone=True)) -> dict[str, Any]:
        rows = [service_json(service) for service in SERVICES if type in (None, service.type)]
        return {"services": rows, "links": links(platform, "/v3/services")}

    @router.get("/v3/services/{service_id}")
    async def show_service(service_id: str, _: Caller = requires(_LOOK, everyone=True)) -> dict[str, Any]:
        return {"service": service_json(_service(service_id))}

    @router.get("/v3/endpoints")
    async def list_endpoints(
        interface: str | None = None, service_id: str | None = None, _: Caller = requires(_LOOK, everyone=True)
    ) -> dict[str, Any]:
        rows = [endpoint_json(s) for s in SERVICES if service_id in (None, s.type) and interface in (None, "public")]
        return {"endpoints": rows, "links": links(platform, "/v3/endpoints")}

    @router.get("/v3/endpoints/{endpoint_id}")
    async def show_endpoint(endpoint_id: str, _: Caller = requires(_LOOK, everyone=True)) -> dict[str, Any]:
        found = [row for row in map(endpoint_json, SERVICES) if row["id"] == endpoint_id]
        if not found:
            raise NotFound(f"there is no endpoint '{endpoint_id}'")
        return {"endpoint": found[0]}

    @router.get("/v3/regions")
    async def list_regions(_: Caller = requires(_LOOK, everyone=True)) -> dict[str, Any]:
        return {"regions": [region_json()], "links": links(platform, "/v3/regions")}

    @router.get("/v3/regions/{region_id}")
    async def show_region(region_id: str, _: Caller = requires(_LOOK, everyone=True)) -> dict[str, Any]:
        if region_id != platform.settings.region:
            raise NotFound(f"there is no region '{region_id}'; this installation is '{platform.settings.region}'")
        return {"region": region_json()}

    def service_json(service: Service) -> dict[str, Any]:
        return {
            "id": service.type,
            "name": service.type,
            "type": service.type,
            "description": service.description,
            "enabled": True,
            "links": own_links(platform, f"/v3/services/{service.type}"),
        }

    def endpoint_json(service: Service) -> dict[str, Any]:
        id = endpoint_id(platform, service)
        return {
            "id": id,
            "service_id": service.type,
            "region": platform.settings.region,
            "region_id": platform.settings.region,
            "interface": "public",
            "url": url_of(platform, service, None) or "",
            "enabled": True,
            "links": own_links(platform, f"/v3/endpoints/{id}"),
        }

    def region_json() -> dict[str, Any]:
        id = platform.settings.region
        return {
            "id": id,
            "type": "public",
            "description": "",
            "parent_region_id": None,
            "locales": {"en-us": id, "zh-cn": id},
            "links": own_links(platform, f"/v3/regions/{id}"),
        }


def _service(id: str) -> Service:
    for service in SERVICES:
        if service.type == id:
            return service
    raise NotFound(f"there is no service '{id}'; GET /v3/services lists them")
