"""Events of the plugin `billing`."""

from __future__ import annotations

from bottega.events import Event


class EntryPosted(Event, type="billing.entry.posted.v1"):
    """The balance of an account moved by `moved` millionths of the currency `unit`: down when negative.

    `at` is the time the entry is about, epoch ms; `kind` says what it is (``usage``, ``recharge``, …).
    """

    account_id: str
    entry_id: str
    kind: str
    at: int
    unit: str
    moved: int
