"""PyTorch models without user code: TorchScript (``.pt``) and exported programs (``.pt2``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from bottega_serving.inference.session import Arrays, Field, LoadFailure


def load(files: Path, config: dict[str, Any]) -> TorchSession:
    """Load the one ``.pt2`` or ``.pt`` file of `files`. Raises LoadFailure."""
    found = sorted([*files.glob("*.pt2"), *files.glob("*.pt")])
    if len(found) != 1:
        raise LoadFailure(f"model/ holds {len(found)} .pt and .pt2 files; exactly one is the model")
    try:
        if found[0].suffix == ".pt2":
            return _exported(torch.export.load(found[0]))
        return _scripted(torch.jit.load(str(found[0]), map_location="cpu"))  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError, BadZipFile) as problem:
        hint = "a state dict needs a customize_service.py that builds its module"
        raise LoadFailure(
            f"{found[0].name} is neither TorchScript nor an exported program ({hint}): {problem}"
        ) from problem


class TorchSession:
    def __init__(self, function: Callable[..., Any], inputs: Sequence[Field], *, batches: bool) -> None:
        self._function = function
        self.inputs = inputs
        self.batches = batches

    def run(self, arrays: Arrays) -> dict[str, Any]:
        with torch.inference_mode():
            result = self._function(*(torch.from_numpy(arrays[field.name]) for field in self.inputs))
        return _named(result)


def _scripted(module: Any) -> TorchSession:
    module.eval()
    arguments = module.forward.schema.arguments[1:]
    # TorchScript knows neither sizes nor number types of its tensors: float32 of any shape is what models take.
    inputs = [Field(a.name, "float32", None) for a in arguments if not a.has_default_value()]
    return TorchSession(module, inputs, batches=False)


def _exported(program: torch.export.ExportedProgram) -> TorchSession:
    names = {str(name) for name in program.graph_signature.user_inputs}
    inputs = [
        Field(node.name, str(node.meta["val"].dtype).removeprefix("torch."), _sizes(node.meta["val"]))
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names
    ]
    returned = [node.meta.get("val") for node in program.graph.output_node().all_input_nodes]
    shapes = [field.shape for field in inputs] + [_sizes(value) for value in returned]
    batches = all(shape and shape[0] is None for shape in shapes)
    return TorchSession(program.module(), inputs, batches=batches)


def _sizes(value: torch.Tensor) -> tuple[int | None, ...]:
    return tuple(size if isinstance(size, int) else None for size in value.shape)


def _named(result: Any) -> dict[str, NDArray[Any]]:
    """``output`` for a single tensor, ``output_0``, ``output_1`` for several, a dictionary's own names."""
    if isinstance(result, torch.Tensor):
        return {"output": _array(result)}
    if isinstance(result, dict):
        return {str(name): _array(value) for name, value in result.items()}
    if len(result) == 1:
        return {"output": _array(result[0])}
    return {f"output_{i}": _array(value) for i, value in enumerate(result)}


def _array(value: Any) -> NDArray[Any]:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
