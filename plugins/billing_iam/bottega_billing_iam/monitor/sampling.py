"""What is measured: workloads, services' calls, pools, and the platform itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import case, func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.entities import Workload
from bottega.errors import Invalid
from bottega.events import Received
from bottega.platform import Platform
from bottega.urn import PLATFORM, Urn

from . import points
from .entities import Point
from .events import CallsCounted
from .points import MINUTE_MS, Sample

log = structlog.get_logger("bottega.monitor")

NAMESPACE, PLATFORM_NAMESPACE = "SYS.ModelArts", "SYS.Bottega"
UNITS = {
    "cpu_usage": "%",
    "mem_usage": "MB",
    "gpu_util": "%",
    "gpu_mem_usage": "MB",
    "total_called_times": "count",
    "successfully_called_times": "count",
    "failed_called_times": "count",
    "avg_latency": "ms",
    "running_workloads": "count",
    "running_nodes": "count",
}
"""The metrics of namespace ``SYS.ModelArts``: the vendor's names (its Cloud Eye guide) and those of pools."""


Counted = tuple[str, str, str, str]
"""Metric, project, service and model."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The latest use of a running workload."""

    project_id: str
    kind: str
    resource: str
    flavor: str
    backend: str
    nodes: int
    usage: dict[str, float]


async def on_calls(received: Received[CallsCounted], tx: Transaction) -> None:
    """Keep how often a model of a service was called; the same event heard again is not counted again."""
    event = received.event
    figures: dict[str, tuple[float, int]] = {
        "total_called_times": (event.calls, 1),
        "successfully_called_times": (event.calls - event.failed, 1),
        "failed_called_times": (event.failed, 1),
    }
    if event.seconds:
        figures["avg_latency"] = event.seconds / event.calls * 1000, event.calls
    service = {"service_id": event.service_id}
    await points.record(
        tx,
        [
            Sample(received.project_id, metric, thing, float(value), count)
            for metric, (value, count) in figures.items()
            for thing in (service, {**service, "model_id": event.model_id})
        ],
    )


