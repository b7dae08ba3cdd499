"""The services of an installation and where they answer, for clients that discover them (Keystone's catalog)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bottega.platform import Platform


@dataclass(frozen=True, slots=True)
class Service:
    """A service by its type, and its path; with `in_project` the project's id follows it."""

    type: str
    path: str
    description: str
    in_project: bool = False


SERVICES = (
    Service("identity", "/v3", "Identity and access management (Keystone)"),
    Service("iam", "/v3", "Identity and access management"),
    Service("eps", "/v1.0", "Enterprise projects"),
    Service("modelarts", "/v1", "Models, services, notebooks, workspaces, pools", True),
    Service("modelartsv1", "/v1", "Models, services, notebooks, workspaces, pools", True),
    Service("modelartsv2", "/v2", "Training jobs, datasets", True),
    Service("smn", "/v2", "Notifications", True),
    Service("cts", "/v3", "Audit", True),
    Service("obs", "/s3", "Object storage (S3), with the access keys of users"),
)


def url_of(platform: Platform, service: Service, project_id: str | None) -> str | None:
    """Where a service answers; None for the object store when there is none."""
    if service.type == "obs" and platform.shared.s3 is None:
        return None
    place = f"/{project_id}" if service.in_project and project_id else ""
    return f"{platform.url}{service.path}{place}"


def endpoint_id(platform: Platform, service: Service) -> str:
    return f"{service.type}-{platform.settings.region}"


def catalog(platform: Platform, project_id: str | None) -> list[dict[str, Any]]:
    """The catalog as a token shows it; the addresses of services in a project need `project_id`."""
    region = platform.settings.region
    return [
        {
            "id": service.type,
            "name": service.type,
            "type": service.type,
            "endpoints": [
                {
                    "id": endpoint_id(platform, service),
                    "interface": "public",
                    "region": region,
                    "region_id": region,
                    "url": url,
                }
            ],
        }
        for service in SERVICES
        if (url := url_of(platform, service, project_id)) is not None
    ]
