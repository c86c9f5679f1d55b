"""The simulated framework's world, seen by guests: DHCP, gateway, NAT, host mode, bridged mode, isolation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace, wire
from tests.support.vmnet_client import Relay
from tests.support.vmnet_sim import Fabric
from tests.system.linux_uplink import ask_for_lease, picture, processes

pytestmark = pytest.mark.root


@pytest.fixture
def guest() -> Iterator[Namespace]:
    with Namespace("guest") as namespace:
        yield namespace


def test_a_shared_guest_gets_a_lease_and_reaches_gateway_and_world(
    mac: Namespace, fabric: Fabric, guest: Namespace, tmp_path: Path
) -> None:
    with Namespace("world") as world:
        wire(mac, "en0", world, "eth0")
        mac.run("ip", "address", "add", "203.0.113.1/24", "dev", "en0")
        world.run("ip", "address", "add", "203.0.113.2/24", "dev", "eth0")
        relay = Relay(mac, fabric, guest, operation_mode="shared")
        assert relay.facts["start_address"] == "192.168.64.1"
        lease = ask_for_lease(guest, tmp_path)
        assert lease.startswith("LEASE 192.168.64.") and "router=192.168.64.1 dns=192.168.64.1" in lease
        assert guest.succeeds("ping", "-c", "1", "-W", "2", "192.168.64.1")
        assert guest.succeeds("ping", "-c", "1", "-W", "2", "203.0.113.2")
        relay.close()


def test_nothing_is_left_when_the_last_interface_stops_or_its_program_is_killed(
    mac: Namespace, fabric: Fabric, guest: Namespace
) -> None:
    def look() -> dict[str, str]:
        return {what: state for what, state in picture(mac).items() if what != "processes"}

    before = look()
    for end in (Relay.close, Relay.kill):
        relay = Relay(mac, fabric, guest, operation_mode="shared")
        assert look()["links"] != before["links"]
        end(relay)
        fabric.settle()
        assert look()["links"] == before["links"]
        assert look()["rules"] == before["rules"]
    fabric.close()
    assert look() == before
    assert not processes(mac, "dnsmasq") and not processes(mac, "relay")
