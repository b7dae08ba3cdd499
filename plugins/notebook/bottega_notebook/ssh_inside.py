"""Runs inside JupyterLab, as an extension of its server: shells, programs, SFTP and tunnels for the platform's gate.

It listens on 127.0.0.1 and knows nobody but the gate, by the key that the proxy uses, too. What it starts has the
environment of the notebook's terminals.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import signal
import socket
from typing import Any

import asyncssh
from ptyprocess import PtyProcess

from bottega_notebook.jupyter import SSH_VARIABLE
from bottega_notebook.jupyter_identity import KEY

_PORT = os.environ.pop(SSH_VARIABLE)
_SHELL = "/bin/bash"


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(server: Any) -> None:
    # Bound before JupyterLab answers, and so before the notebook counts as running; served when its loop turns.
    listener = socket.create_server(("127.0.0.1", int(_PORT)))
    server.io_loop.add_callback(_serve, listener)


async def _serve(listener: socket.socket) -> None:
    await asyncssh.listen(
        sock=listener,
        server_factory=_Gate,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        process_factory=_run,
        sftp_factory=True,
        allow_scp=True,
        encoding=None,
        line_editor=False,
        compression_algs=None,
    )


class _Gate(asyncssh.SSHServer):
    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return hmac.compare_digest(password.encode(), KEY.encode())

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        """Tunnels, for editors and for what the notebook's own programs serve: a shell could reach it all anyway."""
        return True


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    # Not as a login shell: that would begin with the PATH of the machine, without the notebook's Python.
    command = [_SHELL, "-c", process.command] if process.command else [_SHELL]
    environment = os.environ | {name: str(value) for name, value in process.env.items() if name.startswith("LC_")}
    if process.term_type:
        status = await _terminal(process, command, environment | {"TERM": process.term_type})
    else:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
        await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
        await process.stdout.drain()  # to the end of the output: an exit may overtake it
        await process.stderr.drain()
        status = await child.wait()
    if status < 0:
        process.exit_with_signal(_signal_name(status))
    else:
        process.exit(status)


async def _terminal(process: asyncssh.SSHServerProcess[bytes], command: list[str], environment: dict[str, str]) -> int:
    """Run a command on a terminal of its own; its exit status, or minus the signal that ended it."""
    columns, rows = process.term_size[:2]
    child = PtyProcess.spawn(command, env=environment, dimensions=(rows or 24, columns or 80))
    loop = asyncio.get_running_loop()
    writing = loop.create_task(_type(process, child))
    try:
        while True:
            try:
                output = await loop.run_in_executor(None, os.read, child.fd, 65_536)
            except OSError:  # how Linux says that a terminal's last program has ended
                break
            if not output:
                break
            process.stdout.write(output)
            await process.stdout.drain()
    except asyncssh.Error:  # the connection has ended: so does what ran on it
        pass
    finally:
        writing.cancel()
        await loop.run_in_executor(None, child.close, True)
    return -child.signalstatus if child.signalstatus else child.exitstatus or 0


async def _type(process: asyncssh.SSHServerProcess[bytes], child: PtyProcess) -> None:
    while True:
        try:
            typed = await process.stdin.read(65_536)
            if not typed:
                child.sendeof()
                return
            os.write(child.fd, typed)
        except asyncssh.TerminalSizeChanged as changed:
            child.setwinsize(changed.height, changed.width)
        except (asyncssh.BreakReceived, asyncssh.SignalReceived):
            child.sendintr()


def _signal_name(status: int) -> str:
    return signal.Signals(-status).name.removeprefix("SIG")
