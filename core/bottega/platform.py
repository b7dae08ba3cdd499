"""What a plugin is given: the platform as seen from that plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from bottega.context import Principal
from bottega.database import Database
from bottega.errors import InArrears, Unavailable
from bottega.gateway import Limiter
from bottega.identity import Identity
from bottega.metrics import Metrics
from bottega.nats_auth import NatsAuthority
from bottega.objects import ObjectStore
from bottega.plans import Planner
from bottega.plugins import Action, NoSettings, Plugins, Quota
from bottega.resources import Resources
from bottega.sealing import Sealer
from bottega.settings import Smtp
from bottega.workloads import Workloads
from bottega.workspaces import Workspaces

if TYPE_CHECKING:
    from bottega.bus import Bus


@dataclass
class Shared:
    """What all views of one platform have in common; filled in as the platform starts."""

    data_dir: Path
    plugins: Plugins
    identity: Identity
    workspaces: Workspaces
    sealer: Sealer
    metrics: Metrics
    limiter: Limiter
    authority: NatsAuthority | None
    serving: bool = False
    """Whether requests are answered; before that every route but the health ones says 503."""
    url: str = ""
    nats_url: str = ""
    objects: ObjectStore | None = None
    quotas: dict[tuple[str, str], Quota] = field(default_factory=dict)
    """How many things an account may have by default, by plugin and kind."""
    planners: list[Planner] = field(default_factory=list)
    """How the creating requests of all plugins foresee what they need and use."""
    s3: dict[str, str] | None = None
    """Endpoint, region and the operator's own keys of the object store; only for store plugins and the operator."""


@dataclass(frozen=True)
class Platform:
    """The platform as plugin `name` sees it; `settings` are that plugin's own, validated."""

    name: str
    settings: Any
    database: Database
    bus: Bus
    workloads: Workloads
    resources: Resources
    shared: Shared

    def bind(self, name: str, settings: BaseModel | None = None) -> Platform:
        """The same platform for another plugin."""
        return replace(
            self,
            name=name,
            settings=settings or NoSettings(),
            database=self.database.bind(name),
            bus=self.bus.bind(name),
            resources=Resources(name, self.shared.quotas),
        )

    @property
    def data_dir(self) -> Path:
        """Where this installation keeps its files."""
        return self.shared.data_dir

    @property
    def url(self) -> str:
        """Where the gateway is reached, for workloads and answers; known once the listener is bound."""
        return self.shared.url

    @property
    def nats_url(self) -> str:
        return self.shared.nats_url

    @property
    def identity(self) -> Identity:
        return self.shared.identity

    @property
    def workspaces(self) -> Workspaces:
        return self.shared.workspaces

    @property
    def metrics(self) -> Metrics:
        return self.shared.metrics

    @property
    def sealer(self) -> Sealer:
        return self.shared.sealer

    @property
    def smtp(self) -> Smtp | None:
        """The mail server (see `bottega.mail`), if the operator has named one."""
        return self.shared.plugins.settings.smtp

    @property
    def objects(self) -> ObjectStore:
        """The object store. Raises Unavailable when no plugin brings the configured one."""
        if self.shared.objects is None:
            wanted = self.shared.plugins.settings.objects.store
            raise Unavailable(f"no object store: the plugin '{wanted}' is not on (see `bottega plugins`)")
        return self.shared.objects

    def extensions(self, hook: str) -> list[Any]:
        """What the plugins that are on return for an extension point, each given its own view as `platform`.

        Call it at start (in ``bottega_lifespan``, ``bottega_routes``), not per request.
        """
        plugins = self.shared.plugins
        accepts = set(getattr(plugins.manager.hook, hook).spec.argnames)
        found = plugins.collect(
            hook, lambda p: {"platform": self.bind(p.name, p.settings)} if "platform" in accepts else {}
        )
        return [value for _, value in found]

    def action(self, name: str) -> Action | None:
        found = self.shared.plugins.guards.get(name)
        return found[1] if found else None

    def action_owner(self, name: str) -> str:
        """The plugin that declared an action; core's own carry ``core``."""
        return self.shared.plugins.owner(name)

    def check_owner(self, action: str) -> None:
        """Raises Unavailable when the plugin that declared an action broke after its routes were mounted."""
        found = self.shared.plugins.guards.get(action)
        if found and found[0].state != "on":
            raise Unavailable(f"the plugin '{found[0].name}' is {found[0].state}: {found[0].reason}")

    async def check_standing(self, principal: Principal, action: str, *, spends: bool = False) -> None:
        """Raises InArrears when `action` is one that costs and the account of `principal` owes money.

        :param spends: this use of the action costs, whatever the action's own mark says.
        """
        found = self.action(action)
        costs = spends or (found is not None and found.spends)
        if costs and (await self.identity.account(principal.account_id)).standing == "arrears":
            raise InArrears(f"the account is in arrears: {action} is refused until it is recharged")

    async def limit_rate(self, principal: Principal) -> None:
        await self.shared.limiter.hit(principal.user_id)

    def nats_credentials(
        self, name: str, publish: Sequence[str], subscribe: Sequence[str], expires_s: float | None
    ) -> str:
        """The text of a NATS ``.creds`` file for these subjects only.

        Raises Unavailable when the installation uses an outside NATS whose authority keys it does not hold.
        """
        if self.shared.authority is None:
            raise Unavailable(
                "NATS credentials are issued by the operator here: this installation holds no authority keys"
            )
        return self.shared.authority.issue_user(name, publish=publish, subscribe=subscribe, expires_in_s=expires_s)
