"""Scripts written for scikit-learn."""

from __future__ import annotations

from bottega.hookspecs import hookimpl
from bottega_training.engines import Engine, Plan, PythonEngine, Script


class ScikitLearnEngine(PythonEngine):
    """Lets joblib start no more workers than the flavor has cores."""

    def plan(self, script: Script) -> Plan:
        plain = super().plan(script)
        return Plan(plain.command, {**plain.environment, "LOKY_MAX_CPU_COUNT": str(max(1, int(script.cpus)))})


@hookimpl
def bottega_training_engines() -> list[Engine]:
    return [ScikitLearnEngine("Scikit_Learn", "scikit-learn", "training")]
