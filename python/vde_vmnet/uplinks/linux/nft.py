"""The network's packet filter: one nftables table, rendered as text, held by a process of ours.

The table has the owner flag (kernel 5.12): it belongs to the netlink socket of the `nft -i` that loaded it,
nobody else can change or flush it (so a reload of the host's own firewall does not cut guests off), and the
kernel drops it when that process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from vde_vmnet.addresses import Forward, NamedForward
from vde_vmnet.config.access import AccessRule, by_precedence
from vde_vmnet.errors import UplinkError
from vde_vmnet.recovery import StopProcess, UndoRecord
from vde_vmnet.uplinks.linux import children, programs

__all__ = [
    "Filter",
    "Table",
    "blocking_chains",
    "load",
    "remove_leftover",
    "render",
    "table_name",
    "warn_of_foreign_filters",
]

# Chosen: loading takes 10 ms; five seconds is a machine in trouble.
_SECONDS = 5.0

# Of a connection that somebody else began: rules are about what guests begin.
_ANSWER = "ct state established,related ct direction reply"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Filter:
    """What the table must do."""

    table: str
    device: str
    ipv4: IPv4Network
    ipv6: IPv6Network | None
    #: Whether guests reach beyond the host (shared mode).
    nat: bool
    #: The host's addresses on the segment, which guests reach whatever ``rules`` say.
    gateways: tuple[IPv4Address | IPv6Address, ...] = ()
    #: Where guests may connect to.
    rules: tuple[AccessRule, ...] = ()
    #: Ports of the host that lead to guests.
    forwards: tuple[Forward, ...] = ()
    #: The same, each to whatever its map says: nowhere at first.
    followed: tuple[NamedForward, ...] = ()

    @property
    def has_forwards(self) -> bool:
        """Whether anything leads in."""
        return bool(self.forwards or self.followed)


def table_name(network_id: str) -> str:
    """Name of the network's table, family inet."""
    return f"vde_vmnet_{network_id}"


def render(rules: Filter) -> str:
    """The table as text for `nft -f`.

    Forwarding from the segment only with a source address of the segment, into it only what belongs to a
    connection that a guest began; without ``nat`` neither. Packets for the host itself are not filtered,
    but for those whose source address is not of the segment or unset, which no honest guest sends, and for
    ``rules`` that deny an address of the host. The most specific rule comes first.
    """
    device, v4 = f'"{rules.device}"', rules.ipv4
    prefixes = [("ip", str(v4))]
    if rules.ipv6 is not None:
        prefixes.append(("ip6", str(rules.ipv6)))
    lines = [f"table inet {rules.table} {{", "\tflags owner"]
    lines += ["\tchain forward {", "\t\ttype filter hook forward priority filter; policy accept;"]
    if rules.nat:
        lines += _forward_rules(rules, device, dict(prefixes))
        lines += [f"\t\tiifname {device} {family} saddr {prefix} accept" for family, prefix in prefixes]
        lines += [f"\t\toifname {device} ct state established,related accept"]
        if rules.has_forwards:
            lines += [f"\t\toifname {device} ct status dnat accept"]
    lines += [f"\t\tiifname {device} drop", f"\t\toifname {device} drop", "\t}"]
    lines += ["\tchain input {", "\t\ttype filter hook input priority filter; policy accept;"]
    lines += [f"\t\tiifname {device} ip saddr != {{ {v4}, 0.0.0.0 }} drop"]
    if rules.ipv6 is None:
        lines += [f"\t\tiifname {device} meta nfproto ipv6 drop"]
    else:
        lines += [f"\t\tiifname {device} ip6 saddr != {{ {rules.ipv6}, fe80::/10, :: }} drop"]
    lines += [*_input_rules(rules, device), "\t}"]
    if rules.nat:
        lines += ["\tchain postrouting {", "\t\ttype nat hook postrouting priority srcnat; policy accept;"]
        lines += [f"\t\t{family} saddr {prefix} oifname != {device} masquerade" for family, prefix in prefixes]
        if rules.has_forwards:
            # A guest can answer the gateway, not a loopback address.
            lines += [f"\t\tip saddr 127.0.0.0/8 oifname {device} masquerade"]
        lines += ["\t}"]
    if rules.nat and rules.has_forwards:
        lines += _translations(rules, device)
    return "\n".join([*lines, "}", ""])


