"""Operators tried out without a platform, exactly as the worker runs them: for those who write and test them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bottega_dataset.manifest import format_line, parse_line
from bottega_dataset.processing.processors import Processor
from bottega_dataset.processing.work import ADDED, DELETED, Unreadable
from bottega_dataset.processing.worker import REPORT, RESULTS, SAMPLES, Task, TaskStep, process
from bottega_dataset.sample import SampleRecord

TARGET = "s3://trial/out/"


@dataclass(frozen=True)
class Trial:
    """What came of it: `results` has a line for each sample, `records` are those left, `folder` has the files."""

    report: dict[str, Any]
    results: list[dict[str, Any]]
    records: list[SampleRecord]
    folder: Path

    @property
    def findings(self) -> dict[str, Any]:
        found: dict[str, Any] = self.report["findings"]
        return found

    @property
    def dropped(self) -> dict[str, str]:
        """The last reason of each sample that was left out, by its source."""
        return {one["origin"]: one["notes"][-1]["reason"] for one in self.results if one["property"] == DELETED}

    @property
    def added(self) -> list[SampleRecord]:
        new = {one["new"] for one in self.results if one["property"] == ADDED}
        return [record for record in self.records if record.source in new]

    @property
    def files(self) -> dict[str, bytes]:
        """By their names, such as ``report/figures/brightness.png`` and ``result/data/…``."""
        paths = (path for part in ("report", "result") for path in sorted((self.folder / part).rglob("*")))
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}

    def content(self, record: SampleRecord) -> bytes:
        """Of a sample that was made or changed."""
        return (self.folder / "result" / record.source.removeprefix(TARGET)).read_bytes()


def try_out(
    folder: Path,
    steps: Sequence[tuple[type[Processor], Mapping[str, Any]]],
    samples: Sequence[tuple[SampleRecord, bytes | None]],
    *,
    sample_type: int = 0,
    annotation_type: str = "",
    seed: int = 0,
    makes_samples: bool = True,
) -> Trial:
    """Run operators with their parameters on samples with their contents, in `folder`.

    The content of a text is in its source; an object without one is not there.
    """
    contents = {record.source: content for record, content in samples if content is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "input.manifest").write_bytes(b"".join(format_line(record) for record, _ in samples))
    task = Task(
        steps=[TaskStep(processor=f"{s.__module__}:{s.__qualname__}", params=dict(p)) for s, p in steps],
        seed=seed,
        sample_type=sample_type,
        annotation_type=annotation_type,
        target=TARGET,
        makes_samples=makes_samples,
        largest_mb=64,
        cache_mb=16,
    )
    gone = Unreadable("there is no such object")
    process(task, folder, lambda paths: [contents.get(path, gone) for path in paths])
    results, records = folder / "report" / RESULTS, folder / "report" / SAMPLES
    return Trial(
        json.loads((folder / "report" / REPORT).read_text("utf-8")),
        [json.loads(line) for line in results.read_bytes().splitlines()] if makes_samples else [],
        [parse_line(line) for line in records.read_bytes().splitlines()] if makes_samples else [],
        folder,
    )
