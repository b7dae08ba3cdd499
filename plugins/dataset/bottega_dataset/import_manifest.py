"""The importer of manifests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from bottega_dataset import annotation_files
from bottega_dataset.extension_points import ImportRequest, check
from bottega_dataset.manifest import MAX_LINE, ManifestReader, parse_line
from bottega_dataset.sample import BadSample, Chunk, Problem, SampleRecord

CHUNK = 1000
SHOWN = 200
"""Characters of a bad line kept for the report."""


class ManifestImporter:
    """Every line is a sample; a bad one is reported and the next one read."""

    import_type = "manifest"
    dataset_types = None

    async def read(self, request: ImportRequest, cursor: Mapping[str, Any]) -> AsyncIterator[Chunk]:
        if request.dataset_type.has_files:
            async for chunk in annotation_files.read_manifest(request, cursor):
                yield chunk
            return
        number: int = cursor.get("line", 0)
        reader = ManifestReader(request.store, request.path, offset=cursor.get("offset", 0), etag=cursor.get("etag"))
        samples: list[SampleRecord] = []
        problems: list[Problem] = []
        offset = 0
        async for offset, line in reader.lines():
            number += 1
            try:
                if line is None:
                    raise BadSample(f"the line is longer than {MAX_LINE // 2**20} MB")
                if not line.strip():
                    continue
                samples.append(check(request.dataset_type, parse_line(line)))
            except BadSample as e:
                shown = (line or b"")[: SHOWN * 4].decode("utf-8", "replace")[:SHOWN]
                problems.append(Problem(f"{request.path}, line {number}", str(e), shown))
            if len(samples) + len(problems) >= CHUNK:
                at = {"offset": offset, "line": number, "etag": reader.etag}
                yield Chunk(samples, problems, at, offset / reader.size)
                samples, problems = [], []
        yield Chunk(samples, problems, {"offset": reader.size, "line": number, "etag": reader.etag}, 1.0)
