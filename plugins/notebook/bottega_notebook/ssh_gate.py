"""The way in over SSH: ``ssh -p PORT NOTEBOOK_ID@HOST`` leads into a running notebook, as the browser's proxy does.

A connection is known by a key pair that was chosen for the notebook, and its owner is checked like any caller of the
API: enabled, from an address the account, and the notebook, is opened from, and allowed to open this notebook. What is
open is checked again every half a minute. Shells, programs, SFTP and tunnels are passed on to the notebook.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import asyncssh
import structlog
from sqlalchemy.exc import SQLAlchemyError

from bottega.calls import Call, current_call
from bottega.context import acting
from bottega.errors import ApiError, Unauthenticated
from bottega.events import uuid7
from bottega.gateway import Requirement
from bottega.platform import Platform
from bottega_notebook.access import ACTION
from bottega_notebook.entities import KeyPair, Notebook
from bottega_notebook.jupyter import SSH_PORT, base_path
from bottega_notebook.key_pairs import KeyPairs
from bottega_notebook.proxy import RECHECK_S, Target
from bottega_notebook.service import Notebooks
from bottega_notebook.ssh_session import Outside

log = structlog.get_logger(__name__)
_LOGIN_S = 30
_KEEPALIVE_S = 30
_OPENING = Requirement(ACTION, "instance/{notebook_id}", trace="openNotebook")


async def listen(platform: Platform, host: str, port: int, host_key: Path) -> asyncssh.SSHAcceptor:
    """Serve until the acceptor is closed. Raises OSError when the port cannot be had."""
    asyncssh.set_log_level("WARNING")
    return await asyncssh.listen(
        host,
        port,
        server_factory=lambda: _Connection(platform),
        server_host_keys=[str(host_key)],
        encoding=None,
        line_editor=False,
        compression_algs=None,
        agent_forwarding=False,
        login_timeout=_LOGIN_S,
        keepalive_interval=_KEEPALIVE_S,
        server_version="Bottega",
    )


class _Connection(asyncssh.SSHServer):
    """One client: it shows that a key pair of the notebook is its own, and then its owner's rights are asked for."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._notebooks = Notebooks(platform)
        self._key = ""
        self._upstream: asyncio.Task[asyncssh.SSHClientConnection] | None = None
        self._watching: asyncio.Task[None] | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn
        peer = conn.get_extra_info("peername")
        self._address = str(peer[0]) if peer else None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self._upstream is not None:
            self._upstream.add_done_callback(_close)

    def begin_auth(self, username: str) -> bool:
        self._notebook_id = username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        self._key = " ".join(key.export_public_key("openssh").decode().split()[:2])
        try:
            await self._opened()
        except Unauthenticated as e:
            log.info("ssh refused", notebook=username, address=self._address, reason=e.message)
            return False
        return True

    def auth_completed(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    def session_requested(self) -> Outside:
        return Outside(self.upstream)

    async def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> asyncssh.SSHTCPSession[bytes]:
        """A tunnel, opened from within the notebook."""
        tunnel = await self._conn.forward_tunneled_connection(await self.upstream(), dest_host, dest_port)
        return cast("asyncssh.SSHTCPSession[bytes]", tunnel)  # the library's own, which it takes for a session

    async def upstream(self) -> asyncssh.SSHClientConnection:
        """The connection to the notebook, the same for all that a client opens. Raises ChannelOpenError."""
        if self._upstream is None:
            self._upstream = asyncio.create_task(self._connect())
        try:
            return await asyncio.shield(self._upstream)
        except ApiError as refused:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, refused.message) from refused
        except (OSError, asyncssh.Error) as e:
            raise asyncssh.ChannelOpenError(
                asyncssh.OPEN_CONNECT_FAILED, "the notebook does not answer; it may be stopping"
            ) from e

    async def _connect(self) -> asyncssh.SSHClientConnection:
        call = self._call()
        try:
            target = await self._admit(call)
        except ApiError as refused:
            call.status, call.code, call.reason = refused.status, refused.code, refused.message
            await self._record(call)
            raise
        await self._record(call)
        host, _, port = target.address.rpartition(":")
        return await asyncssh.connect(
            host,
            int(port),
            username="notebook",
            password=target.key,
            known_hosts=None,  # it listens on this machine, and makes its host key anew at each start
            client_keys=None,
            agent_path=None,
            config=None,
            compression_algs=None,
        )

    def _call(self) -> Call:
        return Call(uuid7(), "SSH", f"/notebooks/{self._notebook_id}", self._address)

    async def _opened(self) -> tuple[Notebook, KeyPair]:
        """The notebook, and its key pair that was shown. Raises Unauthenticated when it has none such."""
        async with self._platform.database.read() as session:
            notebook = await session.get(Notebook, self._notebook_id)
            pairs = await KeyPairs.of(session, notebook.key_pairs) if notebook is not None else []
        pair = next((pair for pair in pairs if pair.public_key == self._key), None)
        if notebook is None or pair is None:
            raise Unauthenticated("no notebook of this id is opened by this key")
        return notebook, pair

    async def _admit(self, call: Call) -> Target:
        """Where the notebook is. Raises ApiError unless whom the key pair belongs to may open it now."""
        token = current_call.set(call)
        try:
            with acting(request_id=call.request_id, source_ip=call.source_ip):
                notebook, pair = await self._opened()
                call.path = base_path(notebook.project_id, notebook.id)
                call.describe(ACTION, self._platform.action(ACTION), None)
                call.trace = _OPENING.trace
                call.principal = await self._platform.identity.principal(pair.user_id)
                place = {"project_id": notebook.project_id, "notebook_id": notebook.id}
                await _OPENING.admit(self._platform, call, call.principal, place)
                return await self._notebooks.target(notebook.project_id, notebook.id, call.source_ip, SSH_PORT)
        finally:
            current_call.reset(token)

    async def _record(self, call: Call) -> None:
        """What happens inside a notebook is no operation of this platform: the trail holds the opening."""
        if call.principal is None:  # the key pair, or its owner, is gone since
            return
        with acting(principal=call.principal, request_id=call.request_id, source_ip=call.source_ip):
            async with self._platform.database.bind("core").transaction() as tx:
                tx.emit(call.event(call.status), call.urn)

    async def _watch(self) -> None:
        """Check again and again; end the connection when that is refused, or cannot be done."""
        said = "whether this is still allowed cannot be found out"
        try:
            while True:
                await asyncio.sleep(RECHECK_S)
                await self._admit(self._call())
        except ApiError as refused:
            said = refused.message
        except SQLAlchemyError as e:
            log.error("ssh not checked", notebook=self._notebook_id, error=str(e))
        self._conn.disconnect(asyncssh.DISC_BY_APPLICATION, said)


def _close(connecting: asyncio.Task[asyncssh.SSHClientConnection]) -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()
