"""Real guests that share their memory, beside others: leases, super-frames, restarts of either side."""

from __future__ import annotations

import hashlib
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.daemon import GATEWAY, Daemon, wait_until
from tests.support.guest import image, mac, start, vhost_user_network
from tests.support.netns import Namespace
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.guest import Guest, GuestConfig
from vde_vmnet.demo.traffic import HttpServer, fetch

pytestmark = [pytest.mark.root, pytest.mark.guest]

#: Enough that a connection has grown its window for most of it.
_BODY = random.Random(5).randbytes(8 << 20)


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a socket can be, in a folder that everybody may enter and only root may change."""
    with tempfile.TemporaryDirectory(prefix="vdet-") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "vhost"


@pytest.fixture
def daemon(host: Namespace, path: Path) -> Iterator[Daemon]:
    """A shared network with a vhost-user socket."""
    with Daemon(host, f"--vmnet-gateway={GATEWAY}", f"--vhost-user={path}") as running:
        yield running


def sharing(daemon: Daemon, path: Path, number: int) -> Guest:
    """A guest that is started, not yet booted."""
    return Guest(
        GuestConfig(
            image=image(),
            evidence=daemon.evidence,
            network=vhost_user_network(path, mac(number)),
            name=f"guest{number}",
            account=unprivileged_account(),
        )
    )


def online(guest: Guest) -> str:
    """Its address, once it is booted and has one."""
    guest.wait_ready()
    lease = guest.request_lease()
    assert lease is not None
    return lease["address"]


def average(guest: Guest, way: str, do: Callable[[], object]) -> float:
    """Bytes of the frames that its card counts, that way, while something is done."""
    ask = f"cd /sys/class/net/eth0/statistics; cat {way}_packets {way}_bytes"
    frames, octets = map(int, guest.check(ask).split())
    do()
    frames_after, octets_after = map(int, guest.check(ask).split())
    assert octets_after - octets > len(_BODY)
    return (octets_after - octets) / (frames_after - frames)


@pytest.mark.timeout(120)
def test_a_guest_has_its_lease_meets_others_and_moves_super_frames(
    host: Namespace, daemon: Daemon, path: Path
) -> None:
    with (
        sharing(daemon, path, 1) as one,
        sharing(daemon, path, 2) as two,
        start(daemon, 3) as other,
        HttpServer(host.path, GATEWAY, 80, _BODY) as server,
    ):
        addresses = [online(guest) for guest in (one, two, other)]
        for guest in (one, two, other):
            for address in (GATEWAY, *addresses):
                assert guest.run(f"ping -c 2 -i 0.2 -W 5 {address}").status == 0, (guest.config.name, address)
        two.check(f"wget -q -O /tmp/body http://{GATEWAY}/ && httpd -p 80 -h /tmp")
        assert server.clients == [addresses[1]]
        # Each counts what it gets or gives in pieces far above the MTU: nothing was cut between the two.
        assert average(one, "rx", lambda: fetched(one, GATEWAY)) > 4000
        assert average(one, "rx", lambda: fetched(one, addresses[1])) > 4000
        assert average(two, "tx", lambda: fetched(one, addresses[1])) > 4000
        assert average(two, "tx", lambda: from_host(host, addresses[1])) > 4000
        # One that takes no super-frames gets ordinary ones, with the same bytes in them.
        assert average(other, "rx", lambda: fetched(other, addresses[1])) < 1600


def fetched(guest: Guest, address: str) -> None:
    said = guest.check(
        f"wget -q -O - http://{address}/{'body' if address != GATEWAY else ''} | md5sum", seconds=60
    )
    assert said.split()[0] == hashlib.md5(_BODY, usedforsecurity=False).hexdigest()


def from_host(host: Namespace, address: str) -> None:
    assert fetch(host.path, address, 80, path="/body", seconds=60) == _BODY


@pytest.mark.timeout(120)
def test_the_daemon_starts_again_and_so_does_a_guest(host: Namespace, daemon: Daemon, path: Path) -> None:
    with sharing(daemon, path, 1) as one:
        address = online(one)
        for _ in range(2):
            assert daemon.stop() == 0
            daemon.restart()
            # QEMU tries again once a second.
            wait_until(lambda: "plugged in" in daemon.log().rpartition("Uplink:")[2], "it is plugged in again")
            assert one.run(f"ping -c 5 -i 0.2 -W 5 {GATEWAY}").status == 0
            assert host.succeeds("ping", "-c", "2", "-i", "0.2", "-W", "5", address)
        one.close()
        wait_until(lambda: "unplugged" in daemon.log(), "it is unplugged")
    with sharing(daemon, path, 1) as again:
        assert online(again) == address
        assert again.run(f"ping -c 2 -i 0.2 -W 5 {GATEWAY}").status == 0


@pytest.mark.timeout(60)
def test_more_queues_than_there_are_is_refused_by_qemu(daemon: Daemon, path: Path) -> None:
    command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-m", "192"]
    command += vhost_user_network(path, mac(1), queues=2)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as qemu:
        assert qemu.stderr is not None
        said = qemu.stderr.readline()
        qemu.kill()  # with reconnect= it would try for ever
    assert "you are asking more queues than supported: 1" in said
