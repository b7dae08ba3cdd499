"""The importer of folders of texts (002 §2.3.2.1)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from bottega.objects import ObjectInfo, ObjectPath
from bottega_dataset.extension_points import ImportRequest, check
from bottega_dataset.import_manifest import CHUNK
from bottega_dataset.manifest import ManifestReader
from bottega_dataset.parsing import SHOWN
from bottega_dataset.sample import CONTENT, Annotation, BadSample, Chunk, Problem, SampleRecord, line_id
from bottega_dataset.types.text import TEXT_SUFFIXES

_RESULTS = ("_result.txt", "_result.csv")
_LABELS = re.compile(r"[\s,]+")


class TextFolderImporter:
    """``a.txt`` holds a text a line; line n of ``a_result.txt`` holds the labels of line n.

    Labels of one line are separated by spaces or commas. With ``label_format.label_type`` ``"1"`` the labels stand in
    the text's own line, behind ``text_sample_separator`` (a tab), separated by ``text_label_separator`` (a comma).
    Types without `folder_labels` take the texts alone.
    """

    import_type = "dir"
    dataset_types = frozenset({100, 101, 102})

    async def read(self, request: ImportRequest, cursor: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        after: str = cursor.get("after", "")
        within: Mapping[str, Any] = cursor.get("within") or {}
        async for info in request.store.list(request.path.folder, start_after=after):
            key = info.path.key
            if key.endswith("/"):
                continue
            problem = (
                None
                if key.lower().endswith(TEXT_SUFFIXES)
                else Problem(str(info.path), f"not a text: the name must end with {' or '.join(TEXT_SUFFIXES)}")
            )
            if problem or key.endswith(_RESULTS):
                problem = problem or await self._orphan(request, info.path)
                after, within = key, {}
                yield Chunk([], [problem] if problem else [], {"after": key})
                continue
            async for chunk in self._file(request, info, after, within):
                yield chunk
            after, within = key, {}
        yield Chunk([], [], {"after": after}, 1.0)

    @staticmethod
    async def _orphan(request: ImportRequest, result: ObjectPath) -> Problem | None:
        if not request.dataset_type.folder_labels:
            return Problem(str(result), f"{request.dataset_type.name} datasets take no labels from folders")
        text = result.key.replace("_result.", ".")
        async for _ in request.store.list(ObjectPath(result.bucket, text), limit=1):
            return None
        return Problem(str(result), f"there is no '{text.rpartition('/')[2]}' whose labels these could be")

    async def _file(
        self, request: ImportRequest, info: ObjectInfo, after: str, within: Mapping[str, Any]
    ) -> AsyncIterator[Chunk]:
        number: int = within.get("line", 0)
        texts = ManifestReader(request.store, info.path, offset=within.get("offset", 0), etag=within.get("etag"))
        results = await self._results(request, info.path, within)
        samples: list[SampleRecord] = []
        problems: list[Problem] = []
        label_offset: int = within.get("labels", 0)
        async for offset, line in texts.lines():
            number += 1
            labels = b""
            if results:
                # None, not a tuple: CPython 3.11 breaks a tuple that is the default of an exhausted generator.
                pair = await anext(results[1], None)
                if pair is not None:
                    label_offset, labels = pair[0], pair[1] or b""
            try:
                if line is None:
                    raise BadSample("the line is too long")
                record = self._sample(request, info, number, line, labels)
                if record:
                    samples.append(record)
            except (BadSample, UnicodeDecodeError) as e:
                shown = (line or b"")[: SHOWN * 4].decode("utf-8", "replace")[:SHOWN]
                problems.append(Problem(f"{info.path}, line {number}", str(e), shown))
            if len(samples) + len(problems) >= CHUNK:
                here = {"line": number, "offset": offset, "etag": texts.etag, "labels": label_offset}
                if results:
                    here["labels_etag"] = results[0].etag
                yield Chunk(samples, problems, {"after": after, "within": here})
                samples, problems = [], []
        if results:
            async for _, found in results[1]:
                number += 1
                if found and found.strip():
                    place = f"{_results_of(info.path)}, line {number}"
                    problems.append(
                        Problem(place, "there is no text for these labels", found[:SHOWN].decode("utf-8", "replace"))
                    )
                    break
        yield Chunk(samples, problems, {"after": info.path.key})

    @staticmethod
    async def _results(
        request: ImportRequest, text: ObjectPath, within: Mapping[str, Any]
    ) -> tuple[ManifestReader, AsyncIterator[tuple[int, bytes | None]]] | None:
        if request.label_format.get("label_type") == "1" or not request.dataset_type.folder_labels:
            return None
        path = _results_of(text)
        async for info in request.store.list(path, limit=1):
            if info.path == path:
                reader = ManifestReader(
                    request.store, path, offset=within.get("labels", 0), etag=within.get("labels_etag")
                )
                return reader, reader.lines()
        return None

    @staticmethod
    def _sample(
        request: ImportRequest, info: ObjectInfo, number: int, line: bytes, labels: bytes
    ) -> SampleRecord | None:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r")
        names = [n for n in _LABELS.split(labels.decode("utf-8-sig" if number == 1 else "utf-8").strip()) if n]
        if request.label_format.get("label_type") == "1" and request.dataset_type.folder_labels:
            separator = request.label_format.get("text_sample_separator") or "\t"
            text, _, tail = text.partition(separator)
            names = [
                n.strip() for n in tail.split(request.label_format.get("text_label_separator") or ",") if n.strip()
            ]
        if not text.strip():
            if names:
                raise BadSample("there is no text for these labels")
            return None
        kind = request.dataset_type.annotation_type
        record = SampleRecord(
            source=CONTENT + text,
            annotations=[Annotation(kind, name) for name in dict.fromkeys(names)],
            id=line_id(str(info.path), number, text),
            file=str(info.path),
            name=info.path.name,
            size=len(line),
            modified_at=info.modified_at,
        )
        return check(request.dataset_type, record)


def _results_of(text: ObjectPath) -> ObjectPath:
    """The file that holds the labels of a text file's lines."""
    stem, dot, suffix = text.key.rpartition(".")
    return ObjectPath(text.bucket, f"{stem}_result{dot}{suffix}")
