"""``/v1/{project_id}/models``."""

from __future__ import annotations

from typing import Any, Literal

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from bottega.entities import DEFAULT_WORKSPACE
from bottega.errors import Invalid
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router
from bottega_serving import shapes
from bottega_serving.models import ImportRequest, Models, model_urn
from bottega_serving.planner import CREATE_MODEL, ServingPlanner
from bottega_serving.runtimes import Runtimes


class CreateModel(BaseModel):
    """The vendor's import of a model. `source_job_id` or `source_location` says where its package is.

    `initial_config` is a whole ``config.json`` as text; it and the single fields go before the package's own.
    """

    model_config = ConfigDict(extra="ignore", protected_namespaces=())
    model_name: str
    model_version: str = "0.0.1"
    model_type: str | None = None
    source_location: str | None = None
    source_job_id: str | None = None
    source_job_version: str | None = None
    description: str = ""
    workspace_id: str = DEFAULT_WORKSPACE
    model_docs: list[dict[str, Any]] = []
    initial_config: str | None = None
    model_algorithm: str | None = None
    model_metrics: str | dict[str, Any] | None = None
    runtime: str | None = None
    apis: list[dict[str, Any]] | None = None
    dependencies: list[dict[str, Any]] | None = None

    def config(self) -> dict[str, Any]:
        """The fields of ``config.json`` given with the request."""
        config: dict[str, Any] = {}
        if self.initial_config:
            parsed = _json(self.initial_config, "initial_config")
            config.update(parsed)
        if self.model_metrics is not None:
            text = self.model_metrics
            config["metrics"] = _json(text, "model_metrics") if isinstance(text, str) else text
        for name in ("model_algorithm", "runtime", "apis", "dependencies"):
            value = getattr(self, name)
            if value is not None:
                config[name] = value
        return config


def model_router(platform: Platform, models: Models, runtimes: Runtimes, planner: ServingPlanner) -> APIRouter:
    router = Router(prefix="/v1/{project_id}/models", tags=["models"])

    @router.post("")
    async def create(body: CreateModel, caller: Caller = requires(CREATE_MODEL)) -> dict[str, str]:
        await caller.require((await planner.model(caller, body)).needs)
        source = await planner.source(caller, body)
        request = ImportRequest(
            name=body.model_name,
            version=body.model_version,
            model_type=body.model_type,
            source=source,
            source_job_id=body.source_job_id,
            source_job_version=body.source_job_version,
            description=body.description,
            workspace_id=body.workspace_id,
            docs=body.model_docs,
            config=body.config(),
        )
        model = await models.submit(request, caller.project_id, caller.principal.account_id, caller.user_id)
        caller.about(resource=model_urn(model), name=model.name)
        return {"model_id": model.id}

    @router.get("")
    async def list_models(
        model_name: str | None = None,
        exact_match: bool = False,
        model_version: str | None = None,
        model_status: str | None = None,
        description: str | None = None,
        model_type: str | None = None,
        not_model_type: str | None = None,
        workspace_id: str | None = None,
        sort_by: Literal["create_at", "model_version", "model_size"] = "create_at",
        order: Literal["asc", "desc"] = "desc",
        page: Page = paging(1000),
        caller: Caller = requires("modelarts:model:list"),
    ) -> dict[str, Any]:
        total, rows = await models.page(
            caller.project_id,
            name=model_name,
            exact=exact_match,
            version=model_version,
            status=model_status,
            description=description,
            model_type=model_type,
            not_model_type=not_model_type,
            workspace_id=workspace_id,
            sort_by=sort_by,
            ascending=order == "asc",
            offset=page.offset,
            limit=page.limit,
        )
        return {"total_count": total, "count": len(rows), "models": [shapes.model_row(row, runtimes) for row in rows]}

    @router.get("/ai-engine-runtimes")
    async def list_runtimes(caller: Caller = requires("modelarts:model:list")) -> dict[str, Any]:
        return shapes.engine_runtimes(runtimes)

    @router.get("/{model_id}")
    async def show(
        model_id: str, caller: Caller = requires("modelarts:model:get", "model/{model_id}")
    ) -> dict[str, Any]:
        async with platform.database.read() as session:
            model = await models.get(session, caller.project_id, model_id)
        return shapes.model_detail(model, runtimes)

    @router.delete("/{model_id}")
    async def delete(
        model_id: str,
        cascade: bool = Query(False),
        caller: Caller = requires("modelarts:model:delete", "model/{model_id}"),
    ) -> dict[str, Any]:
        gone, kept = await models.delete(caller.project_id, model_id, cascade=cascade)
        failed = [{"model_id": id, "error_code": e.code, "error_msg": e.message} for id, e in kept.items()]
        return {"delete_success_list": gone, "delete_failed_list": failed}

    return router


def _json(text: str, what: str) -> dict[str, Any]:
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as problem:
        raise Invalid(f"{what} is not JSON: {problem}") from None
    if not isinstance(parsed, dict):
        raise Invalid(f"{what} must be a JSON object")
    return parsed
