"""What every training engine must do. Subclass it in your tests::

class TestXGBoost(EngineContract):
    engine_name = "XGBoost"
    uses = "import xgboost; version = xgboost.__version__"
"""

from __future__ import annotations

import json
import re
import time
from typing import Any, ClassVar

from bottega.testing.running import RunningPlatform, Tenant, wait_until
from bottega_training.engines import Engine, Script

_JOBS = "/v2/{project_id}/training-jobs"
_FINAL = ("Completed", "Failed", "Terminated", "Abnormal")
_PLATFORMS_OWN = ("DLS_", "BATCH_", "BOTTEGA_")


class EngineContract:
    """Tests of `Engine`, on the platform of the ``running`` fixture, where its plugin must be on.

    `uses` are statements of a script that work with the framework and put its version into ``version``.
    """

    engine_name: str
    uses: str
    timeout_s: float = 120
    arguments: ClassVar[dict[str, str]] = {"rate": "0.1", "text": 'it\'s a "b"  $HOME *', "filter": '{"a": [1]}'}
    """Hyperparameters of the test's jobs: whatever they hold must reach the script as it is."""

    def engine(self, running: RunningPlatform) -> Engine:
        brought = running.platform("training").extensions("bottega_training_engines")
        (found,) = (engine for some in brought for engine in some if engine.name == self.engine_name)
        assert isinstance(found.id, str)
        return found  # type: ignore[no-any-return]  # pluggy's results have no types

    def run(self, tenant: Tenant, bucket: str, script: str) -> dict[str, Any]:
        """Run a script as a job of this engine and return the job when it has ended."""
        tenant.objects.put(f"s3://{bucket}/code/train.py", script.encode())
        flavors = tenant.client.get("/v2/{project_id}/training-job-flavors", {"flavor_type": "CPU"})["flavors"]
        algorithm = {
            "engine": {"engine_id": self.engine(tenant.running).id},
            "code_dir": f"/{bucket}/code/",
            "boot_file": f"/{bucket}/code/train.py",
            "parameters": [{"name": name, "value": value} for name, value in self.arguments.items()],
            "outputs": [{"name": "train_url", "remote": {"obs": {"obs_url": f"/{bucket}/out/"}}}],
        }
        resource = {"flavor_id": flavors[0]["flavor_id"], "node_count": 1}
        job = {"kind": "job", "metadata": {"name": "probe"}, "algorithm": algorithm, "spec": {"resource": resource}}
        path = f"{_JOBS}/{tenant.client.post(_JOBS, job)['metadata']['id']}"

        def ended() -> dict[str, Any] | None:
            shown: dict[str, Any] = tenant.client.get(path)
            return shown if shown["status"]["phase"] in _FINAL else None

        shown = wait_until(ended, self.timeout_s)
        assert shown is not None
        return {**shown, "log": tenant.client.get(f"{path}/tasks/worker-0/logs/preview")["content"]}

    def test_it_describes_itself(self, running: RunningPlatform, tenant: Tenant) -> None:
        engine = self.engine(running)
        assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", engine.id), f"id '{engine.id}': lower case, digits, '.', '_', '-'"
        assert engine.version.startswith(f"{engine.name}-"), f"version '{engine.version}' begins with the name"
        listed = tenant.client.get("/v2/{project_id}/training-job-engines")["items"]
        (shown,) = (item for item in listed if item["engine_id"] == engine.id)
        assert (shown["engine_name"], shown["engine_version"]) == (engine.name, engine.version)
        assert isinstance(engine.missing, str), "missing is a text, empty when nothing is"
        assert (shown["installed"], shown["reason"]) == (not engine.missing, engine.missing)

    def test_a_plan_runs_the_script_with_its_arguments_and_does_nothing_else(self, running: RunningPlatform) -> None:
        arguments = [f"--{name}={value}" for name, value in self.arguments.items()]
        script = Script("code/train.py", arguments, node_count=1, cpus=0.5, gpus=0)
        began = time.perf_counter()
        plan = self.engine(running).plan(script)
        assert time.perf_counter() - began < 0.1, "a plan is quick"
        assert [part for part in plan.command if not isinstance(part, str) or not part] == []
        assert any(script.boot_file in part for part in plan.command), "the plan does not run the boot file"
        assert [part for part in plan.command if part in arguments] == arguments, "each argument as it is, in order"
        assert [v for pair in plan.environment.items() for v in pair if not isinstance(v, str)] == []
        assert [name for name in plan.environment if name.startswith(_PLATFORMS_OWN)] == [], (
            f"variables that begin with {', '.join(_PLATFORMS_OWN)} are the platform's"
        )
        assert self.engine(running).plan(script) == plan, "a plan depends on nothing but the script"

    def test_a_script_uses_the_framework_and_gets_its_arguments(self, tenant: Tenant, bucket: str) -> None:
        code = (
            f"{self.uses}\nimport argparse, json, pathlib, sys\nparser = argparse.ArgumentParser()\n"
            f"for name in {[*self.arguments, 'train_url']!r}: parser.add_argument('--' + name, required=True)\n"
            "given = vars(parser.parse_args())\nout = pathlib.Path(given.pop('train_url'))\n"
            "(out / 'given.json').write_text(json.dumps({'given': given, 'version': version}))\n"
        )
        job = self.run(tenant, bucket, code)
        assert job["status"]["phase"] == "Completed", job["log"]
        told = json.loads(tenant.objects.get(f"s3://{bucket}/out/given.json"))
        assert told["given"] == self.arguments
        version = self.engine(tenant.running).version
        assert told["version"].partition("+")[0] in version, f"the script found {told['version']}, not {version}"

    def test_a_scripts_failure_is_the_jobs(self, tenant: Tenant, bucket: str) -> None:
        job = self.run(tenant, bucket, "print('about to fail')\nraise SystemExit(3)\n")
        assert (job["status"]["phase"], job["status"]["task_statuses"][0]["exit_code"]) == ("Failed", 3)
        assert "about to fail" in job["log"]
