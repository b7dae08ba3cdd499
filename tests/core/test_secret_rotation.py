"""What is sealed stays readable while its key changes, survives kill -9, and needs the earlier key no more."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import LargeBinary
from sqlmodel import SQLModel, select

from bottega import schema
from bottega.client import Client
from bottega.database import Database
from bottega.entities import Account, Credential, User
from bottega.errors import ConfigError
from bottega.plugins import Plugins
from bottega.rotation import reseal, sealed_columns
from bottega.sealing import MARKER, Sealer
from bottega.settings import Settings
from bottega.testing import RunningPlatform, Tenant

PLAIN_BINARY = {
    "audit_batch_account.members",
    "core_outbox.payload",
    "dataset_deleted_sample.sample_id",
    "dataset_lookup.numbers",
    "dataset_lookup.texts",
    "dataset_sample.sample_id",
    "dataset_signature.bits",
    "notify_webhook_dead_letter.payload",
    "notify_webhook_delivery.payload",
}
MANY = 1500


def seal_as_before(key: bytes, text: str, purpose: str) -> bytes:
    """The form of before keys had names."""
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, text.encode(), purpose.encode())


async def fill(database: Database, sealer: Sealer, count: int, old_key: bytes) -> None:
    await schema.upgrade(database, Plugins(Settings()))
    async with database.transaction() as tx:
        tx.session.add(Account(id="a", name="acme"))
        await tx.session.flush()
        for i in range(count):
            user = User(id=f"u{i}", account_id="a", name=f"user{i}")
            sealer.write(user, "email", f"user{i}@example.org")
            secret = seal_as_before(old_key, f"secret{i}", f"credential:AK{i}")
            tx.session.add(user)
            await tx.session.flush()
            tx.session.add(Credential(access_key=f"AK{i}", user_id=f"u{i}", secret=secret))


async def read(database: Database, sealer: Sealer) -> tuple[list[str | None], list[str | None]]:
    async with database.read() as session:
        users = (await session.exec(select(User).order_by(User.id))).all()
        keys = (await session.exec(select(Credential).order_by(Credential.access_key))).all()
    return [sealer.read(user, "email") for user in users], [sealer.read(key, "secret") for key in keys]


def expected(count: int) -> tuple[list[str], list[str]]:
    names = sorted(range(count), key=str)
    return [f"user{i}@example.org" for i in names], [f"secret{i}" for i in names]


def url_of(each_database: dict[str, Any], folder: Path) -> str:
    return str(each_database.get("database", {}).get("url") or f"sqlite+aiosqlite:///{folder / 'x.db'}")


def test_after_a_rotation_everything_is_read_without_the_earlier_key(
    each_database: dict[str, Any], tmp_path: Path
) -> None:
    async def scenario() -> None:
        file = tmp_path / "master.key"
        sealer = Sealer.load_or_create(file)
        first = bytes.fromhex(file.read_text())
        database, plugins = Database(url_of(each_database, tmp_path)), Plugins(Settings())
        await fill(database, sealer, 450, first)
        sealer.add_key()
        assert await read(database, sealer) == expected(450)
        none_left = await reseal(database, sealer, plugins, for_s=60)
        assert (none_left.resealed, none_left.complete) == (900, True)
        alone = Sealer.load_or_create(file)
        assert len(alone.key_ids) == 1
        assert await read(database, alone) == expected(450)
        with pytest.raises(ConfigError, match="cannot be read"):
            await read(database, Sealer(first))
        await database.close()

    asyncio.run(scenario())


def test_what_no_key_opens_is_named_and_keeps_the_earlier_key(tmp_path: Path) -> None:
    async def scenario() -> None:
        sealer = Sealer.load_or_create(tmp_path / "master.key")
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
        await fill(database, sealer, 3, bytes.fromhex((tmp_path / "master.key").read_text()))
        async with database.transaction() as tx:
            row = await tx.session.get_one(Credential, "AK1")
            row.secret = (await tx.session.get_one(Credential, "AK2")).secret  # moved from another row
            tx.session.add(row)
        sealer.add_key()
        progress = await reseal(database, sealer, Plugins(Settings()), for_s=60)
        assert (progress.unreadable, progress.resealed) == (["core_credential.secret AK1"], 5)
        assert not progress.complete
        assert len(Sealer.load_or_create(tmp_path / "master.key").key_ids) == 2
        await database.close()

    asyncio.run(scenario())


def test_the_earlier_key_waits_for_plugins_that_are_not_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        sealer = Sealer.load_or_create(tmp_path / "master.key")
        database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
        await fill(database, sealer, 1, bytes.fromhex((tmp_path / "master.key").read_text()))
        sealer.add_key()
        without = Plugins(Settings(plugins={"training": {"enabled": False}}))
        progress = await reseal(database, sealer, without, for_s=60)
        assert "training" in progress.waiting
        assert len(sealer.key_ids) == 2
        again = await reseal(database, sealer, Plugins(Settings()), for_s=60)
        assert again.complete
        assert len(sealer.key_ids) == 1
        await database.close()

    asyncio.run(scenario())


def test_kill_9_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    url, file = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", tmp_path / "master.key"
    sealer = Sealer.load_or_create(file)

    async def prepare() -> None:
        database = Database(url)
        await fill(database, sealer, MANY, bytes.fromhex(file.read_text()))
        await database.close()

    async def renewed() -> int:
        database, present = Database(url), Sealer.load_or_create(file)
        async with database.read() as session:
            rows = (await session.exec(select(Credential.secret))).all()
        assert await read(database, present) == expected(MANY)
        await database.close()
        return sum(secret.startswith(present.header) for secret in rows)

    asyncio.run(prepare())
    program = f"""
