"""The vendor's own client, unmodified, runs training jobs here (huaweicloudsdkmodelarts 3.1.219)."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
from huaweicloudsdkmodelarts.v1 import (
    BatchDeleteJobItem,
    BatchDeleteJobMetadata,
    BatchDeleteJobsReq,
    BatchDeleteTrainingJobRequest,
    ChangeTrainingJobDescriptionRequest,
    CreateTrainingJobRequest,
    DeleteTrainingJobRequest,
    Filter,
    Input,
    InputDataInfo,
    InputDataInfoObs,
    Job,
    JobActionType,
    JobAlgorithm,
    JobEngine,
    JobMetadata,
    JobSearches,
    JobUpdateRequestBody,
    ListTrainingJobEventsRequest,
    ListTrainingJobsRequest,
    ListTrainingJobStagesRequest,
    ListTrainingJobTasksRequest,
    LogExportPath,
    ModelArtsClient,
    Output,
    Parameters,
    Remote,
    RemoteObs,
    ShowTrainingJobDetailsRequest,
    ShowTrainingJobEnginesRequest,
    ShowTrainingJobFlavorsRequest,
    ShowTrainingJobLogsFromAomRequest,
    ShowTrainingJobLogsPreviewRequest,
    ShowTrainingJobMetricsRequest,
    Spec,
    SpecResource,
    StopTrainingJobRequest,
    ValidateTrainingJobNameRequest,
)

from bottega.testing import Tenant, wait_until

SCRIPT = """
import argparse, pathlib, time
parser = argparse.ArgumentParser()
parser.add_argument("--data_url", type=pathlib.Path)
parser.add_argument("--train_url", type=pathlib.Path)
parser.add_argument("--seconds", type=float)
options = parser.parse_args()
print("reading", (options.data_url / "a.txt").read_text(), flush=True)
time.sleep(options.seconds)
(options.train_url / "model.bin").write_bytes(b"model")
"""


@pytest.fixture
def official(tenant: Tenant) -> Any:
    credentials = BasicCredentials(tenant.access_key, tenant.secret_key, tenant.project_id)
    return ModelArtsClient.new_builder().with_credentials(credentials).with_endpoint(tenant.running.url).build()


def job(official: Any, bucket: str, name: str, seconds: float) -> Any:
    flavors = official.show_training_job_flavors(ShowTrainingJobFlavorsRequest(flavor_type="CPU")).flavors
    return Job(
        kind="job",
        metadata=JobMetadata(name=name, workspace_id="0", description="by the official client"),
        algorithm=JobAlgorithm(
            code_dir=f"/{bucket}/code/",
            boot_file=f"/{bucket}/code/train.py",
            engine=JobEngine(
                engine_name="Scikit_Learn",
                engine_version=f"Scikit_Learn-{version('scikit-learn')}-python3.11",
            ),
            parameters=[Parameters(name="seconds", value=str(seconds))],
            inputs=[Input(name="data_url", remote=InputDataInfo(obs=InputDataInfoObs(obs_url=f"/{bucket}/data/")))],
            outputs=[Output(name="train_url", remote=Remote(obs=RemoteObs(obs_url=f"/{bucket}/out/")))],
            environments={"COLOR": "blue"},
        ),
        spec=Spec(
            resource=SpecResource(flavor_id=flavors[0].flavor_id, node_count=1),
            log_export_path=LogExportPath(obs_url=f"/{bucket}/log/"),
        ),
    )


def test_a_job_from_creation_to_deletion(official: Any, tenant: Tenant, bucket: str) -> None:
    tenant.objects.put(f"s3://{bucket}/code/train.py", SCRIPT.encode())
    tenant.objects.put(f"s3://{bucket}/data/a.txt", b"the data")
    created = official.create_training_job(CreateTrainingJobRequest(body=job(official, bucket, "official-1", 1.5)))
    assert created.kind == "job"
    assert created.metadata.name == "official-1"
    assert created.metadata.description == "by the official client"
    assert created.metadata.create_time > 1_700_000_000_000
    assert created.status.phase == "Creating"
    ident = created.metadata.id

    def details() -> Any:
        return official.show_training_job_details(ShowTrainingJobDetailsRequest(training_job_id=ident))

    wait_until(lambda: details().status.phase == "Completed", 60)
    shown = details()
    assert shown.status.secondary_phase == "Completed"
    assert shown.status.duration >= 1500
    assert shown.status.tasks == ["worker-0"]
    assert shown.status.task_statuses[0].exit_code == 0
    assert shown.status.node_count_metrics[0][1] == 1
    assert shown.status.running_records[0].end_at >= shown.status.running_records[0].start_at
    assert shown.algorithm.parameters[0].value == "1.5"
    assert shown.algorithm.environments == [{"COLOR": "blue"}]
    assert shown.algorithm.inputs[0].remote.obs.obs_url.endswith(f"{bucket}/data/")
    assert shown.algorithm.engine.engine_name == "Scikit_Learn"
    assert shown.spec.resource.node_count == 1
    assert shown.spec.resource.flavor_detail.flavor_info.cpu.core_num >= 1
    assert tenant.objects.get(f"s3://{bucket}/out/model.bin") == b"model"

    preview = official.show_training_job_logs_preview(
        ShowTrainingJobLogsPreviewRequest(training_job_id=ident, task_id="worker-0")
    )
    assert preview.content == "reading the data\n"
    assert preview.current_size == preview.full_size == len(preview.content)
    lines = official.show_training_job_logs_from_aom(
        ShowTrainingJobLogsFromAomRequest(training_job_id=ident, task_id="worker-0", lines=10, order="asc")
    )
    assert (lines.content, lines.lines, lines.start_line, lines.end_line) == ("reading the data", 1, "0", "1")
    metrics = official.show_training_job_metrics(
        ShowTrainingJobMetricsRequest(training_job_id=ident, task_id="worker-0")
    ).metrics
    assert {"cpuUsage", "memUsage"} <= {m.metric for m in metrics}
    assert metrics[0].value[0] >= 0
    happened = official.list_training_job_events(ListTrainingJobEventsRequest(training_job_id=ident, order="asc"))
    assert happened.total == len(happened.events) >= 4
    assert happened.events[-1].message == "completed"
    stages = official.list_training_job_stages(ListTrainingJobStagesRequest(training_job_id=ident))
    assert [s.name for s in stages.running_records[0].stages] == ["scheduling", "preparing", "running", "end"]
    tasks = official.list_training_job_tasks(ListTrainingJobTasksRequest(training_job_id=ident))
    assert tasks.body[0].task == "worker-0"

    official.change_training_job_description(
        ChangeTrainingJobDescriptionRequest(training_job_id=ident, body=JobUpdateRequestBody(description="changed"))
    )
    assert details().metadata.description == "changed"
    taken = official.validate_training_job_name(ValidateTrainingJobNameRequest(job_name="official-1"))
    assert taken.is_duplicate is True
    official.delete_training_job(DeleteTrainingJobRequest(training_job_id=ident))
    with pytest.raises(ClientRequestException) as gone:
        details()
    assert gone.value.status_code == 404
    assert gone.value.error_code == "ModelArts.0104"
    assert gone.value.request_id


def test_search_stop_and_batch_deletion(official: Any, tenant: Tenant, bucket: str) -> None:
    tenant.objects.put(f"s3://{bucket}/code/train.py", SCRIPT.encode())
    tenant.objects.put(f"s3://{bucket}/data/a.txt", b"x")
    ids = [
        official.create_training_job(CreateTrainingJobRequest(body=job(official, bucket, f"s-{n}", 300))).metadata.id
        for n in range(2)
    ]
    name_filter = Filter(key="name", operator="like", value=["s-"])
    search = JobSearches(offset=0, limit=1, sort_by="create_time", order="asc", filters=[name_filter])
    found = official.list_training_jobs(ListTrainingJobsRequest(body=search))
    assert (found.total, found.count, found.limit, len(found.items)) == (2, 2, 1, 1)
    assert found.items[0].metadata.id == ids[0]

    def phase(ident: str) -> str:
        shown = official.show_training_job_details(ShowTrainingJobDetailsRequest(training_job_id=ident))
        return str(shown.status.phase)

    for ident in ids:
        request = StopTrainingJobRequest(training_job_id=ident, body=JobActionType(action_type="terminate"))
        assert official.stop_training_job(request).status.phase in ("Terminating", "Terminated")
    wait_until(lambda: {phase(ident) for ident in ids} == {"Terminated"}, 60)
    items = [BatchDeleteJobItem(kind="job", metadata=BatchDeleteJobMetadata(id=ident)) for ident in ids]
    official.batch_delete_training_job(BatchDeleteTrainingJobRequest(body=BatchDeleteJobsReq(jobs=items)))
    assert official.list_training_jobs(ListTrainingJobsRequest(body=JobSearches())).total == 0


def test_engines_and_flavors(official: Any) -> None:
    engines = official.show_training_job_engines(ShowTrainingJobEnginesRequest())
    assert engines.total == len(engines.items)
    assert {"PyTorch", "Scikit_Learn"} <= {e.engine_name for e in engines.items}
    flavors = official.show_training_job_flavors(ShowTrainingJobFlavorsRequest())
    assert flavors.total_count == len(flavors.flavors) > 0
    assert flavors.flavors[0].flavor_info.memory.size > 0


def test_mistakes_come_back_as_the_clients_errors(official: Any, tenant: Tenant, bucket: str) -> None:
    with pytest.raises(ClientRequestException) as wrong:
        official.create_training_job(CreateTrainingJobRequest(body=job(official, bucket, "no code", 1)))
    assert wrong.value.status_code == 400
    assert wrong.value.error_code == "ModelArts.0101"
    assert "metadata.name" in wrong.value.error_msg
