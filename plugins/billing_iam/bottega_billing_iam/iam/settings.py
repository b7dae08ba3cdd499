"""What the operator can set for the plugin `iam`."""

from __future__ import annotations

from pydantic import Field

from bottega.settings import Section


class IamSettings(Section):
    """The section ``[plugins.iam]``."""

    token_lifetime_s: int = Field(86400, ge=60, le=86400)
    login_attempts: str = "5/15 minutes"
    """Wrong passwords for one user from one address, in the notation of the ``limits`` library."""
    login_attempts_per_address: str = "300/minute"
    """Logins from one address, whoever it tries."""
    access_keys_per_user: int = Field(2, ge=1)
    region: str = "local-1"
    """The region the service catalog of a token names."""
