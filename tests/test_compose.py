"""compose.yaml: required secrets, health checks, pinned images; and its NATS wiring, run without containers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from bottega.runtime import bind_listener
from bottega.settings import load_settings
from bottega.testing import PlatformProcess, RunningPlatform, wait_until

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "compose.yaml").read_text("utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_no_secret_has_a_default() -> None:
    for variable, rest in re.findall(r"\$\{(\w+)([^}]*)\}", TEXT):
        if re.search(r"PASSWORD|KEY|SECRET|TOKEN", variable):
            assert re.match(r":\?.+", rest), f"{variable} must be required, with a word on what it is"
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|KEY|SECRET|TOKEN|URL$", name) and "://" not in str(value):
                assert "${" in str(value), name


def test_every_variable_is_explained() -> None:
    operate = (ROOT / "docs" / "operate.md").read_text("utf-8")
    for variable in set(re.findall(r"\$\{(\w+):\?", TEXT)) | {"BOTTEGA_PUBLIC_URL"}:
        assert variable in operate


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_stays_has_a_health_check(name: str) -> None:
    service = SERVICES[name]
    if service["restart"] == "no":
        waited_for = [s["depends_on"].get(name) for s in SERVICES.values() if name in s.get("depends_on", {})]
        assert waited_for == [{"condition": "service_completed_successfully"}]
    else:
        assert service["healthcheck"]["test"][0] == "CMD"
        for other in service.get("depends_on", {}).values():
            assert other["condition"] in ("service_healthy", "service_completed_successfully")


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_pinned_and_nothing_is_published_to_the_world(name: str) -> None:
    service = SERVICES[name]
    assert re.search(r":\d+\.\d+(\.\d+)?[\w.-]*$", service["image"])
    assert all(str(port).startswith("127.0.0.1:") for port in service.get("ports", []))


def test_only_bottega_sees_the_keys_of_nats() -> None:
    holders = {name for name, s in SERVICES.items() if any(v.startswith("authority:") for v in s.get("volumes", []))}
    assert holders == {"bottega", "nats-config"}


def test_the_settings_it_gives_are_settings() -> None:
    values = {"POSTGRES_PASSWORD": "p4", "S3_ACCESS_KEY": "123", "S3_SECRET_KEY": "12e4", "BOTTEGA_PUBLIC_URL": ""}
    given = {
        name: re.sub(r"\$\{(\w+)[^}]*\}", lambda m: values[m[1]], str(value))
        for name, value in SERVICES["bottega"]["environment"].items()
    }
    settings = load_settings(None, {}, given)
    assert (settings.nats.url, settings.nats.authority_dir) == ("nats://nats:4222", Path("/authority"))
    assert settings.database.url is not None
    assert settings.database.url.get_secret_value() == "postgresql+psycopg://bottega:p4@postgres/bottega"
    assert settings.objects.access_key == "123"
    assert settings.objects.secret_key is not None
    assert settings.objects.secret_key.get_secret_value() == "12e4"


def test_the_commands_it_runs_exist() -> None:
    command = SERVICES["nats-config"]["command"]
    subprocess.run([sys.executable, "-m", *command[:-1], "--help"], check=True, capture_output=True)
    assert 'CMD ["bottega", "up"]' in (ROOT / "Dockerfile").read_text("utf-8")


def free_address() -> str:
    with bind_listener("127.0.0.1", 0) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_nats_server_of_its_own_works_with_the_written_configuration(tmp_path: Path) -> None:
    listen, monitor = free_address(), free_address()
    authority = tmp_path / "authority"
    outside = {"BOTTEGA__NATS__URL": f"nats://{listen}", "BOTTEGA__NATS__AUTHORITY_DIR": str(authority)}
    command = [sys.executable, "-m", *SERVICES["nats-config"]["command"][:-1], str(tmp_path / "nats-server.conf")]
    places = ["--listen", listen, "--monitor", monitor, "--store", str(tmp_path / "streams")]
    subprocess.run([*command, *places], check=True, env={**os.environ, **outside}, capture_output=True)
    held = json.loads((authority / "nats-authority.json").read_text("utf-8"))
    written = (tmp_path / "nats-server.conf").read_text("utf-8")
    assert not any(seed in written for name, seed in held.items() if name.endswith("seed"))

    log = (tmp_path / "nats.log").open("wb")
    binary = shutil.which("nats-server", path=sysconfig.get_path("scripts"))
    assert binary
    server = subprocess.Popen([binary, "-c", str(tmp_path / "nats-server.conf")], stdout=log, stderr=log)
    try:

        def healthy() -> bool:
            try:
                return httpx.get(f"http://{monitor}/healthz?js-enabled-only=true").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(healthy)
        overrides = {"nats": {"url": f"nats://{listen}", "authority_dir": str(authority)}}
        with RunningPlatform(tmp_path / "data", overrides) as running:
            tenant = running.tenant()
            tenant.client.post("/v1/{project_id}/nats-credentials", {"name": "x"})
            assert tenant.events.wait("core.api.called.v1").project_id == tenant.project_id
            assert not (running.data_dir / "nats").exists()
        with PlatformProcess(tmp_path / "data", outside) as process:
            assert httpx.get(f"{process.url}/readyz").json() == {"status": "ready", "nats": True}
    finally:
        server.terminate()
        server.wait(10)
        log.close()
