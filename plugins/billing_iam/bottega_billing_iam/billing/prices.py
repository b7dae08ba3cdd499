"""The price list: versions that follow one another; what has begun never changes (000 §7)."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from sqlmodel import select

from bottega.context import now_ms
from bottega.database import AsyncSession, Transaction
from bottega.errors import ConfigError

from .entities import PriceVersion

SHIPPED = Path(__file__).parent / "prices.toml"
MICRO = 1_000_000
"""Amounts are kept as whole millionths of the currency's unit."""


def _price(value: Any) -> Decimal:
    if not isinstance(value, str):
        raise ValueError('write it as a text, such as "0.20", so that it is exact')
    try:
        price = Decimal(value)
    except InvalidOperation:
        raise ValueError(f'{value!r} is not a price; write one such as "0.20"') from None
    if not price.is_finite() or price < 0 or price * MICRO != int(price * MICRO):
        raise ValueError(f"{value!r} is not a price; write zero or more, with at most six places")
    return price


Price = Annotated[Decimal, BeforeValidator(_price)]


class StoragePrice(BaseModel):
    """What a notebook's disk costs beyond its free part. Shown, and not yet metered."""

    model_config = ConfigDict(extra="forbid")
    free_gb: int = Field(5, ge=0)
    gb_month: Price = Decimal(0)


class Version(BaseModel):
    """The prices of a time."""

    model_config = ConfigDict(extra="forbid")
    version: str = Field(min_length=1, max_length=64)
    valid_from: AwareDatetime
    default: Price
    flavors: dict[str, Price] = {}
    free_kinds: list[str] = []
    storage: StoragePrice = StoragePrice()

    @property
    def begins(self) -> int:
        return int(self.valid_from.timestamp() * 1000)

    def micro_per_hour(self, flavor: str, kind: str) -> int:
        """The price of an hour of one node, in millionths."""
        if kind in self.free_kinds:
            return 0
        return int(self.flavors.get(flavor, self.default) * MICRO)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class PriceList(BaseModel):
    model_config = ConfigDict(extra="forbid")
    currency: str = Field(pattern=r"[A-Z]{3}")
    versions: list[Version] = Field(min_length=1)

    @model_validator(mode="after")
    def _in_order(self) -> PriceList:
        self.versions.sort(key=lambda v: v.valid_from)
        for what in ("version", "valid_from"):
            seen = [getattr(v, what) for v in self.versions]
            if len(set(seen)) < len(seen):
                raise ValueError(f"two versions have the same {what}")
        return self

    @classmethod
    def read(cls, path: Path) -> PriceList:
        """Raises ConfigError, naming each mistake."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except OSError as e:
            raise ConfigError(f"cannot read the price list {path}: {e.strerror}") from e
        except tomllib.TOMLDecodeError as e:
            raise ConfigError(f"the price list {path} is not valid TOML: {e}") from e
        except ValidationError as e:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in e.errors())
            raise ConfigError(f"the price list {path}: {problems}") from e


async def adopt(tx: Transaction, offered: PriceList) -> None:
    """Keep the versions of `offered` that are new; versions no file names any more stay.

    Raises ConfigError when `offered` changes a version that has begun, puts one before it, or another currency.
    """
    known = {row.version: row for row in (await tx.session.exec(select(PriceVersion))).all()}
    now = now_ms()
    last_begun = max((row.valid_from for row in known.values() if row.valid_from <= now), default=None)
    for version in offered.versions:
        row = known.get(version.version)
        if row is not None and row.currency != offered.currency:
            raise ConfigError(f"the price list is in {offered.currency}; the bills so far are in {row.currency}")
        if row is not None and row.digest == version.digest:
            continue
        if row is not None and row.valid_from <= now:
            raise ConfigError(f"price version '{version.version}' has begun and cannot change; add a later version")
        if last_begun is not None and version.begins <= now:
            raise ConfigError(f"price version '{version.version}' would change the past; let it begin in the future")
        await tx.session.merge(
            PriceVersion(
                version=version.version,
                currency=offered.currency,
                valid_from=version.begins,
                digest=version.digest,
                document=version.model_dump(mode="json"),
            )
        )


async def load(session: AsyncSession) -> PriceList:
    """Every version ever adopted."""
    rows: Sequence[PriceVersion] = (await session.exec(select(PriceVersion))).all()
    return PriceList(currency=rows[0].currency, versions=[Version.model_validate(row.document) for row in rows])
