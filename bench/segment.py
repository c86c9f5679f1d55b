"""Addresses on the segment that every system under test provides, and the names of guests there. Pure."""

from __future__ import annotations

__all__ = ["GATEWAY", "IPERF3_PORT", "PREFIX_LENGTH", "guest_address", "guest_mac"]

#: The host's address, where there is an uplink; guests take addresses of the same network.
GATEWAY = "192.168.105.1"
PREFIX_LENGTH = 24
IPERF3_PORT = 5201

_FIRST = 2


def guest_address(number: int = 0) -> str:
    """Of the guest that was the ``number``-th to boot."""
    return f"192.168.105.{_FIRST + number}"


def guest_mac(number: int = 0) -> str:
    return f"52:54:00:be:7c:{_FIRST + number:02x}"
