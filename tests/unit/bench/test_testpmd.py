"""bench/testpmd.py and bench/systems/cards.py: what is read from a program, and what QEMU is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.errors import BenchError
from bench.segment import guest_address, guest_mac
from bench.systems import cards
from bench.testpmd import received

# As dpdk-testpmd 22.11 says it.
_STATISTICS = """
  ######################## NIC statistics for port 0  ########################
  RX-packets: 3975232    RX-missed: 0          RX-bytes:  254414848
  RX-errors: 0
  RX-nombuf:  0
  TX-packets: 3975264    TX-errors: 0          TX-bytes:  254416896

  ######################## NIC statistics for port 1  ########################
  RX-packets: 8          RX-missed: 0          RX-bytes:  512
  TX-packets: 3975040    TX-errors: 0          TX-bytes:  254402560
"""


def test_received_frames_of_all_ports_are_added() -> None:
    assert received(_STATISTICS) == 3975240


def test_no_statistics_is_an_error() -> None:
    with pytest.raises(BenchError, match="no statistics: 'Command not found"):
        received("Command not found\n")


def test_a_guest_on_vhost_user_shares_all_its_memory() -> None:
    options = cards.vhost_user(lambda number: Path(f"/run/guest-{number}"))(3)
    assert f"memory-backend-memfd,id=shared,size={cards.GUEST_MEMORY_MIB}M,share=on" in options
    assert "socket,id=wire,path=/run/guest-3" in options
    assert "vhost-user,id=net0,chardev=wire" in options
    # QEMU 7.2 crashes otherwise.
    assert options[-1].endswith(",vectors=0")


def test_the_rivals_tap_has_no_help_of_the_kernel() -> None:
    assert "tap,id=net0,ifname=tap7,script=no,downscript=no,vhost=off" in cards.tap("tap7", msix=True)(0)


@pytest.mark.parametrize(
    "card",
    [
        cards.vde(Path("/s")),
        cards.stream(Path("/s")),
        cards.tap("t", msix=True),
        cards.tap("t", msix=False),
        cards.vhost_user(lambda number: Path(f"/{number}")),
    ],
)
def test_all_wires_lead_to_the_same_card(card: cards.Card) -> None:
    device = card(1)[-1]
    assert device.startswith("virtio-net-pci,") and "netdev=net0" in device
    assert f"mac={guest_mac(1)}" in device and "romfile=" in device


def test_guests_have_addresses_of_their_own() -> None:
    assert len({guest_mac(number) for number in range(17)}) == 17
    assert guest_address(16) == "192.168.105.18"
