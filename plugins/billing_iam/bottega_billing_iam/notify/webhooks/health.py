"""How receivers are: one that takes nothing is asked now and then with a single event, until it takes one again.

A single event that is never taken holds up nothing but the later ones about its thing. Kept in memory only: a new
start finds out again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .deliveries import DELIVERED, FAILED

_TROUBLED = 5
"""Lanes that failed one after the other, without a delivery between, until the receiver itself is suspected."""
_FIRST_MS, _LONGEST_MS = 1_000, 60_000


@dataclass
class _State:
    failing: set[str] = field(default_factory=set)
    probes: int = 0
    held_until: int = 0


class Health:
    def __init__(self) -> None:
        self._states: dict[str, _State] = {}

    def held(self, webhook_id: str, now: int) -> bool:
        """Whether nothing shall be sent to it now."""
        state = self._states.get(webhook_id)
        return state is not None and now < state.held_until

    def room(self, webhook_id: str, most: int, now: int) -> int:
        """How many lanes of a webhook may be at work."""
        state = self._states.get(webhook_id)
        if state is None:
            return most
        return 0 if now < state.held_until else 1 if len(state.failing) >= _TROUBLED else most

    def note(self, webhook_id: str, lane: str, outcome: str, hold_ms: int, now: int) -> None:
        """Learn from an attempt. `hold_ms` is how long the receiver asked to be left alone."""
        if outcome == DELIVERED:
            self._states.pop(webhook_id, None)
            return
        state = self._states.setdefault(webhook_id, _State())
        if outcome == FAILED:
            state.failing.add(lane)
        if len(state.failing) >= _TROUBLED:
            hold_ms = max(hold_ms, min(_LONGEST_MS, _FIRST_MS * 2 ** min(state.probes, 10)))
            state.probes += 1
        if hold_ms:
            state.held_until = now + hold_ms
