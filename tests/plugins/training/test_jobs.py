"""Training jobs through HTTP, on real processes: what a script gets, what becomes of what it writes."""

from __future__ import annotations

import io
import json
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure
from bottega.entities import LineageEdge, Resource
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega.testing.running import RecordedEvents

ECHO = """
import json, os, sys
from pathlib import Path
arguments = dict(a.lstrip("-").split("=", 1) if "=" in a else (a.lstrip("-"), None) for a in sys.argv[1:])
told = {k: v for k, v in os.environ.items() if k.startswith(("DLS_", "BATCH_", "MA_", "MY_", "other"))}
files = sorted(str(p.relative_to(".")) for p in Path(".").rglob("*") if p.is_file())
out = Path(arguments["train_url"])
found = {"arguments": arguments, "environment": told, "files": files, "here": os.getcwd()}
(out / "seen.json").write_text(json.dumps(found))
print("hello from the script")
"""


def seen(trainer: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(trainer.tenant.objects.get(f"s3://{trainer.bucket}/out/seen.json"))
    return found


def test_script_gets_its_code_inputs_hyperparameters_and_variables(trainer: Any) -> None:
    b = trainer.bucket
    trainer.tenant.objects.put_many(
        {f"s3://{b}/data/a.csv": b"1", f"s3://{b}/data/deep/b.csv": b"2", f"s3://{b}/one.bin": b"3"}
    )
    trainer.upload("import nothing", "lib/helper.py")
    job = trainer.run(
        ECHO,
        name="echo-1",
        parameters={"epochs": "3", "name": "a b=c", "flag": None, "braces": '{"x": {}}'},
        inputs=[
            {"name": "data_url", "remote": {"obs": {"obs_url": f"/{b}/data/"}}},
            {"name": "other", "access_method": "env", "remote": {"obs": {"obs_url": f"obs://{b}/one.bin"}}},
        ],
        environments={"MY_COLOR": "grün"},
    )
    assert job["status"]["phase"] == "Completed", job["status"]
    told = seen(trainer)
    here, arguments, environment = told["here"], told["arguments"], told["environment"]
    assert arguments["epochs"] == "3"
    assert arguments["name"] == "a b=c"
    assert arguments["flag"] is None
    assert arguments["braces"] == '{"x": {}}'
    assert arguments["data_url"] == f"{here}/modelarts/inputs/data_url_0/"
    assert arguments["train_url"] == f"{here}/modelarts/outputs/train_url_0/"
    assert "other" not in arguments
    assert environment["other"] == f"{here}/modelarts/inputs/other_1/one.bin"
    assert environment["MY_COLOR"] == "grün"
    assert environment["DLS_TASK_INDEX"] == "0"
    assert environment["DLS_TASK_NUMBER"] == "1"
    assert environment["DLS_APP_URL"] == f"s3://{b}/code/"
    assert environment["DLS_DATA_URL"] == f"s3://{b}/data/"
    assert environment["DLS_TRAIN_URL"] == f"s3://{b}/out/"
    assert environment["BATCH_echo-1.0_HOSTS"].startswith("127.0.0.1:")
    assert {
        "code/train.py",
        "code/lib/helper.py",
        "modelarts/inputs/data_url_0/a.csv",
        "modelarts/inputs/data_url_0/deep/b.csv",
        "modelarts/inputs/other_1/one.bin",
    } <= set(told["files"])


def test_local_folders_can_be_chosen_as_on_the_vendors_platform(trainer: Any) -> None:
    out = {
        "name": "train_url",
        "local_dir": "/home/ma-user/result",
        "remote": {"obs": {"obs_url": f"/{trainer.bucket}/out/"}},
    }
    assert trainer.run(ECHO, outputs=[out])["status"]["phase"] == "Completed"
    assert seen(trainer)["arguments"]["train_url"] == f"{seen(trainer)['here']}/result/"


def test_completed_job_tells_everyone_and_leaves_log_usage_events_and_lineage(
    trainer: Any, tenant: Tenant, events: RecordedEvents, running: RunningPlatform
) -> None:
    trainer.tenant.objects.put(f"s3://{trainer.bucket}/data/a.csv", b"1")
    data = {"name": "data_url", "remote": {"obs": {"obs_url": f"/{trainer.bucket}/data/"}}}
    job = trainer.run(ECHO + "import time; time.sleep(2.5)\n", name="told", inputs=[data])
    job_id = job["metadata"]["id"]
    assert job["metadata"]["name"] == "told"
    assert job["metadata"]["user_name"] == tenant.name
    status = job["status"]
    assert (status["phase"], status["secondary_phase"]) == ("Completed", "Completed")
    assert status["duration"] >= 2500
    assert status["task_statuses"] == [{"task": "worker-0", "exit_code": 0, "message": ""}]
    assert job["algorithm"]["outputs"][0]["remote"]["obs"]["obs_url"] == f"s3://{trainer.bucket}/out/"

    told = events.wait("training.job.completed.v1", job_id=job_id)
    assert told.data["train_url"] == f"s3://{trainer.bucket}/out/"
    assert told.data["outputs"] == {"train_url": f"s3://{trainer.bucket}/out/"}
    kinds = [e.type for e in events.all() if e.data.get("job_id") == job_id]
    assert kinds == ["training.job.submitted.v1", "training.job.started.v1", "training.job.completed.v1"]

    assert "hello from the script" in trainer.log(job_id)
    url = trainer.get(job_id, "/tasks/worker-0/logs/url")["obs_url"]
    assert "hello from the script" in httpx.get(url, trust_env=False).text
    lines = trainer.get(job_id, "/logs/worker-0", lines=1)
    assert lines["content"] == "hello from the script"
    metrics = {m["metric"]: m["value"] for m in trainer.get(job_id, "/metrics/worker-0")["metrics"]}
    assert metrics["memUsage"][0] > 0
    notes = trainer.get(job_id, "/events", order="asc")
    assert [n["message"] for n in notes["events"]][-2:] == ["the process runs", "completed"]
    stages = trainer.get(job_id, "/stages")["running_records"][0]["stages"]
    assert [s["name"] for s in stages] == ["scheduling", "preparing", "running", "end"]
    assert trainer.get(job_id, "/tasks") == [{"task": "worker-0", "ip": "", "host_ip": "", "schedule_count": 1}]

    async def edges() -> set[tuple[str, str, str]]:
        urn = f"bottega:training:{tenant.project_id}:job/{job_id}"
        async with running.platform("training").database.read() as session:
            from sqlmodel import or_, select

            query = select(LineageEdge).where(or_(LineageEdge.source == urn, LineageEdge.target == urn))
            return {(e.target, e.relation, e.source) for e in (await session.exec(query)).all()}

    urn = f"bottega:training:{tenant.project_id}:job/{job_id}"
    assert running.run(edges()) == {
        (urn, "code from", f"s3://{trainer.bucket}/code/"),
        (urn, "trained on", f"s3://{trainer.bucket}/data/"),
        (f"s3://{trainer.bucket}/out/", "written by", urn),
    }


def test_failing_script_gives_its_reason_and_its_outputs(trainer: Any, events: RecordedEvents) -> None:
    job = trainer.run(ECHO + "sys.exit('the data is not what I expected')\n")
    status = job["status"]
    assert status["phase"] == "Failed"
    assert status["task_statuses"][0]["exit_code"] == 1
    assert "the data is not what I expected" in status["task_statuses"][0]["message"]
    assert seen(trainer)["arguments"]
    told = events.wait("training.job.failed.v1", job_id=job["metadata"]["id"])
    assert "the data is not what I expected" in told.data["reason"]
    notes = trainer.get(job["metadata"]["id"], "/events", level="Error")
    assert notes["total"] == 1


def test_outputs_and_log_have_a_place_when_none_is_named(trainer: Any) -> None:
    trainer.upload("import os; open(os.environ['train_url'] + 'x.txt', 'w').write('x'); print('done')")
    request = trainer.request(name="placeless", outputs=[])
    del request["spec"]["log_export_path"]
    job = trainer.ended(trainer.submit(request))
    assert job["status"]["phase"] == "Completed", job["status"]
    home = f"s3://{trainer.bucket}/training-jobs/placeless-{job['metadata']['id'][:8]}/"
    stored = trainer.tenant.objects.list(home)
    log = f"{home}log/modelarts-job-{job['metadata']['id']}-worker-0.log"
    assert stored == [log, f"{home}output/x.txt"]
    assert trainer.tenant.objects.get(log) == b"done\n"


def test_log_and_scalars_are_there_while_the_job_runs_and_a_stop_ends_it(trainer: Any, events: RecordedEvents) -> None:
    trainer.upload(
        "import sys, time\n"
        "out = sys.argv[1].partition('=')[2]\n"
        "with open(out + 'metrics.jsonl', 'w', buffering=1) as scalars:\n"
        "    for step in range(1000):\n"
        "        print('step', step)\n"
        '        print(\'{"step": %d, "loss": %f}\' % (step, 1 / (1 + step)), file=scalars)\n'
        "        time.sleep(0.1)\n"
    )
    job_id = trainer.submit(trainer.request())
    trainer.reached(job_id, "Running")
    wait_until(lambda: "step 3" in trainer.log(job_id))
    part = trainer.get(job_id, "/tasks/worker-0/logs/preview", offset=0)
    assert not part["complete"]
    rest = wait_until(
        lambda: trainer.get(job_id, "/tasks/worker-0/logs/preview", offset=part["next_offset"])["content"]
    )
    assert rest.startswith(f"step {part['content'].count('step')}\n")
    scalars = wait_until(lambda: trainer.get(job_id, "/scalars")["scalars"])
    assert scalars[0]["name"] == "loss"
    assert scalars[0]["points"][0] == [0, 1.0]
    assert wait_until(lambda: trainer.get(job_id, "/metrics/worker-0")["metrics"])

    stopped = trainer.tenant.client.post(
        f"/v2/{{project_id}}/training-jobs/{job_id}/actions", {"action_type": "terminate"}
    )
    assert stopped["status"]["phase"] == "Terminating"
    job = trainer.ended(job_id)
    assert (job["status"]["phase"], job["status"]["secondary_phase"]) == ("Terminated", "Terminated")
    events.wait("training.job.stopped.v1", job_id=job_id)
    with pytest.raises(ApiFailure, match="has ended"):
        trainer.tenant.client.post(f"/v2/{{project_id}}/training-jobs/{job_id}/actions", {"action_type": "terminate"})
    assert [e.type for e in events.all("training.job.>")].count("training.job.stopped.v1") == 1


def test_deleting_a_running_job_ends_it_and_frees_its_name(trainer: Any, events: RecordedEvents) -> None:
    trainer.upload("import time; time.sleep(600)")
    job_id = trainer.submit(trainer.request(name="short-lived"))
    trainer.reached(job_id, "Running")
    trainer.tenant.client.delete(f"/v2/{{project_id}}/training-jobs/{job_id}")
    with pytest.raises(ApiFailure) as refused:
        trainer.get(job_id)
    assert refused.value.status == 404
    events.wait("training.job.stopped.v1", job_id=job_id)
    trainer.upload("print(1)")
    again = trainer.ended(trainer.submit(trainer.request(name="short-lived")))
    assert again["status"]["phase"] == "Completed"
    trainer.tenant.client.post(
        "/v2/{project_id}/training-jobs/batch-delete",
        {"jobs": [{"kind": "job", "metadata": {"id": again["metadata"]["id"]}}]},
    )
    assert trainer.tenant.client.get("/v2/{project_id}/training-jobs")["items"] == []


def test_jobs_are_listed_filtered_and_described(trainer: Any) -> None:
    trainer.upload("print(1)")
    names = ["alpha-1", "alpha-2", "beta_1"]
    ids = [trainer.submit(trainer.request(name=n)) for n in names]
    for job_id in ids:
        trainer.ended(job_id)
    client = trainer.tenant.client
    path = f"/v2/{{project_id}}/training-jobs/{ids[0]}"
    client.put(path, {"description": "the first"})
    assert trainer.get(ids[0])["metadata"]["description"] == "the first"
    page = client.get("/v2/{project_id}/training-jobs", {"limit": 2})
    assert [j["metadata"]["name"] for j in page["items"]] == ["beta_1", "alpha-2"]
    assert (page["total"], page["count"]) == (3, 3)
    search = {
        "filters": [{"key": "name", "operator": "like", "value": ["alpha"]}],
        "order": "asc",
        "limit": 1,
        "offset": 1,
    }
    found = client.post("/v2/{project_id}/training-job-searches", search)
    assert [j["metadata"]["name"] for j in found["items"]] == ["alpha-2"]
    assert (found["total"], found["count"]) == (3, 2)
    running = {"filters": [{"key": "phase", "operator": "not", "value": ["Completed"]}]}
    assert client.post("/v2/{project_id}/training-job-searches", running)["count"] == 0
    assert client.get("/v2/{project_id}/training-job-names", {"job_name": "alpha-1"}) == {"is_duplicate": True}
    assert client.get("/v2/{project_id}/training-job-names", {"job_name": "gamma"}) == {"is_duplicate": False}


def test_dataset_version_is_fetched_with_the_objects_it_names(
    trainer: Any, tenant: Tenant, running: RunningPlatform
) -> None:
    images = tenant.create_bucket()
    lines: list[dict[str, Any]] = [
        {"source": f"s3://{images}/{label}/{i}.png", "annotation": [{"type": "image_classification", "name": label}]}
        for label in ("cat", "dog")
        for i in range(3)
    ]
    tenant.objects.put_many({str(line["source"]): str(line["source"]).encode() for line in lines})
    manifest = f"s3://{trainer.bucket}/sets/annotation/V001/V001.manifest"
    text = [{"source": "content://a text", "annotation": []}]
    tenant.objects.put(manifest, "\n".join(json.dumps(line) for line in [*lines, *text]).encode())

    async def register() -> Resource:
        platform = running.platform("dataset")
        async with platform.database.transaction() as tx:
            return await platform.resources.create(
                tx,
                kind="version",
                project_id=tenant.project_id,
                owner_id=tenant.user_id,
                name="V001",
                unique_name=False,
                properties={"manifest_path": manifest, "dataset_id": "d1"},
            )

    version = running.run(register())
    trainer.upload(
        "import json, sys\n"
        "from pathlib import Path\n"
        "data, out = (Path(a.partition('=')[2]) for a in sys.argv[1:])\n"
        "samples = [json.loads(l) for l in (data / 'V001.local.manifest').read_text().splitlines()]\n"
        "found = {Path(s['source']).read_text(): s['annotation'][0]['name'] for s in samples[:-1]}\n"
        "(out / 'found.json').write_text(json.dumps({'found': found, 'last': samples[-1]['source']}))\n"
    )
    data: dict[str, Any] = {"name": "data_url", "remote": {"dataset": {"id": "d1", "version_id": version.id}}}
    job = trainer.ended(trainer.submit(trainer.request(inputs=[data])))
    assert job["status"]["phase"] == "Completed", job["status"]
    assert job["algorithm"]["inputs"][0]["remote"]["dataset"]["obs_url"] == manifest
    answer = json.loads(tenant.objects.get(f"s3://{trainer.bucket}/out/found.json"))
    assert answer["found"] == {line["source"]: line["annotation"][0]["name"] for line in lines}
    assert answer["last"] == "content://a text"

    data["remote"]["dataset"]["id"] = "another"
    with pytest.raises(ApiFailure, match="has no version"):
        trainer.submit(trainer.request(inputs=[data]))
    narrow = tenant.user(
        [
            {
                "Version": "1.1",
                "Statement": [
                    {"Effect": "Allow", "Action": ["modelarts:*:*"]},
                    {"Effect": "Allow", "Action": ["obs:*:*"], "Resource": [f"obs:*:*:object:{trainer.bucket}/*"]},
                ],
            }
        ]
    )
    data["remote"]["dataset"]["id"] = "d1"
    with pytest.raises(ApiFailure, match=images) as refused:
        narrow.client.post("/v2/{project_id}/training-jobs", trainer.request(inputs=[data]))
    assert refused.value.status == 403


def test_missing_sample_fails_the_job_by_name(trainer: Any, tenant: Tenant, running: RunningPlatform) -> None:
    manifest = f"s3://{trainer.bucket}/V.manifest"
    tenant.objects.put(manifest, json.dumps({"source": f"s3://{trainer.bucket}/gone.png"}).encode())

    async def register() -> str:
        platform = running.platform("dataset")
        async with platform.database.transaction() as tx:
            version = await platform.resources.create(
                tx,
                kind="version",
                project_id=tenant.project_id,
                owner_id=tenant.user_id,
                name="V",
                unique_name=False,
                properties={"manifest_path": manifest, "dataset_id": "d1"},
            )
            return version.id

    data = {"name": "data_url", "remote": {"dataset": {"id": "d1", "version_id": running.run(register())}}}
    job = trainer.run("print(1)", inputs=[data])
    assert job["status"]["phase"] == "Failed"
    assert "gone.png" in job["status"]["task_statuses"][0]["message"]


def test_evaluation_is_computed_from_what_the_job_writes(trainer: Any, events: RecordedEvents) -> None:
    script = """
import json, sys
out = sys.argv[1].partition("=")[2]
truth, guess = ["cat"] * 4 + ["dog"] * 4, ["cat", "cat", "cat", "dog", "dog", "dog", "dog", "dog"]
samples = [f"s3://b/{i}.png" for i in range(8)]
json.dump({"y_true": truth, "y_pred": guess, "samples": samples}, open(out + "evaluation.json", "w"))
json.dump({"loss": 0.25}, open(out + "metrics.json", "w"))
"""
    job = trainer.run(script)
    job_id = job["metadata"]["id"]
    assert job["evaluation"]["accuracy"] == 7 / 8
    assert job["metrics"]["loss"] == 0.25
    found = trainer.get(job_id, "/evaluation")
    assert found["confusion_matrix"] == [[3, 1], [0, 4]]
    cat, dog = found["labels"]
    assert (cat["precision"], cat["recall"], cat["support"], cat["misrecognized"]) == (1.0, 0.75, 4, 0)
    assert (dog["precision"], dog["recall"], dog["misrecognized"]) == (0.8, 1.0, 1)
    assert cat["f1"] == pytest.approx(6 / 7)
    assert found["f1"] == pytest.approx((6 / 7 + 8 / 9) / 2)
    assert found["mistakes"] == [{"sample": "s3://b/3.png", "label": "cat", "predicted": "dog"}]
    told = events.wait("training.job.completed.v1", job_id=job_id)
    assert told.data["metrics"]["accuracy"] == 7 / 8
    assert told.data["metrics"]["loss"] == 0.25


def test_malformed_evaluation_is_a_warning_not_a_failure(trainer: Any) -> None:
    job = trainer.run(
        "import sys; open(sys.argv[1].partition('=')[2] + 'evaluation.json', 'w').write('{\"y_true\": 1}')"
    )
    assert job["status"]["phase"] == "Completed"
    warning = trainer.get(job["metadata"]["id"], "/events", level="Warning")["events"][0]["message"]
    assert "evaluation.json" in warning
    assert "y_true" in warning
    with pytest.raises(ApiFailure) as missing:
        trainer.get(job["metadata"]["id"], "/evaluation")
    assert missing.value.status == 404


def test_pytorch_learns_the_digits_from_pictures(trainer: Any, tenant: Tenant) -> None:
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    pictures = {}
    for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        png = io.BytesIO()
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(png, "PNG")
        pictures[f"s3://{trainer.bucket}/digits/{label}/{index}.png"] = png.getvalue()
    tenant.objects.put_many(pictures)
    trainer.upload_example("digits_cnn")
    data = {"name": "data_url", "remote": {"obs": {"obs_url": f"/{trainer.bucket}/digits/"}}}
    request = trainer.request(
        engine={"engine_name": "PyTorch"}, inputs=[data], parameters={"epochs": "12", "seed": "1"}
    )
    job = trainer.ended(trainer.submit(request), timeout=240)
    assert job["status"]["phase"] == "Completed", trainer.log(job["metadata"]["id"])
    assert job["evaluation"]["accuracy"] >= 0.97
    stored = trainer.tenant.objects.list(f"s3://{trainer.bucket}/out/")
    assert {path.rpartition("/out/")[2] for path in stored} == {
        "checkpoint/weights.pth",
        "evaluation.json",
        "metrics.jsonl",
        "model/config.json",
        "model/model.pt",
    }
    config = json.loads(trainer.tenant.objects.get(f"s3://{trainer.bucket}/out/model/config.json"))
    assert config["bottega"]["labels"] == [str(i) for i in range(10)]
    assert trainer.get(job["metadata"]["id"], "/scalars")["scalars"][0]["name"] == "loss"


def test_scikit_learn_learns_the_flowers(trainer: Any) -> None:
    trainer.upload_example("iris_sklearn")
    job = trainer.ended(trainer.submit(trainer.request(engine={"engine_name": "Scikit_Learn"}, parameters={"c": "2"})))
    assert job["status"]["phase"] == "Completed", trainer.log(job["metadata"]["id"])
    assert job["evaluation"]["accuracy"] > 0.9
