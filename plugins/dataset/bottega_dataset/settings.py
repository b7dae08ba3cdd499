"""Settings of the plugin, section ``[plugins.dataset]``."""

from __future__ import annotations

from pydantic import Field

from bottega.settings import Section


class DatasetSettings(Section):
    max_datasets: int = Field(100, ge=1)
    """How many datasets an account may have, unless its administrator set another quota."""
    problems_kept: int = Field(1000, ge=0)
    """How many bad lines of an import are kept for its report; all are counted."""
