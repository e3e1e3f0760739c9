"""nginx as the far side: it answers as fast as it is asked, and its access log is the history of what arrived."""

import asyncio
import shutil

import numpy as np

from pushd.cli.children import free_port
from pushd.simulator.identity import Identity, ProviderKey
from tests.faults.children import put_away
from tests.faults.gateway import DEAD, FarSide, apns_token
from tests.faults.history import KEY_DIGITS, Pushes
from tests.mortal import mortal

CONFIG = """
daemon off;
master_process off;
user root;
pid {place}/nginx.pid;
error_log {place}/error.log;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    map $http_apns_id $push {{ "" 0; default 1; }}
    map $http_apns_id $cut {{ "" 1; default 0; }}
    log_format push '$msec $status $http_apns_id $uri';
    log_format cut '$msec $status $request_length $request';
    access_log {place}/pushes.log push if=$push;
    access_log {place}/cut.log cut if=$cut;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    http2_max_concurrent_streams 1000;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {place}/server.pem;
        ssl_certificate_key {place}/server.pem;
        location /3/device/{dead} {{ return 410 '{{"reason":"Unregistered"}}'; }}
        location / {{ return 200; }}
    }}
}}
"""
LINE = b"1763735000.123 200 00000001-0000-8000-8000-000000000001 /3/device/" + b"0" * 64 + b"\n"
"""Every line has this form: times, statuses, ids and tokens have fixed widths."""
CUT_STATUSES = ("000", "400", "499")
AT, STATUS, ID, TOKEN = 0, 15, 19, 66
START_S = 10.0
_HEX = np.full(256, 255, np.uint8)
_HEX[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


class Nginx(FarSide):
    """A running nginx with the face of `Gateway`. It checks nothing: what is asked of it is the simulator's concern."""

    def __init__(self, place, port):
        identity = Identity(place)
        key = ProviderKey()
        self.secrets = [apns_token(key.team_id, key.key_id, identity.pem(key.key_id))]
        self.settings = {
            "apns.production_host": "127.0.0.1",
            "apns.production_port": port,
            "apns.ca_file": identity.ca_file,
        }
        self._place = place
        self._log = place / "pushes.log"
        self._process = None

    @classmethod
    async def start(cls, place, port=0):
        """Starts it with its files in `place`; it listens when this returns."""
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        assert program, "nginx is not installed: apt-get install nginx"
        home = place / "nginx"
        home.mkdir()
        port = port or free_port()
        made = cls(home, port)
        config = home / "nginx.conf"
        config.write_text(CONFIG.format(place=home, port=port, dead=DEAD))
        made._process = await asyncio.create_subprocess_exec(
            *mortal(program, "-p", home, "-e", home / "error.log", "-c", config),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            await made._listens(port)
        except BaseException:
            await made.stop()
            raise
        return made

    async def _listens(self, port):
        async with asyncio.timeout(START_S):
            while True:
                assert self._process.returncode is None, (self._place / "error.log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    @property
    def pid(self):
        return self._process.pid

    async def stop(self):
        await put_away(self._process)

    async def total(self):
        """How many pushes arrived so far."""
        return self._log.stat().st_size // len(LINE)

    def cut(self):
        """What arrived of requests that were cut off before they said what they were."""
        return (self._place / "cut.log").read_text().splitlines()

    async def pushes(self):
        """Everything that arrived, as columns; what was cut off in its headers, nobody has seen."""
        assert all(line.split()[1] in CUT_STATUSES for line in self.cut()), self.cut()
        return await asyncio.to_thread(read, self._log)


def read(log):
    """The columns of an access log."""
    data = np.fromfile(log, np.uint8)
    assert len(data) % len(LINE) == 0, "a line that is no push"
    rows = data.reshape(-1, len(LINE))
    assert (rows[:, -1] == ord("\n")).all(), "a line that is no push"
    digits = [ID + place for place in (*range(8), *range(9, 13), *range(15, 18))]
    seconds = _decimal(rows[:, AT : AT + 10])
    return Pushes(
        at_ms=seconds * 1000 + _decimal(rows[:, AT + 11 : AT + 14]),
        notifications=_hexadecimal(rows[:, digits]).astype(np.int64),
        devices=_hexadecimal(rows[:, ID + 28 : ID + 36]).astype(np.int64),
        tokens=_hexadecimal(rows[:, TOKEN + 64 - KEY_DIGITS : TOKEN + 64]),
        statuses=_decimal(rows[:, STATUS : STATUS + 3]).astype(np.int16),
    )


def _decimal(digits):
    assert ((digits >= ord("0")) & (digits <= ord("9"))).all(), "a line that is no push"
    number = np.zeros(len(digits), np.int64)
    for column in digits.T:
        number = number * 10 + (column - ord("0"))
    return number


def _hexadecimal(digits):
    values = _HEX[digits]
    assert (values < 16).all(), "a line that is no push"
    number = np.zeros(len(values), np.uint64)
    for column in values.T:
        number = (number << np.uint64(4)) | column
    return number
