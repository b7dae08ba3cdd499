"""Notebook instances as the official client reads them (sdk_spec §3.4)."""

from __future__ import annotations

from typing import Any

from bottega.backends import Flavor
from bottega.errors import NotFound, Unauthenticated
from bottega.gateway import Caller
from bottega.platform import Platform
from bottega.tags import tag_list
from bottega_notebook.entities import Notebook
from bottega_notebook.jupyter import FOLDER, base_path
from bottega_notebook.key_pairs import KeyPairs
from bottega_notebook.service import CREATING, RUNNING, STARTING, Instance
from bottega_notebook.ssh_door import SshDoor

IMAGE_ID = "6b2c3f52-6a0e-5b1c-9d55-2f2a4f8f7f10"
"""Of the one built-in image: the environment the platform itself runs in."""

_STEPS = ("prepare storage", "prepare compute", "configure network", "start JupyterLab")


class Views:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def told(self, caller: Caller, instance: Instance) -> dict[str, Any]:
        """The whole instance, which every operation answers with; the audit trail learns its name."""
        caller.about(resource=instance.resource.urn, name=instance.resource.name)
        return await self.shown(instance)

    async def shown(self, instance: Instance) -> dict[str, Any]:
        resource, notebook = instance.resource, instance.notebook
        running = resource.status == RUNNING
        path = base_path(resource.project_id, resource.id)
        return {
            "id": resource.id,
            "name": resource.name,
            "description": resource.description,
            "status": resource.status,
            "fail_reason": notebook.fail_reason,
            "url": f"{self._platform.url}{path}lab" if running else "",
            "token": "",
            "feature": "NOTEBOOK",
            "flavor": notebook.flavor,
            "image": _image(notebook),
            "lease": self.lease(notebook),
            "volume": {
                "category": "EVS",
                "ownership": "MANAGED",
                "capacity": notebook.capacity_gb,
                "mount_path": f"~/{FOLDER}/",
            },
            "action_progress": _progress(resource.status),
            "endpoints": [
                {
                    "service": "NOTEBOOK",
                    "dev_service": "NOTEBOOK",
                    "uri": "",
                    "key_pair_names": [],
                    "allowed_access_ips": notebook.allowed_ips,
                },
                *await self._ssh(notebook, running),
            ],
            "workspace_id": resource.workspace_id,
            "user": await self._user(resource.owner_id),
            "user_id": resource.owner_id,
            "billing_items": ["COMPUTE"],
            "tags": tag_list(resource.tags),
            "create_at": notebook.created_at,
            "update_at": resource.updated_at,
            "urn": resource.urn,
        }

    def lease(self, notebook: Notebook) -> dict[str, Any]:
        """`create_at` is when it began to count; at ``create_at + duration`` the notebook is stopped."""
        return {
            "create_at": notebook.lease_from,
            "duration": notebook.lease_ms,
            "enable": True,
            "type": "TIMING",
            "update_at": notebook.lease_updated_at,
        }

    def flavor(self, flavor: Flavor) -> dict[str, Any]:
        category = "GPU" if flavor.gpus else "CPU"
        return {
            "id": flavor.id,
            "name": flavor.name,
            "description": flavor.name,
            "arch": flavor.arch,
            "category": category,
            "feature": "NOTEBOOK",
            "free": False,
            "vcpus": max(1, round(flavor.cpus)),
            "memory": flavor.memory_mb * 2**20,
            "gpu": {"gpu": flavor.gpus} if flavor.gpus else None,
            "sold_out": False,
            "storages": ["EVS"],
        }

    async def _ssh(self, notebook: Notebook, running: bool) -> list[dict[str, Any]]:
        async with self._platform.database.read() as session:
            pairs = await KeyPairs.of(session, notebook.key_pairs)
        if not pairs:
            return []
        place = SshDoor.of(self._platform).place
        return [
            {
                "service": "SSH",
                "dev_service": "SSH",
                "uri": f"ssh://{notebook.id}@{place[0]}:{place[1]}" if running and place else "",
                "key_pair_names": [pair.name for pair in pairs],
                "allowed_access_ips": notebook.allowed_ips,
            }
        ]

    async def _user(self, user_id: str) -> dict[str, Any]:
        identity = self._platform.identity
        try:
            user = await identity.user(user_id)
            account = await identity.account(user.account_id)
        except (Unauthenticated, NotFound):  # gone since; the notebook is still there
            return {"id": user_id, "name": "", "domain": None}
        return {"id": user_id, "name": user.name, "domain": {"id": account.id, "name": account.name}}


def page_of(rows: list[dict[str, Any]], total: int, offset: int, limit: int) -> dict[str, Any]:
    """`current` is the page, counted from 0 (sdk_spec §1.6)."""
    return {
        "current": offset // limit,
        "data": rows,
        "pages": -(-total // limit),
        "size": len(rows),
        "total": total,
    }


def _image(notebook: Notebook) -> dict[str, Any]:
    return {
        "id": IMAGE_ID,
        "name": "jupyterlab-python3",
        "tag": "1",
        "type": "BUILD_IN",
        "status": "ACTIVE",
        "description": "JupyterLab with the packages of this installation",
        "dev_services": ["NOTEBOOK", "SSH"],
        "resource_categories": ["CPU", "GPU"],
        "service_type": "DEV",
        "visibility": "PUBLIC",
        "workspace_id": "0",
        "create_at": notebook.created_at,
        "update_at": notebook.created_at,
    }


def _progress(status: str) -> list[dict[str, Any]]:
    if status not in (CREATING, STARTING, RUNNING):
        return []
    done = "COMPLETED" if status == RUNNING else "PROCESSING"
    return [
        {"step": number, "status": done if number == len(_STEPS) else "COMPLETED", "description": step}
        for number, step in enumerate(_STEPS, 1)
    ]
