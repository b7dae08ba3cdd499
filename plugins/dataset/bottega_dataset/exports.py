"""Exporting a dataset's samples, or a version's, as a manifest."""

from __future__ import annotations

from datetime import UTC, datetime

from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset import versions
from bottega_dataset.entities import Task
from bottega_dataset.kinds import Kinds
from bottega_dataset.query import SampleFilter, narrowed
from bottega_dataset.sample import LABELED, UNLABELED
from bottega_dataset.snapshot import ManifestFile, read, snapshot
from bottega_dataset.tasks import Running

STATES = {0: LABELED, 1: UNLABELED, 2: None, 3: None}
"""What each ``export_type`` of the API takes: labeled, unlabeled, all, by search conditions."""


def target(task: Task, name: str) -> ObjectPath:
    """``DatasetName-VersionName.manifest`` (002 §2.3.2.2), the time of the request standing for the version."""
    moment = datetime.fromtimestamp(task.created_at / 1000, UTC)
    stamp = moment.strftime("%Y%m%d%H%M%S") + f"{task.created_at % 1000:03d}"
    return ObjectPath.parse(task.params["path"], "path").folder / f"{name}-v{stamp}.manifest"


def filters(params: dict[str, object]) -> list[SampleFilter]:
    """Of which at least one must hold: several search conditions are alternatives (the API's ``search_conditions``)."""
    export_type = params["export_type"]
    assert isinstance(export_type, int)
    state = STATES[export_type]
    given = params.get("search_conditions")
    base = SampleFilter(state=state or str(params.get("sample_state") or "") or None)
    return [narrowed(base, one) for one in given] if isinstance(given, list) and given else [base]


class Exports:
    """Performs export tasks."""

    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def perform(self, running: Running) -> None:
        task, dataset = running.task, running.dataset
        kind = self._kinds.of(dataset.dataset_type)
        async with self._platform.database.read() as session:
            resource = await self._platform.resources.get(session, "dataset", task.project_id, dataset.id)
        path = target(task, resource.name)
        if task.params.get("version_id"):
            written = await self._copy(running, task.params["version_id"], path)
        else:
            with ManifestFile() as file:
                async with snapshot(self._platform.database) as session:
                    seen: set[int] = set()
                    alternatives = filters(task.params)
                    for wanted in alternatives:
                        async for batch in read(session, dataset, kind.annotation_type, wanted):
                            file.write(record for key, _, record in batch if key not in seen)
                            if len(alternatives) > 1:
                                seen.update(key for key, *_ in batch)
                await self._platform.objects.upload(file.finish(), path, "application/json-lines")
            written = file.lines
        async with self._platform.database.transaction() as tx:
            cursor = {"manifest_path": str(path)}
            await running.commit(tx, cursor=cursor, counted={"written": written}, progress=1.0, state="completed")

    async def _copy(self, running: Running, version_id: str, path: ObjectPath) -> int:
        async with self._platform.database.read() as session:
            version = await versions.get(session, running.dataset, version_id)
        manifest = ObjectPath.parse(version.manifest_path, "manifest_path")
        with ManifestFile() as file:
            file.finish()
            await self._platform.objects.download(manifest, file.path)
            await self._platform.objects.upload(file.path, path, "application/json-lines")
        return version.total_samples
