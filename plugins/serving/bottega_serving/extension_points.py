"""The extension point of this plugin: runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from bottega_serving.runtimes import Runtime

hookspec = pluggy.HookspecMarker("bottega")


@hookspec
def bottega_serving_runtimes() -> Runtime:
    """Return the description of a runtime: the model types it runs and where its loader is."""
