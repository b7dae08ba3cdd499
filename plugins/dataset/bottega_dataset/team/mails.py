"""E-mails to labelers: kept encrypted until the mail server takes them, tried again while it does not."""

from __future__ import annotations

import smtplib

import structlog
from sqlalchemy import update
from sqlmodel import col, select

from bottega import mail
from bottega.bus import Retry
from bottega.context import now_ms
from bottega.database import Transaction
from bottega.errors import Invalid
from bottega.events import Received
from bottega.platform import Platform
from bottega.urn import Urn
from bottega_dataset.team.entities import INVITED, Labeler, TeamMail, TeamMember, Worker
from bottega_dataset.team.events import TeamMailRequested
from bottega_dataset.team.labelers import CODE_MINUTES, INITIAL_PASSWORD_DAYS, Labelers

log = structlog.get_logger("bottega.dataset")
NOT_SENT, WRONG_ADDRESS, UNREACHABLE, SENT = range(4)
_FOR_GOOD = 500
"""Replies of a mail server from here on are final; those below ask for another try."""
_ATTEMPTS, _FIRST_PAUSE_S = 7, 1.0


class Mails:
    def __init__(self, platform: Platform, labelers: Labelers) -> None:
        self._platform = platform
        self._labelers = labelers

    @property
    def possible(self) -> bool:
        return self._platform.smtp is not None

    def check(self) -> None:
        """Raises Invalid when the operator has named no mail server."""
        if not self.possible:
            raise Invalid("no e-mail can be sent: this installation has no mail server ([smtp])")

    async def queue(
        self, tx: Transaction, labeler: Labeler, subject: str, text: str, task_key: int | None = None
    ) -> None:
        """Have a message sent once `tx` commits. Without a mail server nothing is."""
        if not self.possible:
            return
        row = TeamMail(labeler_id=labeler.id, task_key=task_key, subject=subject)
        self._platform.sealer.write(row, "text", text)
        tx.session.add(row)
        await tx.session.flush()
        tx.emit(TeamMailRequested(mail_id=row.id), Urn("dataset", labeler.project_id, "mail", row.id))

    async def send(self, received: Received[TeamMailRequested]) -> None:
        """Send a message that waits. Raises Retry while the mail server does not take it."""
        async with self._platform.database.read() as session:
            row = await session.get(TeamMail, received.event.mail_id)
            labeler = await session.get(Labeler, row.labeler_id) if row else None
        if row is None or labeler is None:
            return
        smtp = self._platform.smtp
        if smtp is None:
            await self._settle(row, UNREACHABLE)
            return
        text = self._platform.sealer.read(row, "text") or ""
        try:
            await mail.send(smtp, self._labelers.email(labeler), row.subject, text, row.id)
        except (OSError, smtplib.SMTPException) as e:
            if isinstance(e, smtplib.SMTPRecipientsRefused) and all(c >= _FOR_GOOD for c, _ in e.recipients.values()):
                log.warning("mail refused", mail=row.id)
                await self._settle(row, WRONG_ADDRESS)
                return
            attempts = row.attempts + 1
            log.warning("mail not taken", mail=row.id, attempts=attempts, why=type(e).__name__)
            if attempts >= _ATTEMPTS:
                await self._settle(row, UNREACHABLE)
                return
            async with self._platform.database.transaction() as tx:
                await tx.session.exec(update(TeamMail).where(col(TeamMail.id) == row.id).values(attempts=attempts))
            raise Retry(_FIRST_PAUSE_S * 4 ** (attempts - 1), "the mail server did not take it") from e
        else:
            await self._settle(row, SENT)

    async def _settle(self, row: TeamMail, status: int) -> None:
        async with self._platform.database.transaction() as tx:
            waiting = await tx.session.get(TeamMail, row.id)
            if waiting is not None:
                await tx.session.delete(waiting)
            now = now_ms()
            if status == SENT:
                invited = update(Worker).where(col(Worker.labeler_id) == row.labeler_id, col(Worker.status) == 0)
                await tx.session.exec(invited.values(status=INVITED, updated_at=now))
            if row.task_key is not None:
                mine = col(TeamMember.worker_key).in_(select(Worker.key).where(Worker.labeler_id == row.labeler_id))
                told = update(TeamMember).where(col(TeamMember.task_key) == row.task_key, mine)
                sent = {"notified_at": now} if status == SENT else {}
                await tx.session.exec(told.values(email_status=status, updated_at=now, **sent))

    # -- what they say -------------------------------------------------------------------------------------------

    def link(self, labeler: Labeler) -> str:
        base = self._platform.settings.labeling_url or f"{self._platform.url}/labeling"
        return f"{base}?project={labeler.project_id}"

    async def invite(self, tx: Transaction, labeler: Labeler, team: str, password: str | None) -> None:
        """Tell a labeler that it is in a team; with an initial password when it has none of its own."""
        how = (
            f"Log in with this e-mail address and the password\n\n    {password}\n\n"
            f"You will be asked to choose another one. The password is good for {INITIAL_PASSWORD_DAYS} days.\n"
            if password
            else "Log in with this e-mail address and your password.\n"
        )
        text = f"You have been invited to the labeling team '{team}'.\n\n    {self.link(labeler)}\n\n{how}"
        await self.queue(tx, labeler, f"Invitation to the labeling team {team}", text)

    async def renew(self, tx: Transaction, labeler: Labeler, password: str) -> None:
        """Tell a labeler the password that an administrator gave it."""
        text = (
            f"The administrator of your labeling team has given you a new password:\n\n    {password}\n\n"
            f"Log in at\n\n    {self.link(labeler)}\n\nand choose another one within {INITIAL_PASSWORD_DAYS} days.\n"
        )
        await self.queue(tx, labeler, "Your new password for labeling", text)

    async def code(self, tx: Transaction, labeler: Labeler, code: str) -> None:
        """Send a labeler the code by which it sets a new password."""
        text = (
            "Somebody, probably you, has forgotten the password of this e-mail address for labeling.\n"
            f"Set a new one within {CODE_MINUTES} minutes with the code\n\n    {code}\n\n"
            f"at\n\n    {self.link(labeler)}&code={code}\n\nIf it was not you, leave it: nothing has changed.\n"
        )
        await self.queue(tx, labeler, "Set a new password for labeling", text)

    async def assigned(self, tx: Transaction, labeler: Labeler, task_key: int, task: str, samples: int) -> None:
        """Tell a labeler what waits for it in a task."""
        text = f"In the labeling task '{task}' {samples} samples wait for you.\n\n    {self.link(labeler)}\n"
        await self.queue(tx, labeler, f"Labeling task {task}", text, task_key)
