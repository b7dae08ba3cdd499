"""Settings of the plugin, section ``[plugins.dataset]``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from bottega.settings import Section


class DatasetSettings(Section):
    max_datasets: int = Field(100, ge=1)
    """How many datasets an account may have, unless its administrator set another quota."""
    max_processor_tasks: int = Field(1000, ge=1)
    """How many processing tasks an account may keep, unless its administrator set another quota."""
    processing_flavor: str | None = None
    """Where processing tasks run that name no flavor; None: the first one offered for datasets."""
    processing_timeout_s: float = Field(24 * 3600, gt=0)
    """A version of a processing task that takes longer is ended."""
    processing_largest_mb: int = Field(256, ge=1)
    """Larger objects are not read by processing tasks; they count as unreadable."""
    processing_cache_mb: int = Field(2048, ge=0)
    """How much a processing task keeps on its machine's disk of what it has read, for operators that read again."""
    problems_kept: int = Field(1000, ge=0)
    """How many bad lines of an import are kept for its report; all are counted."""
    intelligent_flavor: str | None = None
    """The flavor of intelligent tasks that name none; None: the first one offered for datasets."""
    intelligent_timeout_s: int = Field(3600, ge=1)
    """An intelligent task that works longer is ended, unless its request allows more or less."""
    max_intelligent_samples: int = Field(200_000, ge=10)
    """How many samples one intelligent task looks at; the rest waits for the next one."""
    image_backbone: Path | None = None
    """An ONNX or TorchScript feature extractor for pictures, (N, 3, H, W) in 0..1 to (N, features), on each machine."""
    labeling_url: str | None = None
    """Where the links in e-mails to labeling teams lead; None: ``/labeling`` of the platform."""
    labeling_session_s: int = Field(12 * 3600, ge=60)
    """How long the token of a labeling team's member lasts."""
    labeling_logins_per_address: str = "300/minute"
    """Logins and forgotten passwords from one address, in the notation of the ``limits`` library."""
