"""Events of the plugin `billing`, and what it reads of those of others."""

from __future__ import annotations

from bottega.events import Event


class EntryPosted(Event, type="billing.entry.posted.v1"):
    """The balance of an account moved by `moved` millionths of the currency `unit`: down when negative.

    `at` is the time the entry is about, epoch ms; `kind` says what it is (``usage``, ``recharge``, …).
    """

    account_id: str
    entry_id: str
    kind: str
    at: int
    unit: str
    moved: int


class OrderPlaced(Event, type="billing.order.placed.v1"):
    """An account bought a ``package``, a ``pool`` or a ``model_tuning``; it holds from `begins` to `ends`, epoch ms.

    Of a pool `quantity` counts the nodes, of a package the node-seconds.
    """

    order_id: str
    account_id: str
    kind: str
    name: str
    flavors: list[str]
    quantity: int
    begins: int
    ends: int


class InvoiceClosed(Event, type="billing.invoice.closed.v1"):
    """A month of an account was closed; `amount` is to the cent."""

    account_id: str
    number: str
    month: str
    amount: str


class ApiCalled(Event, type="core.api.called.v1"):
    """Read of the core: a call that changed something, or was refused."""

    request_id: str
    status: int
    action: str | None
    resource: str | None
    account_id: str | None
    user_id: str | None
    at: int


class CallsCounted(Event, type="serving.calls.counted.v1"):
    """Read of the plugin `serving`: predictions since the last such event."""

    service_id: str
    calls: int
    failed: int


class NotebookCreated(Event, type="notebook.instance.created.v1"):
    """Read of the plugin `notebook`: it has a disk of so many GB from now on."""

    notebook_id: str
    name: str
    capacity_gb: int = 5


class NotebookDeleted(Event, type="notebook.instance.deleted.v1"):
    """Read of the plugin `notebook`."""

    notebook_id: str