class Watch(Collector):
    """Samples what runs, keeps the points, and shows the latest readings to Prometheus."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._latest: list[Reading] = []
        self._calls: dict[Counted, float] = {}
        """What each model of a service was called since the platform started."""
        self._calls_before: dict[Counted, float] = {}
        """The part of it that is older than `_open_since` (epoch ms) and changes no more."""
        self._open_since = now_ms() // MINUTE_MS * MINUTE_MS
        self._counted: dict[str, float] = {}

    async def take(self) -> None:
        """Measure everything once."""
        async with self._platform.database.read() as session:
            running = (await session.exec(select(Workload).where(Workload.state == "started"))).all()
            await self._count_calls(session)
        self._latest = [await self._read(workload) for workload in running]
        samples = [*self._of_workloads(), *self._of_pools(), *self._of_platform()]
        async with self._platform.database.transaction() as tx:
            await points.record(tx, samples)

    async def _count_calls(self, session: AsyncSession) -> None:
        """The calls of every model of a service, from the points kept: a handler that is rolled back leaves none.

        Points are forgotten in time, and a counter must not fall: minutes that nothing is added to any more are added
        up once.
        """
        closed = (now_ms() - _STILL_COMING_MS) // MINUTE_MS * MINUTE_MS
        old = func.sum(case((col(Point.minute) < closed, Point.total), else_=0))
        query = (
            select(Point.project_id, Point.metric, Point.dimensions, func.sum(Point.total), old)  # type: ignore[call-overload]  # SQLModel describes up to four columns
            .where(col(Point.metric).in_(_COUNTED), col(Point.dimensions).like("model_id,%"))
            .where(col(Point.minute) >= self._open_since)
            .group_by(Point.project_id, Point.metric, Point.dimensions)
        )
        calls = dict(self._calls_before)
        for project_id, metric, dimensions, total, before in (await session.execute(query)).all():
            thing = {pair["name"]: pair["value"] for pair in points.dimensions_list(dimensions)}
            key = (metric, project_id, thing.get("service_id", ""), thing["model_id"])
            calls[key] = self._calls_before.get(key, 0.0) + total
            self._calls_before[key] = self._calls_before.get(key, 0.0) + before
        self._calls, self._open_since = calls, max(closed, self._open_since)

    async def _read(self, workload: Workload) -> Reading:
        usage: dict[str, float] = {}
        try:
            found = await self._platform.workloads.read_usage(workload)
        except Exception as e:  # one backend that fails must not keep all else from being measured
            log.info("no usage of a workload", workload=workload.id, reason=str(e) or type(e).__name__)
            found = []
        if found:
            last = found[-1]
            usage = {"cpu_usage": last.cpu_percent, "mem_usage": last.memory_mb}
            if last.gpu_percent is not None:
                usage["gpu_util"] = last.gpu_percent
            if last.gpu_memory_mb is not None:
                usage["gpu_mem_usage"] = last.gpu_memory_mb
        return Reading(
            workload.project_id,
            workload.kind,
            workload.resource_urn,
            workload.flavor,
            workload.backend,
            workload.node_count,
            usage,
        )

    def _of_workloads(self) -> Iterator[Sample]:
        for reading in self._latest:
            try:
                urn = Urn.parse(reading.resource)
            except Invalid:
                continue
            for metric, value in reading.usage.items():
                yield Sample(reading.project_id, metric, {f"{urn.kind}_id": urn.id}, value)

    def _of_pools(self) -> Iterator[Sample]:
        for (backend, flavor), (workloads, nodes) in self._pools().items():
            thing = {"backend": backend, "flavor": flavor}
            yield Sample(PLATFORM, "running_workloads", thing, workloads)
            yield Sample(PLATFORM, "running_nodes", thing, nodes)

    def _pools(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Running workloads and nodes of every flavor there is, those that stand empty too."""
        pools = {(flavor.backend, flavor.id): (0, 0) for flavor in self._platform.workloads.flavors()}
        for reading in self._latest:
            workloads, nodes = pools.get((reading.backend, reading.flavor), (0, 0))
            pools[reading.backend, reading.flavor] = workloads + 1, nodes + reading.nodes
        return pools

    def _of_platform(self) -> Iterator[Sample]:
        """Each gauge as it is, each counter as what it grew by since the last time."""
        for family in self._platform.metrics.registry.collect():
            for sample in family.samples:
                if family.name.startswith(_OWN) or sample.name.endswith(("_bucket", "_created")):
                    continue
                labels = {name: value.translate(_SEPARATORS) for name, value in sample.labels.items() if value}
                value = sample.value
                if family.type != "gauge":
                    key = f"{sample.name} {points.dimensions_text(labels)}"
                    before = self._counted.get(key, 0.0)
                    self._counted[key] = value
                    value = value - before if value >= before else value
                    if value == 0:
                        continue
                yield Sample(PLATFORM, sample.name, labels, value)

    def collect(self) -> Iterator[Metric]:
        """What Prometheus reads: by service and model, by workload (job, notebook, service) and by pool."""
        names = ["project", "service", "model"]
        for metric, (name, help) in _COUNTED.items():
            calls = CounterMetricFamily(f"{_OWN}service_{name}", help, labels=names)
            for (counted, *thing), value in self._calls.items():
                if counted == metric:
                    calls.add_metric(thing, value)
            yield calls
        for metric in ("cpu_usage", "mem_usage", "gpu_util", "gpu_mem_usage"):
            unit = "percent of a core" if metric == "cpu_usage" else UNITS[metric]
            gauge = GaugeMetricFamily(
                f"{_OWN}workload_{metric}", f"Of a running workload, in {unit}", labels=["project", "kind", "resource"]
            )
            for reading in self._latest:
                if metric in reading.usage:
                    gauge.add_metric([reading.project_id, reading.kind, reading.resource], reading.usage[metric])
            yield gauge
        for index, what in enumerate(("workloads", "nodes")):
            pools = GaugeMetricFamily(f"{_OWN}pool_{what}", f"Running {what} by flavor", labels=["backend", "flavor"])
            for pool, running in self._pools().items():
                pools.add_metric(pool, running[index])
            yield pools


_OWN = "bottega_monitor_"
_COUNTED = {
    "total_called_times": ("calls", "Predictions asked for"),
    "failed_called_times": ("calls_failed", "Predictions that went wrong"),
}
_STILL_COMING_MS = 10 * MINUTE_MS
"""How long after a minute its calls may still be added to it."""
_SEPARATORS = str.maketrans(",;", "__")
