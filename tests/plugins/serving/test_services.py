"""Real-time services through HTTP: deployed, split, updated while they run, stopped and started."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from bottega.client import ApiFailure
from bottega.entities import LineageEdge
from bottega.testing import RecordedEvents, RunningPlatform, Tenant, wait_until
from bottega_serving.entities import Service

SERVICES = "/v1/{project_id}/services"
MODELS = "/v1/{project_id}/models"


def refused(server: Any, **body: Any) -> ApiFailure:
    with pytest.raises(ApiFailure) as failure:
        server.client.post(SERVICES, {"service_name": "s", "infer_type": "real-time", **body})
    return failure.value


def version_counts(call: Any, times: int) -> Counter[str]:
    return Counter(call.post({"input": [[1.0]]}).headers["x-model-version"] for _ in range(times))


@contextmanager
def calling(call: Any, threads: int = 4) -> Iterator[Callable[[], list[httpx.Response]]]:
    """Call the service without a pause; the function gives the answers so far."""
    answers: list[httpx.Response] = []
    done = threading.Event()

    def go_on() -> None:
        while not done.is_set():
            answers.append(call.post({"input": [[1.0]]}))

    running = [threading.Thread(target=go_on) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield lambda: list(answers)
    finally:
        done.set()
        for thread in running:
            thread.join(30)


def test_two_versions_share_the_calls_by_weight_and_are_counted(
    server: Any, events: RecordedEvents, tenant: Tenant, running: RunningPlatform
) -> None:
    first, second = server.linear(2.0, "1.0.0"), server.linear(3.0, "2.0.0")
    call = server.deploy((first, 90), (second, 10))
    assert call({"input": [[1.5], [4]]})["output"] in ([[3.0], [8.0]], [[4.5], [12.0]])
    told = version_counts(call, 199)
    wait_until(lambda: server.show(call.service_id)["invocation_times"] == 200)
    shown = server.show(call.service_id)
    assert shown["failed_times"] == 0
    monitors = server.client.get(f"{SERVICES}/{call.service_id}/monitor")
    by_version = {m["model_version"]: m["invocation_times"] for m in monitors["monitors"]}
    assert by_version == {"1.0.0": 180, "2.0.0": 20}
    assert told.total() == 199
    assert told["2.0.0"] in (19, 20)
    assert monitors["req_count_per_min"] >= 190
    counted_events = [e for e in events.all("serving.calls.counted.v1") if e.data["service_id"] == call.service_id]
    assert sum(e.data["calls"] for e in counted_events) == shown["invocation_times"]

    async def edges() -> bool:
        service = f"bottega:serving:{tenant.project_id}:service/{call.service_id}"
        async with running.platform().database.read() as session:
            return all(
                [
                    await session.get(
                        LineageEdge, (f"bottega:serving:{tenant.project_id}:model/{m}", service, "serves")
                    )
                    for m in (first, second)
                ]
            )

    assert running.run(edges())
    answer = call.post({"input": [[1.0]]}, headers={"X-Request-Id": "my-own-id"})
    assert answer.headers["x-request-id"] == "my-own-id"
    assert answer.headers["x-model-id"] in (first, second)


def test_updates_while_it_runs_fail_no_call(server: Any) -> None:
    first, second = server.linear(2.0, "1.0.0"), server.linear(3.0, "2.0.0")
    call = server.deploy(first)
    path = f"{SERVICES}/{call.service_id}"
    with calling(call) as answers:
        server.client.put(path, {"config": server.config((first, 50), (second, 50))})
        wait_until(lambda: any(a.headers["x-model-version"] == "2.0.0" for a in answers()))
        server.client.put(path, {"config": server.config(second), "description": "rolled on"})
        wait_until(lambda: {a.headers["x-model-version"] for a in answers()[-20:]} == {"2.0.0"})
        seen = len(answers())
        wait_until(lambda: len(answers()) > seen + 50)
        found = answers()
    assert {a.status_code for a in found} == {200}
    assert {a.headers["x-model-version"] for a in found[-20:]} == {"2.0.0"}
    wait_until(lambda: {u["result"] for u in server.client.get(f"{path}/logs")["logs"]} == {"SUCCESS"})
    updates = server.client.get(f"{path}/logs")["logs"]
    assert [len(u["config"]) for u in updates] == [1, 2, 1]
    assert server.show(call.service_id)["description"] == "rolled on"
    # The version that no longer serves can go.
    assert server.client.delete(f"{MODELS}/{first}")["delete_success_list"] == [first]


def test_a_version_that_cannot_be_loaded_leaves_the_service_as_it_was(server: Any) -> None:
    good = server.linear(2.0, "1.0.0")
    broken = server.model({"config.json": server.config_json(), "model.onnx": b"no model"}, version="2.0.0")
    call = server.deploy(good)
    path = f"{SERVICES}/{call.service_id}"
    server.client.put(path, {"config": server.config((good, 50), (broken, 50))})
    shown = server.wait(call.service_id, "concerning")
    assert "model.onnx cannot be loaded" in shown["error_msg"]
    assert version_counts(call, 20) == {"1.0.0": 20}
    assert server.client.get(f"{path}/logs")["logs"][0]["result"] == "FAIL"
    server.client.put(path, {"config": server.config(good)})
    server.wait(call.service_id, "running")
    abnormal = server.client.get(f"{path}/events", {"event_type": "abnormal"})["events"]
    assert len(abnormal) == 1


def test_a_service_that_cannot_start_fails_with_its_reason(server: Any, events: RecordedEvents) -> None:
    broken = server.model({"config.json": server.config_json(), "model.onnx": b"no model"})
    id = server.create(broken)
    wait_until(lambda: server.show(id)["status"] == "failed", 90)
    shown = server.show(id)
    assert "model.onnx cannot be loaded" in shown["error_msg"]
    assert "access_address" not in shown
    assert events.wait("serving.service.failed.v1", service_id=id)
    log = server.client.get(f"{SERVICES}/{id}/logs/preview")["content"]
    assert "model.onnx cannot be loaded" in log


def test_stop_and_start_again(server: Any, events: RecordedEvents) -> None:
    call = server.deploy(server.linear(2.0, "1.0.0"))
    path = f"{SERVICES}/{call.service_id}"
    assert call({"input": [[1]]}) == {"output": [[2.0]]}
    server.client.put(path, {"status": "stopped"})
    server.wait(call.service_id, "stopped")
    with pytest.raises(httpx.TransportError):
        call.post({"input": [[1]]})
    # The last moments count as well.
    wait_until(lambda: server.show(call.service_id)["invocation_times"] == 1)
    with pytest.raises(ApiFailure) as again:
        server.client.put(path, {"status": "stopped"})
    assert again.value.status == 409
    server.client.put(path, {"status": "running"})
    server.wait(call.service_id, "running")
    assert server.call(call.service_id)({"input": [[1]]}) == {"output": [[2.0]]}
    wait_until(lambda: server.show(call.service_id)["invocation_times"] == 2)
    infos = [e["event_info"] for e in server.client.get(f"{path}/events", {"order": "asc"})["events"]]
    assert infos.count("the service is stopped") == 1
    assert events.wait("serving.service.stopped.v1", service_id=call.service_id)


def test_it_stops_when_its_time_has_come(server: Any, running: RunningPlatform) -> None:
    model = server.linear(2.0, "1.0.0")
    id = server.create(model)
    server.wait(id, "running")
    hour = [{"duration": 1, "time_unit": "HOURS", "type": "stop"}]
    server.client.put(f"{SERVICES}/{id}", {"schedule": hour})
    shown = server.show(id)
    assert shown["schedule"] == hour
    assert 0 < shown["due_time"] - shown["publish_at"] < 2 * 3_600_000

    async def let_time_pass() -> None:
        async with running.platform("serving").database.transaction() as tx:
            service = await tx.session.get(Service, id)
            assert service is not None
            service.due_time = 1

    running.run(let_time_pass())
    server.wait(id, "stopped")


def test_deleting_a_running_service_ends_it(server: Any) -> None:
    call = server.deploy(server.linear(2.0, "1.0.0"))
    server.delete(call.service_id)
    with pytest.raises(ApiFailure) as gone:
        server.show(call.service_id)
    assert gone.value.status == 404

    def ended() -> bool:
        try:
            call.post({"input": [[1]]})
        except httpx.TransportError:
            return True
        return False

    wait_until(ended)


def test_rules_of_a_service_are_checked_before_anything_changes(server: Any) -> None:
    model = server.linear(2.0, "1.0.0")
    one = server.config(model)
    for body, status, told in (
        ({"config": []}, 400, "1 to 5 model versions"),
        ({"config": server.config((model, 90))}, 400, "add up to 100, not 90"),
        ({"config": server.config((model, 50), (model, 50))}, 400, "stands twice"),
        ({"config": server.config("missing")}, 404, "there is no model"),
        ({"config": server.config(model, specification="modelarts.vm.huge")}, 400, "is not offered for serving"),
        ({"config": server.config(model, instance_count=0)}, 400, "instance_count"),
        ({"config": server.config(model, envs={"A B": "1"})}, 400, "envs"),
        ({"config": one, "service_name": "a b"}, 400, "service_name"),
        ({"config": one, "description": "<b>"}, 400, "description"),
        ({"config": one, "infer_type": "batch"}, 400, "infer_type"),
        ({"config": one, "schedule": [{"duration": 0, "time_unit": "HOURS", "type": "stop"}]}, 400, "schedule"),
    ):
        failure = refused(server, **body)
        assert (failure.status, told in failure.message) == (status, True), failure.message
    assert server.client.get(SERVICES)["total_count"] == 0


def test_a_model_without_a_runtime_is_kept_but_not_deployed(server: Any) -> None:
    files = {"config.json": server.config_json("TensorFlow"), "saved_model.pb": b"graph"}
    id = server.model(files)
    assert server.published(id)["install_type"] == []
    failure = refused(server, config=server.config(id))
    assert (failure.status, "no runtime plugin is on for models of type TensorFlow" in failure.message) == (400, True)


def test_names_are_unique_and_lists_are_filtered(server: Any, tenant: Tenant, stranger: Tenant) -> None:
    model = server.linear(2.0, "1.0.0")
    id = server.create(model, name="first")
    assert refused(server, service_name="first", config=server.config(model)).status == 409
    listed = server.client.get(SERVICES, {"service_name": "fir", "model_id": model, "infer_type": "real-time"})
    assert [s["service_id"] for s in listed["services"]] == [id]
    assert server.client.get(SERVICES, {"model_id": "other"})["total_count"] == 0
    for other in (tenant.user([]), stranger):
        for method in ("GET", "PUT", "DELETE"):
            path = f"{SERVICES}/{id}".replace("{project_id}", tenant.project_id)
            with pytest.raises(ApiFailure) as failure:
                other.client.request(method, path, json={"status": "stopped"})
            assert failure.value.status == 403
