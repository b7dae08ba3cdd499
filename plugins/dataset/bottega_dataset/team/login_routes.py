"""``/v2/{project_id}/labeling``: logging in to the labeling console, and passwords (003 table 10-1)."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Response

from bottega.calls import Call
from bottega.context import Principal
from bottega.gateway import public
from bottega.platform import Platform
from bottega.plugins import Action
from bottega.routing import Router
from bottega_dataset.team.assembly import Teams
from bottega_dataset.team.console_access import ByLabeler, LabelerCaller
from bottega_dataset.team.entities import Labeler
from bottega_dataset.team.labelers import Session
from bottega_dataset.team.requests import ForgottenPassword, LabelerLogin, PasswordChange, PasswordReset

LABELING = "/v2/{project_id}/labeling"
_LOGIN, _LOGOUT = "modelarts:labelConsole:login", "modelarts:labelConsole:logout"
_CHANGE = "modelarts:labelConsole:changePassword"
_FORGET, _RESET = "modelarts:labelConsole:forgetPassword", "modelarts:labelConsole:resetPassword"
_KIND = "labelConsoleWorker"

ACTIONS = (
    Action(_LOGIN, "Log in to the labeling console (members of teams)", _KIND, "workerLoginLabelConsole"),
    Action(_LOGOUT, "Log out of the labeling console", _KIND, "workerLogoutLabelConsole"),
    Action(_CHANGE, "Change one's password of the labeling console", _KIND, "workerChangePassword"),
    Action(_FORGET, "Ask for a code to set a new password", _KIND, "workerForgetPassword"),
    Action(_RESET, "Set a new password with a code", _KIND, "workerResetPassword"),
)


def router(platform: Platform, teams: Teams) -> APIRouter:
    routes = Router()
    labelers = teams.labelers

    @routes.post(LABELING + "/login")
    async def log_in(
        project_id: str,
        body: LabelerLogin,
        call: Call = public("members of teams are no users", _LOGIN, keep_body=False),
    ) -> Any:
        """A token for the labeling console. With an initial password it is good for changing that and nothing else."""
        await record(call, project_id, body.email)
        session = await labelers.login(project_id, body.email, body.password, call.source_ip or "?")
        async with platform.database.transaction() as tx:
            await teams.workforces.logged_in(tx, session.labeler)
        return _shape(session)

    @routes.post(LABELING + "/logout", status_code=204, response_class=Response)
    async def log_out(caller: LabelerCaller = Depends(ByLabeler(_LOGOUT, teams=teams, fresh=True))) -> None:
        async with platform.database.transaction() as tx:
            await labelers.logout(tx, caller.token)

    @routes.put(LABELING + "/password")
    async def change_password(
        body: PasswordChange, caller: LabelerCaller = Depends(ByLabeler(_CHANGE, teams=teams, fresh=True))
    ) -> Any:
        """Every session ends but this one, which goes on with the token of the answer."""
        session = await labelers.change_password(caller.labeler, body.old_password, body.new_password, caller.address)
        async with platform.database.read() as database:
            labeler = await database.get_one(Labeler, caller.labeler.id)
        return _shape(Session(labeler, session.token, session.expires_at))

    @routes.post(LABELING + "/password/forgotten", status_code=202)
    async def forget_password(
        project_id: str,
        body: ForgottenPassword,
        call: Call = public("whoever forgot a password has none", _FORGET, keep_body=False),
    ) -> Any:
        """Send a code by e-mail. The answer is the same for an address that nobody has."""
        await record(call, project_id, body.email)
        labeler, code = await labelers.forgotten(project_id, body.email, call.source_ip or "?")
        if labeler is not None:
            async with platform.database.transaction() as tx:
                row = await tx.session.get(Labeler, labeler.id)
                if row is not None:
                    labelers.set_code(tx, row, code)
                    await teams.mails.code(tx, row, code)
        return {"success": True}

    @routes.post(LABELING + "/password/reset", status_code=204, response_class=Response)
    async def reset_password(
        project_id: str,
        body: PasswordReset,
        call: Call = public("the code in the e-mail is the credential", _RESET, keep_body=False),
    ) -> None:
        await record(call, project_id, body.email)
        await labelers.reset(project_id, body.email, body.code, body.new_password, call.source_ip or "?")

    async def record(call: Call, project_id: str, email: str) -> None:
        """Let the audit trail know whose password is tried, when there is such a labeler."""
        if call.project is None:
            return
        async with platform.database.read() as session:
            labeler = await labelers.find(session, project_id, email)
        if labeler is not None:
            call.principal = Principal(call.project.account_id, labeler.id, "", "labeler")

    return routes


def _shape(session: Session) -> dict[str, Any]:
    return {
        "token": session.token,
        "expires_at": session.expires_at,
        "labeler_id": session.labeler.id,
        "must_change_password": session.labeler.must_change_password,
    }