def _forward_rules(rules: Filter, device: str, prefixes: Mapping[str, str]) -> list[str]:
    """Verdicts on packets to the world; those of a wrong source match none that accepts."""
    lines = []
    if rules.rules:
        lines.append(f"\t\tiifname {device} {_ANSWER} accept")
    for rule in by_precedence(rules.rules):
        family = _family(rule.network)
        if family in prefixes:
            verdict = f"{family} saddr {prefixes[family]} accept" if rule.allow else "drop"
            lines.append(f"\t\tiifname {device} {family} daddr {rule.network} {verdict}")
    return lines


def _input_rules(rules: Filter, device: str) -> list[str]:
    """Verdicts on what is for the host: broadcasts and the segment's own address are not asked about."""
    if not rules.rules:
        return []
    lines = [f"\t\tiifname {device} {_ANSWER} accept"]
    lines += [f"\t\tiifname {device} fib daddr type != local accept"]
    lines += [f"\t\tiifname {device} {_family(one)} daddr {one} accept" for one in rules.gateways]
    lines += [f"\t\tiifname {device} ip6 daddr fe80::/10 accept"]
    for rule in by_precedence(rules.rules):
        verdict = "accept" if rule.allow else "drop"
        lines.append(f"\t\tiifname {device} {_family(rule.network)} daddr {rule.network} {verdict}")
    return lines


def _translations(rules: Filter, device: str) -> list[str]:
    """What comes to the host's ports from elsewhere, and from the host itself, goes to guests.

    Answers to the host's loopback come back through the device, which must therefore take such addresses
    (``route_localnet``); a packet that bears one already when it arrives is a guest's own doing.
    """
    lines = [
        f"\tmap {_map_name(place)} {{ type inet_service : ipv4_addr . inet_service; }}"
        for place in range(len(rules.followed))
    ]
    lines += ["\tchain raw {", "\t\ttype filter hook prerouting priority raw; policy accept;"]
    lines += [f"\t\tiifname {device} ip daddr 127.0.0.0/8 drop", "\t}"]
    for hook, condition in (("prerouting", f"iifname != {device} "), ("output", "")):
        lines += [f"\tchain {hook} {{", f"\t\ttype nat hook {hook} priority -100; policy accept;"]
        targets: list[tuple[Forward | NamedForward, str]] = [
            (one, f"{one.guest}:{one.guest_port}") for one in rules.forwards
        ]
        targets += [
            (one, f"{one.protocol} dport map @{_map_name(place)}") for place, one in enumerate(rules.followed)
        ]
        for one, target in targets:
            where = f"ip daddr {one.host}" if one.host is not None else "fib daddr type local"
            port = f"{one.protocol} dport {one.host_port}"
            lines.append(f"\t\t{condition}meta nfproto ipv4 {where} {port} dnat ip to {target}")
        lines.append("\t}")
    return lines


def _map_name(place: int) -> str:
    """Where the followed forward at this place in the list leads."""
    return f"follow{place}"


def _family(one: IPv4Network | IPv6Network | IPv4Address | IPv6Address) -> str:
    return "ip" if one.version == 4 else "ip6"


def blocking_chains(listing: str) -> list[str]:
    """Chains of others that drop what they do not name, such as ``forward of table ip filter``. Pure.

    ``listing`` is the output of `nft -j list chains`. A packet must pass every table, so such a chain may
    keep guests from the network whatever our table says.
    """
    found = []
    for item in json.loads(listing).get("nftables", ()):
        chain = item.get("chain", {})
        if chain.get("hook") in ("forward", "input") and chain.get("policy") == "drop":
            found.append(f"{chain['hook']} of table {chain['family']} {chain['table']}")
    return sorted(found)


def warn_of_foreign_filters(device: str) -> None:
    """One log line when the host's own firewall may stand in the guests' way."""
    try:
        blocking = blocking_chains(programs.run(["nft", "-j", "list", "chains"]))
    except (UplinkError, ValueError) as error:
        _log.debug("Cannot look at the host's firewall: %s", error)
        return
    if blocking:
        _log.warning(
            "The host's firewall drops by default (%s). If guests get no address or cannot get out, allow"
            " the interface %s there",
            ", ".join(blocking),
            device,
        )


