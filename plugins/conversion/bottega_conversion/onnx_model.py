"""Running an ONNX model in the worker, on one thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottega_conversion.converters import ConversionFailure, OpenModel

if TYPE_CHECKING:
    from bottega_conversion.converters import Rows


def open_onnx(path: Path) -> OpenModel:
    """Load a model of one float input. Raises ConversionFailure when it is none or cannot be loaded."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as e:  # the runtime's exceptions share no base class of their own
        raise ConversionFailure(f"{path.name} is not an ONNX model that can run: {str(e).splitlines()[0]}") from e
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{i.name}: {i.type}" for i in inputs)
        raise ConversionFailure(f"{path.name} must have one float input; it has {found}")
    name, shape = inputs[0].name, inputs[0].shape
    fixed = shape[0] if shape and isinstance(shape[0], int) else None

    def predict(rows: Rows) -> list[Any]:
        if fixed is None or len(rows) == fixed:
            return list(session.run(None, {name: rows}))
        parts = []
        for start in range(0, len(rows), fixed):
            part = rows[start : start + fixed]
            padded = np.concatenate([part, np.repeat(part[-1:], fixed - len(part), axis=0)])
            parts.append([output[: len(part)] for output in session.run(None, {name: padded})])
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    whole = bool(shape) and all(isinstance(d, int) for d in shape[1:])
    return OpenModel(predict, tuple(shape[1:]) if whole else None)
