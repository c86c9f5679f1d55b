"""``vde_vmnet run -- qemu-system-x86_64 …``: real guests on private and running networks."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import GATEWAY, Daemon, wait_until, watch_end
from tests.support.guest import image
from tests.support.netns import Namespace
from tests.system.running import children, command_line, leftovers
from vde_vmnet.demo.accounts import credentials_of, unprivileged_account
from vde_vmnet.demo.guest import Guest, GuestConfig

pytestmark = [pytest.mark.root, pytest.mark.guest, pytest.mark.timeout(180)]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter and only root may change."""
    with tempfile.TemporaryDirectory(prefix="vdet-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def guest(host: Namespace, evidence: Path, number: int, *options: str, network: tuple[str, ...] = ()) -> Guest:
    """QEMU in ``host``, started by ``vde_vmnet run`` as the unprivileged user calls it under sudo."""
    return Guest(
        GuestConfig(
            image=image(),
            evidence=evidence,
            network=network,
            name=f"guest{number}",
            prefix=(
                *host.command("env", f"SUDO_UID={unprivileged_account().uid}"),
                *(sys.executable, "-m", "vde_vmnet", "run", *options, "--"),
            ),
        )
    )


def qemu_of(running: Guest) -> int:
    """Its pid: of the children of ``run``, the one that is not the daemon."""
    (pid,) = [pid for pid in children(running.process.pid) if "qemu-system" in command_line(pid)]
    return pid


def test_a_guest_on_a_private_network(host: Namespace, tmp_path: Path) -> None:
    before = leftovers()
    with guest(host, tmp_path, 1, f"--vmnet-gateway={GATEWAY}") as running:
        running.wait_ready()
        lease = running.request_lease()
        assert lease is not None and lease["router"] == GATEWAY
        assert running.run(f"ping -c 2 -i 0.2 -W 5 {GATEWAY}").status == 0
        assert host.succeeds("ping", "-c", "2", "-i", "0.2", "-W", "5", lease["address"])
        qemu = qemu_of(running)
        assert credentials_of(qemu).rootless
        ends = [watch_end(pid) for pid in children(running.process.pid)]
        # An orderly end: QEMU's status is the command's, and the network is gone before we are.
        running.monitor("quit")
        assert running.process.wait(20) == 0
        for end in ends:
            end()
    assert leftovers() == before
    assert "vmnet-" not in host.run("ip", "link")


def test_guests_on_a_running_network_and_their_addresses(host: Namespace, place: Path) -> None:
    stream = place / "stream"
    before = leftovers()
    with Daemon(host, f"--vmnet-gateway={GATEWAY}", f"--stream={stream}") as daemon:
        card = "-device", "virtio-net-pci,netdev=vmnet0,romfile="
        with (
            guest(host, daemon.evidence, 1, f"--network={daemon.directory}") as one,
            guest(host, daemon.evidence, 2, f"--network={stream}", network=card) as two,
        ):
            for running in (one, two):
                running.wait_ready()
            leases = [running.request_lease() for running in (one, two)]
            macs = [running.check("cat /sys/class/net/eth0/address").strip() for running in (one, two)]
            # Not QEMU's default, which two guests would share; also where the card is the caller's own.
            assert len({*macs, "52:54:00:12:34:56"}) == 3
            for lease in leases:
                assert lease is not None
                assert host.succeeds("ping", "-c", "2", "-i", "0.2", "-W", "5", lease["address"])
                assert one.run(f"ping -c 2 -i 0.2 -W 5 {lease['address']}").status == 0
            killed = qemu_of(one), qemu_of(two)
            ends = [watch_end(pid) for pid in killed]
        # Leaving the block was kill -9 of both `run`s.
        for end in ends:
            end()
        wait_until(lambda: daemon.log().count("unplugged") == 2, "both guests are unplugged")
    assert leftovers() == before
