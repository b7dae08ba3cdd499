"""The runtime plugin for ONNX models, on ONNX Runtime."""

from __future__ import annotations

from bottega.hookspecs import hookimpl
from bottega_serving.runtimes import Runtime


@hookimpl
def bottega_serving_runtimes() -> Runtime:
    return Runtime(
        "onnx",
        model_types=("ONNX",),
        suffixes=(".onnx",),
        loader="bottega_serving.runtime_onnx.session:load",
        inline=True,
        versions=("onnx", "onnxruntime"),
    )
