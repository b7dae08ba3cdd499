"""The price list: versions that follow one another; what has begun never changes (000 §7)."""

from __future__ import annotations

import hashlib
import tomllib
from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import cached_property
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
MONTH_HOURS = 720
GB = 2**30
RATE = 3600 * MONTH_HOURS * GB
"""Rates are whole numbers because every price is one of these parts of a millionth a second."""


def _price(value: Any) -> Decimal:
    if not isinstance(value, str):
        raise ValueError('write it as a text, such as "0.20", so that it is exact')
    try:
        price = Decimal(value)
    except InvalidOperation:
        raise ValueError(f'{value!r} is not a price; write one such as "0.20"') from None
    # The size first: to multiply the largest numbers raises what is no ValueError.
    if not price.is_finite() or price < 0 or price.adjusted() > 15 or price * MICRO != int(price * MICRO):
        raise ValueError(f"{value!r} is not a price; write zero or more, with at most six places")
    return price


Price = Annotated[Decimal, BeforeValidator(_price)]


class StoragePrice(BaseModel):
    """What keeping data costs: a notebook's disk (002 §4.1.2) and the objects of a bucket, each beyond its free part.

    A month counts 720 hours, a GB 2**30 bytes. The free part is per disk and per bucket.
    """

    model_config = ConfigDict(extra="forbid")
    free_gb: int = Field(5, ge=0)
    gb_month: Price = Decimal(0)
    object_free_gb: int = Field(0, ge=0)
    object_gb_month: Price = Decimal(0)


class PackageOffer(BaseModel):
    """Prepaid time: `hours` of one node of any of `flavors` and `kinds` (empty: of all), for so many months."""

    model_config = ConfigDict(extra="forbid")
    hours: int = Field(ge=1, le=10_000_000)
    months: int = Field(12, ge=1, le=60)
    price: Price
    flavors: list[str] = []
    kinds: list[str] = []


class Version(BaseModel):
    """The prices of a time."""

    model_config = ConfigDict(extra="forbid")
    version: str = Field(min_length=1, max_length=64)
    valid_from: AwareDatetime
    default: Price
    flavors: dict[str, Price] = {}
    free_kinds: list[str] = []
    free_services: list[str] = ["batch", "edge"]
    """Kinds of service that cost nothing (002 §7.3-7.4)."""
    storage: StoragePrice = StoragePrice()
    calls: dict[str, Price] = {}
    """Of one successful call, by its IAM action; a price of a one-time service is one of these."""
    packages: dict[str, PackageOffer] = {}
    pools: dict[str, Price] = {}
    """Of one node of a dedicated pool and month, by flavor; without one, 720 hours of the flavor."""

    @cached_property
    def begins(self) -> int:
        return int(self.valid_from.timestamp() * 1000)

    def micro_per_hour(self, flavor: str, kind: str) -> int:
        """The price of an hour of one node, in millionths."""
        if kind in self.free_kinds or kind in self.free_services:
            return 0
        return self._micro.get(flavor, self._micro[""])

    def rate(self, measure: str, flavor: str, kind: str, quantity: int) -> int:
        """What `quantity` costs while it lasts, in parts of which `RATE` a second are a millionth.

        :param measure: ``node`` (of a flavor), ``gb`` (of a notebook's disk) or ``byte`` (of a bucket).
        """
        storage = self.storage
        match measure:
            case "node":
                return self.micro_per_hour(flavor, kind) * quantity * MONTH_HOURS * GB
            case "gb":
                return int(storage.gb_month * MICRO) * max(0, quantity - storage.free_gb) * GB
            case "byte":
                return int(storage.object_gb_month * MICRO) * max(0, quantity - storage.object_free_gb * GB)
            case _:
                return 0

    def micro_per_call(self, action: str) -> int:
        return int(self.calls.get(action, 0) * MICRO)

    def micro_per_pool_month(self, flavor: str) -> int:
        """The price of one node of a dedicated pool and month."""
        if flavor in self.pools:
            return int(self.pools[flavor] * MICRO)
        return self.micro_per_hour(flavor, "pool") * MONTH_HOURS

    @cached_property
    def _micro(self) -> dict[str, int]:
        return {flavor: int(price * MICRO) for flavor, price in {**self.flavors, "": self.default}.items()}


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

    def at(self, moment: int) -> Version | None:
        """The version that holds at a time (epoch ms); None before the first."""
        index = bisect_right([version.begins for version in self.versions], moment)
        return self.versions[index - 1] if index else None

    def micro_per_hour(self, flavor: str, kind: str, at: int) -> int:
        """The price of an hour of one node at a time (epoch ms), in millionths."""
        version = self.at(at)
        return version.micro_per_hour(flavor, kind) if version else 0

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
            problems = "; ".join(f"{_place(p['loc'])}: {p['msg']}" for p in e.errors())
            raise ConfigError(f"the price list {path}: {problems}") from e


async def adopt(tx: Transaction, offered: PriceList) -> None:
    """Keep the versions of `offered` that are new; versions no file names any more stay.

    Raises ConfigError when `offered` changes a version that has begun, puts one before it, or another currency.
    """
    known = {row.version: row for row in (await tx.session.exec(select(PriceVersion))).all()}
    now = now_ms()
    named = {version.version for version in offered.versions}
    staying = {row.valid_from: row.version for row in known.values() if row.version not in named}
    last_begun = max((row.valid_from for row in known.values() if row.valid_from <= now), default=None)
    for version in offered.versions:
        row = known.get(version.version)
        if row is not None and row.currency != offered.currency:
            raise ConfigError(f"the price list is in {offered.currency}; the bills so far are in {row.currency}")
        if row is not None and Version.model_validate(row.document) == version:
            continue
        if row is not None and row.valid_from <= now:
            raise ConfigError(f"price version '{version.version}' has begun and cannot change; add a later version")
        if (other := staying.get(version.begins)) is not None:
            raise ConfigError(
                f"price version '{version.version}' begins when '{other}' does, which was adopted before and stays; "
                "keep its name or choose another time"
            )
        if last_begun is not None and version.begins <= now:
            raise ConfigError(f"price version '{version.version}' would change the past; let it begin in the future")
        await tx.session.merge(
            PriceVersion(
                version=version.version,
                currency=offered.currency,
                valid_from=version.begins,
                digest=hashlib.sha256(version.model_dump_json().encode()).hexdigest(),
                document=version.model_dump(mode="json"),
            )
        )


def _place(loc: Sequence[int | str]) -> str:
    """Where in the file: ``versions[2].flavors.local.small``, counted from 1 as one counts tables by hand."""
    place = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in loc)
    return place.lstrip(".") or "the file"


async def load(session: AsyncSession) -> PriceList:
    """Every version ever adopted."""
    digests = (await session.exec(select(PriceVersion.digest).order_by(PriceVersion.version))).all()
    known = _loaded.get(tuple(digests))
    if known is None:
        rows: Sequence[PriceVersion] = (await session.exec(select(PriceVersion))).all()
        versions = [Version.model_validate(row.document) for row in rows]
        _loaded.clear()
        known = _loaded[tuple(digests)] = PriceList(currency=rows[0].currency, versions=versions)
    return known


_loaded: dict[tuple[str, ...], PriceList] = {}
"""The list read last, by the digests of its versions."""
