"""sd_notify against a real datagram socket."""

import os
import socket

import pytest

from pushd.cli.notify import Notifier


@pytest.fixture
def supervisor(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(1)
        yield channel


def test_each_state_is_one_datagram(supervisor):
    notifier = Notifier({"NOTIFY_SOCKET": supervisor.getsockname()})
    notifier.ready()
    notifier.alive()
    notifier.stopping()
    notifier.status("sending")
    notifier.reloading()
    received = [supervisor.recv(256).decode() for _ in range(5)]
    assert received[:4] == ["READY=1", "WATCHDOG=1", "STOPPING=1", "STATUS=sending"]
    assert received[4].startswith("RELOADING=1\nMONOTONIC_USEC=")


def test_an_abstract_socket_works_too():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(f"\0pushd-test-{os.getpid()}")
        channel.settimeout(1)
        Notifier({"NOTIFY_SOCKET": f"@pushd-test-{os.getpid()}"}).ready()
        assert channel.recv(64) == b"READY=1"


def test_without_a_supervisor_nothing_happens():
    notifier = Notifier({})
    notifier.ready()
    assert notifier.watchdog_s == 0


@pytest.mark.parametrize(
    ("pid", "seconds"), [(None, 20.0), (str(os.getpid()), 20.0), ("1", 0.0)], ids=["unnamed", "ours", "another's"]
)
def test_the_watchdog_is_ours_or_it_is_not(pid, seconds):
    environ = {"WATCHDOG_USEC": "20000000"} | ({"WATCHDOG_PID": pid} if pid else {})
    assert Notifier(environ).watchdog_s == seconds
