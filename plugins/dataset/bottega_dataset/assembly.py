"""How the parts of this plugin that work in the background are put together."""

from __future__ import annotations

from dataclasses import dataclass

from bottega.platform import Platform
from bottega_dataset.exports import Exports
from bottega_dataset.imports import Imports
from bottega_dataset.intelligent.planner import TASK_TYPES
from bottega_dataset.intelligent.work import IntelligentTasks
from bottega_dataset.kinds import Kinds
from bottega_dataset.processing.preparation import Preparation
from bottega_dataset.processing.settlement import Settlement
from bottega_dataset.publishing import Publishing
from bottega_dataset.rollback import KIND as ROLLBACK
from bottega_dataset.rollback import Rollbacks
from bottega_dataset.similarity import Signing
from bottega_dataset.sync import Sync, Watch
from bottega_dataset.tasks import Tasks
from bottega_dataset.team.allocating import Allocating
from bottega_dataset.team.merging import Merging
from bottega_dataset.team.team_tasks import ALLOCATE, MERGE


@dataclass(frozen=True)
class Assembly:
    """The parts over one platform. They keep nothing between calls, so each hook may have its own."""

    publishing: Publishing
    exports: Exports
    preparation: Preparation
    settlement: Settlement
    intelligent: IntelligentTasks
    allocating: Allocating
    tasks: Tasks
    watch: Watch

    @classmethod
    def of(cls, platform: Platform) -> Assembly:
        kinds = Kinds.of_platform(platform)
        publishing, exports = Publishing(platform, kinds), Exports(platform, kinds)
        intelligent = IntelligentTasks(platform, kinds)
        allocating = Allocating(platform, kinds)
        imports = Imports(platform, kinds)
        performers = {
            **dict.fromkeys(TASK_TYPES, intelligent.perform),
            "import": imports.perform,
            "signatures": Signing(platform, kinds).perform,
            "sync": Sync(platform, kinds, imports).perform,
            "export": exports.perform,
            "publish": publishing.perform,
            ROLLBACK: Rollbacks(platform, kinds).perform,
            ALLOCATE: allocating.perform,
            MERGE: Merging(platform, kinds).perform,
        }
        settlement = Settlement(platform, kinds)
        preparation = Preparation(platform, kinds, settlement)
        work = Tasks(platform.database, performers, platform.settings.problems_kept)
        return cls(publishing, exports, preparation, settlement, intelligent, allocating, work, Watch(platform, kinds))
