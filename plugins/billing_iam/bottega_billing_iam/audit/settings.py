"""Settings ``[plugins.audit]``."""

from __future__ import annotations

from pydantic import Field

from bottega.settings import Section


class AuditSettings(Section):
    hot_days: int = Field(default=7, ge=1, le=366)
    """Records of so many days before today are searched in the database; older ones in the archive."""
    archive_bucket: str = Field(default="bottega-audit", pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    """Where older records go; it belongs to nobody, so that nobody can write it through the platform."""
    archive_every_s: float = Field(default=3600, ge=1)
    seal_every_s: float = Field(default=60, ge=1)
    """How often new records join the chain; also how often copies go to the buckets of trackers."""
    settle_s: float = Field(default=15, ge=0)
    """How old a record is at least when it is sealed: its request's outcome may still be told differently."""
