"""The configuration: one file, the environment over it, the command line over both; mistakes are named by their key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bottega.errors import ConfigError
from bottega.runtime import Runtime, bind_listener
from bottega.settings import load_settings


def write(folder: Path, text: str) -> Path:
    file = folder / "bottega.toml"
    file.write_text(text, "utf-8")
    return file


def test_nothing_needs_to_be_configured() -> None:
    settings = load_settings(None, {}, {})
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8390)
    assert (settings.database.url, settings.nats.url, settings.objects.endpoint) == (None, None, None)


def test_the_environment_wins_over_the_file_and_the_command_line_over_both(tmp_path: Path) -> None:
    file = write(tmp_path, '[server]\nport = 1\nhost = "::1"\nmax_body_mb = 5\n')
    environ = {"BOTTEGA__SERVER__PORT": "2", "BOTTEGA__SERVER__HOST": "0.0.0.0", "UNRELATED": "x"}
    server = load_settings(file, {"server": {"port": 3}}, environ).server
    assert (server.port, server.host, server.max_body_mb) == (3, "0.0.0.0", 5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("[1, 2.5]", [1, 2.5]),
        ('"true"', "true"),
        ("12e4", "12e4"),
        ("plain words", "plain words"),
        ("[half", "[half"),
        ("", ""),
    ],
)
def test_a_variable_is_text_unless_only_toml_can_say_it(text: str, expected: Any) -> None:
    settings = load_settings(None, {}, {"BOTTEGA__PLUGINS__MY_PLUGIN__VALUE": text})
    assert settings.plugins == {"my-plugin": {"value": expected}}


def test_secrets_come_from_variables_and_files_and_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "s3").write_text("deep secret\n")
    file = write(
        tmp_path,
        f'[database]\nurl = {{ env = "DB" }}\n[objects]\nsecret_key = {{ file = "{tmp_path}/s3" }}\n',
    )
    settings = load_settings(file, {}, {"DB": "postgresql+psycopg://u:hidden@h/d"})
    assert settings.database.url is not None
    assert settings.database.url.get_secret_value() == "postgresql+psycopg://u:hidden@h/d"
    assert settings.objects.secret_key is not None
    assert settings.objects.secret_key.get_secret_value() == "deep secret"
    assert "hidden" not in repr(settings)
    assert "deep" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sever = 1", "unknown setting 'sever'; known here: account, data_dir, database"),
        ("[server]\nprot = 1", "unknown setting 'server.prot'; known here: host, max_body_mb, port"),
        ("[database]\nurl = 'mysql://u:hidden@h/d'", "database.url: 'mysql://…' is not the URL of a database"),
        ("[server]\nport = 'high'", "server.port: Input should be a valid integer"),
        ("[server]\ntrusted_proxies = ['10.0.0.1/8']", "server.trusted_proxies: 10.0.0.1/8 has host bits set; write"),
        ("[server]\nport = 70000", "server.port: Input should be less than or equal to 65535"),
        ("[log]\nlevel = 'loud'", "log.level: Input should be 'debug', 'info', 'warning' or 'error'"),
        ("server = ", "is not valid TOML"),
        (
            "[database]\nurl = { env = 'ABSENT' }",
            "reads the environment variable ABSENT, which is not set",
        ),
        ("[database]\nurl = { file = '/nowhere/x' }", "'database.url' reads the file /nowhere/x: No such file"),
    ],
)
def test_a_mistake_is_named_by_its_key(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(write(tmp_path, text), {}, {})
    assert complaint in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_a_configuration_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration file .*absent\.toml: No such file"):
        load_settings(tmp_path / "absent.toml", {}, {})


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"nats": {"url": "nats://h:4222"}}, "nats.url is set; nats.credentials_file or nats.authority_dir is needed"),
        ({"objects": {"endpoint": "http://h"}}, "objects.access_key and objects.secret_key are needed"),
        (
            {"database": {"url": "postgresql+psycopg://u:p@127.0.0.1:1/x"}},
            "database.url: the database cannot be used: .*refused",
        ),
        ({"objects": {"store": "none"}}, "objects.store: there is no plugin 'none'; installed: store-s3"),
    ],
)
async def test_half_an_outside_server_is_refused(overrides: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    settings = load_settings(None, {"data_dir": str(tmp_path / "data"), **overrides}, {})
    with bind_listener("127.0.0.1", 0) as listener, pytest.raises(ConfigError, match=complaint):
        async with Runtime(settings).running(listener):
            pass
