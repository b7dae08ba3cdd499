"""Settings ``[plugins.notebook]``."""

from __future__ import annotations

from pydantic import Field

from bottega.settings import Section

HOUR_MS = 3_600_000


class NotebookSettings(Section):
    max_notebooks: int = Field(10, ge=1)
    """Notebooks of an account (002 §4.1.2), unless the administrator set another quota."""
    default_flavor: str | None = None
    """Of notebooks created without one; None: the first one offered for notebooks."""
    start_timeout_s: float = Field(120, gt=0)
    """A JupyterLab that does not answer by then has failed to start."""
    session_s: float = Field(12 * 3600, gt=0)
    """How long a browser that opened a notebook stays logged in to it."""
    lease_check_s: float = Field(5, gt=0)
    """How often leases that have run out are looked for."""
    ssh_host: str = "127.0.0.1"
    """The address SSH is served at, for notebooks that key pairs open."""
    ssh_port: int = Field(0, ge=0, le=65535)
    """0: a free one, the same after every start where that can be."""
    ssh_public_host: str | None = None
    """What users call the machine; None: the host of the platform's URL."""
