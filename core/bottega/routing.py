"""Routers whose routes cost little until they are asked for, and which are put together without making routes again."""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import APIRouter, params
from fastapi.routing import APIRoute
from pydantic.warnings import UnsupportedFieldAttributeWarning
from starlette.routing import compile_path, get_name

# FastAPI ignores it where it makes a field, and of models that are built at their first use it comes later.
warnings.filterwarnings("ignore", category=UnsupportedFieldAttributeWarning)


class LateRoute(APIRoute):
    """A route that is made ready at its first request, or when something else asks what it takes and answers.

    Until then it knows its path and its methods, which is all that finding the route of a request takes. Making one
    ready (its parameters' validators, its answer's serializer) takes 2 ms, for the hundreds of a platform together
    more than half of a start, and most of them are not called for long. A mistake in how one is written is therefore
    seen at its first request, or in ``/openapi.json``, not at the start.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        self.path, self.endpoint = path, endpoint
        self.name = options.get("name") or get_name(endpoint)
        self.methods = {method.upper() for method in options.get("methods") or ["GET"]}
        self.tags = options.pop("tags", None) or []
        self.path_regex, self.path_format, self.param_convertors = compile_path(path)
        self._options = options
        self._making = threading.RLock()  # the document of all routes is made on a thread of its own
        self._made = False

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet."""
        with self.__dict__["_making"]:
            if not self._made:
                self._made = True  # from here on, what is missing is missing
                try:
                    super().__init__(self.path, self.endpoint, tags=self.tags, **self._options)
                except BaseException:
                    self._made = False
                    raise
        return object.__getattribute__(self, name)

    def own_dependencies(self) -> Iterator[Callable[..., Any]]:
        """The callables that the route and its endpoint name with `Depends`, as far as a look at these tells.

        Not those an annotation names, nor those of dependencies; `dependant` has them all, and makes the route ready.
        """
        named = [parameter.default for parameter in inspect.signature(self.endpoint).parameters.values()]
        for depends in (*self._options["dependencies"], *named):
            if isinstance(depends, params.Depends) and depends.dependency is not None:
                yield depends.dependency


class Router(APIRouter):
    """A router of late routes, for plugins with many."""

    def __init__(self, *, prefix: str = "", tags: list[Any] | None = None) -> None:
        super().__init__(prefix=prefix, tags=tags, route_class=LateRoute)


def join(router: APIRouter, *parts: APIRouter) -> APIRouter:
    """Add the routes of `parts` to `router`, in their order, and return it.

    The route objects are taken as they are, with the full path and the tags they were written with: neither prefix
    nor dependencies of `router` are applied to them. `APIRouter.include_router`, which does that, makes an own copy
    of each route for every level of inclusion and looks for the route of each request level by level.
    """
    for part in parts:
        router.routes.extend(part.routes)
    return router
