"""Labeling by hand: one sample, many, all that pass a filter; what was done before; and taking it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter

from bottega.context import now_ms
from bottega.database import AsyncSession
from bottega.errors import ApiError, Invalid
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega_dataset import history, labeling, pages, samples, shapes
from bottega_dataset.datasets import Datasets, Found
from bottega_dataset.entities import Dataset
from bottega_dataset.events import LabelsChanged, SamplesLabeled, SamplesUploaded
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.kinds import Kinds
from bottega_dataset.labeling import Author, Change, Edit, Outcome, Stale
from bottega_dataset.requests import BatchUpdate, SampleLabelBody, SampleLabelsBody, SampleLabelsList, UndoBody
from bottega_dataset.sample import HUMAN, Annotation, BadSample
from bottega_dataset.sample_routes import ANNOTATIONS, DATASET, SAMPLES, missing_sample, sample_id_of, wanted_by

_UPDATE, _LIST = "modelarts:dataset:updateSamples", "modelarts:dataset:listSamples"


def router(platform: Platform, kinds: Kinds) -> APIRouter:
    routes = Router()
    service = Datasets(platform)

    async def found_for(caller: Caller, dataset_id: str) -> tuple[Found, DatasetType]:
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
        caller.about(resource=found.resource.urn, name=found.resource.name)
        return found, kinds.of(found.dataset.dataset_type)

    def announce(tx: Any, found: Found, outcome: Outcome) -> None:
        if outcome.changed and not outcome.renamed:
            tx.emit(SamplesLabeled(dataset_id=found.dataset.id, count=outcome.changed), found.resource.urn)
        if outcome.new_labels or outcome.renamed:
            event = LabelsChanged(dataset_id=found.dataset.id, created=outcome.new_labels, renamed=outcome.renamed)
            tx.emit(event, found.resource.urn)

    @routes.put(SAMPLES)
    async def label_samples(
        dataset_id: str, body: SampleLabelsList, caller: Caller = requires(_UPDATE, DATASET)
    ) -> Any:
        """Set the labels of samples; none removes them. A label the dataset does not have yet is added to it.

        A label that breaks the rules refuses the whole request; a sample that does not exist fails alone. A sample may
        say which `revision` of it was seen: if it is another one by now, the whole answers 409 with both states and
        changes nothing, or with `partial` that sample alone fails.
        """
        found, kind = await found_for(caller, dataset_id)
        changes = [_change(one, kind, caller.principal.user_name) for one in body.samples]
        author = Author(caller.principal.user_name)
        try:
            async with platform.database.transaction() as tx:
                outcome = await labeling.change(tx.session, found.dataset, kind, changes, author, partial=body.partial)
                announce(tx, found, outcome)
        except Stale as e:
            raise _conflicting(e, kind, changes) from e
        for failure in outcome.failures.values():
            if isinstance(failure, Stale):
                _conflicting(failure, kind, changes)
        return _answer(outcome, [outcome.failures.get(one.sample_id) for one in changes])

    @routes.post(SAMPLES + "/batch-update")
    async def update_many(dataset_id: str, body: BatchUpdate, caller: Caller = requires(_UPDATE, DATASET)) -> Any:
        """The same change for many samples: those named, or all that pass one of `search_conditions`.

        `labels` are set in place of all there are, `remove_labels` taken off, `add_labels` put on; all or nothing.
        """
        found, kind = await found_for(caller, dataset_id)
        name = caller.principal.user_name
        try:
            wanted = Edit(
                add=[annotation_of(one, kind, name) for one in body.add_labels],
                remove=[one.name for one in body.remove_labels],
                set=None if body.labels is None else [annotation_of(one, kind, name) for one in body.labels],
                usage=body.sample_usage,
                hard=hardness(body.metadata),
                property=properties(body.metadata),
            )
        except BadSample as e:
            raise Invalid(str(e)) from e
        if wanted == Edit(add=[], remove=[]):
            raise Invalid("say what to change: add_labels, remove_labels, labels, sample_usage or metadata")
        async with platform.database.transaction() as tx:
            keys, missing = await _chosen(tx.session, found.dataset, body)
            outcome = await labeling.edit(tx.session, found.dataset, kind, keys, wanted, Author(name))
            announce(tx, found, outcome)
        return _answer(outcome, [missing_sample(one) if one in missing else None for one in missing])

    @routes.post(SAMPLES + "/{sample_id}/undo")
    async def undo_sample(
        dataset_id: str, sample_id: str, body: UndoBody | None = None, caller: Caller = requires(_UPDATE, DATASET)
    ) -> Any:
        """Take back a sample's last change that was not taken back yet; with `revision`, if it is still at that."""
        found, kind = await found_for(caller, dataset_id)
        ident, author = sample_id_of(sample_id), Author(caller.principal.user_name)
        try:
            async with platform.database.transaction() as tx:
                seen = body.revision if body else None
                outcome = await history.undo(tx.session, found.dataset, kind, ident, author, seen)
                announce(tx, found, outcome)
                row = await samples.get(tx.session, found.dataset, ident)
                await tx.session.refresh(row)
                annotations = await samples.annotations_of(tx.session, [row.key], kind.annotation_type)
        except Stale as e:
            raise _conflicting(e, kind, []) from e
        return shapes.sample(row, annotations[row.key], kind) | {"change_id": outcome.change_id}

    @routes.get(SAMPLES + "/{sample_id}/history")
    async def sample_history(
        dataset_id: str, sample_id: str, page: Page = paging(), caller: Caller = requires(_LIST, DATASET)
    ) -> Any:
        """What a sample was before each change, the newest first: who changed it, when, and by what."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            kind = kinds.of(found.dataset.dataset_type)
            row = await samples.get(session, found.dataset, sample_id_of(sample_id))
            total, rows = await history.of_sample(session, row, page.offset, page.limit)
        return {
            "sample_id": sample_id,
            "revision": row.revision,
            "total_count": total,
            "history": [shapes.revision(one, kind) for one in rows],
        }

    @routes.get(ANNOTATIONS + "/changes")
    async def list_changes(
        dataset_id: str,
        actor: str | None = None,
        page: Page = paging(),
        caller: Caller = requires(_LIST, DATASET),
    ) -> Any:
        """What was done to samples and labels, the newest first; each is one call, however many samples it changed."""
        async with platform.database.read() as session:
            found = await service.get(session, caller.project_id, dataset_id)
            total, rows = await history.of_dataset(session, found.dataset, page.offset, page.limit, actor)
        return {"total_count": total, "changes": [shapes.change(one) for one in rows]}

    @routes.post(ANNOTATIONS + "/changes/{change_id}/undo")
    async def undo_change(
        dataset_id: str, change_id: str, body: UndoBody | None = None, caller: Caller = requires(_UPDATE, DATASET)
    ) -> Any:
        """Take back a change of many samples; one changed again since refuses it, or with `partial` stays as it is.

        Deleted labels and samples are put back as they were, unless their objects were deleted; renamed labels get
        their names back, unless others have them.
        """
        found, kind = await found_for(caller, dataset_id)
        author, partial = Author(caller.principal.user_name), bool(body and body.partial)
        try:
            async with platform.database.transaction() as tx:
                outcome = await history.undo_change(tx.session, found.dataset, kind, change_id, author, partial=partial)
                announce(tx, found, outcome)
                if outcome.restored:
                    tx.emit(SamplesUploaded(dataset_id=dataset_id, count=outcome.restored), found.resource.urn)
        except Stale as e:
            raise _conflicting(e, kind, []) from e
        return _answer(outcome, list(outcome.failures.values())) | {"restored_sample_count": outcome.restored}

    return routes


async def _chosen(session: AsyncSession, dataset: Dataset, body: BatchUpdate) -> tuple[list[int], list[bytes]]:
    """The keys of the samples a batch is for, and the ids of those named that do not exist. Raises Invalid."""
    wanted = await wanted_by(session, dataset, body)
    if body.samples:
        ids = [sample_id_of(text) for text in dict.fromkeys(body.samples)]
        known = await samples.by_id(session, dataset, ids)
        return [key for key, _ in known.values()], [one for one in ids if one not in known]
    keys = await pages.matching(session, dataset, wanted, labeling.MOST + 1)
    if len(keys) > labeling.MOST:
        raise Invalid(
            f"more than {labeling.MOST:,} samples fit, and so many cannot change in one call; narrow the conditions"
        )
    return keys, []


def _change(one: SampleLabelsBody, kind: DatasetType, user_name: str) -> Change:
    """Raises Invalid, naming the sample, for labels of a type the dataset does not have."""
    try:
        annotations = [annotation_of(label, kind, user_name) for label in one.labels or ()]
    except BadSample as e:
        raise Invalid(f"sample {one.sample_id}: {e}") from e
    return Change(
        sample_id=sample_id_of(one.sample_id),
        annotations=annotations,
        usage=one.sample_usage,
        hard=hardness(one.metadata),
        property=properties(one.metadata),
        revision=one.revision,
    )


def annotation_of(label: SampleLabelBody, kind: DatasetType, user_name: str) -> Annotation:
    """Raises BadSample for a label of a type the dataset does not have."""
    prop = dict(label.property)
    hard = prop.pop(shapes.HARD, None)
    return Annotation(
        type=kind.annotation_of(label.type),
        name=label.name,
        property=prop or None,
        hard=None if hard is None else str(hard).lower() in ("1", "true"),
        annotated_by=label.annotated_by or f"{HUMAN}/{user_name}",
        created_at=now_ms() // 1000 * 1000,
        confidence=label.score,
        id=label.id,
    )


def hardness(metadata: dict[str, Any] | None) -> bool | None:
    """Whether a sample is a hard one, as its metadata says, if they do."""
    hard = (metadata or {}).get(shapes.HARD)
    return None if hard is None else str(hard) not in ("0", "0.0", "false", "False")


def properties(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """The properties of a sample that its metadata set; null removes one."""
    kept = {key: value for key, value in (metadata or {}).items() if key != shapes.HARD}
    return kept or None


def _conflicting(error: Stale, kind: DatasetType, changes: Sequence[Change]) -> Stale:
    """The error with both states of each sample, as the API shows them."""
    yours = {one.sample_id: one for one in changes}
    conflicts = [
        {
            "sample_id": state.sample_id.hex(),
            "current": shapes.state(state.annotations, kind, state.revision, state.usage, state.hard, state.property),
            "yours": shapes.state(
                own.annotations or [], kind, own.revision, own.usage, bool(own.hard), own.property or {}
            )
            if (own := yours.get(state.sample_id))
            else None,
        }
        for state in error.states
    ]
    error.details = {"conflicts": conflicts}
    return error


def _answer(outcome: Outcome, failures: Sequence[ApiError | None]) -> dict[str, Any]:
    return {
        **shapes.batch(failures),
        "change_id": outcome.change_id,
        "changed_sample_count": outcome.changed,
        "unchanged_sample_count": outcome.unchanged,
    }
