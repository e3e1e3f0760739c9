"""The scheduler as the daemon runs it: its runner, put together from what commands work with."""

from __future__ import annotations

from pushd.cluster.leader import Leader
from pushd.commands.audience import resolve
from pushd.commands.context import Context
from pushd.model.audience import Audience
from pushd.model.device import Kind
from pushd.scheduler.in_app import Letterbox, Releaser
from pushd.scheduler.parts import Fanout, Gate, Habits, Parts
from pushd.scheduler.runner import Runner
from pushd.store.in_app_firings import InAppFirer
from pushd.targeting.index import Resolution

LOCK = 7006
"""First key of the advisory lock whose holder fires."""


def runner(context: Context, fanout: Fanout, gate: Gate, habits: Habits) -> Runner:
    """The runner of this node; what the store hears of schedules accepted or edited here wakes it."""
    store, config = context.store, context.config

    async def addressed(app_id: int, audience: Audience) -> Resolution:
        return await resolve(context, app_id, audience, frozenset(Kind), in_app=True)

    async def reached(app_id: int, audience: Audience, reach: frozenset[Kind]) -> Resolution:
        return await resolve(context, app_id, audience, reach)

    parts = Parts(
        schedules=store.schedules,
        rollouts=store.rollouts,
        reserve=store.notifications.acceptor.reserve,
        app=store.apps.get,
        index=context.index,
        resolve=reached,
        zones=context.index.holders.time_zones,
        fanout=fanout,
        gate=gate,
        habits=habits,
        clock=context.clock,
        node_id=context.node_id,
        config=config.scheduler,
    )
    leader = Leader(
        store.database.connect,
        lock=LOCK,
        what="schedules",
        ask_s=config.scheduler.lead_s,
        timeout_s=config.scheduler.lead_timeout_s,
        idle_s=config.store.node_timeout_s,
    )
    box = Letterbox(
        firer=InAppFirer(store.database, context.clock),
        messages=store.in_app,
        resolve=addressed,
        recipients=context.index.recipients,
        changed=context.inbox.changed,
        push_waits=context.inbox.woken.set,
        keep_days=config.inbox.keep_days,
    )
    made = Runner(parts, leader, Releaser(parts, box))
    store.notifications.acceptor.on_scheduled = made.scheduled
    return made
