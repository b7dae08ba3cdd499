"""The first-party runtimes keep their contract, and the contract finds who does not."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import torch

from bottega.plugins import Plugins
from bottega.testing import RunningPlatform
from bottega_serving.conformance import RuntimeContract
from bottega_serving.runtimes import Runtime


class TestOnnx(RuntimeContract):
    model_type = "ONNX"
    rows, answers = [[1.0], [2.5], [-3.0]], [[2.0], [5.0], [-6.0]]

    @pytest.fixture(autouse=True)
    def _package(self, linear_package: dict[str, Any]) -> None:
        self._onnx = linear_package["model.onnx"]

    def model(self) -> Mapping[str, bytes]:
        return {"model.onnx": self._onnx}


class Double(torch.nn.Module):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return input * 2


class TestPytorchScript(RuntimeContract):
    model_type = "PyTorch"
    rows, answers = [[1.0, 0.5], [2.5, -1.0]], [[2.0, 1.0], [5.0, -2.0]]

    def model(self) -> Mapping[str, bytes]:
        file, script = io.BytesIO(), torch.jit.script
        torch.jit.save(script(Double()), file)
        return {"model.pt": file.getvalue()}


class Export(TestPytorchScript):
    def model(self) -> Mapping[str, bytes]:
        file, rows = io.BytesIO(), torch.export.Dim("rows")
        program = torch.export.export(Double(), (torch.zeros(2, 2),), dynamic_shapes={"input": {0: rows}})
        torch.export.save(program, file)
        return {"model.pt2": file.getvalue()}


def test_an_exported_program_gives_each_row_its_answer(running: RunningPlatform, tmp_path: Path) -> None:
    Export().test_a_session_gives_each_row_its_answer(running, tmp_path)


def test_what_is_no_exported_program_is_said(running: RunningPlatform, tmp_path: Path) -> None:
    Export().test_what_cannot_be_loaded_is_said(running, tmp_path)


PLUGIN = """
from bottega.hookspecs import hookimpl
from bottega_serving.runtimes import Runtime


@hookimpl
def bottega_serving_runtimes():
    import wrong_session
    return Runtime("wrong", ("XGBoost",), ("w",), "wrong_session:absent", versions=("wrong",))
"""

SESSIONS = '''
import numpy

from bottega_serving.inference.session import Field, LoadFailure


class Doubles:
    """As it should be."""

    inputs, batches = (Field("input", "float32", (None, 2)),), True

    def run(self, arrays):
        return {"output": arrays["input"] * 2}


class Mixes(Doubles):
    def run(self, arrays):
        return {"output": arrays["input"] * len(arrays["input"])}


class Overwrites(Doubles):
    def run(self, arrays):
        rows = arrays["input"]
        rows *= 2
        return {"output": rows}


class Shares(Doubles):
    """Keeps one request's rows where the next one's go."""

    def run(self, arrays):
        import time

        self.rows = arrays["input"]
        time.sleep(0.01)
        rows, self.rows = self.rows, None
        return {"output": rows * 2}


def loader(kind):
    def load(files, config):
        for file in files.iterdir():
            if file.read_bytes() == b"a model":
                return kind()
            raise LoadFailure(f"{file.name} is no model")
        raise LoadFailure("there is no model")

    return load


doubles, mixes, overwrites, shares = map(loader, (Doubles, Mixes, Overwrites, Shares))


def takes_anything(files, config):
    return Doubles()


def raises(files, config):
    raise KeyError(next(iter(files.iterdir()), "nothing"))
'''


class Own(RuntimeContract):
    """The contract over a loader that no platform has."""

    model_type = "XGBoost"
    rows, answers = [[1.0, 0.5], [2.5, -1.0]], [[2.0, 1.0], [5.0, -2.0]]
    loader = ""

    def model(self) -> Mapping[str, bytes]:
        return {"model.w": b"a model"}

    def runtime(self, running: RunningPlatform) -> Runtime:
        if not self.loader:
            return super().runtime(running)
        return Runtime("wrong", ("XGBoost",), (".w",), f"wrong_session:{self.loader}")


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the modules of a wrong plugin, importable."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "wrong_runtime.py").write_text(PLUGIN)
    (folder / "wrong_session.py").write_text(SESSIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield folder
    for name in ("wrong_runtime", "wrong_session"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("loader", "test", "found"),
    [
        ("mixes", "a_session_gives_each_row_its_answer", "the answers are others"),
        ("overwrites", "a_session_gives_each_row_its_answer", "changed what it was given"),
        ("shares", "a_session_gives_each_row_its_answer", "NoneType"),
        ("takes_anything", "what_cannot_be_loaded_is_said", "DID NOT RAISE"),
        ("raises", "what_cannot_be_loaded_is_said", "nothing"),
    ],
)
def test_a_wrong_session_is_found(
    running: RunningPlatform, modules: Path, tmp_path: Path, loader: str, test: str, found: str
) -> None:
    contract = Own()
    contract.loader = "doubles"
    (tmp_path / "right").mkdir()
    getattr(contract, f"test_{test}")(running, tmp_path / "right")
    contract.loader = loader
    (tmp_path / "wrong").mkdir()
    with pytest.raises((AssertionError, pytest.fail.Exception, KeyError, TypeError), match=found):
        getattr(contract, f"test_{test}")(running, tmp_path / "wrong")


def test_a_wrong_runtime_is_found(modules: Path) -> None:
    names = ("serving", "backend-local", "store-s3")
    points = [point for point in entry_points(group="bottega") if point.name in names]
    points.append(EntryPoint("wrong-runtime", "wrong_runtime", "bottega"))
    contract = Own()
    with RunningPlatform(modules / "data", plugins=lambda settings: Plugins(settings, points)) as platform:
        tenant = platform.tenant()
        with pytest.raises(AssertionError, match="with their dot"):
            contract.test_it_describes_itself(platform, tenant)
        with pytest.raises(AssertionError, match="when it is only described"):
            contract.test_its_loader_is_imported_only_where_models_are_loaded(platform)
        with pytest.raises(AssertionError, match="wrong_session"):
            contract.test_a_service_answers(tenant, tenant.create_bucket())
        other = platform.tenant()
        with pytest.raises(AssertionError, match="names no file"):
            contract.test_a_service_of_what_cannot_be_loaded_says_why(other, other.create_bucket())
