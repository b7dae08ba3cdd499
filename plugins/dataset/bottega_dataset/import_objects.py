"""The importer of folders of objects (002 §2.3.2.1): each object is a sample."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from bottega.objects import ObjectInfo, ObjectPath
from bottega_dataset.annotation_files import CHUNK, Placed, expand
from bottega_dataset.extension_points import DatasetType, ImportRequest
from bottega_dataset.sample import Annotation, BadSample, Chunk, Problem, SampleRecord


class ObjectFolderImporter:
    """``Cat/10.jpg`` for types with `folder_labels`, ``a.jpg`` beside ``a.xml`` for those with a `companion`.

    It fills datasets of every type that has no importer of folders of its own.
    """

    import_type = "dir"
    dataset_types = None

    async def read(self, request: ImportRequest, cursor: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        folder, kind = request.path.folder, request.dataset_type
        beside = _Companions(request, cursor.get("after", ""))
        found: list[ObjectInfo] = []
        problems: list[Problem] = []
        after: str = cursor.get("after", "")
        async for info in request.store.list(folder, start_after=after):
            after = info.path.key
            if after.endswith("/") or beside.take(info.path):
                continue
            if _is_named_well(kind, info.path):
                found.append(info)
            else:
                problems.append(Problem(str(info.path), f"the name must end with {', '.join(kind.suffixes)}"))
            if len(found) + len(problems) >= CHUNK:
                samples, more = await self._samples(request, beside, folder, found, after)
                yield Chunk(samples, [*problems, *more], {"after": after})
                found, problems = [], []
        samples, more = await self._samples(request, beside, folder, found, "")
        yield Chunk(samples, [*problems, *more], {"after": after}, 1.0)

    @staticmethod
    async def _samples(
        request: ImportRequest, beside: _Companions, folder: ObjectPath, found: list[ObjectInfo], last: str
    ) -> tuple[list[SampleRecord], list[Problem]]:
        kind = request.dataset_type
        placed: list[Placed] = []
        problems: list[Problem] = []
        for info in found:
            try:
                record = SampleRecord(str(info.path), name=info.path.name, size=info.size, modified_at=info.modified_at)
                companion = await beside.of(info.path, last)
                if companion:
                    record.annotations = [Annotation(kind.annotation_type, loc=str(companion))]
                elif kind.folder_labels:
                    label = info.path.key.removeprefix(folder.key).rpartition("/")[0].rpartition("/")[2]
                    record.annotations = [Annotation(kind.annotation_type, label)] if label else []
                placed.append((str(info.path), "", record))
            except BadSample as e:
                problems.append(Problem(str(info.path), str(e)))
        samples, more = await expand(request, placed)
        return samples, [*problems, *more, *await beside.orphans(last)]


def _is_named_well(kind: DatasetType, path: ObjectPath) -> bool:
    return not kind.suffixes or path.key.lower().endswith(kind.suffixes)


class _Companions:
    """The annotation files among the objects of a listing, which comes in the order of keys, a chunk at a time.

    Where the one of an object would lie outside of the chunks at hand, it is looked for.
    """

    def __init__(self, request: ImportRequest, after: str) -> None:
        self._request = request
        self._suffix = request.dataset_type.companion
        self._begin = after
        self._before: set[str] = set()
        self._seen: set[str] = set()
        self._taken: set[str] = set()

    def take(self, path: ObjectPath) -> bool:
        """Whether it is an annotation file, and no sample."""
        found = bool(self._suffix) and path.key.lower().endswith(self._suffix)
        if found:
            self._seen.add(path.key)
        return found

    async def of(self, path: ObjectPath, last: str) -> ObjectPath | None:
        """The annotation file of an object. `last` is the key the listing has reached, empty at its end."""
        if not self._suffix:
            return None
        companion = ObjectPath(path.bucket, path.key.rpartition(".")[0] + self._suffix)
        key = companion.key
        if key in self._seen or key in self._before:
            self._taken.add(key)
            return companion
        outside = key <= self._begin or (last and key > last)
        return companion if outside and await self._exists(companion) else None

    async def orphans(self, last: str) -> list[Problem]:
        """What lies beside no object; the chunk is done."""
        problems = []
        for key in sorted(self._seen - self._taken):
            path = ObjectPath(self._request.path.bucket, key)
            if not await self._has_object(path):
                problems.append(Problem(str(path), f"there is no object beside it ({self._names(path)})"))
        self._before, self._seen, self._taken = self._seen, set(), set()
        self._begin = min(self._before, default=last) if last else self._begin
        return problems

    async def _has_object(self, path: ObjectPath) -> bool:
        base = ObjectPath(path.bucket, path.key[: -len(self._suffix)] + ".")
        async for info in self._request.store.list(base, limit=20):
            if info.path.key.lower().endswith(self._request.dataset_type.suffixes):
                return True
        return False

    def _names(self, path: ObjectPath) -> str:
        stem = path.name[: -len(self._suffix)]
        return " or ".join(stem + suffix for suffix in self._request.dataset_type.suffixes)

    async def _exists(self, path: ObjectPath) -> bool:
        async for info in self._request.store.list(path, limit=1):
            return info.path == path
        return False
