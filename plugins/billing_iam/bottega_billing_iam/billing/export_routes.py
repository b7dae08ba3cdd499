"""Usage, invoices, and files of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Query
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask

from bottega.context import now_ms
from bottega.gateway import Caller, Page, paging, requires
from bottega.objects import ObjectPath
from bottega.platform import Platform
from bottega.routing import Router

from .asked import VIEW, Asked, asking
from .bill import Scope, check_group
from .export import COLUMNS, Format, UsageTable, bill_columns, bill_rows, check_parquet, suggested_name, write
from .invoices import Invoices, describe

EXPORT = "bss:bill:export"
INVOICE = "bss:invoice:view"
TYPES = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


class ExportRequest(BaseModel):
    """What ``POST …/bills/exports`` takes; times as in the query of a bill."""

    path: str = Field(max_length=1024)
    format: Format = "csv"
    from_: str | None = Field(None, alias="from")
    to: str | None = None
    scope: str = Field("project", pattern="^(project|account)$")
    group_by: str | None = Field(None, max_length=140)
    workspace_id: str | None = Field(None, max_length=64)
    user_id: str | None = Field(None, max_length=64)
    tag: str | None = Field(None, max_length=400)


def router(platform: Platform) -> APIRouter:
    router = Router()
    invoices = Invoices(platform)

    @router.get("/v2/{project_id}/usage-records")
    async def show_usage(
        asked: Asked = asking(), page: Page = paging(100), caller: Caller = requires(VIEW)
    ) -> dict[str, Any]:
        """What was used, record by record, with what each costs in the period; `more` says whether there is more."""
        now = now_ms()
        start, end = asked.period(now)
        scope = await asked.scope(caller)
        async with platform.database.read() as session:
            table = UsageTable(session, scope, start, end, now)
            rows = [row async for row in table.rows(page.offset, page.limit + 1)]
        return {"from": start, "to": end, "more": len(rows) > page.limit, "records": rows[: page.limit]}

    @router.get("/v2/{project_id}/bills/export")
    async def export(
        format: Format = "csv",
        group_by: Annotated[str | None, Query(max_length=140)] = None,
        asked: Asked = asking(),
        caller: Caller = requires(EXPORT),
    ) -> FileResponse:
        """A file of the usage records, or of the bill's lines when ``group_by`` is given, as CSV or Parquet."""
        now = now_ms()
        start, end = asked.period(now)
        scope = await asked.scope(caller, EXPORT)
        folder = tempfile.TemporaryDirectory(prefix="bottega-bill-")
        file = Path(folder.name) / suggested_name(start, end, format)
        try:
            await _write(scope, start, end, now, group_by, file, format)
        except BaseException:
            folder.cleanup()
            raise
        return FileResponse(
            file, media_type=TYPES[format], filename=file.name, background=BackgroundTask(folder.cleanup)
        )

    @router.post("/v2/{project_id}/bills/exports", status_code=201)
    async def export_to(body: ExportRequest, caller: Caller = requires(EXPORT)) -> dict[str, Any]:
        """Write the same file to a bucket: to `path`, or into it when it is a folder (ends with ``/``)."""
        now = now_ms()
        whole = body.scope == "account"
        asked = Asked(body.from_, body.to, whole, body.workspace_id, body.user_id, body.tag)
        start, end = asked.period(now)
        scope = await asked.scope(caller, EXPORT)
        path = ObjectPath.parse(body.path, "path")
        if path.key == path.folder.key:
            path = path / suggested_name(start, end, body.format)
        await caller.check_path(path, write=True)
        with tempfile.TemporaryDirectory(prefix="bottega-bill-") as folder:
            file = Path(folder) / "export"
            count = await _write(scope, start, end, now, body.group_by, file, body.format)
            await platform.objects.upload(file, path, TYPES[body.format])
            size = (await anyio.Path(file).stat()).st_size
        caller.about(resource=path.urn, name=path.name)
        return {"path": str(path), "rows": count, "size": size, "from": start, "to": end, "format": body.format}

    @router.get("/v2/{project_id}/invoices")
    async def show_invoices(page: Page = paging(100), caller: Caller = requires(INVOICE)) -> dict[str, Any]:
        """The invoices of the account, the newest month first; they are of the whole account."""
        account_id = await caller.check_account(INVOICE)
        async with platform.database.read() as session:
            total, found = await invoices.list(session, account_id, page.offset, page.limit)
        return {"total_count": total, "invoices": [describe(invoice) for invoice in found]}

    @router.get("/v2/{project_id}/invoices/{invoice_no}")
    async def show_invoice(
        invoice_no: str, caller: Caller = requires(INVOICE, "invoice/{invoice_no}")
    ) -> dict[str, Any]:
        """An invoice with its lines. Nothing of it ever changes."""
        account_id = await caller.check_account(INVOICE)
        async with platform.database.read() as session:
            invoice = await invoices.get(session, account_id, invoice_no)
        return describe(invoice) | invoice.document

    async def _write(
        scope: Scope, start: int, end: int, now: int, group_by: str | None, file: Path, format: Format
    ) -> int:
        if format == "parquet":
            check_parquet()
        if group_by is not None:
            check_group(group_by)
        async with platform.database.read() as session:
            if group_by is None:
                return await write(UsageTable(session, scope, start, end, now).rows(), COLUMNS, file, format)
            rows = bill_rows(session, scope, start, end, now, group_by)
            return await write(rows, bill_columns(group_by), file, format)

    return router
