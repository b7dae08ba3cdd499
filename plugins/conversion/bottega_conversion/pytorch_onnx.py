"""Plugin ``converter-pytorch-onnx``: TorchScript (``.pt``) and exported programs (``.pt2``) to ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bottega.hookspecs import hookimpl
from bottega_conversion.converters import ConversionFailure, Converter, OpenModel, Options
from bottega_conversion.model_config import ModelConfig, PositiveInt

if TYPE_CHECKING:
    from bottega_conversion.converters import Rows


class PytorchOnnxOptions(Options):
    input_shape: list[PositiveInt] | None = Field(
        None, description="Shape of one row, without the batch; default: that of the pictures or rows given"
    )
    opset: int = Field(17, ge=13, le=20, description="ONNX operator set (a .pt2 takes 18 or more)")


class PytorchOnnx(Converter):
    id = "converter-pytorch-onnx"
    name = "PyTorch to ONNX"
    description = "A TorchScript or torch.export model as ONNX with a free batch size, same numbers, any runtime."
    source_framework = "PyTorch"
    target_framework = "ONNX"
    model_type = "ONNX"
    source_suffixes = (".pt", ".pt2")
    target_suffix = ".onnx"
    options = PytorchOnnxOptions
    needs = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy")

    def convert(
        self,
        source: Path,
        target: Path,
        options: PytorchOnnxOptions,
        config: ModelConfig,
        calibration: Rows | None,
    ) -> None:
        import onnx
        import torch

        if source.suffix == ".pt2":
            program = torch.export.load(source)
            exported = torch.onnx.export(program, dynamo=True, opset_version=max(options.opset, 18), verbose=False)
            assert exported is not None  # dynamo=True always returns a program
            exported.save(target)
        else:
            row_shape = list(calibration.shape[1:]) if calibration is not None else None
            shape = options.input_shape or (config.image.shape if config.image else row_shape)
            if not shape:
                raise ConversionFailure(
                    "the shape of the model's input is not known: give the option input_shape (without the batch), "
                    "rows of data, or bottega.images in config.json"
                )
            module = _load_script(source)
            example = torch.zeros(1, *shape)
            _try(module, example, shape)
            with warnings.catch_warnings():
                # TorchScript files are read by the exporter that torch keeps for them and calls deprecated.
                warnings.simplefilter("ignore", DeprecationWarning)
                torch.onnx.export(
                    module,
                    (example,),
                    str(target),
                    dynamo=False,
                    opset_version=options.opset,
                    input_names=["input"],
                    output_names=["output"],
                    dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
                )
        onnx.checker.check_model(str(target), full_check=True)

    def open_source(self, path: Path) -> OpenModel:
        import numpy as np
        import torch

        torch.set_num_threads(1)
        module: Any
        shape = None
        if path.suffix == ".pt2":
            program = torch.export.load(path)
            module = program.module()
            if program.example_inputs and program.example_inputs[0]:
                shape = tuple(program.example_inputs[0][0].shape[1:])
        else:
            module = _load_script(path)

        def predict(rows: Rows) -> list[Any]:
            with torch.inference_mode():
                outputs = module(torch.from_numpy(np.ascontiguousarray(rows)))
            found = outputs if isinstance(outputs, tuple | list) else [outputs]
            return [output.numpy() for output in found]

        return OpenModel(predict, shape)

    def open_target(self, path: Path) -> OpenModel:
        from bottega_conversion.onnx_model import open_onnx

        return open_onnx(path)


def _load_script(path: Path) -> Any:
    import torch

    load: Any = torch.jit.load  # has no types
    try:
        # Only TorchScript archives: `torch.load` would unpickle, that is run, whatever the file holds.
        return load(str(path), map_location="cpu").eval()
    except RuntimeError as e:
        raise ConversionFailure(
            f"{path.name} is not TorchScript (save it with torch.jit.script(model).save(…)): {str(e).splitlines()[0]}"
        ) from e


def _try(module: Any, example: Any, shape: list[int]) -> None:
    import torch

    try:
        with torch.inference_mode():
            module(example)
    except RuntimeError as e:
        reason = next((line for line in reversed(str(e).splitlines()) if line.strip()), "")
        raise ConversionFailure(f"the model does not take an input of shape {shape}: {reason}") from e


@hookimpl
def bottega_conversion_converters() -> Converter:
    return PytorchOnnx()
