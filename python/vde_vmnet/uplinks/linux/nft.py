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
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from vde_vmnet.errors import UplinkError
from vde_vmnet.recovery import StopProcess, UndoRecord
from vde_vmnet.uplinks.linux import children, programs

__all__ = [
    "Filter",
    "blocking_chains",
    "load",
    "remove_leftover",
    "render",
    "table_name",
    "warn_of_foreign_filters",
]

# Chosen: loading takes 10 ms; five seconds is a machine in trouble.
_SECONDS = 5.0

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


def table_name(network_id: str) -> str:
    """Name of the network's table, family inet."""
    return f"vde_vmnet_{network_id}"


def render(rules: Filter) -> str:
    """The table as text for `nft -f`.

    Forwarding from the segment only with a source address of the segment, into it only what belongs to a
    connection that a guest began; without ``nat`` neither. Packets for the host itself are not filtered,
    but for those whose source address is not of the segment or unset, which no honest guest sends.
    """
    device, v4 = f'"{rules.device}"', rules.ipv4
    prefixes = [("ip", str(v4))]
    if rules.ipv6 is not None:
        prefixes.append(("ip6", str(rules.ipv6)))
    lines = [f"table inet {rules.table} {{", "\tflags owner"]
    lines += ["\tchain forward {", "\t\ttype filter hook forward priority filter; policy accept;"]
    if rules.nat:
        lines += [f"\t\tiifname {device} {family} saddr {prefix} accept" for family, prefix in prefixes]
        lines += [f"\t\toifname {device} ct state established,related accept"]
    lines += [f"\t\tiifname {device} drop", f"\t\toifname {device} drop", "\t}"]
    lines += ["\tchain input {", "\t\ttype filter hook input priority filter; policy accept;"]
    lines += [f"\t\tiifname {device} ip saddr != {{ {v4}, 0.0.0.0 }} drop"]
    if rules.ipv6 is None:
        lines += [f"\t\tiifname {device} meta nfproto ipv6 drop"]
    else:
        lines += [f"\t\tiifname {device} ip6 saddr != {{ {rules.ipv6}, fe80::/10, :: }} drop"]
    lines += ["\t}"]
    if rules.nat:
        lines += ["\tchain postrouting {", "\t\ttype nat hook postrouting priority srcnat; policy accept;"]
        lines += [f"\t\t{family} saddr {prefix} oifname != {device} masquerade" for family, prefix in prefixes]
        lines += ["\t}"]
    return "\n".join([*lines, "}", ""])


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


def load(rules: Filter, undo: UndoRecord) -> None:
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
