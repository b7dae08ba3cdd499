"""The first-party engines keep their contract, and the contract finds who does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points

import pytest

from bottega.plugins import Plugins
from bottega.testing import RunningPlatform
from bottega_training.conformance import EngineContract


class TestPyTorch(EngineContract):
    engine_name = "PyTorch"
    uses = "import torch; assert (torch.eye(2) @ torch.eye(2)).sum() == 2; version = torch.__version__"


class TestScikitLearn(EngineContract):
    engine_name = "Scikit_Learn"
    uses = (
        "import sklearn, sklearn.dummy; version = sklearn.__version__\n"
        "assert sklearn.dummy.DummyClassifier().fit([[0]], ['a']).predict([[1]]) == ['a']"
    )


WRONG = '''
import itertools

from bottega.hookspecs import hookimpl
from bottega_training.engines import Plan, PythonEngine


class Shell(PythonEngine):
    """Loses what a shell finds special, and every exit code."""

    def plan(self, script):
        return Plan(["sh", "-c", f"'{{python}}' {script.boot_file} {' '.join(script.arguments)}; true"])


class Nosy(PythonEngine):
    def plan(self, script):
        return Plan(super().plan(script).command, {"DLS_TASK_INDEX": "1"})


class Moody(PythonEngine):
    count = itertools.count()

    def plan(self, script):
        return Plan(super().plan(script).command, {"SEED": str(next(self.count))})


class Other(PythonEngine):
    """Says one version and runs another."""

    def __init__(self, name, package, extra):
        super().__init__(name, package, extra)
        self.version, self.id = f"{name}-0.0.1", f"{name} 0.0.1"


@hookimpl
def bottega_training_engines():
    return [kind(kind.__name__, "pydantic", "all") for kind in (Shell, Nosy, Moody, Other)]
'''


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform with engines that break one rule each."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "wrong_engines.py").write_text(WRONG)
    wanted = ("training", "backend-local", "store-s3")
    found = [point for point in entry_points(group="bottega") if point.name in wanted]
    found.append(EntryPoint("wrong-engines", "wrong_engines", "bottega"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with RunningPlatform(folder / "data", plugins=lambda settings: Plugins(settings, found)) as running:
            assert running.runtime.plugins.all["wrong-engines"].state == "on"
            yield running
    del sys.modules["wrong_engines"]


def contract(name: str) -> EngineContract:
    made = EngineContract()
    made.engine_name, made.uses = name, "import pydantic; version = pydantic.VERSION"
    return made


@pytest.mark.parametrize(
    ("name", "found"),
    [("Shell", "each argument as it is"), ("Nosy", "are the platform's"), ("Moody", "nothing but the script")],
)
def test_a_wrong_plan_is_found(wrong: RunningPlatform, name: str, found: str) -> None:
    with pytest.raises(AssertionError, match=found):
        contract(name).test_a_plan_runs_the_script_with_its_arguments_and_does_nothing_else(wrong)


def test_a_wrong_description_is_found(wrong: RunningPlatform) -> None:
    with pytest.raises(AssertionError, match=r"id 'Other 0\.0\.1'"):
        contract("Other").test_it_describes_itself(wrong, wrong.tenant())


def test_another_version_is_found(wrong: RunningPlatform) -> None:
    tenant = wrong.tenant()
    with pytest.raises(AssertionError, match=r"not Other-0\.0\.1"):
        contract("Other").test_a_script_uses_the_framework_and_gets_its_arguments(tenant, tenant.create_bucket())


def test_a_lost_exit_code_is_found(wrong: RunningPlatform) -> None:
    tenant = wrong.tenant()
    with pytest.raises(AssertionError):
        contract("Shell").test_a_scripts_failure_is_the_jobs(tenant, tenant.create_bucket())
