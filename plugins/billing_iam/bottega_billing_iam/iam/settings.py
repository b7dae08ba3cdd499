"""What the operator can set for the plugin `iam`."""

from __future__ import annotations

from pydantic import Field

from bottega.settings import Section


class QuotaSettings(Section):
    """How many of each an account may have, where it has no limit of its own."""

    user: int = Field(10_000, ge=1)
    group: int = Field(10_000, ge=1)
    agency: int = Field(1000, ge=0)
    policy: int = Field(20_000, ge=0)
    project: int = Field(1000, ge=1)
    enterprise_project: int = Field(1000, ge=0)


class IamSettings(Section):
    """The section ``[plugins.iam]``."""

    token_lifetime_s: int = Field(86400, ge=60, le=86400)
    login_attempts_per_address: str = "300/minute"
    """Logins from one address, whoever it tries, in the notation of the ``limits`` library."""
    access_keys_per_user: int = Field(2, ge=1)
    region: str = "local-1"
    """The region the service catalog of a token names."""
    quotas: QuotaSettings = Field(default_factory=QuotaSettings)
