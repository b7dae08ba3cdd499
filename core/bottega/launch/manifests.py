"""A dataset version as an input: its manifest names objects anywhere in the account's buckets (002 §2.3.2).

In the input's folder come to lie the manifest as it was published, the objects it names under
``data/<bucket>/<key>``, and ``<name>.local.manifest``: the same lines with each source as the local file's path.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from bottega.launch.failure import LaunchFailure

_INLINE = "content://"


def sources(manifest: Path) -> Iterator[str]:
    """The object paths of `manifest`, each once. Raises LaunchFailure for a line that is not a sample."""
    seen = set()
    for _, source in _samples(manifest):
        if not source.startswith(_INLINE) and source not in seen:
            seen.add(source)
            yield source


def place(source: str) -> str:
    """Where the object `source` lies, relative to the input's folder."""
    for prefix in ("s3://", "obs://", "/"):
        if source.startswith(prefix):
            return f"data/{source.removeprefix(prefix)}"
    raise LaunchFailure(f"the manifest's source '{source}' is not an object path")


def write_local(manifest: Path) -> None:
    """Write the manifest whose sources are local files beside `manifest`."""
    with manifest.with_suffix(".local.manifest").open("wb") as file:
        for sample, source in _samples(manifest):
            if not source.startswith(_INLINE):
                sample["source"] = str(manifest.parent / place(source))
            file.write(orjson.dumps(sample) + b"\n")


def _samples(manifest: Path) -> Iterator[tuple[dict[str, Any], str]]:
    with manifest.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    sample = orjson.loads(line)
                    yield sample, str(sample["source"])
                except (orjson.JSONDecodeError, KeyError, TypeError) as problem:
                    raise LaunchFailure(f"line {number} of {manifest.name} is not a sample with a source") from problem
