"""A real mail server that keeps what it takes, for tests of what is sent by e-mail (needs ``aiosmtpd``)."""

from __future__ import annotations

import asyncio
import email
from email.message import Message
from types import TracebackType
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from bottega.testing.running import wait_until


class _AnyPort(Controller):
    """On a port that the system chooses."""

    def _trigger_server(self) -> None:
        assert isinstance(self.server, asyncio.Server)
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]  # it has no types


class Mailbox:
    """``with Mailbox() as mailbox``: `settings` are those of the section ``[smtp]``; `messages` the newest last.

    Addresses in `refused` do not exist; while `away`, nothing is taken.
    """

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.refused: set[str] = set()
        self.away = False
        self.turned_away = 0
        self._controller = _AnyPort(self, hostname="127.0.0.1", port=0)

    @property
    def settings(self) -> dict[str, Any]:
        port = self._controller.port
        return {"host": "127.0.0.1", "port": port, "sender": "bottega@example.com", "security": "none"}

    def wait(self, to: str, subject: str, seen: int = 0) -> str:
        """The text of the newest message to `to` with `subject` in its subject, `seen` such having come before."""

        def found() -> str | None:
            matching = [m for m in self.messages if m["To"] == to and subject in m["Subject"]]
            if len(matching) <= seen:
                return None
            payload = matching[-1].get_payload(decode=True)
            assert isinstance(payload, bytes)
            return payload.decode().replace("\r\n", "\n")

        text = wait_until(found, 20)
        assert text is not None
        return text

    async def handle_RCPT(  # aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.away:
            self.turned_away += 1
            return "451 try again later"
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # aiosmtpd's name
        assert isinstance(envelope.content, bytes)
        self.messages.append(email.message_from_bytes(envelope.content))
        return "250 OK"

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._controller.stop()
