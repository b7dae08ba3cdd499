"""Reading the stream of events from outside the handlers: to watch, not to act."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from datetime import datetime

import anyio
import nats.errors
import structlog
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from bottega.events import Envelope
from bottega.nats_connection import NatsConnection
from bottega.pull import Pull, PullLost

log = structlog.get_logger(__name__)


async def tail(
    connection: NatsConnection,
    stream: str,
    subject: str,
    sequence: int | None,
    since: datetime | None,
    follow: bool,
) -> AsyncGenerator[tuple[int, Envelope], None]:
    """The events on `subject` from a stream sequence or a time on, else from now on, across reconnections.

    Each with its sequence in the stream.
    """
    start = ConsumerConfig(deliver_policy=DeliverPolicy.NEW)
    if sequence is not None:
        start = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=sequence)
    elif since is not None:
        start = ConsumerConfig(deliver_policy=DeliverPolicy.BY_START_TIME, opt_start_time=since)
    while True:
        # A reader of its own for each connection: the server drops it soon after nobody reads.
        config = start.evolve(
            name=f"tail-{uuid.uuid4().hex}",
            filter_subject=subject,
            ack_policy=AckPolicy.NONE,
            mem_storage=True,
            inactive_threshold=30.0,
        )
        pull = Pull(connection, stream, config, batch=256)
        try:
            waiting = await pull.attach()
            while waiting or follow:
                for message in await pull.take():
                    metadata = message.metadata
                    waiting = metadata.num_pending
                    start = ConsumerConfig(
                        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                        opt_start_seq=metadata.sequence.stream + 1,
                    )
                    try:
                        envelope = Envelope.decode(message.data)
                    except (ValueError, KeyError, TypeError, AttributeError) as error:
                        log.warning("tail.unreadable", subject=message.subject, reason=repr(error))
                        continue
                    yield metadata.sequence.stream, envelope
            return
        except (PullLost, nats.errors.Error) as reason:
            log.info("tail.reattach", subject=subject, reason=str(reason))
            await anyio.sleep(0.25)
        finally:
            with anyio.CancelScope(shield=True):
                await pull.detach()
