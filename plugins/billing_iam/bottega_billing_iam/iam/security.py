"""An account's own rules: passwords, logins, what users may change themselves, and where they may come from.

They are kept in `Account.security` (only what was set) and hold from the next request on (003 §10.4).
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from bottega.addresses import parse_range
from bottega.entities import Account
from bottega.errors import NotFound, NotSupported
from bottega.platform import Platform

from .events import SecurityChanged
from .identities import iam_urn

MINUTE_MS, DAY_MS = 60_000, 86_400_000
_LISTS = 100


class SecurityPolicy(BaseModel):
    """One of an account's policies, with its defaults. `kind` names it in `Account.security`."""

    model_config = ConfigDict(extra="ignore")
    kind: ClassVar[str]


class PasswordPolicy(SecurityPolicy):
    """What passwords must be made of and how long they live. Ages are minutes, the validity days; 0 is no limit."""

    kind: ClassVar[str] = "password"
    maximum_consecutive_identical_chars: int = Field(0, ge=0, le=32)
    minimum_password_age: int = Field(0, ge=0, le=1440)
    minimum_password_length: int = Field(8, ge=8, le=32)
    number_of_recent_passwords_disallowed: int = Field(1, ge=0, le=10)
    password_not_username_or_invert: bool = True
    password_validity_period: int = Field(0, ge=0, le=180)
    password_char_combination: int = Field(2, ge=2, le=4)


class LoginPolicy(SecurityPolicy):
    """How many wrong passwords lock a login for how long (minutes), and what else ends one.

    `account_validity_period`: days without a login after which a user cannot log in; 0 never. `session_timeout`:
    minutes a token by password lives, once it is set; the default leaves tokens the platform's own lifetime.
    """

    kind: ClassVar[str] = "login"
    account_validity_period: int = Field(0, ge=0, le=240)
    custom_info_for_login: str = Field("", max_length=64)
    lockout_duration: int = Field(15, ge=15, le=1440)
    login_failed_times: int = Field(5, ge=3, le=10)
    period_with_login_failures: int = Field(15, ge=15, le=60)
    session_timeout: int = Field(60, ge=15, le=1440)
    show_recent_login_info: bool = False


class SelfManagement(BaseModel):
    """What users may change of themselves without a right to manage users."""

    manage_accesskey: bool = True
    manage_email: bool = True
    manage_mobile: bool = True
    manage_password: bool = True


class ProtectPolicy(SecurityPolicy):
    """Self-management, which is enforced; a second confirmation of critical operations is not offered."""

    kind: ClassVar[str] = "protect"
    allow_user: SelfManagement = Field(default_factory=SelfManagement)
    operation_protection: bool = False

    @field_validator("operation_protection")
    @classmethod
    def _no_second_factor(cls, value: bool) -> bool:
        if value:
            raise NotSupported("operation_protection: there are no second factors here; leave it false")
        return value


class _Described(BaseModel):
    description: str = Field("", max_length=255)


def _checked_range(text: str) -> str:
    parse_range(text)
    return text


class Netmask(_Described):
    address_netmask: str

    _valid = field_validator("address_netmask")(_checked_range)


class AddressRange(_Described):
    ip_range: str

    _valid = field_validator("ip_range")(_checked_range)


class ApiAddresses(SecurityPolicy):
    """From where the account's users may call the API; empty lists allow every address."""

    kind: ClassVar[str] = "api_acl"
    allow_address_netmasks: list[Netmask] = Field(default_factory=list, max_length=_LISTS)
    allow_ip_ranges: list[AddressRange] = Field(default_factory=list, max_length=_LISTS)
    allow_vpc_endpoints: list[dict[str, Any]] = Field(default_factory=list)

    @field_validator("allow_vpc_endpoints")
    @classmethod
    def _no_endpoints(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if value:
            raise NotSupported("allow_vpc_endpoints: there are no VPC endpoints here; list addresses")
        return value


class ConsoleAddresses(SecurityPolicy):
    """From where the account's users may log in with a password; empty lists allow every address."""

    kind: ClassVar[str] = "console_acl"
    allow_address_netmasks: list[Netmask] = Field(default_factory=list, max_length=_LISTS)
    allow_ip_ranges: list[AddressRange] = Field(default_factory=list, max_length=_LISTS)
    allow_address_netmasks_ipv6: list[Netmask] = Field(default_factory=list, max_length=_LISTS)
    allow_ip_ranges_ipv6: list[AddressRange] = Field(default_factory=list, max_length=_LISTS)


P = TypeVar("P", bound=SecurityPolicy)


def policy_of(account: Account, kind: type[P]) -> P:
    """The policy of an account, with the defaults for what was never set."""
    return kind.model_validate(account.security.get(kind.kind, {}))


class Security:
    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    async def get(self, account_id: str, kind: type[P]) -> P:
        return policy_of(await self._platform.identity.account(account_id), kind)

    async def set(self, account_id: str, changes: P) -> P:
        """Set the fields that `changes` gives; the others stay."""
        async with self._platform.database.transaction() as tx:
            account = await tx.session.get(Account, account_id, with_for_update=True)
            if account is None:
                raise NotFound(f"there is no account '{account_id}'")
            kept = account.security.get(changes.kind, {}) | changes.model_dump(exclude_unset=True)
            account.security = {**account.security, changes.kind: kept}
            tx.session.add(account)
            event = SecurityChanged(account_id=account_id, policy=changes.kind)
            tx.emit(event, iam_urn("account", account_id))
        return policy_of(account, type(changes))
