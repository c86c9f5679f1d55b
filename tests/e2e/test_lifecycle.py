"""Guests that come and go, a network without DHCP, and other kinds of guests."""

from __future__ import annotations

import pytest

from tests.support.daemon import GATEWAY, Daemon
from tests.support.guest import boot, mac, start
from tests.support.netns import Namespace
from vde_vmnet.demo.guest import Guest

pytestmark = [pytest.mark.root, pytest.mark.guest]


def unplug(guest: Guest) -> None:
    """Take the card out of the running guest, and its cable."""
    guest.monitor("device_del", {"id": "net0-card"})
    guest.wait_monitor_event("DEVICE_DELETED")
    guest.monitor("netdev_del", {"id": "net0"})


def plug(guest: Guest, daemon: Daemon, number: int) -> None:
    """The other way round; returns when the guest has the card."""
    guest.monitor("netdev_add", {"type": "vde", "id": "net0", "sock": str(daemon.directory)})
    card = {"driver": "virtio-net-pci", "id": "net0-card", "netdev": "net0", "mac": mac(number), "romfile": ""}
    guest.monitor("device_add", card)
    guest.check("until [ -e /sys/class/net/eth0 ]; do usleep 50000; done")


def test_a_guest_unplugs_and_plugs_again(daemon: Daemon, guest_online: Guest) -> None:
    guest = guest_online
    address = guest.check("ip -4 -o address show dev eth0").split()[3]
    for _ in range(2):
        unplug(guest)
        assert not daemon.host.succeeds("ping", "-c", "1", "-W", "1", address.partition("/")[0])
        plug(guest, daemon, 1)
        lease = guest.request_lease()
        assert lease is not None
        assert f"{lease['address']}/{lease['prefix']}" == address
        assert guest.run(f"ping -c 1 -W 2 {GATEWAY}").status == 0
    assert daemon.log().count("plugged in") == 3
    # Ports are given up with their guest: the same lowest number each time, and one socket file.
    assert "port 2 " not in daemon.log()
    assert len(list(daemon.directory.glob("[0-9]*"))) == 1


def test_a_guest_that_is_killed_and_boots_again_gets_the_same_lease(daemon: Daemon) -> None:
    addresses = []
    for _ in range(2):
        with boot(daemon, 1) as guest:
            lease = guest.request_lease()
            assert lease is not None
            addresses.append(lease["address"])
    assert addresses[0] == addresses[1]
    assert daemon.host.run("ls", str(daemon.directory)).split() == ["ctl"]


def test_a_range_that_is_used_up_is_not_left(host: Namespace) -> None:
    with (
        Daemon(host, f"--vmnet-gateway={GATEWAY}", "--vmnet-dhcp-end=192.168.105.2") as daemon,
        start(daemon, 1) as one,
        start(daemon, 2) as other,
    ):
        one.wait_ready()
        lease = one.request_lease()
        assert lease is not None
        assert lease["address"] == "192.168.105.2"
        other.wait_ready()
        assert other.request_lease(tries=2) is None
        assert "no address available" in daemon.log()


def test_without_dhcp_nobody_answers_and_a_static_address_works(host: Namespace) -> None:
    with (
        Daemon(host, f"--vmnet-gateway={GATEWAY}", "--vmnet-disable-dhcp") as daemon,
        boot(daemon, 1) as guest,
    ):
        assert guest.request_lease(tries=3) is None
        guest.check("ip address add 192.168.105.50/24 dev eth0")
        assert guest.run(f"ping -c 1 -W 2 {GATEWAY}").status == 0
        assert "DHCPDISCOVER" not in daemon.log()


def test_without_an_uplink_guests_have_each_other(host: Namespace) -> None:
    with Daemon(host, "--backend=none") as daemon, boot(daemon, 1) as one, boot(daemon, 2) as other:
        assert "vmnet" not in host.run("ip", "link")
        for number, guest in ((1, one), (2, other)):
            guest.check(f"ip address add 10.9.8.{number}/24 dev eth0 && ip link set eth0 up")
        assert one.run("ping -c 2 -i 0.2 -W 2 10.9.8.2").status == 0
        assert other.run("ping -c 2 -i 0.2 -W 2 10.9.8.1").status == 0
