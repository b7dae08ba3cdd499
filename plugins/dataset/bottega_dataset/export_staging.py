"""What an export takes: the chosen samples as they were at one moment, in a local file, in the form of a manifest.

Writing a format may take hours (objects are copied, images measured); the database is read before that, at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio.lowlevel
import anyio.to_thread

from bottega.database import AsyncSession
from bottega.errors import Invalid
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_dataset import annotation_files, plain_lines, versions
from bottega_dataset.entities import Dataset
from bottega_dataset.extension_points import DatasetType
from bottega_dataset.manifest import parse_line
from bottega_dataset.query import SampleFilter
from bottega_dataset.sample import LABELED, UNLABELED, SampleRecord, identity
from bottega_dataset.search import narrowed
from bottega_dataset.snapshot import Form, ManifestFile, Split, rows, snapshot

STATES = {0: LABELED, 1: UNLABELED, 2: None, 3: None}
"""What each ``export_type`` of the API takes: labeled, unlabeled, all, by search conditions."""
AT_ONCE = 200


def filters(params: Mapping[str, Any]) -> list[SampleFilter]:
    """Of which at least one must hold: several search conditions are alternatives. Raises Invalid."""
    export_type, given = params["export_type"], params.get("search_conditions") or []
    state = STATES[export_type] or params.get("sample_state") or None
    ids = tuple(bytes.fromhex(one) for one in params.get("samples") or ())
    if export_type == 3 and not given and not ids and not state:
        raise Invalid("export_type 3 exports by search: give export_params.search_conditions, or samples")
    if given and params.get("version_id"):
        raise Invalid("search_conditions choose among the dataset's samples, not among those of a version")
    base = SampleFilter(state=state, ids=ids)
    return [narrowed(base, one) for one in given] or [base]


class Staged:
    """The samples, read as often as wanted. `total` is how many there are.

    :param ratio: with it, labeled samples are divided into TRAIN and EVAL in this proportion, each label by itself.
    """

    def __init__(self, path: Path, total: int, ratio: float | None = None) -> None:
        self._path = path
        self.total = total
        self._labels: dict[str, int] = {}
        self._split: Split | None = None
        if ratio is not None:
            split = Split(ratio, 0)
            for batch in self._read():
                split.count((self._label(one), identity(one)) for one in batch if one.annotations)
            split.settle()
            self._split = split

    @property
    def as_it_is(self) -> Path | None:
        """The file itself, when its lines need no change."""
        return self._path if self._split is None else None

    def batches(self) -> Iterable[list[SampleRecord]]:
        """In the order they were added, some hundred at a time."""
        for batch in self._read():
            yield [self._divided(one) for one in batch]

    def _divided(self, record: SampleRecord) -> SampleRecord:
        if self._split is None:
            return record
        usage = self._split.usage(self._label(record), identity(record)) if record.annotations else None
        return replace(record, usage=usage)

    def _label(self, record: SampleRecord) -> int:
        return self._labels.setdefault(record.annotations[0].name, len(self._labels))

    def _read(self) -> Iterable[list[SampleRecord]]:
        some: list[SampleRecord] = []
        with self._path.open("rb") as file:
            for line in file:
                some.append(parse_line(line))
                if len(some) == AT_ONCE:
                    yield some
                    some = []
        if some:
            yield some


async def stage(
    platform: Platform, dataset: Dataset, kind: DatasetType, params: Mapping[str, Any], file: ManifestFile
) -> Staged:
    """Write the samples that `params` choose into `file`."""
    if params.get("version_id"):
        await _from_version(platform, dataset, kind, params, file)
    else:
        async with snapshot(platform.database) as session:
            await _from_dataset(session, dataset, kind, params, file)
    ratio = float(params["train_sample_ratio"]) if params.get("ratio_sample_usage") else None
    # To divide them, every one is read.
    return await anyio.to_thread.run_sync(Staged, file.finish(), file.lines, ratio)


async def _from_dataset(
    session: AsyncSession, dataset: Dataset, kind: DatasetType, params: Mapping[str, Any], file: ManifestFile
) -> None:
    seen: set[int] = set()
    alternatives = filters(params)
    form = await Form.of(session, dataset, kind.annotation_type, hard=not params.get("clear_hard_property"))
    if len(alternatives) == 1 and not params.get("clear_hard_property"):
        async for block, number in plain_lines.read(session, dataset, alternatives[0], kind.annotation_type, form):
            file.write_block(block, number)
        return
    for wanted in alternatives:
        async for batch in rows(session, dataset, wanted):
            file.write_lines([form.line(row, row[3])[0] for row in batch if row[0] not in seen])
            if len(alternatives) > 1:
                seen.update(row[0] for row in batch)


async def _from_version(
    platform: Platform, dataset: Dataset, kind: DatasetType, params: Mapping[str, Any], file: ManifestFile
) -> None:
    async with platform.database.read() as session:
        version = await versions.get(session, dataset, params["version_id"])
    (wanted,) = filters(params)
    with ManifestFile() as published:
        path = published.finish()
        await platform.objects.download(ObjectPath.parse(version.manifest_path, "manifest_path"), path)
        for batch in Staged(path, version.total_samples).batches():
            chosen = [record for record in batch if _passes(record, wanted)]
            if kind.has_files:
                chosen = await annotation_files.inline(platform.objects, kind, chosen, version.manifest_path)
            file.write(_cleared(record, params) for record in chosen)
            await anyio.lowlevel.checkpoint()


def _passes(record: SampleRecord, wanted: SampleFilter) -> bool:
    if wanted.state and bool(record.annotations) != (wanted.state == LABELED):
        return False
    return not wanted.ids or identity(record) in wanted.ids


def _cleared(record: SampleRecord, params: Mapping[str, Any]) -> SampleRecord:
    if not params.get("clear_hard_property"):
        return record
    return replace(record, annotations=[replace(one, hard=None) for one in record.annotations])