class Table:
    """A loaded table. It can be changed by the process that owns it only, which reads what we write."""

    def __init__(self, rules: Filter, commands: int, answers: int) -> None:
        """``commands`` and ``answers`` are nft's input and output, held by the undo record."""
        self._rules = rules
        self._commands = commands
        self._answers = answers

    @property
    def rules(self) -> Filter:
        """What it was loaded for."""
        return self._rules

    def transact(self, commands: Sequence[str], shown: str) -> None:
        """Carry commands out, one after another; ``shown`` is a map that is there then. Raises UplinkError."""
        lines = [*commands, f"list map inet {self._rules.table} {shown}", ""]
        try:
            os.write(self._commands, "\n".join(lines).encode())
        except OSError as error:
            raise UplinkError("nft, which has the network's rules, has ended") from error
        answer = _read_answer(self._answers, f"map {shown} {{")
        if "Error" in answer:
            reason = next(line for line in answer.splitlines() if "Error" in line)
            raise UplinkError(f"nft refused to change the rules of the network: {reason.strip()}")

    def lead(self, place: int, address: IPv4Address) -> None:
        """Have the followed forward at this place of the list lead to a guest from now on.

        In the keeper; neither argument is believed. Raises UplinkError.
        """
        network, gateways = self._rules.ipv4, self._rules.gateways
        if not 0 <= place < len(self._rules.followed):
            raise UplinkError(f"There is no forward number {place}")
        nobody = (network.network_address, network.broadcast_address, *gateways)
        if address not in network or address in nobody:
            raise UplinkError(f"{address} is no guest's address of {network}")
        one, name = self._rules.followed[place], f"inet {self._rules.table} {_map_name(place)}"
        # One line is one transaction: at no time does it lead nowhere.
        change = f"flush map {name}; add element {name} {{ {one.host_port} : {address} . {one.guest_port} }}"
        try:
            os.write(self._commands, f"{change}\nlist map {name}\n".encode())
        except OSError as error:
            raise UplinkError(f"--forward {one}: nft, which has the network's rules, has ended") from error
        answer = _read_answer(self._answers, f"map {_map_name(place)} {{")
        if "Error" in answer:
            raise UplinkError(f"--forward {one}: nft refused to lead it to {address}: {answer.strip()}")


def load(rules: Filter, undo: UndoRecord) -> Table:
    """Load the table and keep it for as long as ``undo`` lives. Raises UplinkError, UnavailableError."""
    nft = programs.require("nft")
    remove_leftover(rules.table)
    with contextlib.ExitStack() as local:
        # A file without a name: nft reads it through /proc, and nothing of it stays behind.
        text_fd = os.memfd_create("vde_vmnet.nft")
        local.callback(os.close, text_fd)
        os.write(text_fd, render(rules).encode())
        stdin_read, stdin_write = os.pipe2(os.O_CLOEXEC)
        local.callback(os.close, stdin_read)
        undo.hold(stdin_write)
        # Held as well: a prompt written to a pipe without a reader would end nft, and the table with it.
        out_read, out_write = os.pipe2(os.O_CLOEXEC)
        undo.hold(out_read)
        with contextlib.ExitStack() as writer:
            writer.callback(os.close, out_write)
            pid = children.start(
                [nft, "-i"], stdin=stdin_read, stdout=out_write, stderr=out_write, pass_fds=[text_fd]
            )
        undo.push(StopProcess.of(pid))
        # The second command answers on either outcome: with the table, or with the word Error.
        os.write(stdin_write, f'include "/proc/self/fd/{text_fd}"\nlist table inet {rules.table}\n'.encode())
        answer = _read_answer(out_read, f"table inet {rules.table} {{")
    if "Error" in answer:
        reason = next(line for line in answer.splitlines() if "Error" in line)
        raise UplinkError(
            f"nft refused the rules of the network: {reason.strip()}",
            next_step="Linux 5.12 or newer with nf_tables and NAT is needed",
        )
    return Table(rules, stdin_write, out_read)


def remove_leftover(table: str) -> None:
    """Remove a table of our name that nobody owns any more."""
    if f"table inet {table}" in programs.run(["nft", "list", "tables", "inet"]).splitlines():
        programs.run(["nft", "delete", "table", "inet", table])


def _read_answer(fd: int, success: str) -> str:
    """What nft prints, up to the first sign of success or failure."""
    os.set_blocking(fd, False)
    waiter = select.poll()
    waiter.register(fd, select.POLLIN)
    deadline = time.monotonic() + _SECONDS
    answer = ""
    while (left := deadline - time.monotonic()) > 0:
        if not waiter.poll(left * 1000):
            break
        chunk = os.read(fd, 65536).decode(errors="replace")
        if not chunk:
            raise UplinkError(f"nft ended without loading the rules of the network: {answer.strip()}")
        answer += chunk
        if ("Error" in answer and answer.endswith("\n")) or (success in answer and answer.endswith("\n}\n")):
            return answer
    raise UplinkError(f"nft did not load the rules of the network within {_SECONDS:.0f} s: {answer.strip()}")
