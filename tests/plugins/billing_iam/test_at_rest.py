"""What lies on the disk of the platform holds no secret and no personal data that can be read."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from bottega.testing import RunningPlatform, Tenant


def test_neither_the_database_nor_the_streams_hold_plain_secrets_or_personal_data(
    running: RunningPlatform, tenant: Tenant
) -> None:
    email, phone = f"{secrets.token_hex(8)}@people.example", f"139{secrets.randbelow(10**8):08}"
    password = f"Quiet-{secrets.token_hex(8)}"
    made = tenant.client.post(
        "/v3.0/OS-USER/users",
        {
            "user": {
                "name": f"u{secrets.token_hex(4)}",
                "domain_id": tenant.account_id,
                "password": password,
                "email": email,
                "areacode": "0086",
                "phone": phone,
            }
        },
    )["user"]
    key = tenant.client.post("/v3.0/OS-CREDENTIAL/credentials", {"credential": {"user_id": made["id"]}})["credential"]
    identity = {"methods": ["token"], "token": {"duration_seconds": 900}}
    temporary = tenant.client.post("/v3.0/OS-CREDENTIAL/securitytokens", {"auth": {"identity": identity}})
    issued = temporary["credential"]
    auth = {
        "identity": {"methods": ["password"], "password": {"user": {"id": made["id"], "password": password}}},
    }
    login = tenant.client.http.post("/v3/auth/tokens", json={"auth": auth})
    assert login.status_code == 201, login.text
    shown = tenant.client.get(f"/v3.0/OS-USER/users/{made['id']}")["user"]
    assert (shown["email"], shown["phone"].endswith(phone)) == (email, True)
    found = [
        f"{name} in {file.relative_to(running.data_dir)}"
        for file in _files(running.data_dir)
        for name, plain in {
            "email": email,
            "phone": phone,
            "password": password,
            "secret key": key["secret"],
            "temporary secret key": issued["secret"],
            "security token": issued["securitytoken"],
            "token": login.headers["X-Subject-Token"],
        }.items()
        if plain.encode() in file.read_bytes()
    ]
    assert found == []


def _files(data_dir: Path) -> list[Path]:
    kept = [*data_dir.glob("bottega.db*"), *(data_dir / "nats").rglob("*"), *(data_dir / "objects").rglob("*.log")]
    files = [file for file in kept if file.is_file()]
    if not any(file.name == "bottega.db" for file in files):
        pytest.fail("the database is not where it was looked for")
    return files
