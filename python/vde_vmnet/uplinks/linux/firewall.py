"""Whether the host's own packet filter stands in the way of guests: findings from its text. Pure.

A handful of packets that every guest sends or gets are led through the rules. Our own tables are left out: they
are about what guests may do, not about what is in their way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from vde_vmnet.errors import ConflictError
from vde_vmnet.uplinks.check import Check, Level
from vde_vmnet.uplinks.linux.ruleset import Chain, Packet, Verdict, judge, parse

__all__ = ["Segment", "bridge_check", "checks", "is_shared", "legacy_checks", "manager"]

_OURS = re.compile(r"vde_vmnet_[0-9a-f]{8}")
_ANYWHERE = IPv4Address("203.0.113.1")  # RFC 5737: an address of the world that nobody has a rule for


@dataclass(frozen=True)
class Segment:
    """One network of ours as the host's filter sees it; of one to come the device is not known yet."""

    device: str
    network: IPv4Network
    #: Whether guests reach beyond the host (shared mode).
    shared: bool = True
    #: Where the host's default route leads.
    way_out: str = "eth0"

    @property
    def gateway(self) -> IPv4Address:
        """The host's address there."""
        return self.network.network_address + 1

    @property
    def guest(self) -> IPv4Address:
        """Some guest."""
        return self.network.network_address + 2


@dataclass(frozen=True)
class _Probe:
    hook: str
    what: str
    #: What guests lack without it.
    why: str
    packet: Packet


def checks(text: str, segment: Segment) -> Iterator[Check]:
    """``text`` is what `nft list ruleset` prints."""
    chains = [chain for chain in parse(text) if not _OURS.fullmatch(chain.table)]
    last_rule: tuple[Chain | None, str] | None = None
    for probe in _probes(segment):
        verdict = judge(chains, probe.hook, probe.packet)
        # One rule that stops the way out and the way back is one finding.
        if verdict.passes or (verdict.chain, verdict.rule) == last_rule:
            continue
        last_rule = (verdict.chain, verdict.rule)
        yield _check(probe, verdict, segment, chains)
    if last_rule is None:
        yield Check("firewall", "nftables lets DHCP, DNS and the guests' traffic through")


def bridge_check(text: str, bridge: str) -> Check | None:
    """A bridge with guests of bridged mode, where the kernel leads bridged packets through these rules too.

    None where they get through.
    """
    one = Packet(bridge, bridge, "tcp", 40000, 443, _ANYWHERE - 1, _ANYWHERE)
    verdict = judge(parse(text), "forward", one)
    if verdict.passes:
        return None
    return Check(
        "firewall",
        f'nftables drops what is bridged on {bridge} ({verdict.chain}: "{verdict.rule}"), since'
        " net.bridge.bridge-nf-call-iptables is 1",
        next_step=f"sudo sysctl net.bridge.bridge-nf-call-iptables=0, or let {bridge} through there: sudo"
        f" iptables -I FORWARD -i {bridge} -o {bridge} -j ACCEPT",
        why="guests there get no address from that network and reach nobody on it",
        level=Level.WARNING,
    )


def is_shared(text: str, device: str) -> bool:
    """Whether the network with this device has a table of ours that translates addresses."""
    table = f"vde_vmnet_{device.removeprefix('vmnet-')}"
    return any(chain.table == table and chain.kind == "nat" for chain in parse(text))


def _probes(segment: Segment) -> Iterator[_Probe]:
    request = Packet(
        *(segment.device, None, "udp", 68, 67),
        saddr=IPv4Address(0),
        daddr=IPv4Address("255.255.255.255"),
        destination="broadcast",
    )
    query = Packet(
        *(segment.device, None, "udp", 40000, 53),
        saddr=segment.guest,
        daddr=segment.gateway,
        destination="local",
    )
    answer = Packet(None, segment.device, "udp", 67, 68, segment.gateway, segment.guest, "new")
    yield _Probe("input", "drops the guests' DHCP requests", "guests get no address", request)
    yield _Probe("output", "drops the DHCP server's answers", "guests get no address", answer)
    yield _Probe("input", "drops the guests' DNS queries", "guests find no names", query)
    if segment.shared:
        way = Packet(segment.device, segment.way_out, "tcp", 40000, 443, segment.guest, _ANYWHERE)
        back = replace(
            way,
            iifname=segment.way_out,
            oifname=segment.device,
            sport=443,
            dport=40000,
            saddr=_ANYWHERE,
            daddr=segment.guest,
            state="established",
        )
        why = "guests have an address and reach nothing beyond this host"
        yield _Probe("forward", "drops what guests send to the world", why, way)
        yield _Probe("forward", "drops the world's answers to guests", why, back)


