"""Whether SSH is served, and where. The library behind it is loaded for the first notebook that key pairs open."""

from __future__ import annotations

import asyncio
from contextvars import Context
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bottega.child_process import choose_port
from bottega.errors import Unavailable
from bottega.private_files import private_directory, write_private

if TYPE_CHECKING:
    from asyncssh import SSHAcceptor

    from bottega.platform import Platform
    from bottega.plugins import Plugins
    from bottega_notebook.settings import NotebookSettings


class SshDoor:
    """One for each platform; `close` it when that stops."""

    def __init__(self, settings: NotebookSettings) -> None:
        # Not the platform: what is kept by it must not keep it, or none would ever be forgotten.
        self._settings = settings
        self._url = ""
        self._acceptor: SSHAcceptor | None = None
        self._opening = asyncio.Lock()

    @classmethod
    def of(cls, platform: Platform) -> SshDoor:
        """The same one for every hook of this plugin."""
        plugins = platform.shared.plugins
        if plugins not in _DOORS:
            _DOORS[plugins] = cls(platform.settings)
        return _DOORS[plugins]

    @property
    def place(self) -> tuple[str, int] | None:
        """Host and port as users know them; None while it is not served."""
        if self._acceptor is None:
            return None
        host = self._settings.ssh_public_host or urlsplit(self._url).hostname or "127.0.0.1"
        return host, self._acceptor.get_port()

    async def open(self, platform: Platform) -> None:
        """Serve SSH, if that is not done yet. Raises Unavailable where it cannot be."""
        async with self._opening:
            if self._acceptor is not None:
                return
            if find_spec("asyncssh") is None:
                raise Unavailable("SSH is not installed here (pip install 'bottega[notebook]')")
            from bottega_notebook.ssh_gate import listen

            self._url = platform.url
            folder = private_directory(platform.data_dir / "notebook")
            port = self._settings.ssh_port or choose_port(folder / "ssh_port")
            host_key = folder / "ssh_host_key"
            if not host_key.exists():
                key = Ed25519PrivateKey.generate()
                write_private(host_key, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode())
            # Connections must know nothing of the call that was the first to need this.
            opening = asyncio.get_running_loop().create_task(
                listen(platform, self._settings.ssh_host, port, host_key), context=Context()
            )
            try:
                self._acceptor = await opening
            except OSError as e:
                raise Unavailable(f"SSH cannot be served at {self._settings.ssh_host}:{port}: {e.strerror}") from e

    async def close(self) -> None:
        if self._acceptor is not None:
            self._acceptor.close()
            await self._acceptor.wait_closed()
            self._acceptor = None


_DOORS: WeakKeyDictionary[Plugins, SshDoor] = WeakKeyDictionary()
