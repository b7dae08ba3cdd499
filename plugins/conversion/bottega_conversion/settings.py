"""Settings ``[plugins.conversion]``."""

from __future__ import annotations

from pydantic import Field

from bottega.settings import Section


class ConversionSettings(Section):
    max_tasks: int = Field(100, ge=1)
    """Tasks an account may keep, unless the administrator set another quota."""
    timeout_s: float = Field(3600, gt=0)
    """A conversion that takes longer is ended."""
    default_flavor: str | None = None
    """Where tasks run that name no flavor; None: the first one offered for conversion."""
