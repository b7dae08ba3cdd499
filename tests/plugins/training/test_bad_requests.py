"""What is refused, with what is said, and that nothing has changed by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bottega.client import ApiFailure
from bottega.testing import Tenant
from bottega.testing.running import RecordedEvents

Edit = Callable[[dict[str, Any], str], Any]


def _algorithm(**changes: Any) -> Edit:
    return lambda request, bucket: request["algorithm"].update(
        {k: v.replace("BUCKET", bucket) if isinstance(v, str) else v for k, v in changes.items()}
    )


def _spec(**changes: Any) -> Edit:
    return lambda request, bucket: request["spec"].update(changes)


def _obs(name: str, url: str, **more: Any) -> Edit:
    side = "outputs" if name.startswith("out") else "inputs"

    def edit(request: dict[str, Any], bucket: str) -> None:
        remote = {"obs": {"obs_url": url.replace("BUCKET", bucket)}}
        request["algorithm"][side].append({"name": name, "remote": remote, **more})

    return edit


MISTAKES: dict[str, tuple[Edit, str]] = {
    "name": (lambda r, b: r["metadata"].update(name="with space"), "metadata.name"),
    "no name": (lambda r, b: r["metadata"].pop("name"), "metadata.name"),
    "kind": (lambda r, b: r.update(kind="hetero_job"), "kind: Input should be 'job'"),
    "description": (lambda r, b: r["metadata"].update(description="x" * 257), "256"),
    "workspace": (lambda r, b: r["metadata"].update(workspace_id="f" * 32), "'0' is the default"),
    "engine": (_algorithm(engine={"engine_id": "caffe-1.0.0-python2.7"}), "there are: .*scikit_learn"),
    "engine version": (_algorithm(engine={"engine_name": "PyTorch", "engine_version": "x"}), "there are: "),
    "no engine": (_algorithm(engine={}), "give engine_id"),
    "own image": (_algorithm(engine={"image_url": "a/b:c"}), "image_url: .*not offered"),
    "own algorithm": (_algorithm(id="4711"), "algorithm.id: .*not offered"),
    "search": (_algorithm(policies={"auto_search": {"reward_attrs": []}}), "policies: .*not offered"),
    "flavor": (_spec(resource={"flavor_id": "huge", "node_count": 1}), "'huge' is not offered .* there are: local"),
    "nodes": (lambda r, b: r["spec"]["resource"].update(node_count=2), "node_count is 2"),
    "no nodes": (lambda r, b: r["spec"]["resource"].update(node_count=0), "node_count"),
    "pool": (lambda r, b: r["spec"]["resource"].update(pool_id="p"), "pool_id: .*not offered"),
    "volume": (_spec(volumes=[{"nfs": {}}]), "volumes: .*not offered"),
    "auto stop": (_spec(auto_stop={"time_unit": "HOURS", "duration": 0}), "duration"),
    "code path": (_algorithm(code_dir="code"), "code_dir 'code' is not an object path"),
    "climbing code path": (_algorithm(code_dir="/BUCKET/../x/"), r"'\.\.'"),
    "boot file elsewhere": (_algorithm(boot_file="/BUCKET/data/a.csv"), "must be a file in algorithm.code_dir"),
    "boot file in a sister folder": (_algorithm(boot_file="/BUCKET/code2/a.py"), "must be a file in"),
    "boot file missing": (_algorithm(boot_file="/BUCKET/code/nothing.py"), "nothing.py' does not exist"),
    "boot file is the folder": (_algorithm(boot_file="/BUCKET/code/"), "must be a file"),
    "climbing boot file": (_algorithm(boot_file="../x.py"), r"'\.\.'"),
    "empty input": (_obs("data_url", "/BUCKET/nothing-here/"), "there is nothing at"),
    "input name": (_obs("data url", "/BUCKET/data/"), "inputs.0.name"),
    "input without place": (_algorithm(inputs=[{"name": "data_url", "remote": {}}]), "give either dataset"),
    "dataset": (
        _algorithm(inputs=[{"name": "data_url", "remote": {"dataset": {"id": "d", "version_id": "v"}}}]),
        "dataset 'd' has no version 'v'",
    ),
    "local folder": (_obs("data_url", "/BUCKET/data/", local_dir="/home/ma-user/../x"), "local_dir"),
    "access method": (_obs("data_url", "/BUCKET/data/", access_method="pipe"), "access_method"),
    "output is the code": (_obs("out2", "/BUCKET/code/"), "which the job reads"),
    "outputs in one another": (_obs("out2", "/BUCKET/out/deeper/"), "lie in one another"),
    "output bucket": (_obs("out2", "/another-bucket-of-nobody/x/"), "another-bucket-of-nobody"),
    "name given twice": (_algorithm(parameters=[{"name": "train_url", "value": "x"}]), "'train_url' is given twice"),
    "parameter name": (_algorithm(parameters=[{"name": "--x", "value": "1"}]), "parameters.0.name"),
    "variable name": (_algorithm(environments={"1A": "x"}), "environments"),
    "the platform's variable": (_algorithm(environments={"DLS_TASK_INDEX": "7"}), "the platform sets"),
    "wrong type": (_algorithm(parameters="x"), "parameters"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_named_and_nothing_changes(trainer: Any, mistake: str, events: RecordedEvents) -> None:
    edit, said = MISTAKES[mistake]
    trainer.upload("print(1)")
    trainer.upload("print(1)", folder="code2", name="a.py")
    trainer.tenant.objects.put(f"s3://{trainer.bucket}/data/a.csv", b"1")
    request = trainer.request()
    edit(request, trainer.bucket)
    with pytest.raises(ApiFailure, match=said) as refused:
        trainer.submit(request)
    assert refused.value.status in (400, 403)
    assert refused.value.status == 400 or mistake == "output bucket"
    assert trainer.tenant.client.get("/v2/{project_id}/training-jobs")["total"] == 0
    assert events.all("training.job.>") == []


def test_a_name_is_taken_once(trainer: Any) -> None:
    trainer.upload("print(1)")
    trainer.submit(trainer.request(name="only-one"))
    with pytest.raises(ApiFailure, match="'only-one' exists") as refused:
        trainer.submit(trainer.request(name="only-one"))
    assert refused.value.status == 409


def test_foreign_paths_and_jobs_are_out_of_reach(trainer: Any, stranger: Tenant) -> None:
    foreign = stranger.create_bucket()
    stranger.objects.put(f"s3://{foreign}/code/train.py", b"print(1)")
    trainer.upload("print(1)")
    for change in (
        {"code_dir": f"/{foreign}/code/", "boot_file": f"/{foreign}/code/train.py"},
        {"inputs": [{"name": "data_url", "remote": {"obs": {"obs_url": f"/{foreign}/code/"}}}]},
        {"outputs": [{"name": "train_url", "remote": {"obs": {"obs_url": f"/{foreign}/out/"}}}]},
    ):
        request = trainer.request()
        request["algorithm"].update(change)
        with pytest.raises(ApiFailure, match=f"bucket '{foreign}' is not one of yours") as refused:
            trainer.submit(request)
        assert refused.value.status == 403
    job_id = trainer.submit(trainer.request())
    with pytest.raises(ApiFailure) as missing:
        stranger.client.get(f"/v2/{{project_id}}/training-jobs/{job_id}")
    assert missing.value.status == 404


def test_rights_are_asked_for_each_action_and_path(trainer: Any, tenant: Tenant) -> None:
    trainer.upload("print(1)")
    job_id = trainer.submit(trainer.request())
    trainer.ended(job_id)

    def policy(*actions: str, effect: str = "Allow", resource: str | None = None) -> dict[str, Any]:
        statement: dict[str, Any] = {"Effect": effect, "Action": list(actions)}
        return {"Version": "1.1", "Statement": [{**statement, **({"Resource": [resource]} if resource else {})}]}

    reader = tenant.user([policy("modelarts:trainJob:get", "modelarts:trainJob:list")])
    assert reader.client.get(f"/v2/{{project_id}}/training-jobs/{job_id}")["metadata"]["id"] == job_id
    attempts: tuple[Callable[[], Any], ...] = (
        lambda: reader.client.delete(f"/v2/{{project_id}}/training-jobs/{job_id}"),
        lambda: reader.client.post("/v2/{project_id}/training-jobs", trainer.request()),
        lambda: reader.client.put(f"/v2/{{project_id}}/training-jobs/{job_id}", {"description": "x"}),
        lambda: reader.client.post(f"/v2/{{project_id}}/training-jobs/{job_id}/actions", {"action_type": "terminate"}),
    )
    for refuse in attempts:
        with pytest.raises(ApiFailure, match="modelarts:trainJob:") as refused:
            refuse()
        assert refused.value.status == 403

    creator = tenant.user([policy("modelarts:*:*"), policy("obs:object:GetObject")])
    with pytest.raises(ApiFailure, match="obs:object:PutObject"):
        creator.client.post("/v2/{project_id}/training-jobs", trainer.request())

    urn = f"bottega:training:{tenant.project_id}:job/{job_id}"
    careful = tenant.user([policy("modelarts:*:*"), policy("modelarts:trainJob:delete", effect="Deny", resource=urn)])
    with pytest.raises(ApiFailure) as denied:
        careful.client.post("/v2/{project_id}/training-jobs/batch-delete", {"jobs": [{"metadata": {"id": job_id}}]})
    assert denied.value.status == 403


def test_quota_of_jobs(trainer: Any, tenant: Tenant) -> None:
    from bottega.entities import QuotaLimit

    async def limit() -> None:
        async with tenant.running.platform("training").database.transaction() as tx:
            tx.session.add(QuotaLimit(account_id=tenant.account_id, plugin="training", kind="job", maximum=1))

    tenant.running.run(limit())
    trainer.upload("print(1)")
    trainer.submit(trainer.request())
    with pytest.raises(ApiFailure, match="1 of 1 training jobs") as refused:
        trainer.submit(trainer.request())
    assert refused.value.error_code == "ModelArts.0110"


def test_filters_say_what_they_take(trainer: Any) -> None:
    for wrong, said in (
        ({"key": "color", "operator": "in", "value": ["x"]}, "name"),
        ({"key": "phase", "operator": "in", "value": ["Dancing"]}, "Completed"),
        ({"key": "create_time", "operator": "in", "value": ["1"]}, "between"),
        ({"key": "name", "operator": "between", "value": ["a", "b"]}, "like, in and not"),
    ):
        with pytest.raises(ApiFailure, match=said) as refused:
            trainer.tenant.client.post("/v2/{project_id}/training-job-searches", {"filters": [wrong]})
        assert refused.value.status == 400
