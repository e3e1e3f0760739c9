"""The program: every command in its place, for whoever is no daemon."""

from __future__ import annotations

import typer

from pushd.cli import (
    app,
    audience,
    channel,
    config,
    demo,
    device,
    doctor,
    events,
    gateway,
    geofence,
    imports,
    in_app,
    key,
    live_activity_channel,
    migrate,
    notification,
    report,
    safari,
    schedule,
    segment,
    send,
    simulate,
    template,
    up,
    vendor_key,
    webhook,
)

program = typer.Typer(
    name="pushd",
    help="A self-hosted push-notification fan-out daemon.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
up.add_to(program)
program.command()(demo.demo)
program.command()(simulate.simulate)
program.command()(send.send)
program.command()(migrate.migrate)
program.command()(doctor.doctor)
program.command()(events.events)
NOUNS = (
    *(device, channel, segment, template, imports, live_activity_channel, app, key, vendor_key, gateway, safari),
    *(notification, in_app, report, schedule, webhook, audience, geofence, config),
)
for noun in NOUNS:
    program.add_typer(noun.commands)
