"""The keeper against a forked worker that is one function: statuses, requests, signals, dying services."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import NoReturn

import pytest

from vde_vmnet.addresses import Forward, Reservation
from vde_vmnet.errors import InternalError, UnavailableError, UplinkError
from vde_vmnet.keeper import Keeper, KeeperChannel

Work = Callable[[socket.socket], int]


def keep(
    work: Work,
    *,
    on_ready: Callable[[], object] = lambda: None,
    open_guest_mac: Callable[[str], tuple[int, str]] | None = None,
    lead_forward: Callable[[int, IPv4Address], None] | None = None,
    before: Callable[[int], None] = lambda worker: None,
) -> int:
    """Fork ``work`` and keep it; returns what ``Keeper.run`` returns. ``before`` gets the worker's pid."""
    ours, theirs = socket.socketpair()
    worker = os.fork()
    if worker == 0:
        ours.close()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        status = 99  # whatever it raises: a forked pytest must not go on
        try:
            status = work(theirs)
        finally:
            os._exit(status)
    theirs.close()
    before(worker)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def refuse(mac: str) -> tuple[int, str]:
        raise UplinkError(f"No descriptor for {mac}")

    def forward(rule: Forward, on: bool) -> None:
        raise UnavailableError(f"{rule}, {on}: not here")

    def reserve(one: Reservation, on: bool) -> None:
        raise UnavailableError(f"{one}, {on}: not here")

    try:
        with ours:
            return Keeper(
                ours,
                worker,
                on_ready=on_ready,
                open_guest_mac=open_guest_mac or refuse,
                reserve=reserve,
                lead_forward=lead_forward,
                forward=forward,
                reload=str,
            ).run()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def sleep_for_ever(_channel: socket.socket) -> NoReturn:
    while True:
        signal.pause()


@pytest.mark.parametrize("status", [0, 1, 6])
def test_the_worker_s_status_is_the_daemon_s(status: int) -> None:
    assert keep(lambda _: status) == status


def test_ready_is_passed_on_and_acknowledged() -> None:
    told = []

    def work(channel: socket.socket) -> int:
        KeeperChannel(channel).ready()
        return 0

    assert keep(work, on_ready=lambda: told.append("ready")) == 0
    assert told == ["ready"]


def test_a_descriptor_for_a_guest_mac() -> None:
    read_end, write_end = os.pipe()

    def work(channel: socket.socket) -> int:
        fd, name = KeeperChannel(channel).open_guest_mac("52:54:00:00:00:01")
        os.write(fd, name.encode())
        return 0

    assert keep(work, open_guest_mac=lambda mac: (write_end, f"tap for {mac}")) == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(write_end)  # the keeper keeps no copy
    assert os.read(read_end, 99) == b"tap for 52:54:00:00:00:01"
    os.close(read_end)


def test_a_forward_that_follows_its_guest() -> None:
    led = []

    def lead(number: int, address: IPv4Address) -> None:
        if number:
            raise UplinkError(f"There is no forward number {number}")
        led.append(address)

    def work(channel: socket.socket) -> int:
        keeper = KeeperChannel(channel)
        keeper.lead_forward(0, IPv4Address("192.168.105.9"))
        with pytest.raises(UplinkError, match="no forward number 1"):
            keeper.lead_forward(1, IPv4Address("192.168.105.9"))
        for request in (
            b'{"do": "lead", "forward": [], "address": "192.168.105.9"}',
            b'{"do": "lead", "forward": 0, "address": "a name"}',
        ):
            channel.sendall(request + b"\n")
            assert b'"kind": "ValueError"' in channel.recv(4096).replace(b"AddressValueError", b"ValueError")
        return 0

    assert keep(work, lead_forward=lead) == 0
    assert led == [IPv4Address("192.168.105.9")]


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (b'{"do": "lead", "forward": 0, "address": "192.168.105.9"}\n', b"unknown request"),
        (b"garbage\n", b"error"),
        (b'{"do": "reboot"}\n', b"unknown request"),
        (b'{"do": "open_guest_mac", "mac": "../../etc"}\n', b"not a MAC address"),
        (b'{"do": "open_guest_mac", "mac": "52:54:00:00:00:01", "more": 1}\n', b"unknown request"),
        (b'{"do": "open_guest_mac", "mac": "52:54:00:00:00:01"}\n', b"No descriptor"),
        (b"[[[\n", b"error"),
        (b"\xff\xfe\n", b"error"),
    ],
)
def test_requests_are_checked_as_a_stranger_s(request_line: bytes, answer: bytes) -> None:
    def work(channel: socket.socket) -> int:
        channel.sendall(request_line)
        return 0 if answer in channel.recv(4096) else 9

    assert keep(work) == 0


def test_a_request_without_end_stops_the_worker() -> None:
    def work(channel: socket.socket) -> int:
        channel.sendall(b"x" * 20000)
        sleep_for_ever(channel)

    with pytest.raises(InternalError, match="SIGTERM"):
        keep(work)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_reaches_the_worker_as_sigterm(number: int) -> None:
    def work(channel: socket.socket) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        KeeperChannel(channel).ready()
        return 0 if signal.sigwait([signal.SIGTERM]) else 9

    assert keep(work, on_ready=lambda: signal.raise_signal(number)) == 0


def test_a_killed_worker_is_told_apart_from_one_that_ended() -> None:
    with pytest.raises(InternalError, match="ended by SIGKILL"):
        keep(sleep_for_ever, before=lambda worker: os.kill(worker, signal.SIGKILL))


def test_a_worker_that_does_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vde_vmnet.keeper._STOP_SECONDS", 0.05)

    def work(channel: socket.socket) -> int:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        KeeperChannel(channel).ready()
        sleep_for_ever(channel)

    with pytest.raises(InternalError, match="SIGKILL"):
        keep(work, on_ready=lambda: signal.raise_signal(signal.SIGTERM))


def test_a_service_that_ends_takes_the_network_down() -> None:
    service = subprocess.Popen(["sh", "-c", "read line; exit 3"], stdin=subprocess.PIPE)
    stdin = service.stdin
    assert stdin is not None

    def work(channel: socket.socket) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        KeeperChannel(channel).ready()
        signal.sigwait([signal.SIGTERM])
        return 0

    with pytest.raises(UplinkError, match=r"sh \(pid \d+\), which the network needs, ended with status 3"):
        keep(work, on_ready=lambda: os.write(stdin.fileno(), b"\n"))
    service.returncode = 3  # reaped by the keeper
    stdin.close()


def test_the_worker_sees_the_keeper_go() -> None:
    ours, theirs = socket.socketpair()
    gone = threading.Event()
    with theirs:
        watcher = threading.Thread(target=lambda: gone.set() if theirs.recv(1) == b"" else None)
        watcher.start()
        ours.close()
        assert gone.wait(5)
        watcher.join()
        with pytest.raises(UplinkError, match="The keeper is gone"):
            KeeperChannel(theirs).ready()
