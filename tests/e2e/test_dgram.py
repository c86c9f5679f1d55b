"""Real guests on datagram sockets: several QEMUs on one ``--dgram`` path, and one on a descriptor, ``--fd``."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.daemon import GATEWAY, Daemon, wait_until
from tests.support.guest import image, mac
from tests.support.netns import Namespace
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.guest import Guest, GuestConfig

pytestmark = [pytest.mark.root, pytest.mark.guest]

#: Run the rest of the command line with a descriptor from a rendezvous as number 3, as a parent that starts
#: both sides would.
TAKE_DESCRIPTOR = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as meeting:
    meeting.connect(sys.argv[1])
    _, (fd,), _, _ = socket.recv_fds(meeting, 1, 1)
os.dup2(fd, 3, inheritable=True)
if fd != 3:
    os.close(fd)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder in which the guests' user, who is the daemon's too, makes sockets."""
    with tempfile.TemporaryDirectory(prefix="vdet-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def guest(evidence: Path, number: int, *network: str, prefix: tuple[str, ...] = ()) -> Guest:
    card = f"virtio-net-pci,id=net0-card,netdev=net0,mac={mac(number)},romfile="
    return Guest(
        GuestConfig(
            image=image(),
            evidence=evidence,
            network=("-netdev", *network, "-device", card),
            name=f"guest{number}",
            account=unprivileged_account(),
            prefix=prefix,
        )
    )


@pytest.mark.timeout(180)
def test_guests_on_one_path_reach_each_other_and_the_host(host: Namespace, place: Path) -> None:
    path = place / "dgram"
    user = f"--user={unprivileged_account().name}"
    with Daemon(host, user, f"--vmnet-gateway={GATEWAY}", f"--dgram={path}") as daemon, ExitStack() as guests:

        def start(number: int) -> Guest:
            local = f"dgram,id=net0,local.type=unix,local.path={place / f'guest{number}'}"
            network = f"{local},remote.type=unix,remote.path={path}"
            return guests.enter_context(guest(daemon.evidence, number, network))

        running = [start(1), start(2)]
        addresses = []
        for one in running:
            one.wait_ready()
            lease = one.request_lease()
            assert lease is not None, one.config.name
            addresses.append(str(lease["address"]))
        for one in running:
            for address in (GATEWAY, *addresses):
                assert one.run(f"ping -c 3 -i 0.2 -W 5 {address}").status == 0, (one.config.name, address)
        for address in addresses:
            assert host.succeeds("ping", "-c", "3", "-i", "0.2", "-W", "5", address)
        # QEMU was killed, and its name stays: the next one of that name is a new guest.
        running[1].close()
        wait_until(lambda: "unplugged" in daemon.log(), "it is missed")
        again = start(2)
        again.wait_ready()
        assert again.request_lease() is not None
        assert again.run(f"ping -c 3 -i 0.2 -W 5 {addresses[0]}").status == 0


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("kind", "network"),
    [
        (socket.SOCK_DGRAM, "dgram,id=net0,local.type=fd,local.str=3"),
        (socket.SOCK_STREAM, "stream,id=net0,addr.type=fd,addr.str=3"),
    ],
    ids=["dgram", "stream"],
)
def test_a_guest_on_a_descriptor_has_a_network_as_long_as_it_lives(
    host: Namespace, place: Path, kind: socket.SocketKind, network: str
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    options = ("--backend=linux", f"--vmnet-gateway={GATEWAY}", f"--fd={ours.fileno()}")
    log = place / "log"
    with ExitStack() as closing:
        meeting = closing.enter_context(socket.socket(socket.AF_UNIX))
        meeting.bind(str(place / "meeting"))
        (place / "meeting").chmod(0o777)
        meeting.listen()
        daemon = subprocess.Popen(
            host.command(sys.executable, "-m", "vde_vmnet", *options, f"--pidfile={place / 'pid'}"),
            pass_fds=[ours.fileno()],
            stderr=closing.enter_context(log.open("w")),
        )
        closing.callback(daemon.wait)
        closing.callback(daemon.terminate)
        ours.close()
        wait_until((place / "pid").exists, "ready")
        taking = (sys.executable, "-c", TAKE_DESCRIPTOR, str(place / "meeting"))
        with guest(place, 1, network, prefix=taking) as one:
            connection, _ = meeting.accept()
            socket.send_fds(connection, [b"x"], [theirs.fileno()])
            connection.close()
            theirs.close()
            one.wait_ready()
            lease = one.request_lease()
            assert lease is not None
            assert one.run(f"ping -c 3 -i 0.2 -W 5 {GATEWAY}").status == 0
            assert host.succeeds("ping", "-c", "3", "-i", "0.2", "-W", "5", str(lease["address"]))
            assert daemon.poll() is None
        assert daemon.wait(20) == 0, log.read_text()
        assert "the network ends with it" in log.read_text()
