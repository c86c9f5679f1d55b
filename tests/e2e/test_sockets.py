"""Real guests on one network through every socket: VDE, QEMU stream, and socket_vmnet_client's descriptor 3."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.daemon import GATEWAY, Daemon
from tests.support.guest import image, mac
from tests.support.netns import Namespace
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.guest import Guest, GuestConfig, vde_network

pytestmark = [pytest.mark.root, pytest.mark.guest]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter and only root may change."""
    with tempfile.TemporaryDirectory(prefix="vdet-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def card(number: int) -> tuple[str, str]:
    return "-device", f"virtio-net-pci,id=net0-card,netdev=net0,mac={mac(number)},romfile="


def guest(daemon: Daemon, number: int, *network: str, prefix: tuple[str, ...] = ()) -> Guest:
    return Guest(
        GuestConfig(
            image=image(),
            evidence=daemon.evidence,
            network=network,
            name=f"guest{number}",
            account=unprivileged_account(),
            prefix=prefix,
        )
    )


@pytest.mark.timeout(180)
def test_guests_on_every_kind_of_socket_reach_each_other_and_the_host(host: Namespace, place: Path) -> None:
    path = place / "stream"
    client = (sys.executable, "-c", "from vde_vmnet.cli.socket_vmnet import client_main; client_main()")
    with (
        Daemon(host, f"--vmnet-gateway={GATEWAY}", f"--stream={path}") as daemon,
        ExitStack() as guests,
    ):
        running = [
            guest(daemon, 1, *vde_network(daemon.directory, mac(1))),
            guest(daemon, 2, "-netdev", f"stream,id=net0,addr.type=unix,addr.path={path}", *card(2)),
            guest(daemon, 3, "-netdev", "socket,id=net0,fd=3", *card(3), prefix=(*client, str(path))),
        ]
        for one in running:
            guests.enter_context(one)
        addresses = []
        for one in running:
            one.wait_ready()
            lease = one.request_lease()
            assert lease is not None, one.config.name
            addresses.append(lease["address"])
        for one in running:
            for address in (GATEWAY, *addresses):
                assert one.run(f"ping -c 2 -i 0.2 -W 5 {address}").status == 0, (one.config.name, address)
        for address in addresses:
            assert host.succeeds("ping", "-c", "2", "-i", "0.2", "-W", "5", address)
        # A guest that is gone leaves its port; the others go on.
        running[1].close()
        assert running[2].run(f"ping -c 2 -i 0.2 -W 5 {addresses[0]}").status == 0
