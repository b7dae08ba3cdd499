"""The operator's settings, section ``[plugins.training]``."""

from __future__ import annotations

from pydantic import Field

from bottega.settings import Section


class TrainingSettings(Section):
    max_jobs: int = Field(10_000, ge=1)
    """How many jobs an account may keep, ended ones included; an administrator can give an account its own limit."""
    upload_every_s: float = Field(5, ge=1)
    """How often outputs and the log are stored while a job runs."""
    stop_grace_s: float = Field(30, ge=0)
    """How long a stopped job's process has between the request to end and its death."""
    default_folder: str = Field("training-jobs", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    """Folder, in the bucket of the code, where outputs and logs go when the request names no place."""
