"""Importing samples into a dataset, in the background."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bottega.database import AsyncSession, Transaction
from bottega.errors import Invalid, NotFound, NotSupported
from bottega.objects import ObjectPath, ObjectStore
from bottega.platform import Platform
from bottega_dataset import label_filling, labels, samples
from bottega_dataset.entities import Dataset
from bottega_dataset.events import LabelsChanged
from bottega_dataset.extension_points import DatasetType, ImportRequest
from bottega_dataset.kinds import Kinds
from bottega_dataset.loading import load
from bottega_dataset.packing import Packed, pack
from bottega_dataset.requests import NewImport
from bottega_dataset.sample import CONTENT, BadSample, Choice, Chunk, Problem, SampleRecord
from bottega_dataset.storage_rights import Rights
from bottega_dataset.tasks import Running

_TOGETHER = 4
"""Chunks in one transaction, at most: others who write wait that long."""
Properties = Mapping[tuple[int, str], Mapping[str, Any]]
"""Of labels, by type and name."""
_SHOWN = 200
"""Characters of a text in a report."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A chunk, what of it is to be added, what is wrong with the rest, how many it held, how many are not wanted, and
    how many objects those it held are, of how many bytes."""

    chunk: Chunk
    found: Packed
    problems: Sequence[Problem]
    number: int
    left_out: int
    files: int
    size: int


class Imports:
    """Performs import tasks: chunk after chunk, each in one transaction with the place it reached."""

    def __init__(self, platform: Platform, kinds: Kinds) -> None:
        self._platform = platform
        self._kinds = kinds

    async def perform(self, running: Running) -> None:
        task = running.task
        await self.fill(running)
        kind = self._kinds.of(running.dataset.dataset_type)
        told = await label_filling.told(self._platform.database, running.dataset, kind)
        async with self._platform.database.transaction() as tx:
            filled = await label_filling.fill(tx.session, running.dataset, told)
            await running.commit(tx, progress=1.0, state="completed")
            urn = self._kinds.urn(task.project_id, running.dataset.id)
            if filled:
                tx.emit(LabelsChanged(dataset_id=running.dataset.id, updated=filled), urn)
            await self._platform.resources.link(tx, task.params["import_path"], urn, "imported from")

    async def fill(self, running: Running) -> None:
        """Read what the task names into the dataset, from its cursor on."""
        task, dataset = running.task, running.dataset
        kind = self._kinds.of(dataset.dataset_type)
        importer = self._kinds.importer(task.params["import_type"], dataset.dataset_type)
        rights = await Rights.of(self._platform, task.user_id, task.project_id)
        request = request_of(dataset, kind, task.params, self._platform.objects, rights)
        await rights.check(request.path)
        properties = await self._label_properties(dataset) if kind.has_label_rules else {}
        choice = request.choice
        try:
            async with anyio.create_task_group() as group:
                # While chunks are being written the next are read. Those that wait are written together: the index of
                # ids changes nearly everywhere with each transaction, and all of what changed is written once in each.
                send, receive = anyio.create_memory_object_stream[Chunk](_TOGETHER - 1)
                group.start_soon(_pass_on, importer.read(request, task.cursor), send)
                async with receive:
                    async for chunk in receive:
                        ready = [chunk]
                        if task.params.get("on_error") != "stop":
                            ready += _waiting(receive)
                        try:
                            await self._keep(running, kind, rights, choice, ready, properties)
                        except _Stopped as e:
                            await self._stop(running, e.problem)
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    async def _label_properties(self, dataset: Dataset) -> Properties:
        async with self._platform.database.read() as session:
            return {(one.type, one.name): one.property for one in await labels.of_dataset(session, dataset)}

    async def _keep(
        self,
        running: Running,
        kind: DatasetType,
        rights: Rights,
        choice: Choice,
        chunks: Sequence[Chunk],
        properties: Properties,
    ) -> None:
        """Write chunks: all of them, or none."""
        read = [await self._looked_at(running, kind, rights, choice, chunk, properties) for chunk in chunks]
        async with self._platform.database.transaction() as tx:
            first = await samples.lock(tx.session, running.dataset, sum(one.found.count for one in read))
            counted: Counter[str] = Counter()
            problems: list[Problem] = []
            new_labels: list[str] = []
            for one in read:
                new_labels += await self._add(tx, running, kind, one, first, counted, problems)
                first += one.found.count
            last = read[-1].chunk
            await running.commit(tx, cursor=last.cursor, counted=counted, progress=last.progress, found=problems)
            if new_labels:
                event = LabelsChanged(dataset_id=running.dataset.id, created=new_labels)
                tx.emit(event, self._kinds.urn(running.task.project_id, running.dataset.id))

    async def _looked_at(
        self,
        running: Running,
        kind: DatasetType,
        rights: Rights,
        choice: Choice,
        chunk: Chunk,
        properties: Properties,
    ) -> _Read:
        """What of a chunk is wanted, and allowed."""
        number = len(chunk.samples) + chunk.left_out + len(chunk.problems)
        found, left_out = chunk.samples, chunk.left_out
        files, size = _files(found)
        if not isinstance(found, Packed):
            wanted = [choice.of(record) for record in found]
            left_out += wanted.count(None)
            found, broken = pack(record for record in wanted if record is not None)
            chunk = replace(chunk, problems=[*chunk.problems, *(Problem(r.source, reason) for r, reason in broken)])
        refused = await rights.refusals(found)
        if refused:
            found = found.without(number for number, _ in refused)
        broken_rules = _against(kind, found, properties) if properties else {}
        if broken_rules:
            found = found.without(broken_rules)
        problems = [*chunk.problems, *(problem for _, problem in refused), *broken_rules.values()]
        if problems and running.task.params.get("on_error") == "stop":
            await self._stop(running, problems[0])
        return _Read(chunk, found, problems, number, left_out, files, size)

    async def _add(
        self,
        tx: Transaction,
        running: Running,
        kind: DatasetType,
        one: _Read,
        first: int,
        counted: Counter[str],
        problems: list[Problem],
    ) -> Sequence[str]:
        """Add a chunk's samples, which have the numbers from `first` on. Returns the labels that are new."""
        task, dataset, found, left_out = running.task, running.dataset, one.found, one.left_out
        final, waiting = task.params.get("final_annotation", True), 0
        if not task.params.get("import_samples", True):
            found, strange = await _there(tx.session, dataset, found)
            left_out += strange
        records = [] if final else list(found)
        if not final:
            found, _ = pack(replace(record, annotations=[]) for record in records)
        added = await load(tx.session, dataset, kind, found, first)
        if not final:
            waiting = await samples.suggest(tx.session, dataset, kind, records, task.id)
        problems += [*one.problems, *(_taken(task.params["import_path"], *each) for each in added.taken)]
        if added.taken and task.params.get("on_error") == "stop":
            raise _Stopped(problems[0])
        counted.update(
            read=one.number,
            imported=added.imported,
            annotated=added.annotated,
            known=added.known,
            left_out=left_out,
            unconfirmed=waiting,
            files=one.files,
            bytes=one.size,
        )
        return added.new_labels

    async def _stop(self, running: Running, first: Problem) -> None:
        """Keep the problem for the report and end the import, with the whole chunk it stands in left out."""
        async with self._platform.database.transaction() as tx:
            await running.commit(tx, counted={"read": 1}, found=[first])
        there = running.task.counts.get("imported", 0)
        raise Invalid(
            f"stopped, as asked, at {first.place}: {first.reason}; {there} samples of what comes before it are in the "
            "dataset"
        )


