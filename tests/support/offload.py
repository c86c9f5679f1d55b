"""Frames as hosts with and without offloads send them, by scapy: whole, unfinished, and in pieces."""

from __future__ import annotations

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

__all__ = ["data_of", "folded_sum", "is_right", "pieces", "unfinished"]

#: Where the checksum is in the transport header.
_CHECKSUM_AT = {TCP: 16, UDP: 6}


def folded_sum(data: bytes) -> int:
    """RFC 1071, not complemented."""
    data += bytes(len(data) % 2)
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _pseudo_header(packet: Packet, layer: type[Packet]) -> bytes:
    network = packet[IPv6] if IPv6 in packet else packet[IP]
    ends = bytes(network)[8:40] if IPv6 in packet else bytes(network)[12:20]
    return ends + len(packet[layer]).to_bytes(4, "big") + (6 if layer is TCP else 17).to_bytes(4, "big")


def unfinished(packet: Packet) -> bytes:
    """``packet`` with the pseudo-header's sum alone in TCP's or UDP's checksum, as it is left to hardware."""
    layer = UDP if UDP in packet else TCP
    whole = bytes(packet)
    at = len(whole) - len(packet[layer]) + _CHECKSUM_AT[layer]
    return whole[:at] + folded_sum(_pseudo_header(packet, layer)).to_bytes(2, "big") + whole[at + 2 :]


def is_right(frame: bytes) -> bool:
    """Whether scapy computes the checksums of IPv4 and TCP or UDP that the frame has."""
    packet = Ether(frame)
    for layer in (IP, TCP, UDP):
        if layer in packet:
            del packet[layer].chksum
    return bytes(packet) == frame


def pieces(packet: Packet, size: int) -> list[bytes]:
    """What a host without offloads sends for a TCP ``packet``: segments with ``size`` bytes of data."""
    data, found = bytes(packet[Raw]), []
    last = (len(data) - 1) // size * size
    for at in range(0, len(data), size):
        piece = packet.copy()
        piece[Raw].load = data[at : at + size]
        piece[TCP].seq = (packet[TCP].seq + at) % (1 << 32)
        flags = str(packet[TCP].flags)
        if at > 0:
            flags = flags.replace("C", "")
        if at < last:
            flags = flags.replace("F", "").replace("P", "")
        piece[TCP].flags = flags
        if IP in piece:
            piece[IP].id = (packet[IP].id + at // size) % (1 << 16)
        found.append(bytes(piece))
    return found


def data_of(frame: bytes) -> tuple[int, bytes]:
    """Sequence number and data of a TCP frame."""
    packet = Ether(frame)
    return packet[TCP].seq, bytes(packet[TCP].payload)
