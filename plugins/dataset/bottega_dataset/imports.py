"""Importing samples into a dataset, in the background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bottega.context import Principal
from bottega.errors import Forbidden, Invalid, NotFound, Unauthenticated
from bottega.objects import ObjectPath, ObjectStore
from bottega.platform import Platform
from bottega_dataset import samples
from bottega_dataset.entities import Dataset
from bottega_dataset.events import LabelsChanged
from bottega_dataset.extension_points import ImportRequest
from bottega_dataset.kinds import Kinds
from bottega_dataset.sample import Problem, SampleRecord
from bottega_dataset.tasks import Running


class Imports:
    """Performs import tasks: chunk after chunk, each in one transaction with the place it reached."""

    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def perform(self, running: Running) -> None:
        task, dataset = running.task, running.dataset
        kind = self._kinds.of(dataset.dataset_type)
        importer = self._kinds.importer(task.params["import_type"], dataset.dataset_type)
        path = ObjectPath.parse(task.params["import_path"], "import_path")
        rights = await Rights.of(self._platform, task.user_id, task.project_id)
        await rights.check(path)
        formats = dataset.label_format | task.params["label_format"]
        request = ImportRequest(path, kind, self._platform.objects, formats, rights.reason)
        async for chunk in importer.read(request, task.cursor):
            refused = [(record, await rights.refusal(record)) for record in chunk.samples]
            allowed = [record for record, reason in refused if reason is None]
            problems = [*chunk.problems, *(Problem(r.source, reason) for r, reason in refused if reason)]
            chosen = _chosen(allowed, task.params)
            async with self._platform.database.transaction() as tx:
                added = await samples.add(tx.session, dataset, kind, chosen)
                counted = {
                    "read": len(chunk.samples) + len(chunk.problems),
                    "imported": added.imported,
                    "annotated": added.annotated,
                    "known": added.known,
                    "left_out": len(allowed) - len(chosen),
                }
                await running.commit(tx, cursor=chunk.cursor, counted=counted, progress=chunk.progress, found=problems)
                if added.new_labels:
                    tx.emit(
                        LabelsChanged(dataset_id=dataset.id, created=added.new_labels),
                        self._kinds.urn(task.project_id, dataset.id),
                    )
        async with self._platform.database.transaction() as tx:
            await running.commit(tx, progress=1.0, state="completed")
            urn = self._kinds.urn(task.project_id, dataset.id)
            await self._platform.resources.link(tx, str(path), urn, "imported from")


class Rights:
    """What the one who asked for work in the background may read."""

    def __init__(self, platform: Platform, principal: Principal, project_id: str) -> None:
        self._identity = platform.identity
        self._principal = principal
        self._project_id = project_id

    @classmethod
    async def of(cls, platform: Platform, user_id: str, project_id: str) -> Rights:
        """Raises Forbidden when the user is gone."""
        try:
            principal = await platform.identity.principal(user_id)
        except Unauthenticated as e:
            raise Forbidden("the user who asked for this does not exist any more") from e
        return cls(platform, principal, project_id)

    async def check(self, path: ObjectPath) -> None:
        """Raises Forbidden."""
        reason = await self.reason(path)
        if reason:
            raise Forbidden(reason)

    async def refusal(self, record: SampleRecord) -> str | None:
        """Why a sample's source must not be read; None when it may."""
        if not record.source.startswith("s3://"):
            return None
        bucket, _, key = record.source[5:].partition("/")
        return await self.reason(ObjectPath(bucket, key))

    async def reason(self, path: ObjectPath) -> str | None:
        """Why an object must not be read; None when it may."""
        if await self._identity.bucket_account(path.bucket) != self._principal.account_id:
            return f"bucket '{path.bucket}' is not one of yours"
        if self._principal.is_account_root:
            return None
        project = await self._identity.project(self._project_id)
        context = await self._identity.conditions(self._principal, project, None)
        decision = await self._identity.decide(
            self._principal, self._project_id, "obs:object:GetObject", path.urn, context
        )
        return None if decision.allowed else f"you may not read it: {decision.explain()}"


def _chosen(records: Sequence[SampleRecord], params: Mapping[str, Any]) -> list[SampleRecord]:
    """The records a request wants: by label, hard ones only, with or without their annotations."""
    included, excluded = set(params["included_labels"]), set(params["excluded_labels"])
    kept = []
    for record in records:
        names = {one.name for one in record.annotations}
        if (included and not names & included) or names & excluded:
            continue
        if params["difficult_only"] and not any(one.hard for one in record.annotations):
            continue
        if included:
            record = replace(record, annotations=[one for one in record.annotations if one.name in included])
        kept.append(record if params["import_annotations"] else replace(record, annotations=[]))
    return kept


def check_request(kinds: Kinds, dataset: Dataset, import_type: str, path: ObjectPath) -> None:
    """Raises Invalid when no importer reads this into such a dataset, or the path cannot be what it wants."""
    kinds.importer(import_type, dataset.dataset_type)
    if import_type == "manifest" and (not path.key or path.key.endswith("/")):
        raise Invalid(f"import_path '{path}' is a folder; name the manifest file itself")


async def check_source(store: ObjectStore, import_type: str, path: ObjectPath) -> None:
    """Raises NotFound or Invalid when nothing is there: a manifest is an object, ``dir`` a folder, others either."""
    if import_type != "dir" and path.key and not path.key.endswith("/"):
        try:
            await store.head(path)
            return
        except NotFound:
            if import_type == "manifest":
                raise
    await check_folder(store, path)


async def check_folder(store: ObjectStore, path: ObjectPath) -> None:
    """Raises Invalid when no object lies under a folder (the marker of an empty one counts for nothing)."""
    async for info in store.list(path.folder, limit=2):
        if not info.path.key.endswith("/"):
            return
    raise Invalid(f"there is nothing to import under {path.folder}; store the objects first, or name another folder")