def _files(found: Sequence[SampleRecord] | Packed) -> tuple[int, int]:
    """How many objects samples are, and how many bytes these have as far as that is known."""
    if isinstance(found, Packed):
        return (len(found) if found.buckets else 0), 0
    own = [record for record in found if record.source.startswith("s3://")]
    return len(own), sum(record.size or 0 for record in own)


async def _there(session: AsyncSession, dataset: Dataset, found: Packed) -> tuple[Packed, int]:
    """Those of the samples that are in the dataset already, and the number of the others."""
    known = await samples.by_id(session, dataset, [found.ids_of(number) for number, _ in found.columns()])
    strange = [number for number, _ in found.columns() if found.ids_of(number) not in known]
    return found.without(strange), len(strange)


def _against(kind: DatasetType, found: Packed, properties: Properties) -> dict[int, Problem]:
    """The samples, by number, whose annotations do not go with the properties of their labels."""
    problems: dict[int, Problem] = {}
    for (number, _), record in zip(found.columns(), found, strict=True):
        try:
            kind.check_labels(record, properties)
        except BadSample as e:
            problems[number] = Problem(record.source.removeprefix(CONTENT)[:_SHOWN], str(e))
    return problems


def _waiting(receive: MemoryObjectReceiveStream[Chunk]) -> list[Chunk]:
    """What has been read already, some chunks at most."""
    found: list[Chunk] = []
    with contextlib.suppress(anyio.WouldBlock, anyio.EndOfStream):
        while len(found) < _TOGETHER - 1:
            found.append(receive.receive_nowait())
    return found


