"""Prometheus metrics of the platform, one registry per platform."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Metrics:
    """`registry` is open to plugins: register further collectors on it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "bottega_request_seconds",
            "Time to serve an API request",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.plugins = Gauge("bottega_plugins", "Plugins by state", ["state"], registry=self.registry)
        self.outbox = Gauge("bottega_outbox_rows", "Events committed and not yet published", registry=self.registry)
        self.denied = Counter("bottega_denied_total", "Requests refused, by status", ["status"], registry=self.registry)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).observe(seconds)
        if status in (401, 403, 429):
            self.denied.labels(str(status)).inc()

    def count_from(self, name: str, help: str, label: str, read: Callable[[], Mapping[str, float]]) -> None:
        """Expose counters that live elsewhere: `read` gives label value → count."""

        class Read(Collector):
            def collect(self) -> list[Metric]:
                family = CounterMetricFamily(name, help, labels=[label])
                for value, count in read().items():
                    family.add_metric([value], count)
                return [family]

        self.registry.register(Read())

    def text(self) -> bytes:
        return generate_latest(self.registry)
