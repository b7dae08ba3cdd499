"""Notebooks over SSH: key pairs, the gate, and who gets through it (003 §10.3)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncssh
import pytest
from typer.testing import CliRunner, Result

from bottega.cli_support import OPTIONS
from bottega.client import ApiFailure
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega_notebook import commands, key_pair_commands, ssh_gate

from .conftest import BASE, Notebooks, Running, stop_all

PAIRS = "/v3/{project_id}/keypairs"
T = TypeVar("T")


def pair(who: Tenant, name: str) -> asyncssh.SSHKey:
    made = who.client.post(PAIRS, {"keypair": {"name": name}})["keypair"]
    return asyncssh.import_private_key(made["private_key"])


def opened_by(*names: str, addresses: list[str] | None = None) -> list[dict[str, Any]]:
    return [{"service": "SSH", "key_pair_names": list(names), "allowed_access_ips": addresses or []}]


def endpoint(notebook: Running) -> dict[str, Any]:
    return next(e for e in notebook.state["endpoints"] if e["service"] == "SSH")


@pytest.fixture(scope="module")
def owner(running: RunningPlatform) -> Iterator[Tenant]:
    tenant = running.tenant()
    yield tenant
    stop_all(tenant)


@pytest.fixture(scope="module")
def key(owner: Tenant) -> asyncssh.SSHKey:
    return pair(owner, "mine")


@pytest.fixture(scope="module")
def lab(owner: Tenant, key: asyncssh.SSHKey) -> Running:
    """A running notebook that the key pair opens; tests leave it as it is."""
    return Notebooks(owner).running(endpoints=opened_by("mine"))


def within(
    notebook: Running, key: asyncssh.SSHKey, use: Callable[[asyncssh.SSHClientConnection], Coroutine[Any, Any, T]]
) -> T:
    """Connect as an editor would, and use the connection."""

    async def connected() -> T:
        url = urlsplit(endpoint(notebook)["uri"] or f"ssh://{notebook.id}@127.0.0.1:{port(notebook)}")
        async with asyncssh.connect(
            url.hostname or "",
            url.port or 0,
            username=url.username,
            client_keys=[key],
            known_hosts=None,
            agent_path=None,
            config=None,
        ) as connection:
            return await use(connection)

    return asyncio.run(connected())


def port(notebook: Running) -> int:
    return int((notebook.tenant.running.data_dir / "notebook" / "ssh_port").read_text())


async def hello(connection: asyncssh.SSHClientConnection) -> str:
    return str((await connection.run("echo hello", check=True)).stdout).strip()


def refused(notebook: Running, key: asyncssh.SSHKey) -> str:
    """Why a key does not open a notebook; nothing when it does."""

    async def why(connection: asyncssh.SSHClientConnection) -> str:
        done = await connection.run("echo hello")
        assert (done.exit_status, str(done.stdout)) in ((0, "hello\n"), (255, ""))
        return str(done.stderr)

    try:
        return within(notebook, key, why)
    except asyncssh.PermissionDenied as e:
        return str(e)


def openings(owner: Tenant, notebook: Running) -> list[dict[str, Any]]:
    """What the trail has of the owner's own openings."""
    asked = {"trace_name": "openNotebook", "resource_id": notebook.id}
    rows: list[dict[str, Any]] = owner.client.get("/v3/{project_id}/traces", asked)["traces"]
    return [row for row in rows if row["user"]["id"] == owner.user_id]


def test_programs_shells_files_and_tunnels(lab: Running, key: asyncssh.SSHKey, tmp_path: Path) -> None:
    async def use(connection: asyncssh.SSHClientConnection) -> None:
        done = await connection.run("cat; echo oops >&2; pwd; exit 3", input="line\n" * 1000)
        assert (done.exit_status, str(done.stderr)) == (3, "oops\n")
        output = str(done.stdout)
        assert output.count("line\n") == 1000
        home = output.splitlines()[-1]
        seen = str((await connection.run("env; echo $PIP_TARGET")).stdout)
        assert "BOTTEGA_NOTEBOOK_KEY" not in seen
        assert f"{home}/.local/packages" in seen

        async with connection.create_process(term_type="xterm", term_size=(100, 30)) as shell:
            shell.stdin.write("stty size; python -c 'print(6 * 7)'; exit 5\n")
            text = await shell.stdout.read()
            await shell.wait_closed()
        assert "30 100" in text
        assert "42" in text
        assert shell.exit_status == 5

        here = tmp_path / "weights.bin"
        here.write_bytes(bytes(range(256)) * 8192)
        async with connection.start_sftp_client() as files:
            await files.put(str(here), "work/weights.bin")
            await files.get("work/weights.bin", str(tmp_path / "back.bin"))
        assert (tmp_path / "back.bin").read_bytes() == here.read_bytes()
        assert str((await connection.run("stat -c %s work/weights.bin")).stdout).strip() == str(256 * 8192)

        server = "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)"
        command = f'python -u -c "{server}; print(s.server_port); s.handle_request()"'
        async with connection.create_process(command) as serving:
            inside = int(await serving.stdout.readline())
            reader, writer = await connection.open_connection("127.0.0.1", inside)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert b"200" in await reader.readline()

    within(lab, key, use)


