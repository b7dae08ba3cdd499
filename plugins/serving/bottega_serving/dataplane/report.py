"""What a data plane tells the platform: counts since it started, and the calls it refused.

Counts are totals, so that a report that got lost, or a platform that was away, costs nothing: the next one says all.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

_KEPT_DENIALS = 50
_DENIALS_PER_SECOND = 5


@dataclass
class Counts:
    """Calls answered by a version; `failed` counts those among them that the model or the platform failed."""

    calls: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass
class Report:
    """`epoch` tells one run of the data plane from the next."""

    epoch: str = field(default_factory=lambda: secrets.token_hex(8))
    counts: dict[str, Counts] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    route_revision: int = 0
    denied: int = 0
    _denials: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_KEPT_DENIALS))
    _window: tuple[int, int] = (0, 0)

    def counts_of(self, model_id: str) -> Counts:
        return self.counts.setdefault(model_id, Counts())

    def deny(self, **about: Any) -> None:
        """Count a refused call, and keep who and why of the first few in each second."""
        self.denied += 1
        second = int(time.time())
        began, kept = self._window
        kept = kept + 1 if began == second else 1
        self._window = (second, kept)
        if kept <= _DENIALS_PER_SECOND:
            self._denials.append({"number": self.denied, "at": time.time_ns() // 1_000_000, **about})

    def content(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "route_revision": self.route_revision,
            "counts": {
                id: {"calls": c.calls, "failed": c.failed, "seconds": round(c.seconds, 6)}
                for id, c in self.counts.items()
            },
            "versions": self.versions,
            "denied": self.denied,
            "denials": list(self._denials),
        }
