"""`pushd simulate`: the local vendors as a process of their own, until SIGTERM, SIGINT or the death of its parent."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop

from pushd.simulator.behaviour import Behaviour
from pushd.simulator.faults import Fault
from pushd.simulator.identity import Manifest
from pushd.simulator.simulator import Simulator
from pushd.simulator.vendors import Vendors

PARENT_POLL_S = 0.25


def simulate(
    state: Annotated[Path, typer.Option(help="Directory for the CA, the provider keys and simulator.json.")] = Path(
        "simulator"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the production environment; 0 picks one.")] = 2197,
    sandbox_port: Annotated[int, typer.Option(help="Port of the sandbox; 0 picks one.")] = 2198,
    management_port: Annotated[int, typer.Option(help="Of channels; the sandbox's is one below; 0 picks both.")] = 0,
    control_port: Annotated[int, typer.Option(help="Port that answers questions and takes faults.")] = 2199,
    others_port: Annotated[
        int, typer.Option(help="First of the other vendors' seven ports; 0 picks free ones.")
    ] = 2200,
    apns_only: Annotated[bool, typer.Option("--apns-only", help="No other vendor than Apple.")] = False,
    name: Annotated[list[str] | None, typer.Option(help="Further name in the certificate; may repeat.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all that is random in faults.")] = 0,
    latency_ms: Annotated[float, typer.Option(help="Time from a request to its answer.")] = 0.0,
    streams: Annotated[int, typer.Option(help="Concurrent streams once a connection is trusted.")] = 1000,
    throttle: Annotated[bool, typer.Option(help="One stream after a rejection, as Apple is known to do.")] = False,
    fault: Annotated[list[str] | None, typer.Option(help="A fault as JSON, as POST /faults takes it.")] = None,
    with_parent: Annotated[bool, typer.Option(help="End when the parent process does.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print ports and files as one JSON object.")] = False,
) -> None:
    """Run a local APNs, FCM, push service, HMS and SMTP relay, as strict as the vendors', with scripted faults."""
    behaviour = _behaviour(latency_ms=latency_ms, streams_max=streams, throttle_on_rejection=throttle)
    faults = _faults(fault or [])

    async def run() -> None:
        simulator = Simulator(
            state,
            host=host,
            port=port,
            sandbox_port=sandbox_port,
            management_port=management_port,
            sandbox_management_port=max(management_port - 1, 0),
            control_port=control_port,
            names=name or (),
            seed=seed,
            behaviour=behaviour,
            others=None
            if apns_only
            else lambda identity, clock: Vendors(identity, host=host, first_port=others_port, clock=clock),
        )
        for one in faults:
            simulator.faults.add(one)
        await _serve(simulator, with_parent=with_parent, json=json)

    uvloop.run(run())


def _behaviour(**settings: object) -> Behaviour:
    try:
        return msgspec.convert(settings, Behaviour)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from error


def _faults(texts: list[str]) -> list[Fault]:
    try:
        return [msgspec.json.decode(text, type=Fault) for text in texts]
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from error
    except msgspec.DecodeError as error:
        raise typer.BadParameter(f"--fault is not JSON: {error}") from error


async def _serve(simulator: Simulator, *, with_parent: bool, json: bool) -> None:
    """Serves until it is told to end; says when it is ready."""
    parent, ending = os.getppid(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    try:
        await simulator.start()
        typer.echo(msgspec.json.encode(simulator.manifest).decode() if json else _page(simulator.manifest))
        while not ending.is_set() and not (with_parent and os.getppid() != parent):
            try:
                await asyncio.wait_for(ending.wait(), PARENT_POLL_S if with_parent else None)
            except TimeoutError:
                continue
    finally:
        await simulator.stop()


def _page(manifest: Manifest) -> str:
    lines = [
        f"APNs production   https://{manifest.host}:{manifest.production_port}",
        f"APNs sandbox      https://{manifest.host}:{manifest.sandbox_port}",
        f"questions, faults http://127.0.0.1:{manifest.control_port}/summary",
        f"trust             {manifest.ca_file}",
    ]
    lines += [
        f"key               team {key.team_id}, key {key.key_id}, {manifest.key_files[key.key_id]}"
        for key in manifest.keys
    ]
    lines.append(f"APNs channels     ports {manifest.management_port}, sandbox {manifest.sandbox_management_port}")
    for vendor, listing in manifest.others.items():
        ports = ", ".join(f"{name} {value}" for name, value in listing.items() if name.endswith(("port", "file")))
        lines.append(f"{vendor:<17} {ports}")
    return "\n".join(lines)
