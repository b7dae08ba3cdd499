"""What the operator can set for the plugin `billing`."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import Field

from bottega.settings import Section

from .prices import Price


class BillingSettings(Section):
    """The section ``[plugins.billing]``."""

    price_list: Path | None = None
    """A TOML file of prices; None: the one shipped with the plugin, which shows its form."""
    settle_every_s: float = Field(30, gt=0)
    """How often it is looked for hours that ended and are to be settled."""
    settle_after_s: int = Field(120, ge=0)
    """How long after an hour's end it is settled, so that what was still on its way needs no correction."""
    sample_every_s: float = Field(300, gt=0)
    """How often it is looked for buckets without a sample of this hour, once objects cost something."""
    invoice_after_h: float = Field(24, ge=0)
    """How long after a month's end its invoice is closed."""
    mode: Literal["postpaid", "prepaid"] = "postpaid"
    """How accounts pay that have no terms of their own: ``postpaid`` ones never fall into arrears (000 §7)."""
    credit: Price = Decimal(0)
    """How far below zero the balance of a prepaid account may go, as text such as "100.00"."""
    grace_h: float = Field(1, ge=0, le=8760)
    """How long work goes on in arrears before it is stopped and the retention period begins."""
    retention_days: float = Field(15, ge=0, le=3650)
    """How long the retention period is, in which everything is kept."""
    retention_days_by_level: dict[str, float] = Field(default_factory=dict)
    """The same by a customer's level, where it differs (000 §7: it depends on the customer's level)."""
    money_check_s: float = Field(30, gt=0)
    """How often retention periods and budgets are looked at."""