def test_only_a_key_pair_of_the_notebook_opens_it(owner: Tenant, lab: Running, key: asyncssh.SSHKey) -> None:
    other = pair(owner, "other")
    assert "Permission denied" in refused(lab, other)
    assert refused(lab, asyncssh.generate_private_key("ssh-ed25519"))
    owner.client.put(f"{BASE}/{lab.id}", {"endpoints": opened_by("mine", "other")})
    try:
        assert within(lab, other, hello) == "hello"
        owner.client.delete(f"{PAIRS}/other")
        assert refused(lab, other)
        assert endpoint(lab)["key_pair_names"] == ["mine"]
    finally:
        owner.client.put(f"{BASE}/{lab.id}", {"endpoints": opened_by("mine")})


def test_addresses_count_over_ssh_too(owner: Tenant, lab: Running, key: asyncssh.SSHKey) -> None:
    owner.client.put(f"{BASE}/{lab.id}", {"endpoints": opened_by("mine", addresses=["192.0.2.0/24"])})
    try:
        assert "not opened from your address" in refused(lab, key)
    finally:
        owner.client.put(f"{BASE}/{lab.id}", {"endpoints": opened_by("mine")})
    assert refused(lab, key) == ""
    wait_until(lambda: {"200", "403"} <= {row["code"] for row in openings(owner, lab)})


