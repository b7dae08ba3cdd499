"""Late routes are seen with the check they name, and otherwise answer as FastAPI's own."""

from __future__ import annotations

import asyncio
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI

from bottega.application import check_routes, every_route
from bottega.errors import PluginError
from bottega.gateway import Caller, Public, Requirement, public, requires
from bottega.routing import Router, join


class Unknown: ...


READ = "made:thing:get"


def guarded() -> Router:
    router = Router(prefix="/things")

    @router.get("/{key}")
    async def one(key: int, caller: Caller = requires(READ)) -> dict[str, int]:
        return {"key": key}

    @router.post("", dependencies=[public("a test")])
    async def add(body: list[int]) -> list[int]:
        return body

    return router


def open_to_all(router: APIRouter) -> FastAPI:
    @router.post("/{key}", status_code=201)
    async def add(key: int, body: list[int], word: str = "none") -> dict[str, list[int]]:
        """Add some numbers."""
        return {word: [key, *body]}

    @router.get("/hidden", include_in_schema=False)
    async def hidden() -> int:
        return 1

    app = FastAPI()
    join(app.router, router)
    return app


def ask(app: FastAPI, method: str, path: str, json: object = None) -> tuple[int, bytes]:
    async def request() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            return await client.request(method, path, json=json)

    answer = asyncio.run(request())
    return answer.status_code, answer.content


def test_the_checks_are_found_without_making_the_routes() -> None:
    router = guarded()
    check_routes(router.routes, "made", {READ})
    found = {route.path: route for route in every_route(router.routes)}
    assert found["/things/{key}"].requirement == Requirement(READ)
    assert found["/things"].checks == (Public("a test"),)
    assert all("dependant" not in vars(route) for route in router.routes)


def test_a_check_in_an_annotation_is_found_too() -> None:
    router = Router()

    @router.get("/annotated")
    async def annotated(caller: Annotated[Caller, Depends(Requirement(READ))]) -> None: ...

    assert [route.requirement for route in every_route(router.routes)] == [Requirement(READ)]


def test_one_without_a_check_is_refused() -> None:
    router = Router()

    @router.get("/unguarded")
    async def unguarded() -> None: ...

    with pytest.raises(PluginError, match="route /unguarded names no IAM action"):
        check_routes(router.routes, "made", {READ})


def test_they_answer_and_are_described_as_others() -> None:
    late = open_to_all(Router(prefix="/things", tags=["made"]))
    usual = open_to_all(APIRouter(prefix="/things", tags=["made"]))
    assert ask(late, "POST", "/things/1?word=all", [2]) == (201, b'{"all":[1,2]}')
    for method, path, body in (("POST", "/things/1", [2, 3]), ("POST", "/things/1", ["x"]), ("GET", "/things/1", None)):
        assert ask(late, method, path, body) == ask(usual, method, path, body)
    assert late.openapi() == usual.openapi()


def test_a_mistake_is_told_at_every_request() -> None:
    router = Router()

    @router.get("/wrong", response_model=Unknown)
    async def wrong() -> int:
        return 1

    app = FastAPI()
    join(app.router, router)
    for _ in range(2):
        with pytest.raises(Exception, match="Invalid args for response field"):
            ask(app, "GET", "/wrong")
