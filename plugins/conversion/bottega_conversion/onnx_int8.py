"""Plugin ``converter-onnx-int8``: ONNX to ONNX with 8-bit weights and activations, calibrated on real rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from bottega.hookspecs import hookimpl
from bottega_conversion.converters import Converter, OpenModel, Options
from bottega_conversion.model_config import ModelConfig

if TYPE_CHECKING:
    from bottega_conversion.converters import Rows

_BATCH = 50


class OnnxInt8Options(Options):
    calibration_rows: int = Field(500, ge=100, le=10_000, description="Rows used to find the ranges of activations")
    per_channel: bool = Field(True, description="A scale for each output channel of a weight, not one for all")
    method: Literal["minmax", "entropy", "percentile"] = Field("minmax", description="How ranges are chosen")


class OnnxInt8(Converter):
    id = "converter-onnx-int8"
    name = "ONNX to ONNX int8"
    description = "Static quantization to 8 bit (QDQ): a smaller and, where the processor helps, faster model."
    source_framework = "ONNX"
    target_framework = "ONNX int8"
    model_type = "ONNX"
    source_suffixes = (".onnx",)
    target_suffix = ".onnx"
    options = OnnxInt8Options
    needs = ("onnx", "onnxruntime", "numpy")
    minimum_calibration_rows = 100

    def calibration_rows(self, options: OnnxInt8Options) -> int:
        return options.calibration_rows

    def convert(
        self,
        source: Path,
        target: Path,
        options: OnnxInt8Options,
        config: ModelConfig,
        calibration: Rows | None,
    ) -> None:
        import onnx
        from onnxruntime import quantization

        assert calibration is not None  # the worker checked minimum_calibration_rows
        # Shape inference and folding first: quantizing the raw graph fails on some exports (shapes unknown).
        prepared = target.with_name("prepared.onnx")
        quantization.quant_pre_process(str(source), str(prepared))
        graph = onnx.load(str(prepared)).graph
        own = {tensor.name for tensor in graph.initializer}
        graph_input = next(value for value in graph.input if value.name not in own)
        fixed = graph_input.type.tensor_type.shape.dim[0].dim_value
        quantization.quantize_static(
            str(prepared),
            str(target),
            _reader(graph_input.name, calibration, fixed or _BATCH),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=options.per_channel,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method={
                "minmax": quantization.CalibrationMethod.MinMax,
                "entropy": quantization.CalibrationMethod.Entropy,
                "percentile": quantization.CalibrationMethod.Percentile,
            }[options.method],
        )
        prepared.unlink()
        onnx.checker.check_model(str(target), full_check=True)

    def open_source(self, path: Path) -> OpenModel:
        from bottega_conversion.onnx_model import open_onnx

        return open_onnx(path)

    open_target = open_source


def _reader(name: str, rows: Rows, batch: int) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            self._batches: Iterator[Rows] = iter(
                rows[start : start + batch] for start in range(0, len(rows) - len(rows) % batch, batch)
            )

        def get_next(self) -> dict[str, Rows] | None:
            found = next(self._batches, None)
            return None if found is None else {name: found}

    return Reader()


@hookimpl
def bottega_conversion_converters() -> Converter:
    return OnnxInt8()
