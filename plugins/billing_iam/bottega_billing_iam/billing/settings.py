"""What the operator can set for the plugin `billing`."""

from __future__ import annotations

from pathlib import Path

from bottega.settings import Section


class BillingSettings(Section):
    """The section ``[plugins.billing]``."""

    price_list: Path | None = None
    """A TOML file of prices; None: the one shipped with the plugin, which shows its form."""
