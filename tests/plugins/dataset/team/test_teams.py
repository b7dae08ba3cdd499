"""Labeling teams and their members: invited by e-mail, logging in without a platform account."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from bottega.client import ApiFailure
from bottega.context import move_clock
from bottega.testing import RecordedEvents, RunningPlatform, Tenant, wait_until
from bottega.testing.mailbox import Mailbox

from .conftest import GOOD, WORKFORCES, Console, initial_password, refused

Join = Callable[..., tuple[str, Console]]
Address = Callable[[str], str]
Fresh = Callable[[], Console]


def test_a_team_is_made_found_changed_and_deleted(tenant: Tenant, events: RecordedEvents) -> None:
    client = tenant.client
    ids = {
        name: client.post(WORKFORCES, {"workforce_name": name, "description": "d"})["workforce_id"]
        for name in ("b-team", "a_team")
    }
    shown = client.get(f"{WORKFORCES}/{ids['b-team']}")
    assert (shown["workforce_name"], shown["description"], shown["worker_count"], shown["workspace_id"]) == (
        "b-team",
        "d",
        0,
        "0",
    )

    def names(**query: Any) -> list[str]:
        return [w["workforce_name"] for w in client.get(WORKFORCES, query)["workforces"]]

    assert names() == ["a_team", "b-team"]
    assert names(sort_by="workforce_name", order="asc", limit=1, offset=1) == ["b-team"]
    assert names(search_content="a_") == ["a_team"]
    client.put(f"{WORKFORCES}/{ids['a_team']}", {"workforce_name": "c-team", "description": ""})
    assert client.get(f"{WORKFORCES}/{ids['a_team']}")["workforce_name"] == "c-team"
    assert refused(client.put, f"{WORKFORCES}/{ids['a_team']}", {"workforce_name": "b-team"}).status == 409
    for wrong in ({"workforce_name": ""}, {"workforce_name": "x" * 65}, {"workforce_name": "a", "description": "<"}):
        assert refused(client.post, WORKFORCES, wrong).status == 400
    assert refused(client.get, f"{WORKFORCES}/workers", {"role": -(10**32)}).status == 400, "beyond any database"
    client.delete(f"{WORKFORCES}/{ids['a_team']}")
    assert refused(client.get, f"{WORKFORCES}/{ids['a_team']}").status == 404
    assert events.wait("dataset.workforce.deleted.v1").data["name"] == "c-team"


def test_members_are_invited_listed_changed_and_removed(
    tenant: Tenant, team: str, mailbox: Mailbox, address: Address, events: RecordedEvents
) -> None:
    client, where = tenant.client, f"{WORKFORCES}/{team}/workers"
    made = client.post(where, {"emails": f"{address('zoe')}; {address('ann')}", "role": 0, "description": "night"})
    assert "initial_password" not in str(made)
    client.post(where, {"emails": address("bob"), "role": 1})
    assert mailbox.wait(address("zoe"), "Invitation to the labeling team labelers")
    wait_until(lambda: {w["status"] for w in client.get(where)["workers"]} == {1})
    rows = client.get(where, {"sort_by": "email", "order": "asc"})["workers"]
    assert [r["email"] for r in rows] == [address("ann"), address("bob"), address("zoe")]
    assert [(r["role"], r["description"]) for r in rows] == [(0, "night"), (1, ""), (0, "night")]
    everyone = client.get(f"{WORKFORCES}/workers", {"role": 1})
    assert (everyone["total_number"], everyone["workers"][0]["email"]) == (1, address("bob"))
    bob = rows[1]["worker_id"]
    client.put(f"{where}/{bob}", {"role": 2, "description": "lead"})
    assert client.get(f"{where}/{bob}")["role"] == 2
    assert client.get(f"{WORKFORCES}/{team}")["worker_count"] == 3
    again = refused(client.post, where, {"emails": address("BOB").upper(), "role": 0})
    assert again.status == 409
    for wrong in ("nobody", "a@b", "x@y.z\nBcc: a@b.c", ""):
        assert refused(client.post, where, {"emails": [wrong], "role": 0}).status == 400
    assert refused(client.post, where, {"emails": address("new"), "role": 9}).status == 400
    answer = client.post(f"{where}/batch-delete", {"workers": [bob, "nobody"]})
    assert [r["success"] for r in answer["results"]] == [True, False]
    assert events.wait("dataset.worker.removed.v1").data["worker_id"] == bob
    client.delete(f"{where}/{rows[0]['worker_id']}")
    assert [w["email"] for w in client.get(where)["workers"]] == [address("zoe")]
    answer = client.delete(f"{WORKFORCES}/{team}")
    assert client.get(f"{WORKFORCES}/workers")["total_number"] == 0


def test_the_first_login_is_for_choosing_a_password(
    tenant: Tenant, team: str, mailbox: Mailbox, address: Address, console: Fresh
) -> None:
    where, email, eve = f"{WORKFORCES}/{team}/workers", address("eve"), console()
    tenant.client.post(where, {"emails": email, "role": 0})
    password = initial_password(mailbox.wait(email, "Invitation"))
    assert eve.login(email.upper(), password)["must_change_password"] is True
    assert refused(eve.call, "GET", "/tasks").status == 403

    def change(old: str, new: str) -> Any:
        return eve.call("PUT", "/password", {"old_password": old, "new_password": new})

    for weak in ("short", "lowercaseonly", password, f"{email.partition('@')[0]}-77"):
        assert refused(change, password, weak).status == 400
    assert refused(change, "wrong", GOOD).status == 401
    other = console()
    other.login(email, password)
    eve.token = change(password, GOOD)["token"]
    assert eve.call("GET", "/tasks")["count"] == 0
    assert refused(other.call, "GET", "/tasks").status == 401
    assert refused(other.login, email, password).status == 401
    assert other.login(email, GOOD)["must_change_password"] is False
    assert tenant.client.get(where)["workers"][0]["status"] == 2
    eve.call("POST", "/logout")
    assert refused(eve.call, "GET", "/tasks").status == 401
    assert other.call("GET", "/tasks")["count"] == 0


def test_a_forgotten_password_is_set_anew_by_a_code(
    tenant: Tenant, mailbox: Mailbox, address: Address, join: Join, console: Fresh
) -> None:
    _, fay = join("fay")
    email, lost = address("fay"), console()
    known = lost.call("POST", "/password/forgotten", {"email": email})
    assert lost.call("POST", "/password/forgotten", {"email": address("nobody")}) == known
    mail = mailbox.wait(email, "Set a new password")
    found = re.search(r"code\n\n    (\S+)\n", mail)
    assert found
    code = found[1]
    assert f"project={tenant.project_id}&code={code}" in mail

    def reset(code: str, new: str) -> Any:
        return lost.call("POST", "/password/reset", {"email": email, "code": code, "new_password": new})

    assert refused(reset, "wrong", "New-horse-8").status == 401
    assert refused(reset, code, "weak").status == 400
    reset(code, "New-horse-8")
    assert refused(reset, code, "Other-horse-9").status == 401
    assert refused(fay.call, "GET", "/tasks").status == 401
    lost.login(email, "New-horse-8")
    lost.call("POST", "/password/forgotten", {"email": email})
    late = re.search(r"code\n\n    (\S+)\n", mailbox.wait(email, "Set a new password", seen=1))
    assert late
    move_clock(31 * 60_000)
    try:
        assert refused(reset, late[1], "Other-horse-9").status == 401
    finally:
        move_clock(-31 * 60_000)


def test_guessing_is_held_back_and_tells_nothing(address: Address, join: Join, console: Fresh) -> None:
    join("gus")
    for email in (address("gus"), address("stranger")):
        stranger = console()
        said = [refused(stranger.login, email, "wrong") for _ in range(5)]
        assert {(e.status, e.message) for e in said} == {(401, said[0].message)}
        assert refused(stranger.login, email, GOOD).status == 429


def test_every_try_at_the_labeling_console_is_in_the_trail_without_its_secrets(
    running: RunningPlatform, tenant: Tenant, address: Address, join: Join, console: Fresh
) -> None:
    """A wrong password, and bodies nobody can read or understand, with the secret where nobody looks for it."""
    join("ivy")
    email, base, secret = address("ivy"), console().base, "hunter2-is-secret"
    bodies = (
        json.dumps({"email": email, "password": secret}),
        json.dumps({"email": address("stranger"), "password": secret}),
        json.dumps({"e-mail": email, "Kennwort": secret}),
        json.dumps([email, secret]),
        f'{{"email": "{email}", "password": "{secret}',
    )
    tried: dict[str, str] = {}
    for path, name in (
        ("/login", "workerLoginLabelConsole"),
        ("/password/reset", "workerResetPassword"),
        ("/password/forgotten", "workerForgetPassword"),
    ):
        for body in bodies:
            answer = httpx.post(base + path, content=body, headers={"Content-Type": "application/json"})
            assert answer.status_code in (400, 401) or (path, answer.status_code) == ("/password/forgotten", 202)
            tried[answer.headers["X-Request-Id"]] = f"{name} {answer.status_code}"
    elsewhere = base.replace(tenant.project_id, "0" * 32)
    unknown = httpx.post(elsewhere + "/login", json={"email": email, "password": secret}).headers["X-Request-Id"]

    def trail() -> dict[str, dict[str, Any]]:
        asked = {"scope": "account", "limit": 200, "resource_type": "labelConsoleWorker"}
        rows = tenant.client.get("/v3/{project_id}/traces", asked)["traces"]
        return {row["request_id"]: row for row in rows}

    rows = wait_until(lambda: found if set(tried) <= set(found := trail()) else {})
    assert {id: f"{rows[id]['trace_name']} {rows[id]['code']}" for id in tried} == tried
    assert secret not in json.dumps(rows)
    assert email not in json.dumps(rows)
    wrong = rows[next(iter(tried))]
    assert (wrong["code"], wrong["project_id"]) == ("401", tenant.project_id)
    right = next(
        row for row in trail().values() if row["trace_name"] == "workerLoginLabelConsole" and row["code"] == "200"
    )
    assert wrong["user"]["id"] == right["user"]["id"], "whose password was tried is known by its id"
    assert unknown not in rows


def test_an_administrator_gives_a_new_password(
    tenant: Tenant, team: str, mailbox: Mailbox, address: Address, join: Join, console: Fresh
) -> None:
    worker, hal = join("hal")
    tenant.client.post(f"{WORKFORCES}/{team}/workers/{worker}/reset-password", {})
    password = initial_password(mailbox.wait(address("hal"), "Your new password"))
    assert refused(hal.call, "GET", "/tasks").status == 401
    assert refused(hal.login, address("hal"), GOOD).status == 401
    assert hal.login(address("hal"), password)["must_change_password"] is True
    move_clock(8 * 86_400_000)
    try:
        assert refused(console().login, address("hal"), password).status == 401
    finally:
        move_clock(-8 * 86_400_000)


def test_somebody_in_two_teams_has_one_password(
    tenant: Tenant, mailbox: Mailbox, address: Address, join: Join, console: Fresh
) -> None:
    _, ida = join("ida")
    other = tenant.client.post(WORKFORCES, {"workforce_name": "others"})["workforce_id"]
    tenant.client.post(f"{WORKFORCES}/{other}/workers", {"emails": address("ida"), "role": 1})
    assert "your password" in mailbox.wait(address("ida"), "team others")
    assert ida.call("GET", "/tasks")["count"] == 0
    tenant.client.delete(f"{WORKFORCES}/{other}")
    console().login(address("ida"), GOOD)
    everyone = tenant.client.get(f"{WORKFORCES}/workers")["workers"]
    for one in everyone:
        tenant.client.delete(f"{WORKFORCES}/{one['workforce_id']}/workers/{one['worker_id']}")
    assert refused(ida.call, "GET", "/tasks").status == 401
    assert refused(console().login, address("ida"), GOOD).status == 401


def test_what_the_mail_server_does_not_take_is_tried_again(
    tenant: Tenant, team: str, mailbox: Mailbox, address: Address, running: RunningPlatform
) -> None:
    mailbox.away, before = True, mailbox.turned_away
    try:
        tenant.client.post(f"{WORKFORCES}/{team}/workers", {"emails": address("jan"), "role": 0})
        wait_until(lambda: mailbox.turned_away > before)
        where = f"{WORKFORCES}/{team}/workers"
        assert tenant.client.get(where)["workers"][0]["status"] == 0
    finally:
        mailbox.away = False
    assert mailbox.wait(address("jan"), "Invitation")


def test_members_of_one_project_are_nobody_in_another(
    stranger: Tenant, tenant: Tenant, address: Address, join: Join
) -> None:
    _, kim = join("kim")
    elsewhere = Console(stranger)
    assert refused(elsewhere.login, address("kim"), GOOD).status == 401
    elsewhere.token = kim.token
    assert refused(elsewhere.call, "GET", "/tasks").status == 401


def test_addresses_and_passwords_do_not_lie_readable_on_disk(
    running: RunningPlatform, address: Address, join: Join, tenant: Tenant, events: RecordedEvents
) -> None:
    _, lea = join("lea")
    events.wait("dataset.worker.updated.v1", status=2)
    kept: list[Path] = [*running.data_dir.glob("bottega.db*"), *(running.data_dir / "nats").rglob("*")]
    assert lea.token is not None
    for plain in (address("lea"), GOOD, lea.token):
        assert [f for f in kept if f.is_file() and plain.encode() in f.read_bytes()] == []


def test_two_invitations_at_once_make_one_member(tenant: Tenant, team: str, address: Address) -> None:
    def invite(_: int) -> int:
        try:
            tenant.client.post(f"{WORKFORCES}/{team}/workers", {"emails": address("max"), "role": 0})
        except ApiFailure as e:
            return e.status
        return 201

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(invite, range(4))) == [201, 409, 409, 409]
    assert tenant.client.get(f"{WORKFORCES}/{team}")["worker_count"] == 1


def test_logging_in_and_out_is_in_the_trail(tenant: Tenant, address: Address, join: Join, console: Fresh) -> None:
    _, ned = join("ned")
    refused(console().login, address("ned"), "wrong")
    ned.call("POST", "/logout")

    def traces() -> set[str]:
        return {e.data["trace"] for e in tenant.events.all("core.api.called.v1") if e.data["trace"]}

    wait_until(
        lambda: traces() >= {"createWorkforce", "createWorker", "workerChangePassword", "workerLogoutLabelConsole"}
    )
    refusals = [e.data for e in tenant.events.all("core.api.called.v1") if e.data["trace"] == "workerLoginLabelConsole"]
    assert {e["status"] for e in refusals} == {200, 401}
    assert address("ned") not in str(refusals)
