"""The first-party converters keep their contract, and the contract finds who does not."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bottega.plugins import Plugins
from bottega.testing import RunningPlatform, Tenant
from bottega_conversion.conformance import ConverterContract
from bottega_conversion.converters import Converter

WEIGHTS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def by_margin() -> NDArray[np.float32]:
    """Rows in the order of how clear their class is."""
    rows = np.random.default_rng(1).normal(size=(2000, 6)).astype(np.float32)
    ordered = np.sort(rows @ WEIGHTS)
    return rows[np.argsort(ordered[:, -1] - ordered[:, -2])]


class _Rows(ConverterContract):
    def rows(self) -> NDArray[np.float32]:
        return np.random.default_rng(1).random((150, 6), np.float32)


class TestPytorchOnnx(_Rows):
    template_id = "converter-pytorch-onnx"
    source_name = "model.pt"
    config = {"model_type": "PyTorch", "model_algorithm": "predict_analysis", "bottega": {"labels": ["a", "b", "c"]}}

    def model(self) -> bytes:
        layer = torch.nn.Linear(6, 3, bias=False)
        layer.weight.data = torch.from_numpy(WEIGHTS.T.copy())
        file, script = io.BytesIO(), torch.jit.script
        torch.jit.save(script(layer), file)
        return file.getvalue()


class TestOnnxInt8(_Rows):
    template_id = "converter-onnx-int8"
    source_name = "model.onnx"
    options = {"calibration_rows": 100}
    config = {"model_type": "ONNX"}

    def rows(self) -> NDArray[np.float32]:
        # Far from the borders between the classes, so that eight bits are enough for all of them.
        return by_margin()[-150:]

    def model(self) -> bytes:
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
            [numpy_helper.from_array(WEIGHTS, "w")],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(made.SerializeToString())


CONVERTERS = '''
import shutil

from pydantic import BaseModel

from bottega.hookspecs import hookimpl
from bottega_conversion.converters import Converter, OpenModel, Options


class Negated(Converter):
    """From a matrix to a matrix; in all but the numbers it writes as it should be."""

    id, name, description = "negated", "Negated", "The matrix with the other sign."
    source_framework = target_framework = model_type = "NumPy"
    source_suffixes, target_suffix, needs = (".npy",), ".npy", ("numpy",)

    def convert(self, source, target, options, config, calibration):
        import numpy

        numpy.save(target, -numpy.load(source))

    def open_source(self, path):
        import numpy

        weights = numpy.load(path)
        return OpenModel(lambda rows: [rows @ weights], (6,))

    open_target = open_source


class Untidy(Negated):
    def convert(self, source, target, options, config, calibration):
        shutil.copy(source, target)
        shutil.copy(source, target.with_name("left.npy"))


class Credulous(Negated):
    def convert(self, source, target, options, config, calibration):
        shutil.copy(source, target)


class Heavy(Negated):
    def __init__(self):
        import numpy


class Optimistic(Negated):
    def missing(self):
        return None


class Crowded(Negated):
    """An answer that depends on the other rows."""

    def open_source(self, path):
        import numpy

        weights = numpy.load(path)
        return OpenModel(lambda rows: [rows @ weights - (rows @ weights).mean(0)])


class Anything(Options, extra="allow"): ...


class Negligent(Negated):
    """Takes any option."""

    options = Anything


@hookimpl
def bottega_conversion_converters():
    return Negligent()
'''


class Matrix(_Rows):
    template_id = "negated"
    source_name = "model.npy"

    def model(self) -> bytes:
        file = io.BytesIO()
        np.save(file, WEIGHTS)
        return file.getvalue()


class Given(Matrix):
    """The contract over a converter that no platform has loaded."""

    def __init__(self, converter: Converter) -> None:
        self._converter = converter

    def converter(self, running: RunningPlatform) -> Converter:
        return self._converter


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the module of wrong converters, importable."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "wrong_converters.py").write_text(CONVERTERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    sys.modules.pop("wrong_converters", None)


@pytest.mark.parametrize(
    ("name", "test", "found"),
    [
        ("Untidy", "it_writes_the_target_and_nothing_else", "left beside the target"),
        ("Crowded", "it_writes_the_target_and_nothing_else", "depends on the rows"),
        ("Credulous", "what_is_no_model_is_refused_with_a_reason", "DID NOT RAISE"),
        ("Heavy", "a_worker_can_make_one_and_what_is_heavy_comes_late", "imported before"),
        ("Optimistic", "it_says_what_is_missing", "not installed"),
    ],
)
def test_a_wrong_converter_is_found(
    running: RunningPlatform, modules: Path, tmp_path: Path, name: str, test: str, found: str
) -> None:
    def perform(kind: str) -> None:
        function = getattr(Given(getattr(__import__("wrong_converters"), kind)()), f"test_{test}")
        function(running, *([tmp_path / kind] if "tmp_path" in function.__code__.co_varnames else []))

    for kind in ("Negated", name):
        (tmp_path / kind).mkdir()
    perform("Negated")
    with pytest.raises((AssertionError, pytest.fail.Exception), match=found):
        perform(name)


def test_an_option_taken_without_a_look_is_found(modules: Path) -> None:
    points = [point for point in entry_points(group="bottega") if point.name in ("conversion", "store-s3")]
    points.append(EntryPoint("wrong-converters", "wrong_converters", "bottega"))
    with RunningPlatform(modules / "data", plugins=lambda settings: Plugins(settings, points)) as platform:
        tenant = platform.tenant()
        Matrix().test_it_describes_itself(platform, tenant)
        with pytest.raises(AssertionError, match="no_such_option"):
            Matrix().test_an_unknown_option_is_refused(tenant, tenant.create_bucket())


class Unclear(TestOnnxInt8):
    """Rows on the borders between the classes, where eight bits are not enough."""

    def rows(self) -> NDArray[np.float32]:
        return by_margin()[:150]


def test_other_answers_are_found(tenant: Tenant, bucket: str) -> None:
    with pytest.raises(AssertionError, match="not accepted"):
        Unclear().test_a_task_gives_a_package_that_answers_as_before(tenant, bucket)
