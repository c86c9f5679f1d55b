"""A real guest without any switch: QEMU's ``sock=ptp://PATH`` with Debian's libvdeplug (vdeplug4 4.0.1)."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.support.daemon import GATEWAY
from tests.support.guest import image, mac
from tests.support.netns import Namespace
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.daemon_process import DaemonProcess
from vde_vmnet.demo.guest import Guest, GuestConfig

pytestmark = [pytest.mark.root, pytest.mark.guest]


@pytest.mark.timeout(180)
def test_a_guest_comes_goes_and_comes_back(host: Namespace) -> None:
    account = unprivileged_account()
    with tempfile.TemporaryDirectory(prefix="vdet-") as name:
        place = Path(name)
        # Both the daemon's user, which is the guest's here, and QEMU make sockets in it.
        pair = place / "pair"
        pair.mkdir()
        place.chmod(0o755)
        pair.chmod(0o777)
        with DaemonProcess(
            Path(f"{pair / 'p'}[]"),
            (f"--vmnet-gateway={GATEWAY}", f"--user={account.name}", f"--vde-group={account.group}"),
            pidfile=place / "pid",
            log=place / "log",
            prefix=host.command(),
        ) as daemon:
            daemon.wait_ready()
            for number in range(2):
                config = GuestConfig(
                    image=image(),
                    evidence=place,
                    network=(
                        *("-netdev", f"vde,id=net0,sock=ptp://{pair / 'p'}"),
                        *("-device", f"virtio-net-pci,netdev=net0,mac={mac(1)},romfile="),
                    ),
                    name=f"guest{number}",
                    account=account,
                )
                with Guest(config) as guest:
                    guest.wait_ready()
                    lease = guest.request_lease()
                    assert lease is not None
                    assert guest.run(f"ping -c 1 -W 5 {GATEWAY}").status == 0
                    assert host.succeeds("ping", "-c", "1", "-W", "5", str(lease["address"]))
                # QEMU was killed, which only looking reveals.
                while daemon.log.read_text().count(" left") <= number:
                    host.run("true")
        assert daemon.process.returncode == 0
        assert not (pair / "p").exists()
