"""uplinks/followers: a forward goes where the guest's lease is, also one that was added later."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from vde_vmnet.addresses import Forward, NamedForward
from vde_vmnet.errors import ConflictError
from vde_vmnet.uplinks.followers import Followers, LaterFollowers

_MAC = "52:54:00:00:00:01"
_BY_NAME = NamedForward.parse("2222:web:22")
_BY_MAC = NamedForward.parse(f"udp:5353:{_MAC}:53")
_TWO, _THREE = (IPv4Address(f"192.168.105.{number}") for number in (2, 3))


class _Table:
    """What leads where, as a firewall has it: one way for each port of the host."""

    def __init__(self) -> None:
        self.ways: dict[int, Forward] = {}
        self.refuses = False

    def forward(self, rule: Forward, on: bool) -> None:
        if on and (self.refuses or rule.host_port in self.ways):
            raise ConflictError(f"{rule}: taken", next_step="Choose another")
        if on:
            self.ways[rule.host_port] = rule
        else:
            assert self.ways.pop(rule.host_port) == rule


def test_those_from_the_start_are_led_once_for_each_change() -> None:
    led: list[tuple[int, IPv4Address]] = []
    followers = Followers([_BY_NAME, _BY_MAC], lambda place, address: led.append((place, address)))
    for mac, address, name in [
        (_MAC, "192.168.105.2", None),
        (_MAC, "192.168.105.2", None),
        ("52:54:00:00:00:09", "192.168.105.3", "WEB"),
        (_MAC, "192.168.105.3", "other"),
    ]:
        followers.lease(mac, address, name)
    assert led == [(1, _TWO), (0, _THREE), (1, _THREE)]


def test_a_later_one_moves_with_the_lease() -> None:
    table = _Table()
    followers = LaterFollowers(table.forward)
    followers.add(_BY_NAME, _TWO)
    followers.add(_BY_MAC, _TWO)
    assert list(table.ways.values()) == [_BY_NAME.to(_TWO), _BY_MAC.to(_TWO)]
    followers.lease(_MAC, "192.168.105.3", "web")
    followers.lease("52:54:00:00:00:09", "192.168.105.2", "somebody")
    assert list(table.ways.values()) == [_BY_NAME.to(_THREE), _BY_MAC.to(_THREE)]
    followers.remove(_BY_NAME)
    followers.lease(_MAC, "192.168.105.2", "web")
    assert list(table.ways.values()) == [_BY_MAC.to(_TWO)]


def test_a_later_one_that_is_refused_is_not_there() -> None:
    table = _Table()
    followers = LaterFollowers(table.forward)
    table.refuses = True
    with pytest.raises(ConflictError):
        followers.add(_BY_NAME, _TWO)
    table.refuses = False
    followers.lease(_MAC, "192.168.105.3", "web")
    assert table.ways == {}


def test_one_that_cannot_move_is_tried_again_with_the_next_lease(caplog: pytest.LogCaptureFixture) -> None:
    table = _Table()
    followers = LaterFollowers(table.forward)
    followers.add(_BY_NAME, _TWO)
    table.refuses = True
    followers.lease(_MAC, "192.168.105.3", "web")
    assert table.ways == {}
    assert "taken" in caplog.text
    table.refuses = False
    followers.lease(_MAC, "192.168.105.3", "web")
    assert list(table.ways.values()) == [_BY_NAME.to(_THREE)]
    followers.remove(_BY_NAME)
    assert table.ways == {}
