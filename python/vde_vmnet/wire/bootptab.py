"""``/etc/bootptab``, the reservations of macOS's DHCP server: our entries put in and taken out. Pure.

bootptab(5): after a line ``%%`` one host a line, ``name hardware-type hardware-address ip-address``; comments
begin with ``#``. Each line of ours follows a comment that names its network, so that it is found again whatever
else was done to the file.
"""

from __future__ import annotations

from collections.abc import Sequence

from vde_vmnet.addresses import Reservation

__all__ = ["in_the_way", "with_entries", "without_entries"]

_MARK = "# vde_vmnet "
_SEPARATOR = "%%"
#: bootptab(5): the hardware type of Ethernet.
_ETHERNET = "1"


def with_entries(text: str, network_id: str, reservations: Sequence[Reservation]) -> str:
    """``text`` with the entries of a network in place of those that it had."""
    foreign, ours = _split(text)
    ours[network_id] = [_line(one) for one in reservations]
    return _join(foreign, ours)


def without_entries(text: str, network_id: str) -> str:
    """``text`` without the entries of a network; empty when nothing else is in it."""
    foreign, ours = _split(text)
    ours.pop(network_id, None)
    return _join(foreign, ours)


def in_the_way(text: str, network_id: str, reservations: Sequence[Reservation]) -> str | None:
    """The first line of somebody else that gives a reserved address, or a machine with one, something else."""
    foreign, ours = _split(text)
    macs = {_octets(str(one.mac)): str(one.address) for one in reservations}
    addresses = {address: mac for mac, address in macs.items()}
    others = [line for name, lines in ours.items() if name != network_id for line in lines]
    for line in [*_hosts(foreign), *others]:
        fields = line.split()
        if len(fields) < 4 or line.startswith("#"):
            continue
        mac, address = _octets(fields[2]), fields[3]
        if macs.get(mac, address) != address or addresses.get(address, mac) != mac:
            return line
    return None


def _line(one: Reservation) -> str:
    name = one.name or f"vde-{str(one.mac).replace(':', '')}"
    return f"{name}\t{_ETHERNET}\t{one.mac}\t{one.address}"


def _split(text: str) -> tuple[list[str], dict[str, list[str]]]:
    """The lines that are not ours, and ours by network."""
    foreign: list[str] = []
    ours: dict[str, list[str]] = {}
    owner: str | None = None
    for line in text.splitlines():
        if owner is not None:
            if line.strip() != _SEPARATOR:
                ours.setdefault(owner, []).append(line)
            owner = None
        elif line.startswith(_MARK) and len(line.split()) == 3:
            owner = line.split()[2]
        else:
            foreign.append(line)
    return foreign, ours


def _join(foreign: list[str], ours: dict[str, list[str]]) -> str:
    lines = list(foreign)
    entries = [(name, line) for name, group in ours.items() for line in group]
    if entries and not any(line.strip() == _SEPARATOR for line in foreign):
        entries.insert(0, (entries[0][0], _SEPARATOR))
    for name, line in entries:
        lines += [f"{_MARK}{name}", line]
    return "".join(f"{line}\n" for line in lines)


def _hosts(lines: list[str]) -> list[str]:
    separators = [index for index, line in enumerate(lines) if line.strip() == _SEPARATOR]
    return lines[separators[0] + 1 :] if separators else []


def _octets(mac: str) -> tuple[int, ...]:
    """Numbers, since octets may come without their leading zero; empty for what is no address."""
    try:
        return tuple(int(octet, 16) for octet in mac.split(":"))
    except ValueError:
        return ()
