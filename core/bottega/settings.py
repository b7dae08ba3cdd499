"""The operator's configuration: one ``bottega.toml`` plus the environment, every part typed, unknown keys refused.

Environment variables override the file: ``BOTTEGA__SERVER__PORT=9000``, ``BOTTEGA__PLUGINS__TRAINING__MAX_JOBS=4``.
A secret is written as ``{ env = "NAME" }`` or ``{ file = "/run/secrets/name" }``.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from bottega.errors import ConfigError

CONFIG_FILE = Path("bottega.toml")
_PREFIX = "BOTTEGA__"
_DATABASES = ("sqlite+aiosqlite://", "postgresql+psycopg://")
M = TypeVar("M", bound=BaseModel)


class Section(BaseModel):
    """Base of every settings model, the plugins' included: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


class ServerSettings(Section):
    host: str = "127.0.0.1"
    port: int = Field(8390, ge=0, le=65535)
    """0: a free one."""
    public_url: str | None = None
    """The URL users reach the platform at, when it is not http://host:port."""
    max_body_mb: int = Field(64, ge=1)
    rate_limit: str = "500/second"
    """Requests per caller, in the notation of the ``limits`` library."""
    records_of_unknown: str = "300/minute"
    """Records the audit trail takes from one address of calls whose caller is unknown or held back (429)."""
    trusted_proxies: list[str] = []
    """Addresses and networks of proxies whose ``X-Forwarded-For`` and ``-Proto`` are believed, as a caller's own."""

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, proxies: list[str]) -> list[str]:
        for proxy in proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as e:
                raise ValueError(f"{e}; write addresses or networks, such as 10.0.0.7 or 10.0.0.0/8") from e
        return proxies


class DatabaseSettings(Section):
    url: SecretStr | None = None
    """None: SQLite in the data directory. ``postgresql+psycopg://user:password@host/name`` for PostgreSQL."""

    @field_validator("url")
    @classmethod
    def _known(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not url.get_secret_value().startswith(_DATABASES):
            # Only what stands before :// is repeated; the rest holds a password.
            kind, separator, _ = url.get_secret_value().partition("://")
            given = f"'{kind}://…' is not" if separator else "this is not"
            raise ValueError(f"{given} the URL of a database that can be used; write {' or '.join(_DATABASES)}…")
        return url


class NatsSettings(Section):
    url: str | None = None
    """None: the embedded server."""
    credentials_file: Path | None = None
    authority_dir: Path | None = None
    """Keys that may issue users for an outside server run in operator mode; None: the data directory's."""
    redelivery_backoff_s: list[float] = [0.2, 1.0, 5.0, 15.0]
    """Waits between the attempts at an event; one more attempt than waits, then the dead letters."""


class ObjectsSettings(Section):
    store: str = "store-s3"
    """The plugin that brings the object store."""
    endpoint: str | None = None
    """None: the embedded server."""
    access_key: str | None = None
    secret_key: SecretStr | None = None
    region: str = "us-east-1"


class Smtp(Section):
    """The mail server that takes what is sent by e-mail."""

    host: str
    port: int = Field(default=587, ge=1, le=65535)
    sender: str
    user: str | None = None
    password_file: Path | None = None
    """A file that holds the password and nothing else, so that no secret stands in the configuration."""
    security: Literal["starttls", "tls", "none"] = "starttls"


class LogSettings(Section):
    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Section):
    data_dir: Path = Path("bottega-data")
    account: str = "admin"
    """Name of the first account, made at the first start."""
    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    nats: NatsSettings = NatsSettings()
    objects: ObjectsSettings = ObjectsSettings()
    log: LogSettings = LogSettings()
    smtp: Smtp | None = None
    """None: nothing is sent by e-mail."""
    plugins: dict[str, dict[str, Any]] = {}
    """Sections of the plugins; each is checked by its plugin's own model. ``enabled = false`` switches one off."""


def default_config() -> Path | None:
    """``bottega.toml`` of the working directory, when there is one."""
    return CONFIG_FILE if CONFIG_FILE.is_file() else None


def load_settings(
    path: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read `path` (if given), then the environment, then `overrides` (nested dicts), the later ones winning.

    Raises ConfigError naming the key, what was wrong and the known keys.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text("utf-8"))
        except OSError as e:
            raise ConfigError(f"cannot read the configuration file {path}: {e.strerror}") from e
        except tomllib.TOMLDecodeError as e:
            raise ConfigError(f"{path} is not valid TOML: {e}") from e
    for name, text in environ.items():
        if name.startswith(_PREFIX):
            _merge(values, _nest(name.removeprefix(_PREFIX).lower().split("__"), _scalar(text)))
    _merge(values, overrides or {})
    return validate(Settings, _resolve(values, environ, ""), "")


def validate(model: type[M], values: Mapping[str, Any], section: str) -> M:
    """Check `values` against `model`. Raises ConfigError with the full key of each mistake."""
    unknown = set(values) - {field.alias or name for name, field in model.model_fields.items()}
    if unknown:
        known = ", ".join(sorted(model.model_fields)) or "none"
        raise ConfigError(f"unknown setting '{_key(section, min(unknown))}'; known here: {known}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as e:
        problems = [_problem(model, section, p["loc"], p["type"], p["msg"]) for p in e.errors()]
        raise ConfigError("wrong settings: " + "; ".join(problems)) from e


def _problem(model: type[BaseModel], section: str, place: tuple[int | str, ...], kind: str, message: str) -> str:
    key = _key(section, ".".join(map(str, place)))
    if kind != "extra_forbidden":
        return f"{key}: {message.removeprefix('Value error, ')}"
    inner: Any = model
    for part in place[:-1]:
        field = inner.model_fields.get(str(part)) if isinstance(inner, type) and issubclass(inner, BaseModel) else None
        inner = field.annotation if field else None
    known = sorted(inner.model_fields) if isinstance(inner, type) and issubclass(inner, BaseModel) else []
    return f"unknown setting '{key}'" + (f"; known here: {', '.join(known)}" if known else "")


def _key(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name


def _nest(parts: list[str], value: Any) -> dict[str, Any]:
    # Plugin names are written with '-', which the environment does not allow: PLUGINS__BACKEND_LOCAL.
    if parts[0] == "plugins" and len(parts) > 1:
        parts = [parts[0], parts[1].replace("_", "-"), *parts[2:]]
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def _scalar(text: str) -> Any:
    # Only what text cannot say is read as TOML: a secret made of digits stays the text it is.
    if text not in ("true", "false") and not text.startswith(("[", "{", '"', "'")):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _resolve(value: Any, environ: Mapping[str, str], key: str) -> Any:
    if not isinstance(value, dict):
        return value
    if set(value) == {"env"}:
        if value["env"] not in environ:
            raise ConfigError(f"setting '{key}' reads the environment variable {value['env']}, which is not set")
        return environ[value["env"]]
    if set(value) == {"file"}:
        try:
            return Path(value["file"]).read_text("utf-8").strip()
        except OSError as e:
            raise ConfigError(f"setting '{key}' reads the file {value['file']}: {e.strerror}") from e
    return {k: _resolve(v, environ, _key(key, k)) for k, v in value.items()}
