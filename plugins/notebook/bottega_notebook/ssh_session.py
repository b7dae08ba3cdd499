"""One session of an SSH connection, passed on as it is: a shell, a program or a subsystem such as SFTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncssh
from asyncssh.misc import TermModes, TermSizeArg


class Outside(asyncssh.SSHServerSession[bytes]):
    """The client's end. What it sends before the other end is there waits."""

    def __init__(self, upstream: Callable[[], Awaitable[asyncssh.SSHClientConnection]]) -> None:
        """:param upstream: gives the connection that leads on, or raises ChannelOpenError."""
        self._upstream = upstream
        self._inside: asyncssh.SSHClientChannel[bytes] | None = None
        self._waiting: list[Callable[[asyncssh.SSHClientChannel[bytes]], None]] = []

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan

    def pty_requested(self, term_type: str, term_size: TermSizeArg, term_modes: TermModes) -> bool:
        return True

    def shell_requested(self) -> bool:
        return True

    def exec_requested(self, command: str) -> bool:
        return True

    def subsystem_requested(self, subsystem: str) -> bool:
        return True

    def session_started(self) -> None:
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        asked = self._channel
        try:
            connection = await self._upstream()
            inside, _ = await connection.create_session(
                lambda: Inside(asked),
                asked.get_command() or (),
                subsystem=asked.get_subsystem(),
                env=list(asked.get_environment().items()),
                term_type=asked.get_terminal_type(),
                term_size=asked.get_terminal_size(),
                encoding=None,
            )
        except asyncssh.ChannelOpenError as e:
            asked.write_stderr(f"{e.reason}\n".encode())
            asked.exit(255)
            return
        self._inside = inside
        for do in self._waiting:
            do(inside)
        self._waiting.clear()
        asked.resume_reading()

    def _tell(self, do: Callable[[asyncssh.SSHClientChannel[bytes]], None]) -> None:
        if self._inside is not None:
            do(self._inside)
        else:
            self._waiting.append(do)
            self._channel.pause_reading()

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._tell(lambda inside: inside.write(data))

    def eof_received(self) -> bool:
        self._tell(lambda inside: inside.write_eof())
        return True  # what is still to come from the other end is waited for

    def break_received(self, msec: int) -> bool:
        self._tell(lambda inside: inside.send_break(msec))
        return True

    def signal_received(self, signal: str) -> None:
        self._tell(lambda inside: inside.send_signal(signal))

    def terminal_size_changed(self, width: int, height: int, pixwidth: int, pixheight: int) -> None:
        self._tell(lambda inside: inside.change_terminal_size(width, height, pixwidth, pixheight))

    def pause_writing(self) -> None:
        if self._inside is not None:
            self._inside.pause_reading()

    def resume_writing(self) -> None:
        if self._inside is not None:
            self._inside.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._opening.cancel()
        if self._inside is not None:
            self._inside.close()


class Inside(asyncssh.SSHClientSession[bytes]):
    """The notebook's end."""

    def __init__(self, outside: asyncssh.SSHServerChannel[bytes]) -> None:
        self._outside = outside
        # A subsystem says nothing when it has ended, and clients such as scp ask how.
        self._end: Callable[[], None] = (lambda: outside.exit(0)) if outside.get_subsystem() else outside.close

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._outside.write(data, datatype)

    def eof_received(self) -> bool:
        self._outside.write_eof()
        return True

    # How it ended may be told before the last of its output is here; it is passed on when the channel has closed.

    def exit_status_received(self, status: int) -> None:
        self._end = lambda: self._outside.exit(status)

    def exit_signal_received(self, signal: str, core_dumped: bool, msg: str, lang: str) -> None:
        self._end = lambda: self._outside.exit_with_signal(signal, core_dumped, msg, lang)

    def pause_writing(self) -> None:
        self._outside.pause_reading()

    def resume_writing(self) -> None:
        self._outside.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self._end()
        else:
            self._outside.close()
