"""Sending an e-mail through the operator's mail server (the section ``[smtp]``)."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

import anyio

from bottega.settings import Smtp

_TIMEOUT_S = 20


async def send(smtp: Smtp, to: str, subject: str, text: str, message_id: str) -> None:
    """Raises OSError or smtplib.SMTPException when the server did not take it."""
    message = EmailMessage()
    message["From"], message["To"] = smtp.sender, to
    # A line break would end the header; the text has its own place for many lines.
    message["Subject"] = " ".join(subject.split()) or "(no subject)"
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(message_id, domain="bottega")
    message.set_content(text)
    await anyio.to_thread.run_sync(_send, smtp, message)


def _send(smtp: Smtp, message: EmailMessage) -> None:
    context = ssl.create_default_context()
    if smtp.security == "tls":
        connection: smtplib.SMTP = smtplib.SMTP_SSL(smtp.host, smtp.port, timeout=_TIMEOUT_S, context=context)
    else:
        connection = smtplib.SMTP(smtp.host, smtp.port, timeout=_TIMEOUT_S)
    with connection:
        if smtp.security == "starttls":
            connection.starttls(context=context)
        if smtp.user is not None:
            password = smtp.password_file.read_text("utf-8").strip() if smtp.password_file else ""
            connection.login(smtp.user, password)
        connection.send_message(message)