class _Stopped(Exception):
    """Take back the chunk; what is wrong showed while it was written."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


def _taken(path: str, ident: str, source: str, other: str) -> Problem:
    shown = other.removeprefix(CONTENT)[:_SHOWN]
    reason = f"the id '{ident}' is that of another sample: '{shown}'"
    return Problem(f"{path}, id '{ident}'", reason, source.removeprefix(CONTENT)[:_SHOWN])


async def _pass_on(chunks: AsyncIterator[Chunk], send: MemoryObjectSendStream[Chunk]) -> None:
    try:
        async with send:
            async for chunk in chunks:
                await send.send(chunk)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def request_of(
    dataset: Dataset, kind: DatasetType, params: Mapping[str, Any], store: ObjectStore, rights: Rights
) -> ImportRequest:
    """What an importer is asked by a task's parameters."""
    path = ObjectPath.parse(params["import_path"], "import_path")
    schema = (dataset.options or {}).get("schema") or ()
    formats = dataset.label_format | params["label_format"]
    target = ObjectPath.parse(dataset.data_path) if dataset.data_path else None
    return ImportRequest(path, kind, store, formats, rights.reason, chosen(params), schema, target)


def chosen(params: Mapping[str, Any]) -> Choice:
    """What an import task was asked to choose."""
    return Choice(
        included=frozenset(params["included_labels"]),
        excluded=frozenset(params["excluded_labels"]),
        hard_only=params["difficult_only"],
        annotations=params["import_annotations"],
    )


def check_request(kinds: Kinds, dataset: Dataset, import_type: str, path: ObjectPath) -> None:
    """Raises Invalid when no importer reads this into such a dataset, or the path cannot be what it wants."""
    kinds.importer(import_type, dataset.dataset_type)
    if import_type == "manifest" and (not path.key or path.key.endswith("/")):
        raise Invalid(f"import_path '{path}' is a folder; name the manifest file itself")


def check_options(dataset: Dataset, body: NewImport) -> None:
    """Raises NotSupported for sources that are not here, Invalid for labels of a type that cannot wait."""
    if body.import_origin != "obs" or (body.data_source and body.data_source.data_type != 0):
        raise NotSupported("import_origin must be obs (data_type 0): datasets are imported from object storage")
    if not body.final_annotation and dataset.dataset_type not in samples.TO_CONFIRM:
        raise Invalid("final_annotation false is for images classified and objects detected")


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
