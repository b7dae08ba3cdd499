"""What the tests of training jobs share: scripts in object storage and jobs made of them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import bottega_training
from bottega.testing import Tenant, wait_until

EXAMPLES = Path(bottega_training.__file__).parent / "examples"
FINAL = ("Completed", "Failed", "Terminated", "Abnormal")


class Trainer:
    """Submits jobs of one tenant, with their code and outputs in one bucket."""

    def __init__(self, tenant: Tenant, bucket: str) -> None:
        self.tenant = tenant
        self.bucket = bucket
        self.pytorch = f"pytorch-{version('torch').partition('+')[0]}-python3.11"
        self.scikit_learn = f"scikit_learn-{version('scikit-learn')}-python3.11"
        flavors = tenant.client.get("/v2/{project_id}/training-job-flavors")["flavors"]
        self.flavor: str = next(f["flavor_id"] for f in flavors if f["flavor_type"] == "CPU")

    def upload(self, script: str, name: str = "train.py", folder: str = "code") -> None:
        self.tenant.objects.put(f"s3://{self.bucket}/{folder}/{name}", script.encode())

    def upload_example(self, name: str) -> None:
        self.upload((EXAMPLES / name / "train.py").read_text("utf-8"))

    def request(
        self,
        name: str | None = None,
        *,
        parameters: Mapping[str, str | None] | None = None,
        inputs: list[dict[str, Any]] | None = None,
        outputs: list[dict[str, Any]] | None = None,
        **algorithm: Any,
    ) -> dict[str, Any]:
        """A request for the code folder's train.py on scikit-learn that writes to ``out/``."""
        train_url = {"name": "train_url", "remote": {"obs": {"obs_url": f"/{self.bucket}/out/"}}}
        return {
            "kind": "job",
            "metadata": {"name": name or f"job-{uuid.uuid4().hex[:8]}"},
            "algorithm": {
                "engine": {"engine_id": self.scikit_learn},
                "code_dir": f"/{self.bucket}/code/",
                "boot_file": f"/{self.bucket}/code/train.py",
                "parameters": [{"name": k, "value": v} for k, v in (parameters or {}).items()],
                "inputs": inputs or [],
                "outputs": [train_url] if outputs is None else outputs,
                **algorithm,
            },
            "spec": {
                "resource": {"flavor_id": self.flavor, "node_count": 1},
                "log_export_path": {"obs_url": f"/{self.bucket}/log/"},
            },
        }

    def submit(self, request: dict[str, Any]) -> str:
        """Returns the job's id."""
        return str(self.tenant.client.post("/v2/{project_id}/training-jobs", request)["metadata"]["id"])

    def get(self, job_id: str, what: str = "", **query: Any) -> Any:
        return self.tenant.client.get(f"/v2/{{project_id}}/training-jobs/{job_id}{what}", query)

    def log(self, job_id: str) -> str:
        return str(self.get(job_id, "/tasks/worker-0/logs/preview")["content"])

    def ended(self, job_id: str, timeout: float = 120) -> dict[str, Any]:
        """The job once it has ended."""

        def final() -> dict[str, Any] | None:
            job: dict[str, Any] = self.get(job_id)
            return job if job["status"]["phase"] in FINAL else None

        job = wait_until(final, timeout)
        assert job is not None
        return job

    def reached(self, job_id: str, phase: str, timeout: float = 60) -> None:
        wait_until(lambda: self.get(job_id)["status"]["phase"] == phase, timeout)

    def run(self, script: str, **request: Any) -> dict[str, Any]:
        """Upload `script`, run it as a job and return the job when it has ended."""
        self.upload(script)
        return self.ended(self.submit(self.request(**request)))


@pytest.fixture
def trainer(tenant: Tenant, bucket: str) -> Trainer:
    return Trainer(tenant, bucket)
