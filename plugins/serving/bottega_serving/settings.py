"""``[plugins.serving]`` of ``bottega.toml``."""

from __future__ import annotations

from pydantic import Field

from bottega.settings import Section


class ServingSettings(Section):
    max_services: int = Field(20, ge=1)
    """Services per account (002 §7.2.1), where the administrator has set no other limit."""
    max_versions: int = Field(5, ge=1, le=100)
    """Model versions of one service."""
    max_package_mb: int = Field(20 * 1024, ge=1)
    max_package_files: int = Field(2_000, ge=1)
    max_body_mb: int = Field(64, ge=1)
    """Of a prediction's request."""
    load_timeout_s: float = Field(120, gt=0)
    predict_timeout_s: float = Field(60, gt=0)
    report_every_s: float = Field(1.0, gt=0)
    """How often calls are counted and the data planes' states read."""
    callers_every_s: float = Field(60.0, gt=0)
    """Who may call is published anew this often, besides at every change of identity."""
