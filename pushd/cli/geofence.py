"""`pushd geofence`: fences made from GeoJSON files, shown, switched, and who is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from pushd.cli.options import grouped
from pushd.cli.reach import Daemon

commands = typer.Typer(name="geofence", help="Geofences, and who is in them.", no_args_is_help=True)

Identity = Annotated[int, typer.Argument(help="The geofence's id.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", help="A tag; may repeat.")]
COLUMNS = ("id", "name", "enabled", "tags", "activation_count", "active_users", "evaluating")


@commands.command()
@grouped
def create(
    daemon: Daemon,
    name: Annotated[str, typer.Argument(help="A name for people.")],
    file: Annotated[
        Path | None, typer.Argument(help="GeoJSON Feature of a Polygon or MultiPolygon.", exists=True, dir_okay=False)
    ] = None,
    latitude: Annotated[float | None, typer.Option(help="Of a circle's centre, in degrees.")] = None,
    longitude: Annotated[float | None, typer.Option(help="Of a circle's centre, in degrees.")] = None,
    radius: Annotated[float | None, typer.Option(help="Of a circle, in metres.")] = None,
    tag: Tags = None,
    enter: Annotated[str | None, typer.Option(help="Title of what is sent to those who enter.")] = None,
    leave: Annotated[str | None, typer.Option("--exit", help="Title of what is sent to those who leave.")] = None,
    min_interval: Annotated[int, typer.Option(help="Seconds between two sends to one install.")] = 3600,
    disabled: Annotated[bool, typer.Option("--disabled", help="It holds nobody until it is enabled.")] = False,
) -> None:
    """Make a geofence: a circle, or the area in a file."""
    body: dict[str, Any] = {
        "name": name,
        "bounds": _bounds(file, latitude, longitude, radius),
        "enabled": not disabled,
        "tags": tag or [],
    }
    for key, title in (("on_enter", enter), ("on_exit", leave)):
        if title is not None:
            body[key] = {"message": {"title": title}, "min_interval_s": min_interval}
    daemon.show(daemon.ask("POST", "/geofences", body))


@commands.command("list")
@grouped
def listing(daemon: Daemon) -> None:
    """List the geofences."""
    daemon.show(daemon.ask("GET", "/geofences", limit=1000)["items"], COLUMNS)


@commands.command("show")
@grouped
def one(daemon: Daemon, geofence: Identity) -> None:
    """Show a geofence."""
    daemon.show(daemon.ask("GET", f"/geofences/{geofence}"))


@commands.command()
@grouped
def stats(daemon: Daemon, geofence: Identity) -> None:
    """Show how often a geofence was entered and left, and who is in it."""
    daemon.show(daemon.ask("GET", f"/geofences/{geofence}/stats"))


@commands.command()
@grouped
def enable(daemon: Daemon, geofence: Identity) -> None:
    """Let a geofence hold who is in it."""
    daemon.show(daemon.ask("PATCH", f"/geofences/{geofence}", {"enabled": True}))


@commands.command()
@grouped
def disable(daemon: Daemon, geofence: Identity) -> None:
    """Let a geofence hold nobody."""
    daemon.show(daemon.ask("PATCH", f"/geofences/{geofence}", {"enabled": False}))


@commands.command()
@grouped
def delete(daemon: Daemon, geofence: Identity) -> None:
    """Delete a geofence."""
    daemon.ask("DELETE", f"/geofences/{geofence}")


def _bounds(file: Path | None, latitude: float | None, longitude: float | None, radius: float | None) -> Any:
    """The GeoJSON Feature of a file, or of a circle."""
    circle = (latitude, longitude, radius)
    if file is not None and circle == (None, None, None):
        try:
            return orjson.loads(file.read_bytes())
        except orjson.JSONDecodeError as error:
            raise typer.BadParameter(f"{file} is not JSON: {error}") from None
    if file is not None or None in circle:
        raise typer.BadParameter("name a GeoJSON file, or --latitude, --longitude and --radius of a circle")
    geometry = {"type": "Point", "coordinates": [longitude, latitude]}
    return {"type": "Feature", "properties": {"radius": radius}, "geometry": geometry}
