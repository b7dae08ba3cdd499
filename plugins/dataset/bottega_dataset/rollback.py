"""Setting the labels of a dataset back to what they were when a version was published."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio.lowlevel
import anyio.to_thread

from bottega.database import AsyncSession
from bottega.errors import Conflict
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset import annotation_files, counting, labels, samples, versions
from bottega_dataset.comparing import ident
from bottega_dataset.entities import Dataset, DatasetChange, DatasetVersion, Task
from bottega_dataset.events import LabelsChanged, SamplesLabeled
from bottega_dataset.export_staging import Staged
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.kinds import Kinds
from bottega_dataset.labeling import Author, Change, Outcome, State, apply, differs, states
from bottega_dataset.sample import Problem, SampleRecord
from bottega_dataset.snapshot import ManifestFile, snapshot
from bottega_dataset.tasks import Running

KIND = "rollback"
_Records = Sequence[SampleRecord]
_SHOWN = 200
"""Characters of a text in a report."""


class Rollbacks:
    """Performs rollbacks: all samples in one transaction, which is one change and can be taken back.

    What differs is found before, without keeping others from the database; what is found then is looked at again.
    """

    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def perform(self, running: Running) -> None:
        task, dataset = running.task, running.dataset
        kind = self._kinds.of(dataset.dataset_type)
        async with self._platform.database.transaction() as tx:
            version = await versions.get(tx.session, dataset, task.params["version_id"])
            await running.restart(tx)
        with tempfile.TemporaryDirectory(prefix="bottega-rollback-") as folder, ManifestFile() as differing:
            missing: list[Problem] = []
            manifest = await self._manifest(version, Path(folder) / "manifest")
            async with snapshot(self._platform.database) as session:
                async for records in self._records(kind, version, manifest):
                    now = await _there(session, dataset, kind, records)
                    missing += [_missing(record, version) for record in records if ident(record) not in now]
                    found = [(now[ident(record)], record) for record in records if ident(record) in now]
                    differing.write(
                        record for state, record in found if differs(state, _change(state, record, version))
                    )
            there = version.total_samples - len(missing)
            await self._apply(running, kind, version, differing, there, missing)

    async def _manifest(self, version: DatasetVersion, file: Path) -> Path:
        """Raises Conflict when it is not what was published: it lies in a bucket of the user's."""
        await self._platform.objects.download(ObjectPath.parse(version.manifest_path), file)

        def digest() -> str:
            with file.open("rb") as lines:
                return hashlib.file_digest(lines, "sha256").hexdigest()

        if await anyio.to_thread.run_sync(digest) != version.manifest_sha256:
            raise Conflict(f"{version.manifest_path} was changed since it was published; nothing was set back")
        return file

    async def _records(self, kind: DatasetType, version: DatasetVersion, file: Path) -> AsyncIterator[_Records]:
        for batch in Staged(file, version.total_samples).batches():
            store, path = self._platform.objects, version.manifest_path
            yield await annotation_files.inline(store, kind, batch, path) if kind.has_files else batch
            await anyio.lowlevel.checkpoint()

    async def _apply(
        self,
        running: Running,
        kind: DatasetType,
        version: DatasetVersion,
        differing: ManifestFile,
        there: int,
        missing: Sequence[Problem],
    ) -> None:
        task, dataset = running.task, running.dataset
        author = Author((await self._platform.identity.user(task.user_id)).name, KIND)
        path, lines = differing.finish(), differing.lines
        assert dataset.key is not None
        async with self._platform.database.transaction() as tx:
            session = tx.session
            await samples.lock(session, dataset)
            fact = DatasetChange(dataset_key=dataset.key, actor=author.name, cause=KIND)
            fact.details = {"version_id": version.id, "version_name": version.name, "missing_samples": len(missing)}
            changed = 0
            made: list[str] = []
            for records in Staged(path, lines).batches():
                now = await _there(session, dataset, kind, records)
                pairs = [(s, _change(s, one, version)) for one in records if (s := now.get(ident(one))) is not None]
                done = await apply(session, dataset, kind, pairs, author, Outcome(), fact=fact)
                changed, made = changed + done.changed, [*made, *done.new_labels]
            await _look_as_before(session, dataset, version, made)
            total, _ = (await counting.counts(session, [dataset.key]))[dataset.key]
            counted = {
                "changed": changed,
                "unchanged": there - changed,
                "missing": len(missing),
                "others": total - there,
            }
            cursor = {"change_id": fact.id} if changed else {}
            await running.commit(tx, cursor=cursor, counted=counted, progress=1.0, found=missing, state="completed")
            urn = self._kinds.urn(task.project_id, dataset.id)
            if changed:
                tx.emit(SamplesLabeled(dataset_id=dataset.id, count=changed), urn)
            if made:
                tx.emit(LabelsChanged(dataset_id=dataset.id, created=made), urn)


async def _there(session: AsyncSession, dataset: Dataset, kind: DatasetType, records: _Records) -> dict[bytes, State]:
    return await states(session, dataset, [ident(one) for one in records], kind.annotation_type)


def _change(state: State, record: SampleRecord, version: DatasetVersion) -> Change:
    annotations: Sequence[Any] = record.annotations
    if not version.options.get("keep_hard", True):  # which of them are hard examples is not in the version
        known = {(one.type, one.name, one.id, repr(one.property)): one.hard for one in state.annotations}
        annotations = [
            replace(one, hard=known.get((one.type, one.name, one.id, repr(one.property)))) for one in annotations
        ]
    return Change(state.sample_id, annotations)


def _missing(record: SampleRecord, version: DatasetVersion) -> Problem:
    reason = f"the sample is in version '{version.name}', but not in the dataset any more"
    return Problem(f"sample {ident(record).hex()}", reason, record.source[:_SHOWN])


async def _look_as_before(
    session: AsyncSession, dataset: Dataset, version: DatasetVersion, made: Sequence[str]
) -> None:
    """Give labels that had to be made again the colors and attributes they had in the version."""
    were = {(one["type"], one["name"]): one for one in version.label_stats if one["name"] in made}
    if not were:
        return
    rows = await labels.of_dataset(session, dataset)
    shortcuts = {one.property.get(labels.SHORTCUT) for one in rows}
    for label in rows:
        was = were.get((label.type, label.name))
        if was is not None and not label.property and not label.attributes:
            prop = was.get("property") or {}
            label.property = {k: v for k, v in prop.items() if k != labels.SHORTCUT or v not in shortcuts}
            label.attributes = list(was.get("attributes") or ())
            session.add(label)


def shape(task: Task) -> dict[str, Any]:
    """A rollback as the API shows it."""
    counts = task.counts
    return {
        "task_id": task.id,
        "dataset_id": task.dataset_id,
        "version_id": task.params["version_id"],
        "status": {"queued": "QUEUING", "stopping": "RUNNING"}.get(task.state, task.state.upper()),
        "change_id": task.cursor.get("change_id"),
        "changed_sample_count": counts.get("changed", 0),
        "unchanged_sample_count": counts.get("unchanged", 0),
        "missing_sample_count": counts.get("missing", 0),
        "other_sample_count": counts.get("others", 0),
        "create_time": task.created_at,
        "update_time": task.updated_at,
        "error_code": task.error_code,
        "error_msg": task.error_msg,
    }