def _check(probe: _Probe, verdict: Verdict, segment: Segment, chains: list[Chain]) -> Check:
    place = f'{verdict.chain}: "{verdict.rule}"'
    step = _next_step(probe.hook, verdict, segment, chains)
    if verdict.passes is None:
        said = f"nftables, it may be, {probe.what} ({place})"
        return Check("firewall", said, next_step=step, why=f"if so, {probe.why}", level=Level.WARNING)
    return Check("firewall", f"nftables {probe.what} ({place})", ConflictError, step, probe.why)


def _next_step(hook: str, verdict: Verdict, segment: Segment, chains: list[Chain]) -> str:
    device, chain = segment.device, verdict.chain
    names = {one.name for one in chains if chain and (one.family, one.table) == (chain.family, chain.table)}
    if chain is not None and chain.table == "firewalld":
        return f"sudo firewall-cmd --zone=trusted --add-interface={device} (and --permanent, to keep it)"
    if any(name.startswith("ufw-") for name in names) and "DOCKER-USER" not in names:
        if hook == "forward":
            return f"sudo ufw route allow in on {device} && sudo ufw route allow out on {device}"
        return f"sudo ufw allow in on {device}"
    if hook == "forward" and "DOCKER-USER" in names:
        return (
            "Docker's policy is meant to be opened in DOCKER-USER: sudo iptables -I DOCKER-USER -i vmnet-+ -j"
            " ACCEPT && sudo iptables -I DOCKER-USER -o vmnet-+ -m conntrack --ctstate RELATED,ESTABLISHED"
            " -j ACCEPT"
        )
    where = f"{chain.family} {chain.table} {chain.name}" if chain is not None else ""
    allow = f"sudo nft insert rule {where}"
    if hook == "output":
        return f"{allow} oifname 'vmnet-*' accept"
    back = f" && {allow} oifname 'vmnet-*' ct state established,related accept" if hook == "forward" else ""
    return f"{allow} iifname 'vmnet-*' accept{back}"


def legacy_checks(text: str, segment: Segment) -> Iterator[Check]:
    """``text`` is what `iptables-legacy-save -t filter` prints: rules that nft does not list."""
    policies = dict(re.findall(r"^:(INPUT|FORWARD) (\w+)", text, re.MULTILINE))
    for chain, why in (
        ("INPUT", "guests get no address and find no names"),
        ("FORWARD", "guests have an address and reach nothing beyond this host"),
    ):
        if policies.get(chain) != "DROP" or (chain == "FORWARD" and not segment.shared):
            continue
        device = rf"(?:vmnet-\+|{re.escape(segment.device)})"
        if not re.search(rf"^-A \S+ .*-i {device} .*-j ACCEPT", text, re.MULTILINE):
            yield Check(
                "firewall",
                f"iptables (legacy) drops in {chain} what no rule names, and none names {segment.device}",
                next_step=f"sudo iptables-legacy -I {chain} -i vmnet-+ -j ACCEPT"
                + (f" && sudo iptables-legacy -I {chain} -o vmnet-+ -j ACCEPT" if chain == "FORWARD" else ""),
                why=f"unless another rule lets them through, {why}",
                level=Level.WARNING,
            )


def manager(ufw_conf: str, programs: set[str]) -> str | None:
    """The firewall manager that is on: from the text of ``/etc/ufw/ufw.conf`` and the names of what runs."""
    if re.search(r"^ENABLED=[\"']?yes", ufw_conf, re.MULTILINE | re.IGNORECASE):
        return "ufw"
    return "firewalld" if "firewalld" in programs else None
