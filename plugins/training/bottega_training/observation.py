"""Looking at a job: its log, its resource use, the figures it writes while it learns, what happened to it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import orjson
from sqlmodel import col, select

from bottega.backends import UsageSample
from bottega.entities import Workload
from bottega.errors import NotFound, Unavailable
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega_training.entities import FINAL, TrainingEvaluation, TrainingJob, TrainingNote

SCALARS_FILE = "metrics.jsonl"
PREVIEW_BYTES = 5 << 20
"""The most a log preview holds (sdk_spec §3.1)."""
_LARGEST_SCALARS = 32 << 20
_MINUTE_MS = 60_000
_PRESIGNED_S = 3600


@dataclass(frozen=True, slots=True)
class LogPart:
    """A piece of a log; `complete` when no more comes after it."""

    content: str
    next_offset: int
    size: int
    complete: bool


async def read_log(platform: Platform, job: TrainingJob, offset: int, limit: int) -> LogPart:
    """The log from byte `offset` (negative: from the end), live from the backend, else as it was stored."""
    ended = job.phase in FINAL
    try:
        chunk = await platform.workloads.read_log(await _workload(platform, job), offset, limit)
        return LogPart(chunk.text, chunk.next_offset, chunk.size, chunk.complete and ended)
    except (NotFound, Unavailable):
        path = ObjectPath.parse(job.log_path)
    try:
        size = (await platform.objects.head(path)).size
    except NotFound:
        return LogPart("", 0, 0, ended)
    start = max(0, size + offset) if offset < 0 else min(offset, size)
    end = min(size, start + limit)
    data = await platform.objects.get(path, start, end - 1) if end > start else b""
    return LogPart(data.decode("utf-8", "replace"), end, size, ended and end == size)


async def log_url(platform: Platform, job: TrainingJob) -> str:
    """A URL by which the stored log can be downloaded for an hour. Raises NotFound before there is one."""
    path = ObjectPath.parse(job.log_path)
    try:
        await platform.objects.head(path)
    except NotFound as e:
        raise NotFound(f"no log is stored yet at {path}; the preview shows it live") from e
    return platform.objects.presign("GET", path, _PRESIGNED_S)


async def usage(platform: Platform, job: TrainingJob) -> dict[str, list[float]]:
    """Resource use in percent, one mean a minute, by the vendor's metric names; a job that has ended keeps its own.

    ``cpuUsage`` and ``memUsage`` are shares of what the flavor has; the GPU ones are there when a GPU was measured.
    """
    if job.phase in FINAL:
        return job.usage
    try:
        samples = await platform.workloads.read_usage(await _workload(platform, job))
    except (NotFound, Unavailable):
        return {}
    flavor = next((f for f in platform.workloads.flavors() if f.id == job.flavor_id), None)
    if not samples or flavor is None:
        return {}
    minutes = _by_minute(samples)
    found = {
        "cpuUsage": [fmean(s.cpu_percent for s in m) / flavor.cpus for m in minutes],
        "memUsage": [100 * fmean(s.memory_mb for s in m) / flavor.memory_mb for m in minutes],
    }
    if all(s.gpu_percent is not None for s in samples):
        found["gpuUtil"] = [fmean(s.gpu_percent or 0.0 for s in m) for m in minutes]
    return {name: [round(value, 2) for value in values] for name, values in found.items()}


async def scalars(platform: Platform, job: TrainingJob) -> list[dict[str, object]]:
    """The figures the script has written to ``metrics.jsonl`` in its first output so far.

    Each line is a JSON object of numbers, such as ``{"step": 3, "loss": 0.12}``; ``step`` (else the line's number)
    says where on the axis they belong. Lines that are not are skipped: the last one may be half written.
    """
    path = ObjectPath.parse(job.train_url) / SCALARS_FILE
    try:
        size = (await platform.objects.head(path)).size
        content = await platform.objects.get(path, 0, min(size, _LARGEST_SCALARS) - 1) if size else b""
    except NotFound:
        return []
    series: dict[str, list[list[float]]] = defaultdict(list)
    for number, line in enumerate(content.splitlines(), 1):
        try:
            values = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if not isinstance(values, dict):
            continue
        numbers = {k: v for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        step = numbers.pop("step", number)
        for name, value in numbers.items():
            series[name].append([step, value])
    return [{"name": name, "points": points} for name, points in series.items()]


async def notes(
    platform: Platform,
    job: TrainingJob,
    *,
    first_row: int,
    limit: int,
    newest_first: bool,
    level: str | None,
    pattern: str | None,
    between: tuple[int, int] | None,
) -> tuple[int, Sequence[TrainingNote]]:
    """How many notes of a job match, and one page of them."""
    wanted: list[Any] = [TrainingNote.job_id == job.id]
    if level:
        wanted.append(TrainingNote.level == level)
    if pattern:
        wanted.append(col(TrainingNote.message).contains(pattern, autoescape=True))
    if between:
        wanted.append(col(TrainingNote.at).between(*between))
    order = col(TrainingNote.seq).desc() if newest_first else col(TrainingNote.seq).asc()
    async with platform.database.read() as session:
        found = (await session.exec(select(TrainingNote).where(*wanted).order_by(order))).all()
    return len(found), found[first_row : first_row + limit]


async def evaluation_of(platform: Platform, job: TrainingJob) -> TrainingEvaluation:
    """Raises NotFound saying how a job gets one."""
    async with platform.database.read() as session:
        found = await session.get(TrainingEvaluation, job.id)
    if found is None:
        why = "it wrote no evaluation.json into its output" if job.phase in FINAL else f"it is {job.phase}"
        raise NotFound(f"job '{job.id}' has no evaluation: {why}")
    return found


async def _workload(platform: Platform, job: TrainingJob) -> Workload:
    if job.workload_id is None:
        raise NotFound(f"job '{job.id}' has not been planned")
    async with platform.database.read() as session:
        return await platform.workloads.get(session, job.workload_id)


def _by_minute(samples: Sequence[UsageSample]) -> list[list[UsageSample]]:
    minutes: dict[int, list[UsageSample]] = defaultdict(list)
    for sample in samples:
        minutes[(sample.at - samples[0].at) // _MINUTE_MS].append(sample)
    return [minutes[minute] for minute in sorted(minutes)]
