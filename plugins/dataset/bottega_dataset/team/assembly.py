"""How the parts of team labeling are put together over one platform."""

from __future__ import annotations

from dataclasses import dataclass

from bottega.platform import Platform
from bottega_dataset.kinds import Kinds
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

    def views(self, kinds: Kinds) -> Views:
        return Views(self.platform, kinds, self.workforces, self.tasks)
