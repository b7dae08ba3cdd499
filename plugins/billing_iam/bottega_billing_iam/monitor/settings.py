"""What the operator can set for the plugin `monitor`."""

from __future__ import annotations

from pydantic import Field

from bottega.settings import Section


class MonitorSettings(Section):
    """The section ``[plugins.monitor]``."""

    interval_s: float = Field(default=60, gt=0, le=3600)
    """How often workloads and the platform are sampled and alarm rules are looked at."""
    keep_days: int = Field(default=7, ge=1)
    """How long points are kept."""
    alarms_per_account: int = Field(default=100, ge=1)
