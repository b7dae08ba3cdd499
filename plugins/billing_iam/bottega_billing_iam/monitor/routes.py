"""Alarm rules and metric data, in the shapes of the vendor's Cloud Eye API, version 1."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Query, Request
from sqlalchemy import func
from sqlmodel import col, select

from bottega.context import now_ms
from bottega.errors import Forbidden, Invalid
from bottega.gateway import Caller, Page, paging, requires
from bottega.platform import Platform
from bottega.routing import Router

from . import points
from .alarms import Alarms, place_of, urn_of
from .entities import AlarmRule, Point
from .requests import PERIODS, MetricRef, NewAlarm, Switch
from .sampling import NAMESPACE, PLATFORM_NAMESPACE, UNITS

_MAX_POINTS = 1440


def alarm_json(rule: AlarmRule) -> dict[str, Any]:
    def told(topics: list[str]) -> list[dict[str, Any]]:
        return [{"type": "notification", "notificationList": topics}] if topics else []

    return {
        "alarm_id": rule.id,
        "alarm_name": rule.name,
        "alarm_description": rule.description,
        "metric": {
            "namespace": rule.namespace,
            "metric_name": rule.metric,
            "dimensions": points.dimensions_list(rule.dimensions),
        },
        "condition": {
            "period": rule.period_s,
            "filter": rule.statistic,
            "comparison_operator": rule.comparison,
            "value": rule.threshold,
            "unit": rule.unit,
            "count": rule.count,
            "suppress_duration": rule.suppress_s,
        },
        "alarm_enabled": rule.enabled,
        "alarm_action_enabled": rule.tells,
        "alarm_level": rule.level,
        "alarm_actions": told(rule.alarm_topics),
        "ok_actions": told(rule.ok_topics),
        "alarm_state": rule.state,
        "update_time": rule.state_at,
    }


def router(platform: Platform) -> APIRouter:
    router = Router()
    alarms = Alarms(platform)

    async def check_namespace(caller: Caller, namespace: str) -> None:
        """Raises Forbidden when someone other than the operator asks for the platform's own metrics."""
        if namespace == PLATFORM_NAMESPACE:
            await caller.check_operator(
                Forbidden(f"metrics of {PLATFORM_NAMESPACE} are for the platform's own account")
            )

    @router.post("/V1.0/{project_id}/alarms", status_code=201)
    async def create(body: NewAlarm, caller: Caller = requires("ces:alarms:create")) -> dict[str, str]:
        await check_namespace(caller, body.metric.namespace)
        owner = (caller.project_id, caller.principal.account_id, caller.user_id)
        rule = AlarmRule(project_id=owner[0], account_id=owner[1], owner_id=owner[2], **body.columns())
        await alarms.create(rule)
        caller.about(resource=urn_of(rule), name=rule.name)
        return {"alarm_id": rule.id}

    @router.get("/V1.0/{project_id}/alarms")
    async def find(page: Page = paging(100), caller: Caller = requires("ces:alarms:list")) -> dict[str, Any]:
        mine = AlarmRule.project_id == caller.project_id
        async with platform.database.read() as session:
            total = (await session.exec(select(func.count()).select_from(AlarmRule).where(mine))).one()
            query = select(AlarmRule).where(mine).order_by(col(AlarmRule.created_at), col(AlarmRule.id))
            rows = (await session.exec(query.offset(page.offset).limit(page.limit))).all()
        return {
            "metric_alarms": [alarm_json(rule) for rule in rows],
            "meta_data": {"count": len(rows), "marker": rows[-1].id if rows else "", "total": total},
        }

    @router.get("/V1.0/{project_id}/alarms/{alarm_id}")
    async def show(alarm_id: str, caller: Caller = requires("ces:alarms:get", "alarm/{alarm_id}")) -> dict[str, Any]:
        async with platform.database.read() as session:
            return {"metric_alarms": [alarm_json(await alarms.get(session, caller.project_id, alarm_id))]}

    @router.put("/V1.0/{project_id}/alarms/{alarm_id}", status_code=204)
    async def change(
        alarm_id: str, body: NewAlarm, caller: Caller = requires("ces:alarms:put", "alarm/{alarm_id}")
    ) -> None:
        await check_namespace(caller, body.metric.namespace)
        async with platform.database.transaction() as tx:
            rule = await alarms.get(tx.session, caller.project_id, alarm_id)
            rule.sqlmodel_update(body.columns())
            rule.state, rule.state_at, rule.told_at = "insufficient_data", now_ms(), None
            tx.session.add(rule)

    @router.put("/V1.0/{project_id}/alarms/{alarm_id}/action", status_code=204)
    async def switch(
        alarm_id: str, body: Switch, caller: Caller = requires("ces:alarmsOnOff:put", "alarm/{alarm_id}")
    ) -> None:
        async with platform.database.transaction() as tx:
            rule = await alarms.get(tx.session, caller.project_id, alarm_id)
            rule.enabled = body.alarm_enabled
            tx.session.add(rule)

    @router.delete("/V1.0/{project_id}/alarms/{alarm_id}", status_code=204)
    async def delete(alarm_id: str, caller: Caller = requires("ces:alarms:delete", "alarm/{alarm_id}")) -> None:
        async with platform.database.transaction() as tx:
            await tx.session.delete(await alarms.get(tx.session, caller.project_id, alarm_id))

    @router.get("/V1.0/{project_id}/metrics")
    async def metrics(
        namespace: str = Query(NAMESPACE), page: Page = paging(1000), caller: Caller = requires("ces:metrics:list")
    ) -> dict[str, Any]:
        """What has been measured: each metric with the things it was measured of."""
        await check_namespace(caller, namespace)
        if namespace not in (NAMESPACE, PLATFORM_NAMESPACE):
            raise Invalid(f"namespace '{namespace}' does not exist; there are: {NAMESPACE}, {PLATFORM_NAMESPACE}")
        query = (
            select(Point.metric, Point.dimensions)
            .where(Point.project_id == place_of(namespace, caller.project_id))
            .distinct()
            .order_by(Point.metric, Point.dimensions)
        )
        async with platform.database.read() as session:
            total = (await session.exec(select(func.count()).select_from(query.subquery()))).one()
            rows = (await session.exec(query.offset(page.offset).limit(page.limit))).all()
        found = [
            {
                "namespace": namespace,
                "metric_name": metric,
                "unit": UNITS.get(metric, ""),
                "dimensions": points.dimensions_list(dimensions),
            }
            for metric, dimensions in rows
        ]
        return {"metrics": found, "meta_data": {"count": len(found), "marker": "", "total": total}}

    @router.get("/V1.0/{project_id}/metric-data")
    async def metric_data(
        request: Request,
        metric_name: str = Query(min_length=1, max_length=128),
        since: int = Query(alias="from", ge=0, le=2**53),
        to: int = Query(ge=0, le=2**53),
        namespace: str = NAMESPACE,
        period: int = 300,
        filter: str = "average",
        caller: Caller = requires("ces:metricData:list"),
    ) -> dict[str, Any]:
        """Values by period between two times (epoch ms); the thing measured is named by ``dim.0=service_id,…``."""
        if namespace not in (NAMESPACE, PLATFORM_NAMESPACE):
            raise Invalid(f"namespace '{namespace}' does not exist; there are: {NAMESPACE}, {PLATFORM_NAMESPACE}")
        await check_namespace(caller, namespace)
        if period not in PERIODS:
            raise Invalid(f"period {period} is not offered; there are: {', '.join(map(str, PERIODS))} seconds")
        if filter not in points.STATISTICS:
            raise Invalid(f"filter '{filter}' does not exist; there are: {', '.join(points.STATISTICS)}")
        step = max(period * 1000, points.MINUTE_MS)
        begin = since // step * step
        if to <= since or (to - begin) / step > _MAX_POINTS:
            raise Invalid(f"from {since} to {to}: the end must come later, and at most {_MAX_POINTS} periods")
        named = [value.partition(",") for name, value in request.query_params.multi_items() if name.startswith("dim.")]
        asked = MetricRef.model_validate({"namespace": namespace, "metric_name": metric_name})
        asked.key()
        dimensions = points.read_dimensions((name, value) for name, _, value in named)
        async with platform.database.read() as session:
            found = await points.series(
                session,
                place_of(namespace, caller.project_id),
                metric_name,
                dimensions,
                filter,
                step,
                range(begin, to),
            )
        unit = UNITS.get(metric_name, "")
        return {
            "metric_name": metric_name,
            "datapoints": [{filter: value, "timestamp": at, "unit": unit} for at, value in found],
        }

    return router
