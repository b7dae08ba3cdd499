"""Folders of Hugging Face ``datasets``: what ``save_to_disk`` wrote (Arrow), and what lies on the hub (Parquet).

Labels are named by the file's own features (``ClassLabel``), or by ``dataset_info.json``. Read are texts, images,
sounds and rows with labels, detection (``objects`` with ``bbox`` and ``category``) and tokens with ``ner_tags``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bottega.errors import Invalid
from bottega.hookspecs import hookimpl
from bottega.objects import ObjectInfo, ObjectPath
from bottega_dataset.extension_points import Importer, ImportRequest
from bottega_dataset.formats.parquet import ParquetImporter, Rows
from bottega_dataset.formats.reading import Reader, text_at
from bottega_dataset.formats.rows import Columns
from bottega_dataset.sample import BadSample

_CACHED = ("cache-", "tmp")


class HuggingFaceImporter(ParquetImporter):
    """Every split of a folder; a split's name is its samples' usage."""

    import_type = "huggingface"
    dataset_types = frozenset({0, 1, 100, 101, 200, 400})
    suffixes = (".arrow", ".parquet")

    async def open(self, request: ImportRequest, source: ObjectPath, local: Path) -> Reader:
        rows = await super().open(request, source, local)
        assert isinstance(rows, Rows)
        if not rows.columns.features:
            beside = ObjectPath(source.bucket, source.key.rpartition("/")[0] + "/dataset_info.json")
            rows.columns = Columns(rows.columns.names, await _features(request, beside))
        return rows

    async def _files(self, request: ImportRequest) -> list[ObjectInfo]:
        return [info for info in await super()._files(request) if not info.path.name.startswith(_CACHED)]


async def _features(request: ImportRequest, path: ObjectPath) -> dict[str, Any]:
    try:
        text = await text_at(request.store, path)
        found = json.loads(text)["features"] if text else {}
    except (BadSample, ValueError, KeyError, TypeError, RecursionError) as e:
        raise Invalid(f"{path} has no features: {e}") from e
    return found if isinstance(found, dict) else {}


@hookimpl
def bottega_dataset_importers() -> Iterable[Importer]:
    return [HuggingFaceImporter()]
