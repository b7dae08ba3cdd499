"""The samples of a run, and their bytes: texts from the manifest itself, objects by the URLs a workload is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bottega_dataset.manifest import parse_line
from bottega_dataset.sample import CONTENT, BadSample, SampleRecord

if TYPE_CHECKING:
    from bottega.client import Client

_AT_ONCE = 256
_THREADS = 16
_TRIES = 3
_AHEAD, _BYTES_AHEAD = 64, 8 << 20
"""So many samples are read ahead; an object of more bytes than the second number is read when its turn comes."""
_MOST_BYTES = 1 << 30


def records(manifest: Path) -> Iterator[SampleRecord]:
    """The samples of a manifest the platform wrote; each has an id."""
    with manifest.open("rb") as lines:
        for line in lines:
            yield parse_line(line)


class Contents:
    """Reads samples as the workload of the environment."""

    def __init__(self) -> None:
        import os

        import httpx

        from bottega.client import Client

        self._client: Client = Client.from_environment()
        self._reads = f"/v1/{{project_id}}/workloads/{os.environ['BOTTEGA_WORKLOAD_ID']}/objects/reads"
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(retries=_TRIES),
            limits=httpx.Limits(max_connections=_THREADS + 1),
            timeout=60,
            trust_env=False,
        )

    def of(self, wanted: Sequence[SampleRecord]) -> Iterator[tuple[SampleRecord, bytes | BadSample]]:
        """Each sample with its bytes, or with why they could not be read, in order, some at a time."""
        with ThreadPoolExecutor(_THREADS) as threads:
            for at in range(0, len(wanted), _AT_ONCE):
                some = wanted[at : at + _AT_ONCE]
                paths = sorted({one.source for one in some if one.source.startswith("s3://")})
                urls = self._client.post(self._reads, {"paths": paths})["urls"] if paths else {}
                for start in range(0, len(some), _AHEAD):
                    next_ones = some[start : start + _AHEAD]
                    read = threads.map(lambda one: self._read(one, urls, _BYTES_AHEAD), next_ones)  # noqa: B023
                    for record, data in zip(next_ones, read, strict=True):
                        yield record, data if data is not None else self._read(record, urls, None) or b""

    def _read(self, record: SampleRecord, urls: dict[str, str], most: int | None) -> bytes | BadSample | None:
        """None for an object of more than `most` bytes."""
        import httpx

        if record.source.startswith(CONTENT):
            return record.source[len(CONTENT) :].encode()
        if record.source not in urls:
            return BadSample(f"{record.source} does not lie in the object store, so it is not read here")
        try:
            with self._http.stream("GET", urls[record.source]) as answer:
                if answer.status_code != 200:
                    reason = f"the object store answered {answer.status_code}"
                    return BadSample(f"{record.source} could not be read: {reason}")
                size = int(answer.headers.get("content-length", 0))
                if size > _MOST_BYTES:
                    return BadSample(f"{record.source} has {size} bytes; at most {_MOST_BYTES} are read here")
                return answer.read() if most is None or size <= most else None
        except httpx.TransportError as e:
            return BadSample(f"{record.source} could not be read: {e}")
