"""The runtime plugin for PyTorch models: TorchScript, exported programs, and state dicts with user code."""

from __future__ import annotations

from bottega.hookspecs import hookimpl
from bottega_serving.runtimes import Runtime


@hookimpl
def bottega_serving_runtimes() -> Runtime:
    return Runtime(
        "pytorch",
        model_types=("PyTorch",),
        suffixes=(".pt", ".pt2"),
        loader="bottega_serving.runtime_pytorch.session:load",
        versions=("pytorch", "python3.6", "python3.7", "python3.8", "python3.9", "python3.10", "python3.11"),
    )
