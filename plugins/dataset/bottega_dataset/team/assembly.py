"""How the parts of team labeling are put together over one platform."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bottega.database import AsyncSession, Transaction
from bottega.gateway import Caller
from bottega.platform import Platform
from bottega_dataset.datasets import Datasets, Found
from bottega_dataset.kinds import Kinds
from bottega_dataset.team.entities import TeamTask
from bottega_dataset.team.labelers import Labelers
from bottega_dataset.team.mails import Mails
from bottega_dataset.team.team_tasks import TeamTasks
from bottega_dataset.team.views import Views
from bottega_dataset.team.workforces import Workforces


@dataclass(frozen=True, eq=False)
class Teams:
    platform: Platform
    labelers: Labelers
    mails: Mails
    workforces: Workforces
    tasks: TeamTasks

    @classmethod
    def of(cls, platform: Platform) -> Teams:
        labelers = Labelers(platform)
        mails = Mails(platform, labelers)
        workforces = Workforces(platform, labelers, mails)
        return cls(platform, labelers, mails, workforces, TeamTasks(platform, workforces))

    @asynccontextmanager
    async def reading(
        self, caller: Caller, dataset_id: str, task_id: str
    ) -> AsyncIterator[tuple[AsyncSession, Found, TeamTask]]:
        """A team labeling task of a dataset, to be looked at by its owner. Raises NotFound."""
        async with self.platform.database.read() as session:
            found = await Datasets(self.platform).get(session, caller.project_id, dataset_id)
            yield session, found, await self.tasks.get(session, found, task_id)

    @asynccontextmanager
    async def changing(
        self, caller: Caller, dataset_id: str, task_id: str
    ) -> AsyncIterator[tuple[Transaction, Found, TeamTask]]:
        """The same, to be changed: whoever else changes the task waits. The record names the dataset."""
        async with self.platform.database.transaction() as tx:
            found = await Datasets(self.platform).get(tx.session, caller.project_id, dataset_id)
            caller.about(resource=found.resource.urn, name=found.resource.name)
            yield tx, found, await self.tasks.locked(tx, found, task_id)

    def views(self, kinds: Kinds) -> Views:
        return Views(self.platform, kinds, self.workforces, self.tasks)
