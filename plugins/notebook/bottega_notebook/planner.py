"""What a notebook will use and need over its whole life, told before there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bottega.gateway import Caller
from bottega.plans import Need, Plan, Use
from bottega.urn import Urn
from bottega_notebook.access import ACTION
from bottega_notebook.service import KIND, Notebooks

if TYPE_CHECKING:
    from bottega_notebook.requests import CreateRequest

CREATE = "modelarts:notebook:create"


class NotebookPlanner:
    def __init__(self, notebooks: Notebooks) -> None:
        self._notebooks = notebooks

    async def plan(self, caller: Caller, body: CreateRequest) -> Plan:
        """Raises Invalid for an unknown flavor or image. A notebook's disk is the platform's: it needs no storage."""
        body.check_image()
        flavor = self._notebooks.flavor(body.flavor)
        mine = str(Urn("notebook", caller.project_id, KIND, "*"))
        needs = (
            Need(CREATE, f"bottega:notebook:{caller.project_id}:*", "the notebook is created"),
            Need("modelarts:notebook:get", mine, "the notebook is found again"),
            Need(ACTION, mine, "the notebook is opened"),
            Need("modelarts:notebook:action", mine, "the notebook is stopped when it shall cost no more"),
        )
        disk = Use("disk", "disk", body.volume.capacity, "gb")
        return Plan((Use("notebook", flavor.id), disk), needs, body.workspace_id)
