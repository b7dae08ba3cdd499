"""The two kinds of handler a plugin may have: in a transaction, and with effects outside the database."""

from __future__ import annotations

import time
from collections.abc import Sequence

import anyio
from sqlalchemy.exc import IntegrityError

from bottega.database import Database
from bottega.delivery import Consumer, Delivery, DeliveryPolicy
from bottega.entities import ProcessedEvent
from bottega.nats_connection import NatsConnection
from bottega.relay import Relay


class TransactionalConsumer(Consumer):
    """Effects are rows and events of a transaction; a batch shares one."""

    async def _dispatch(self, ready: list[Delivery]) -> None:
        # That an event was done before is rare, and its second record is refused: only then is it looked for.
        look = False
        while ready:
            try:
                count = await self._perform(ready, look)
            except IntegrityError as error:
                failure: Exception = error
                if look:
                    break
                look = True
            except Exception as error:  # whatever a plugin's handler raises is a failed attempt
                failure = error
                break
            else:
                await self._finish(ready[:count])
                ready = ready[count:]
        if len(ready) == 1:
            return self._open_lane(ready[0], failure)
        for delivery in ready:
            if lane := self._lanes.get(delivery.entity):
                lane.append(delivery)
                continue
            try:
                await self._perform([delivery])
            except Exception as error:  # as above
                self._open_lane(delivery, error)
            else:
                await self._finish([delivery])

    async def _perform(self, deliveries: Sequence[Delivery], look: bool = True) -> int:
        count, fresh = 0, list[str]()
        until = time.monotonic() + self._policy.batch_time_s
        with self._at_work(), anyio.fail_after(self._policy.handler_timeout_s):
            async with self._database.transaction() as tx:
                done = await self._done(tx, [d.key for d in deliveries]) if look else set()
                for delivery in deliveries:
                    count += 1
                    if delivery.key not in done:
                        await self._call(delivery, tx)
                        done.add(delivery.key)
                        fresh.append(delivery.key)
                    if time.monotonic() > until:
                        break
                if fresh:
                    await self._record(tx, fresh)
        return count


class ExternalConsumer(Consumer):
    """Effects lie outside the database: at least once, many entities at a time, each in order."""

    def __init__(
        self, name: str, database: Database, connection: NatsConnection, relay: Relay, policy: DeliveryPolicy
    ) -> None:
        super().__init__(name, database, connection, relay, policy)
        self._slots = anyio.Semaphore(policy.concurrency)

    async def _dispatch(self, ready: list[Delivery]) -> None:
        for delivery in ready:
            if lane := self._lanes.get(delivery.entity):
                lane.append(delivery)
            else:
                self._open_lane(delivery)

    async def _perform(self, deliveries: Sequence[Delivery]) -> int:
        async with self._slots:
            with self._at_work():
                for delivery in deliveries:
                    async with self._database.read() as session:
                        if await session.get(ProcessedEvent, (self.name, delivery.key)):
                            continue
                    await self._call(delivery)
                    async with self._database.transaction() as tx:
                        await self._record(tx, [delivery.key])
        return len(deliveries)
