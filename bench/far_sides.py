"""Servers that stand in for a gateway: Debian's h2o and nginx, which answer every push over TLS on one core.

h2o answers through an internal redirect to an empty file, about three times as fast as its mruby handler; nginx by
`return 200`. Of the *mixed* kind 2 % of the device tokens are dead, which ones their last hexadecimal digits say, and
1 % of the answers, drawn anew for every request, are a 503; there h2o runs a Ruby handler and is slower by that.

A far side notes when it began to answer the push to one token, `marked`, in an access log for that path only: so the
first push of a broadcast is seen where it arrives, and no other request is logged.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import measure

STREAMS = 1_000
"""Concurrent streams of nginx; h2o 2.2 advertises 100 whatever it is told."""
DEAD = {"h2o": "0", "nginx": "1"}
"""Each has its own dead tokens, so that both can run on one set of devices."""
CLIENTS = ((2, 100), (4, 100), (8, 100), (2, 500), (4, 250))
"""Connections and streams each that h2load is tried with."""

_H2O = """
num-threads: 1
http2-max-concurrent-requests-per-connection: {streams}
listen:
  host: 127.0.0.1
  port: {port}
  ssl: {{certificate-file: {certificate}, key-file: {key}, ocsp-update-interval: 0}}
hosts:
  default:
    paths:
      {marked}:
        {marked_answer}
      /:
        {answer}
      /ok:
        file.file: {home}/empty
      /marked:
        access-log: {{path: {log}, format: "%{{sec}}t.%{{msec_frac}}t"}}
        file.file: {home}/empty
"""
_H2O_ANSWER = 'redirect: {{url: "{to}", internal: YES, status: 302}}'
"""The request that was redirected is the one that is logged."""
_H2O_MIXED = """mruby.handler: |
          good = [200, {{}}, []].freeze
          json = {{"content-type" => "application/json"}}
          busy = [503, json, ['{{"reason":"ServiceUnavailable"}}']].freeze
          dead = [410, json, ['{{"reason":"Unregistered","timestamp":{now_ms}}}']].freeze
          Proc.new do |env|
            last = env["PATH_INFO"][-3, 3]
            if last[0] == "{dead}" && (last[1] < "5" || last == "{dead}50" || last == "{dead}51")
              dead
            elsif rand < 0.01
              busy
            else
              good
            end
          end"""
_NGINX = """
worker_processes 1;
daemon off;
pid {home}/pid;
error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off;
    log_format when $msec;
    client_body_temp_path {home}/body;
    split_clients "$request_id" $busy {{ {busy}% 1; * 0; }}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        http2_max_concurrent_streams {streams};
        keepalive_requests 1000000000;
        keepalive_time 1d;
        default_type application/json;
        location = {marked} {{ access_log {log} when; return 200; }}
        {mixed}
        location / {{ return 200; }}
    }}
}}
"""
_NGINX_MIXED = """
        location ~ "{dead}([0-4].|5[01])$" {{ return 410 '{{"reason":"Unregistered","timestamp":{now_ms}}}'; }}
        location /3/ {{
            if ($busy) {{ return 503 '{{"reason":"ServiceUnavailable"}}'; }}
            return 200;
        }}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FarSide:
    """A server that runs."""

    kind: str
    port: int
    pid: int
    log: Path

    def first_seen(self) -> float:
        """When it was first asked for the marked path since the last call, seconds since the epoch."""
        times = [float(line) for line in self.log.read_text().split()]
        self.log.write_text("")
        return min(times)


@contextlib.contextmanager
def far_side(
    kind: str, home: Path, port: int, certificate: tuple[Path, Path], marked: str, *, mixed: bool, now_ms: int
) -> Iterator[FarSide]:
    """A far side that listens on a port of the loopback, on the servers' core, answering with these statuses."""
    log, place = home / f"{kind}.log", home / kind
    place.mkdir(exist_ok=True)
    (place / "empty").touch()
    log.touch()
    log.chmod(0o666)  # nginx writes it as another user
    known = {
        "home": place,
        "port": port,
        "certificate": certificate[0],
        "key": certificate[1],
        "log": log,
        "marked": f"/3/device/{marked}",
        "streams": STREAMS,
    }
    write = _h2o if kind == "h2o" else _nginx
    config = place / "config"
    config.write_text(write(known, mixed=mixed, dead=DEAD[kind], now_ms=now_ms))
    command = [kind, "-c", str(config)]
    with measure.server(command, port, errors=place / "errors") as pid:
        yield FarSide(kind=kind, port=port, pid=pid, log=log)


def _h2o(known: dict[str, object], *, mixed: bool, dead: str, now_ms: int) -> str:
    answer = _H2O_MIXED.format(dead=dead, now_ms=now_ms) if mixed else _H2O_ANSWER.format(to="/ok")
    return _H2O.format(**known, answer=answer, marked_answer=_H2O_ANSWER.format(to="/marked"))


def _nginx(known: dict[str, object], *, mixed: bool, dead: str, now_ms: int) -> str:
    rules = _NGINX_MIXED.format(dead=dead, now_ms=now_ms) if mixed else ""
    return _NGINX.format(**known, mixed=rules, busy="1.0" if mixed else "0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What h2load sends: the same requests as pushd."""

    paths: Path
    body: Path
    headers: dict[str, str]

    @classmethod
    def make(cls, home: Path, port: int, body: bytes, headers: dict[str, str]) -> Load:
        """Files for h2load: a thousand paths of devices, and the body."""
        load = cls(paths=home / "paths", body=home / "payload", headers=headers)
        urls = (f"https://localhost:{port}/3/device/{secrets.token_hex(32)}\n" for _ in range(1_000))
        load.paths.write_text("".join(urls))
        load.body.write_bytes(body)
        return load

    def run(self, far: FarSide, requests: int, connections: int, streams: int) -> dict[str, float]:
        """Requests per second of one run of h2load on the clients' core, and CPU per request of both sides."""
        command = ["h2load", "-n", str(requests), "-c", str(connections), "-m", str(streams), "-t", "1"]
        command += ["-d", str(self.body), "-i", str(self.paths)]
        for name, value in self.headers.items():
            command += ["-H", f"{name}: {value}"]
        served = measure.cpu_of_family(far.pid)
        output, usage = measure.child(command)
        served = measure.cpu_of_family(far.pid) - served
        rate = re.search(r"finished in .*?, ([\d.]+) req/s", output)
        done = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", output)
        assert rate is not None, output
        assert done is not None, output
        assert int(done[1]) == requests, output
        assert int(done[4]) == 0, output
        return {
            "rate": float(rate[1]),
            "cpu_us": usage.cpu_s / requests * 1e6,
            "server_cpu_us": served / requests * 1e6,
        }

    def best(self, far: FarSide, requests: int) -> tuple[int, int]:
        """The connections and streams that are fastest against this server."""
        return max(CLIENTS, key=lambda client: self.run(far, requests, *client)["rate"])
