"""ONNX Runtime sessions."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from bottega_serving.inference.session import Arrays, Field, LoadFailure

_DTYPES = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "string": "str",
    "bool": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


def load(files: Path, config: dict[str, Any]) -> OnnxSession:
    """Load the one ``.onnx`` file of `files`. Raises LoadFailure."""
    found = sorted(files.glob("*.onnx"))
    if len(found) != 1:
        raise LoadFailure(f"model/ holds {len(found)} .onnx files; exactly one is the model")
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    options.inter_op_num_threads = 1
    # Waiting threads must not take the processor from the loop that feeds them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(found[0]), options, providers=_providers())
    except Exception as problem:  # ONNX Runtime has no common base class of its errors
        raise LoadFailure(f"{found[0].name} cannot be loaded: {problem}") from problem
    return OnnxSession(session)


class OnnxSession:
    """One model; runs are thread-safe."""

    def __init__(self, session: Any) -> None:
        self._run = session.run
        self._names = [output.name for output in session.get_outputs()]
        self.inputs: Sequence[Field] = [_field(node) for node in session.get_inputs()]
        first_axes = [_shape(node)[:1] for node in (*session.get_inputs(), *session.get_outputs())]
        self.batches = all(axis == (None,) or not axis for axis in first_axes) and all(f.shape for f in self.inputs)

    def run(self, arrays: Arrays) -> dict[str, Any]:
        return dict(zip(self._names, self._run(self._names, dict(arrays)), strict=True))


def _field(node: Any) -> Field:
    kind = node.type.removeprefix("tensor(").removesuffix(")")
    if kind not in _DTYPES:
        raise LoadFailure(
            f"input '{node.name}' is of type {node.type}; tensors of numbers, text and truth values are taken"
        )
    return Field(node.name, _DTYPES[kind], _shape(node))


def _shape(node: Any) -> tuple[int | None, ...]:
    # Sequences of maps (classifiers converted from scikit-learn) have no shape and one entry per sample.
    return tuple(size if isinstance(size, int) else None for size in getattr(node, "shape", None) or ())


def _providers() -> list[str]:
    preferred = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [name for name in preferred if name in ort.get_available_providers()]
