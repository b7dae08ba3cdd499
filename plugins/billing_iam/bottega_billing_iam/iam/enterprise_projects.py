"""Enterprise projects: what groups workspaces for grants and bills (002 §10.1)."""

from __future__ import annotations

from sqlmodel import col, select

from bottega.context import now_ms
from bottega.database import Transaction
from bottega.entities import EnterpriseProject
from bottega.errors import Conflict, Invalid
from bottega.platform import Platform
from bottega.rights import DEFAULT_ENTERPRISE_PROJECT

from .events import EnterpriseProjectChanged
from .identities import flush_unique, iam_urn, owned
from .listing import Part, Window, part_of
from .names import check_name
from .quotas import Quotas

DEFAULT_NAME = "default"


class EnterpriseProjects:
    """The default one, id ``0``, is always there and has no row."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._quotas = Quotas(platform)

    async def list(
        self, account_id: str, window: Window, name: str | None = None, enabled: bool | None = None
    ) -> Part[EnterpriseProject]:
        """Those with `name` in their name. The default one is not among them."""
        async with self._platform.database.read() as session:
            query = select(EnterpriseProject).where(EnterpriseProject.account_id == account_id)
            if name is not None:
                query = query.where(col(EnterpriseProject.name).contains(name, autoescape=True))
            if enabled is not None:
                query = query.where(EnterpriseProject.enabled == enabled)
            return await part_of(session, query.order_by(EnterpriseProject.name), window)

    async def get(self, account_id: str, id: str) -> EnterpriseProject:
        if id == DEFAULT_ENTERPRISE_PROJECT:
            return default_of(account_id)
        async with self._platform.database.read() as session:
            return await owned(session, EnterpriseProject, id, account_id)

    async def create(self, account_id: str, name: str, description: str) -> EnterpriseProject:
        name = _name(name)
        async with self._platform.database.transaction() as tx:
            await self._quotas.admit(tx, account_id, "enterprise_project")
            row = EnterpriseProject(account_id=account_id, name=name, description=description)
            tx.session.add(row)
            await flush_unique(tx, f"an enterprise project named '{name}' exists in this account; choose another name")
            self._changed(tx, row, "created")
        return row

    async def update(
        self,
        account_id: str,
        id: str,
        name: str | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> EnterpriseProject:
        if id == DEFAULT_ENTERPRISE_PROJECT:
            raise Conflict("the default enterprise project stays as it is")
        name = None if name is None else _name(name)
        async with self._platform.database.transaction() as tx:
            row = await owned(tx.session, EnterpriseProject, id, account_id)
            row.name = row.name if name is None else name
            row.description = row.description if description is None else description
            row.enabled = row.enabled if enabled is None else enabled
            row.updated_at = now_ms()
            tx.session.add(row)
            await flush_unique(tx, f"an enterprise project named '{name}' exists in this account; choose another name")
            self._changed(tx, row, "updated")
        return row

    def _changed(self, tx: Transaction, row: EnterpriseProject, change: str) -> None:
        event = EnterpriseProjectChanged(
            account_id=row.account_id,
            enterprise_project_id=row.id,
            name=row.name,
            enabled=row.enabled,
            change=change,
        )
        tx.emit(event, iam_urn("enterprise-project", row.id))


def default_of(account_id: str) -> EnterpriseProject:
    """The enterprise project of everything that was put into no other."""
    return EnterpriseProject(
        id=DEFAULT_ENTERPRISE_PROJECT, account_id=account_id, name=DEFAULT_NAME, created_at=0, updated_at=0
    )


def _name(name: str) -> str:
    name = check_name("enterprise project", name)
    if name.lower() == DEFAULT_NAME:
        raise Invalid(f"name: '{DEFAULT_NAME}' is the one that is always there; choose another")
    return name
