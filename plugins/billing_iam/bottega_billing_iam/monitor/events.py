"""What this plugin publishes, and what it reads of others."""

from __future__ import annotations

from bottega.events import Event


class AlarmRaised(Event, type="monitor.alarm.raised.v1"):
    """A metric crossed the threshold of a rule for as many periods in a row as the rule asks."""

    alarm_id: str
    name: str
    metric: str
    dimensions: str
    value: float
    comparison: str
    threshold: float


class AlarmCleared(Event, type="monitor.alarm.cleared.v1"):
    """A metric is back within the threshold of a rule that was in alarm."""

    alarm_id: str
    name: str
    metric: str
    dimensions: str
    value: float


class CallsCounted(Event, type="serving.calls.counted.v1"):
    """Read from the plugin `serving`: the calls of one model of a service since the last such event."""

    service_id: str
    model_id: str
    calls: int
    failed: int
    seconds: float = 0.0
