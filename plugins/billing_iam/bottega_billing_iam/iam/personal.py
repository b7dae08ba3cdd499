"""Personal data of users, encrypted at rest (003 §10.4)."""

from __future__ import annotations

import re

from bottega.entities import User
from bottega.errors import Invalid
from bottega.sealing import Sealer


class Personal:
    """Reads and writes `User.email` and `User.phone`; the latter holds the area code, a space and the number."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def email(self, user: User) -> str:
        return self._sealer.read(user, "email") or ""

    def phone(self, user: User) -> tuple[str, str]:
        """Area code and number."""
        areacode, _, number = (self._sealer.read(user, "phone") or "").partition(" ")
        return areacode, number

    def set_email(self, user: User, email: str) -> None:
        """An empty one removes it."""
        self._sealer.write(user, "email", email or None)

    def set_phone(self, user: User, areacode: str, number: str) -> None:
        self._sealer.write(user, "phone", f"{areacode} {number}" if number else None)


def check_email(email: str) -> None:
    """Raises Invalid unless it is empty or looks like an address."""
    if email and (len(email) > 255 or not re.fullmatch(r"[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+\.[^@\s\x00-\x1f.]+", email)):
        raise Invalid("email: is no e-mail address; write name@host.domain, at most 255 characters")


def check_phone(areacode: str, number: str) -> None:
    """Raises Invalid unless both are empty or a country code and digits."""
    if bool(areacode) != bool(number):
        raise Invalid("phone: give areacode and phone together, such as 0049 and 15112345678")
    if number and not (re.fullmatch(r"\+?[0-9]{1,6}", areacode) and re.fullmatch(r"[0-9]{1,32}", number)):
        raise Invalid("phone: use digits only, and an areacode such as 0049")