def test_whom_a_right_is_taken_from_is_put_out(owner: Tenant, lab: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A colleague with a key pair of its own, as long as its policies let it open the notebook."""
    monkeypatch.setattr(ssh_gate, "RECHECK_S", 0.2)
    may = {"Effect": "Allow", "Action": ["modelarts:notebook:*", "kps:keypair:*"]}
    colleague = owner.user([{"Version": "1.1", "Statement": [may]}])
    hers = pair(colleague, "hers")
    colleague.client.put(f"{BASE}/{lab.id}", {"endpoints": opened_by("hers")})
    try:

        async def stay(connection: asyncssh.SSHClientConnection) -> None:
            assert await hello(connection) == "hello"
            owner.client.request("PATCH", f"/v3/users/{colleague.user_id}", json={"user": {"enabled": False}})
            await asyncio.wait_for(connection.wait_closed(), 20)

        within(lab, hers, stay)
        assert "does not exist any more or is disabled" in refused(lab, hers)
    finally:
        owner.client.put(f"{BASE}/{lab.id}", {"endpoints": opened_by("mine")})


def test_the_trail_says_who_came_in(owner: Tenant, lab: Running, key: asyncssh.SSHKey) -> None:
    assert within(lab, key, hello) == "hello"

    (one, *_) = wait_until(lambda: [row for row in openings(owner, lab) if row["code"] == "200"])
    assert (one["source_ip"], one["user"]["id"]) == ("127.0.0.1", owner.user_id)


def test_key_pairs_are_chosen_for_the_next_start(notebooks: Notebooks) -> None:
    tenant = notebooks.tenant
    mine = pair(tenant, "later")
    notebook = notebooks.running()
    tenant.client.put(f"{BASE}/{notebook.id}", {"endpoints": opened_by("later")})
    assert "was started without ssh" in refused(notebook, mine)
    notebooks.stop(notebook)
    assert "STOPPED" in refused(notebook, mine)
    tenant.client.post(f"{BASE}/{notebook.id}/start")
    notebooks.reach(notebook, "RUNNING")
    assert within(notebook, mine, hello) == "hello"


@pytest.mark.parametrize(
    ("endpoint", "status", "said"),
    [
        ({"service": "SSH"}, 400, "endpoints[0].key_pair_names"),
        ({"service": "NOTEBOOK", "key_pair_names": ["mine"]}, 400, "endpoints[0].key_pair_names"),
        ({"service": "SSH", "key_pair_names": ["nobodys"]}, 404, "'nobodys'"),
    ],
)
def test_what_opens_nothing_is_refused(tenant: Tenant, endpoint: dict[str, Any], status: int, said: str) -> None:
    with pytest.raises(ApiFailure, match=said.replace("[", r"\[")) as refusal:
        tenant.client.post(BASE, {"name": "refused", "endpoints": [endpoint]})
    assert refusal.value.status == status
    assert tenant.client.get(BASE)["total"] == 0


@pytest.mark.parametrize(
    "text",
    ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-rsa " + "A" * 10_000, "-----BEGIN OPENSSH PRIVATE KEY-----", "\x00"],
)
def test_what_is_no_public_key_is_refused(tenant: Tenant, text: str) -> None:
    with pytest.raises(ApiFailure, match="public_key") as refusal:
        tenant.client.post(PAIRS, {"keypair": {"name": "bad", "public_key": text}})
    assert (refusal.value.status, refusal.value.error_code) == (400, "ModelArts.0101")
    weak = asyncssh.generate_private_key("ssh-rsa", key_size=1024).export_public_key().decode()
    with pytest.raises(ApiFailure, match="too weak"):
        tenant.client.post(PAIRS, {"keypair": {"name": "weak", "public_key": weak}})
    assert tenant.client.get(PAIRS)["keypairs"] == []


def test_key_pairs_are_ones_own(tenant: Tenant) -> None:
    public = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()
    made = tenant.client.post(PAIRS, {"keypair": {"name": "brought", "public_key": public}})["keypair"]
    assert "private_key" not in made
    assert made["fingerprint"] == asyncssh.import_public_key(public).get_fingerprint()
    with pytest.raises(ApiFailure) as taken:
        pair(tenant, "brought")
    assert taken.value.status == 409
    colleague = tenant.user([{"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["kps:keypair:*"]}]}])
    assert colleague.client.get(PAIRS)["keypairs"] == []
    with pytest.raises(ApiFailure) as unseen:
        colleague.client.delete(f"{PAIRS}/brought")
    assert unseen.value.status == 404
    pair(colleague, "brought")
    with pytest.raises(ApiFailure) as forbidden:
        tenant.user().client.post(PAIRS, {"keypair": {"name": "none"}})
    assert forbidden.value.status == 403


def test_on_the_command_line(tenant: Tenant, lab: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(app: Any, *arguments: str, who: Tenant = tenant, as_json: bool = False) -> Result:
        file = tmp_path / f"{who.user_id}.json"
        known = {"url": who.running.url, "project_id": who.project_id}
        file.write_text(json.dumps({**known, "access_key": who.access_key, "secret_key": who.secret_key}))
        monkeypatch.setattr(OPTIONS, "credentials", file)
        monkeypatch.setattr(OPTIONS, "as_json", as_json)
        return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})

    private = tmp_path / "id"
    made = run(key_pair_commands.app, "create", "cli", "--save", str(private))
    assert (made.exit_code, private.stat().st_mode & 0o777) == (0, 0o600), made.output
    assert "PRIVATE KEY" not in made.output
    public = tmp_path / "id.pub"
    public.write_bytes(asyncssh.read_private_key(private).export_public_key())
    assert run(key_pair_commands.app, "create", "same", "--public-key", str(public)).exit_code == 0
    listed = run(key_pair_commands.app, "list", as_json=True)
    assert [row["name"] for row in json.loads(listed.output)] == ["cli", "same"]
    assert run(key_pair_commands.app, "delete", "same").exit_code == 0
    again = run(key_pair_commands.app, "create", "cli2", "--save", str(private))
    assert (again.exit_code, "never overwritten" in again.output) == (2, True)

    owner = lab.tenant
    chosen = run(commands.app, "key-pairs", lab.id, "mine", who=owner)
    assert (chosen.exit_code, "ssh://" in chosen.output) == (0, True), chosen.output
    shown = run(commands.app, "ssh", lab.id, who=owner, as_json=True)
    assert json.loads(shown.output)["uri"] == endpoint(lab)["uri"]
