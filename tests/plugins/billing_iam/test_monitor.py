"""Metrics of what runs, alarm rules on them, and who is told."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bottega.backends import WorkloadSpec
from bottega.client import ApiFailure
from bottega.context import move_clock, now_ms
from bottega.events import Event
from bottega.testing import RunningPlatform, Tenant, wait_until
from bottega_billing_iam.monitor.alarms import Alarms

ALARMS = "/V1.0/{project_id}/alarms"
DATA = "/V1.0/{project_id}/metric-data"
TOPIC = "urn:smn:local-1:p:ops"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, each_database: dict[str, Any]) -> Iterator[RunningPlatform]:
    """A platform that measures five times a second."""
    overrides = {**each_database, "plugins": {"monitor": {"interval_s": 0.2, "alarms_per_account": 3}}}
    with RunningPlatform(tmp_path_factory.mktemp("platform"), overrides) as platform:
        yield platform


@pytest.fixture
def moved() -> Iterator[Callable[[int], None]]:
    """Moves the clock by milliseconds, from the beginning of a minute on; afterwards it is right again."""
    by: list[int] = []

    def move(ms: int) -> None:
        move_clock(ms)
        by.append(ms)

    move(60_000 - now_ms() % 60_000)  # points are kept by the minute: what is to be in one must not fall into two
    yield move
    move_clock(-sum(by))


class Counted(Event, type="serving.calls.counted.v1"):
    """What the plugin `serving` says when a service was called."""

    service_id: str
    model_id: str
    model_version: str = "1.0.0"
    calls: int
    failed: int
    seconds: float


@pytest.fixture
def called(running: RunningPlatform, tenant: Tenant) -> Callable[..., None]:
    """Publishes that a service was called, as its plugin does."""

    def publish(service: str, calls: int, failed: int = 0, seconds: float = 0.0) -> None:
        async def emit() -> None:
            async with running.platform("serving").database.transaction() as tx:
                event = Counted(service_id=service, model_id="m1", calls=calls, failed=failed, seconds=seconds)
                tx.emit(event, f"bottega:serving:{tenant.project_id}:service/{service}")

        running.run(emit())

    return publish


def rule(service: str = "s1", **condition: Any) -> dict[str, Any]:
    return {
        "alarm_name": "too-many-failures",
        "metric": {
            "metric_name": "failed_called_times",
            "dimensions": [{"name": "service_id", "value": service}],
        },
        "condition": {"period": 1, "filter": "sum", "comparison_operator": ">=", "value": 5, "count": 1, **condition},
        "alarm_actions": [{"type": "notification", "notificationList": [TOPIC]}],
        "ok_actions": [{"type": "notification", "notificationList": [TOPIC + "-ok"]}],
    }


def values(tenant: Tenant, metric: str, statistic: str, **dims: str) -> list[float]:
    now = int(time.time() * 1000)
    asked: dict[str, Any] = {"metric_name": metric, "from": now - 600_000, "to": now + 600_000, "filter": statistic}
    asked |= {f"dim.{i}": f"{name},{value}" for i, (name, value) in enumerate(dims.items())}
    return [point[statistic] for point in tenant.client.get(DATA, {**asked, "period": 3600})["datapoints"]]


def state(tenant: Tenant, alarm_id: str) -> str:
    return str(tenant.client.get(f"{ALARMS}/{alarm_id}")["metric_alarms"][0]["alarm_state"])


def test_calls_of_a_service_and_of_its_model_are_measured(tenant: Tenant, called: Callable[..., None]) -> None:
    called("s1", 10, failed=2, seconds=1.5)
    called("s1", 30, failed=0, seconds=0.5)
    wait_until(lambda: sum(values(tenant, "total_called_times", "sum", service_id="s1")) == 40, 20)
    assert values(tenant, "failed_called_times", "max", service_id="s1") == [2]
    assert values(tenant, "successfully_called_times", "sum", service_id="s1", model_id="m1") == [38]
    assert values(tenant, "avg_latency", "average", service_id="s1") == [50]
    assert values(tenant, "total_called_times", "sum", service_id="another") == []
    listed = tenant.client.get("/V1.0/{project_id}/metrics")["metrics"]
    dimensions = [{"name": "model_id", "value": "m1"}, {"name": "service_id", "value": "s1"}]
    unit = {"metric_name": "avg_latency", "unit": "ms", "namespace": "SYS.ModelArts"}
    assert {**unit, "dimensions": dimensions} in listed


def test_prometheus_reads_calls_by_service_and_model_and_they_never_become_fewer(
    running: RunningPlatform, tenant: Tenant, called: Callable[..., None], moved: Callable[[int], None]
) -> None:
    operator = running.operator()

    def read(name: str) -> float | None:
        labels = f'model="m1",project="{tenant.project_id}",service="s1"'
        found = re.search(rf"^bottega_monitor_service_{name}_total{{{labels}}} (\S+)$", metrics(), re.MULTILINE)
        return float(found[1]) if found else None

    def metrics() -> str:
        return operator.client.request("GET", "/metrics").text

    called("s1", 10, failed=2)
    wait_until(lambda: (read("calls"), read("calls_failed")) == (10, 2), 20)
    moved(3_600_000)
    called("s1", 5)
    wait_until(lambda: read("calls") == 15, 20)
    moved(8 * 86_400_000)  # the points are forgotten
    wait_until(lambda: tenant.client.get("/V1.0/{project_id}/metrics")["metrics"] == [], 20)
    called("s1", 1, failed=1)
    wait_until(lambda: read("calls") == 16, 20)
    assert read("calls_failed") == 3


def test_what_a_running_workload_uses_is_measured(running: RunningPlatform, tenant: Tenant) -> None:
    platform = running.platform("training")
    busy = "import time\nend = time.time() + 60\nwhile time.time() < end: sum(range(10000))"

    async def start() -> str:
        async with platform.database.transaction() as tx:
            workload = await platform.workloads.request(
                tx,
                WorkloadSpec(command=["{python}", "-c", busy]),
                kind="training",
                flavor_id=platform.workloads.flavors("training")[0].id,
                resource_urn=f"bottega:training:{tenant.project_id}:job/j1",
                project_id=tenant.project_id,
                user_id=tenant.user_id,
            )
            return workload.id

    async def stop(workload_id: str) -> None:
        async with platform.database.transaction() as tx:
            await platform.workloads.stop(tx, workload_id)

    workload_id = running.run(start())
    try:
        wait_until(lambda: any(v > 1 for v in values(tenant, "cpu_usage", "max", job_id="j1")), 60)
        assert values(tenant, "mem_usage", "max", job_id="j1")[0] > 1
        text = running.operator().client.request("GET", "/metrics").text
        assert f'bottega_monitor_workload_cpu_usage{{kind="training",project="{tenant.project_id}"' in text
    finally:
        running.run(stop(workload_id))
        tenant.events.wait("core.workload.finished.v1", workload_id=workload_id)


def test_an_alarm_is_raised_told_and_cleared(
    tenant: Tenant, called: Callable[..., None], moved: Callable[[int], None]
) -> None:
    alarm = tenant.client.post(ALARMS, rule())["alarm_id"]
    assert state(tenant, alarm) == "insufficient_data"
    called("s1", 4, failed=4)
    wait_until(lambda: state(tenant, alarm) == "ok", 20)
    called("s1", 2, failed=2)
    wait_until(lambda: state(tenant, alarm) == "alarm", 20)
    tenant.events.wait("monitor.alarm.raised.v1", alarm_id=alarm, value=6.0, threshold=5.0)
    told = tenant.events.wait("core.notification.requested.v1", topic_urn=TOPIC)
    assert told.data["subject"] == "[alarm] too-many-failures"
    assert "failed_called_times of service_id,s1 is 6" in told.data["message"]
    moved(120_000)
    called("s1", 3, failed=0)
    wait_until(lambda: state(tenant, alarm) == "ok", 20)
    tenant.events.wait("monitor.alarm.cleared.v1", alarm_id=alarm)
    tenant.events.wait("core.notification.requested.v1", topic_urn=TOPIC + "-ok")
    told_once = [e for e in tenant.events.all("core.notification.requested.v1") if e.data["topic_urn"] == TOPIC]
    assert len(told_once) == 1


def test_an_alarm_waits_for_as_many_periods_as_it_asks(
    tenant: Tenant, called: Callable[..., None], moved: Callable[[int], None]
) -> None:
    alarm = tenant.client.post(ALARMS, rule(count=2))["alarm_id"]
    quick = tenant.client.post(ALARMS, {**rule(count=1), "alarm_name": "quick"})["alarm_id"]
    called("s1", 9, failed=9)
    wait_until(lambda: state(tenant, quick) == "alarm", 20)
    assert state(tenant, alarm) != "alarm"
    moved(60_000)
    called("s1", 9, failed=9)
    wait_until(lambda: state(tenant, alarm) == "alarm", 20)


def test_an_alarm_that_goes_on_is_told_again_after_its_time(
    tenant: Tenant, called: Callable[..., None], moved: Callable[[int], None]
) -> None:
    body = rule(period=3600, suppress_duration=300)
    alarm = tenant.client.post(ALARMS, body)["alarm_id"]
    called("s1", 9, failed=9)
    wait_until(lambda: state(tenant, alarm) == "alarm", 20)
    moved(301_000)

    def told() -> int:
        return sum(e.data["topic_urn"] == TOPIC for e in tenant.events.all("core.notification.requested.v1"))

    wait_until(lambda: told() == 2, 20)
    assert len(tenant.events.all("monitor.alarm.raised.v1")) == 1


def test_a_rule_that_is_off_says_nothing(tenant: Tenant, called: Callable[..., None]) -> None:
    off = tenant.client.post(ALARMS, {**rule(), "alarm_name": "off"})["alarm_id"]
    tenant.client.put(f"{ALARMS}/{off}/action", {"alarm_enabled": False})
    on = tenant.client.post(ALARMS, rule())["alarm_id"]
    called("s1", 9, failed=9)
    wait_until(lambda: state(tenant, on) == "alarm", 20)
    assert state(tenant, off) == "insufficient_data"


def test_measuring_goes_on_after_a_round_that_failed(running: RunningPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []

    async def fail(_: Alarms) -> None:
        rounds.append(len(rounds))
        raise ConnectionResetError("the other end went away")

    with monkeypatch.context() as patch:
        patch.setattr(Alarms, "evaluate", fail)
        wait_until(lambda: len(rounds) >= 2)


def test_rules_are_changed_listed_and_deleted(tenant: Tenant) -> None:
    alarm = tenant.client.post(ALARMS, rule())["alarm_id"]
    changed = rule(value=7, count=3)
    tenant.client.put(f"{ALARMS}/{alarm}", {**changed, "alarm_level": 1})
    shown = tenant.client.get(f"{ALARMS}/{alarm}")["metric_alarms"][0]
    assert (shown["condition"]["value"], shown["condition"]["count"], shown["alarm_level"]) == (7, 3, 1)
    assert shown["metric"]["namespace"] == "SYS.ModelArts"
    assert shown["alarm_actions"] == changed["alarm_actions"]
    listed = tenant.client.get(ALARMS)
    assert (listed["meta_data"]["total"], listed["metric_alarms"]) == (1, [shown])
    tenant.client.delete(f"{ALARMS}/{alarm}")
    with pytest.raises(ApiFailure) as e:
        tenant.client.get(f"{ALARMS}/{alarm}")
    assert e.value.status == 404


def test_strangers_see_no_rule_and_no_figure(tenant: Tenant, stranger: Tenant, called: Callable[..., None]) -> None:
    alarm = tenant.client.post(ALARMS, rule())["alarm_id"]
    called("s1", 1)
    wait_until(lambda: values(tenant, "total_called_times", "sum", service_id="s1"), 20)
    assert stranger.client.get(ALARMS)["metric_alarms"] == []
    assert values(stranger, "total_called_times", "sum", service_id="s1") == []
    calls: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("PUT", "", rule()),
        ("PUT", "/action", {"alarm_enabled": False}),
        ("DELETE", "", None),
    ]
    for method, tail, body in calls:
        with pytest.raises(ApiFailure) as e:
            stranger.client.request(method, f"{ALARMS}/{alarm}{tail}", json=body)
        assert e.value.status == 404
    assert tenant.client.get(f"{ALARMS}/{alarm}")["metric_alarms"][0]["alarm_enabled"] is True


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metric": {"metric_name": "mood"}}, "metric.metric_name 'mood' does not exist"),
        ({"metric": {"metric_name": "cpu_usage", "dimensions": [{"name": "a;b", "value": "1"}]}}, "without ','"),
        ({"condition": {"comparison_operator": "!=", "value": 1}}, "comparison_operator"),
        ({"condition": {"comparison_operator": ">", "value": 1, "period": 7}}, "period"),
        ({"alarm_actions": [{"notificationList": ["ops"]}]}, "'ops' is not a topic"),
        ({"alarm_name": "a b"}, "alarm_name"),
        ({"metric": {"namespace": "SYS.Bottega", "metric_name": "x"}}, "for the platform's own account"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_place(tenant: Tenant, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ApiFailure) as e:
        tenant.client.post(ALARMS, {**rule(), **change})
    assert e.value.status in (400, 403)
    assert says in e.value.message
    assert tenant.client.get(ALARMS)["metric_alarms"] == []


def test_an_account_has_so_many_rules_and_no_more(tenant: Tenant) -> None:
    for _ in range(3):
        tenant.client.post(ALARMS, rule())
    with pytest.raises(ApiFailure, match="the account has 3 of 3 alarm rules"):
        tenant.client.post(ALARMS, rule())


def test_the_operator_sees_the_platform_and_its_pools(running: RunningPlatform, tenant: Tenant) -> None:
    operator = running.operator()
    asked = {"namespace": "SYS.Bottega", "limit": 1000}

    def metrics() -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for metric in operator.client.get("/V1.0/{project_id}/metrics", asked)["metrics"]:
            found.setdefault(metric["metric_name"], []).append(metric["dimensions"])
        return found

    wait_until(lambda: "bottega_outbox_rows" in metrics() and "bottega_request_seconds_count" in metrics(), 20)
    flavors = {f.id for f in running.runtime.platform.workloads.flavors()}
    assert {d["value"] for pool in metrics()["running_workloads"] for d in pool if d["name"] == "flavor"} == flavors
    text = operator.client.request("GET", "/metrics").text
    assert "bottega_monitor_pool_workloads{" in text
    assert "bottega_monitor_pool_nodes{" in text
    with pytest.raises(ApiFailure, match="for the platform's own account"):
        tenant.client.get("/V1.0/{project_id}/metrics", asked)


def test_old_points_are_forgotten(tenant: Tenant, called: Callable[..., None], moved: Callable[[int], None]) -> None:
    called("s1", 1)
    wait_until(lambda: values(tenant, "total_called_times", "sum", service_id="s1"), 20)
    moved(8 * 86_400_000)
    wait_until(lambda: values(tenant, "total_called_times", "sum", service_id="s1") == [], 20)