import asyncio
from pathlib import Path
from bottega.database import Database
from bottega.plugins import Plugins
from bottega.rotation import reseal
from bottega.sealing import Sealer
from bottega.settings import Settings

plugins, sealer = Plugins(Settings()), Sealer.load_or_create(Path({str(file)!r}))
if len(sealer.key_ids) == 1:
    sealer.add_key()
print("begun", flush=True)
print(asyncio.run(reseal(Database({url!r}), sealer, plugins, for_s=60)).complete, flush=True)
"""
    seen = []
    for delay_s in (0.05, 0.1):
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, cwd=tmp_path)
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        time.sleep(delay_s)  # somewhere in the middle
        child.send_signal(signal.SIGKILL)
        child.wait()
        seen.append(asyncio.run(renewed()))
    assert len(Sealer.load_or_create(file).key_ids) == 2, f"it had ended before it was killed: {seen}"
    assert seen == sorted(seen)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["begun", "True"]
    assert asyncio.run(renewed()) == MANY
    assert len(Sealer.load_or_create(file).key_ids) == 1


def test_every_binary_column_of_every_plugin_is_sealed_or_known_to_be_plain() -> None:
    plugins = Plugins(Settings())
    sealed = {f"{column.table}.{column.name}" for column in sealed_columns(plugins)}
    assert {"core_user.email", "core_user.phone", "core_credential.secret"} <= sealed
    binary = {
        f"{table.name}.{column.name}"
        for table in SQLModel.metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, LargeBinary) and MARKER not in column.info
    }
    assert binary == PLAIN_BINARY


def test_the_operator_rotates_on_a_running_platform(running: RunningPlatform, tenant: Tenant) -> None:
    operator = running.operator().client
    identity = running.platform().identity
    token = identity.issue_token(running.run(identity.principal(tenant.user_id)), 600)
    before = operator.get("/v1/secrets")
    answer = operator.post("/v1/secrets/rotation", {"new_key": True})
    while not answer["complete"]:
        assert not answer["waiting_for_plugins"]
        assert not answer["unreadable"]
        answer = operator.post("/v1/secrets/rotation", {})
    assert answer["sealing_keys"] != before["sealing_keys"]
    assert answer["token_keys"][:-1] == before["token_keys"]
    identity.invalidate()
    assert tenant.client.get("/v1/whoami")["user_id"] == tenant.user_id
    assert Client(running.url, tenant.project_id, token=token).get("/v1/whoami")["user_id"] == tenant.user_id


def test_tenants_do_not_touch_the_keys_of_the_installation(running: RunningPlatform, tenant: Tenant) -> None:
    response = tenant.client.http.post("/v1/secrets/rotation", json={"new_key": True})
    assert (response.status_code, tenant.client.http.get("/v1/secrets").status_code) == (404, 404)
