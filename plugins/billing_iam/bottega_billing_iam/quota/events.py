"""What the plugin `quota` publishes."""

from __future__ import annotations

from bottega.events import Event


class LimitChanged(Event, type="quota.limit.changed.v1"):
    """A limit of an ``account``, a ``workspace`` or a ``user`` (`holder`) changed; without a maximum it is gone."""

    holder: str
    holder_id: str
    resource: str
    maximum: int | None
