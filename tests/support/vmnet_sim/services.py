"""What serves a network: dnsmasq as bootpd, DNS proxy and rtadvd; nft as pf."""

from __future__ import annotations

import signal
import subprocess
import threading
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

from tests.support.vmnet_sim.links import run

__all__ = ["Dnsmasq", "Forward", "Plan", "load_filter", "remove_filter"]

#: What bootpd gives: a day.
_LEASE_SECONDS = 86400
_READY_SECONDS = 10.0


@dataclass(frozen=True, order=True)
class Forward:
    """One port forward; IPv4 and IPv6 are two lists."""

    protocol: int
    port: int
    address: IPv4Address | IPv6Address
    guest_port: int


@dataclass
class Plan:
    """A network's services."""

    bridge: str
    network: IPv4Network
    gateway: IPv4Address
    dhcp_start: IPv4Address
    dhcp_end: IPv4Address
    prefix: IPv6Network | None
    outside: bool
    mtu: int = 1500
    nat44: bool = True
    nat66: bool = True
    dhcp: bool = True
    dns: bool = True
    advertisement: bool = True
    #: The only interface that traffic may leave by; None: any.
    external: str | None = None
    #: Reservations of the API: MAC to address.
    reservations: dict[str, IPv4Address] = field(default_factory=dict)
    forwards: list[Forward] = field(default_factory=list)


class Dnsmasq:
    """One network's dnsmasq. Leases stay in `folder` when it ends."""

    def __init__(self, plan: Plan, folder: Path, events: Path, bootptab: dict[str, IPv4Address]) -> None:
        self._plan = plan
        stem = folder / str(plan.network).replace("/", "-")
        self._hosts = stem.with_name(stem.name + ".hosts")
        self._script = stem.with_name(stem.name + ".sh")
        words = "$1 $2 $3 ${DNSMASQ_LEASE_EXPIRES:-0} ${DNSMASQ_CLIENT_ID:--} $4"
        self._script.write_text(f'#!/bin/sh\necho "{words}" >> {events}\n')
        self._script.chmod(0o755)
        self._write_hosts(bootptab)
        config = self._render(stem.with_name(stem.name + ".leases"))
        command = ["dnsmasq", "--keep-in-foreground", "--conf-file=-", "--pid-file=", "--log-facility=-"]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command, "--user=root"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(config)
        self._process.stdin.close()
        self._ready = threading.Event()
        self._ended = False
        self._reader = threading.Thread(target=self._read_log, args=[stem.with_name(stem.name + ".log")])
        self._reader.start()
        if not self._ready.wait(_READY_SECONDS) or self._ended:
            self.stop()
            raise OSError(f"dnsmasq is not ready: see {stem.name}.log")

    def _read_log(self, path: Path) -> None:
        assert self._process.stderr is not None
        with path.open("a") as log:
            for line in self._process.stderr:
                log.write(line)
                log.flush()
                if " started," in line:
                    self._ready.set()
        self._ended = True
        self._ready.set()

    def _render(self, leases: Path) -> str:
        plan = self._plan
        lines = [
            f"interface={plan.bridge}",
            "except-interface=lo",
            "bind-interfaces",
            "no-hosts",
            f"dhcp-leasefile={leases}",
            f"port={53 if plan.dns else 0}",
        ]
        if not plan.outside:
            lines.append("no-resolv")
        if plan.dhcp:
            lines += [
                f"dhcp-range={plan.dhcp_start},{plan.dhcp_end},{plan.network.netmask},{_LEASE_SECONDS}",
                f"dhcp-hostsfile={self._hosts}",
                f"dhcp-script={self._script}",
                "dhcp-authoritative",
                "no-ping",
            ]
            if not plan.outside:
                lines.append("dhcp-option=option:router")
            if plan.mtu != 1500:
                lines.append(f"dhcp-option=option:mtu,{plan.mtu}")
        if plan.prefix is not None and plan.advertisement:
            lines += [f"dhcp-range={plan.prefix.network_address},ra-only,64", "enable-ra", "quiet-ra"]
            lines += [f"ra-param={plan.bridge},mtu:{plan.mtu},0"]
        return "\n".join([*lines, ""])

    def _write_hosts(self, bootptab: dict[str, IPv4Address]) -> None:
        entries = {**bootptab, **self._plan.reservations}
        lines = [f"{mac},{address}\n" for mac, address in entries.items() if address in self._plan.network]
        self._hosts.write_text("".join(lines))

    def reload(self, bootptab: dict[str, IPv4Address]) -> None:
        """Take reservations that changed into account."""
        self._write_hosts(bootptab)
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


def _table(plan: Plan) -> str:
    return f"vmnet_{plan.bridge}"


def load_filter(plan: Plan) -> None:
    """NAT, forwards and what may pass, replaced as one."""
    bridge, table = f'"{plan.bridge}"', _table(plan)
    external = f'oifname "{plan.external}"' if plan.external else f"oifname != {bridge}"
    lines = [f"table inet {table} {{}}", f"delete table inet {table}", f"table inet {table} {{"]
    lines += ["chain forward { type filter hook forward priority filter; policy accept;"]
    # Neighbours on the segment are none of its business, also where the kernel shows it bridged packets.
    lines += [f"iifname {bridge} oifname {bridge} accept"]
    if plan.outside:
        # Packets with an address that is not the network's are dropped by the system.
        lines += [f"iifname {bridge} ip saddr != {plan.network} drop"]
        if plan.external:
            lines += [f'iifname {bridge} oifname != "{plan.external}" drop']
        lines += [
            f"oifname {bridge} ct state established,related accept",
            f"oifname {bridge} ct status dnat accept",
        ]
        if plan.nat44:
            lines += [f"oifname {bridge} drop"]
    else:
        lines += [f"iifname {bridge} drop", f"oifname {bridge} drop"]
    lines += ["}"]
    if plan.outside:
        lines += ["chain postrouting { type nat hook postrouting priority srcnat; policy accept;"]
        if plan.nat44:
            lines += [f"ip saddr {plan.network} {external} masquerade"]
        if plan.nat66 and plan.prefix is not None:
            lines += [f"ip6 saddr {plan.prefix} {external} masquerade"]
        lines += ["}"]
    for chain, hook in (("prerouting", "prerouting priority dstnat"), ("output", "output priority -100")):
        lines += [f"chain {chain} {{ type nat hook {hook}; policy accept;"]
        lines += [f"{_dnat(rule)}" for rule in plan.forwards]
        lines += ["}"]
    run("nft", "-f", "-", text="\n".join([*lines, "}", ""]))


def _dnat(rule: Forward) -> str:
    protocol = {6: "tcp", 17: "udp"}[rule.protocol]
    if rule.address.version == 4:
        return (
            f"ip daddr != 127.0.0.0/8 fib daddr type local {protocol} dport {rule.port}"
            f" dnat ip to {rule.address}:{rule.guest_port}"
        )
    return (
        f"ip6 daddr != ::1 fib daddr type local {protocol} dport {rule.port}"
        f" dnat ip6 to [{rule.address}]:{rule.guest_port}"
    )


def remove_filter(plan: Plan) -> None:
    """Nothing of it is left."""
    run("nft", "delete", "table", "inet", _table(plan))
