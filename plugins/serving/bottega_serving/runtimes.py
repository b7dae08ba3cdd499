"""Runtimes: which program loads a model. Other plugins bring them through ``bottega_serving_runtimes``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bottega.errors import Invalid
from bottega_serving.package import USER_CODE


@dataclass(frozen=True, slots=True)
class Runtime:
    """What a runtime plugin describes at start; its heavy imports happen where the model is loaded.

    `loader` is ``module:function`` of a ``bottega_serving.inference.session`` loader. With `inline` a model without
    user code runs inside the data plane's own process, which suits runtimes that release Python's lock and execute
    no foreign code; all others run in processes of their own. `suffixes` are those of its model files; a package with
    user code may load anything.
    """

    name: str
    model_types: tuple[str, ...]
    suffixes: tuple[str, ...]
    loader: str
    inline: bool = False
    versions: tuple[str, ...] = ()
    """What ``ai-engine-runtimes`` lists."""


class Runtimes:
    """The runtimes of the plugins that are on."""

    def __init__(self, found: Sequence[Runtime]) -> None:
        self.all = tuple(found)

    def find(self, model_type: str) -> Runtime | None:
        return next((runtime for runtime in self.all if model_type in runtime.model_types), None)

    def of(self, model_type: str) -> Runtime:
        """Raises Invalid when no plugin that is on can run models of this type."""
        runtime = self.find(model_type)
        if runtime is None:
            known = ", ".join(sorted({t for r in self.all for t in r.model_types})) or "none"
            raise Invalid(f"no runtime plugin is on for models of type {model_type}; there are runtimes for: {known}")
        return runtime

    def check_files(self, model_type: str, names: Sequence[str]) -> None:
        """Raises Invalid when none of the files can be a model of that type."""
        runtime = self.find(model_type)
        if runtime is None or USER_CODE in names:
            return
        if not any(name.endswith(runtime.suffixes) for name in names):
            raise Invalid(
                f"model/ holds no {' or '.join(runtime.suffixes)} file, "
                f"which a {model_type} model without {USER_CODE} needs"
            )
