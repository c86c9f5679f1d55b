"""What a packet filter does with one packet, from the text of `nft list ruleset`. Pure.

The text and not the JSON: what iptables wrote with matches of its own (``conntrack``, ``addrtype``) the text
says in nft's words, and the JSON does not say at all. Rules are walked as the kernel walks them, with three
values where it has two: a condition that is not understood here may hold or not, so that a verdict may be
uncertain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

__all__ = ["Chain", "Packet", "Verdict", "judge", "parse"]

#: The kernel's own limit of nested jumps, NFT_JUMP_STACK_SIZE.
_DEEPEST = 16
_VALUE = r'(?:!= )?(?:\{[^}]*\}|"[^"]*"|[\w.:/*+@-]+(?:, ?[\w.-]+)*)'
_CONDITION = re.compile(
    rf"(?P<key>(?:meta )?(?:iifname|oifname|iif|oif|l4proto|nfproto|pkttype)|ip (?:saddr|daddr|protocol)|"
    rf"ip6 \w+|icmp \w+|icmpv6 \w+|(?:udp|tcp|th|sctp|dccp) (?:sport|dport|flags)|"
    rf"ct (?:state|status|direction)|fib daddr type) (?P<value>{_VALUE})"
)
#: Statements that decide nothing.
_HARMLESS = re.compile(
    r"counter(?: packets \d+ bytes \d+)?"
    r'|log(?: (?:prefix "[^"]*"|flags \w+(?: \w+)?|level \w+|group \d+|snaplen \d+))*'
    r'|comment "[^"]*"|xt target "LOG"|ct (?:mark|label) set \S+|meta mark set \S+'
)
_VERDICT = re.compile(r"(?:^| )(accept|drop|return|continue|reject(?: with .*)?|jump \S+|goto \S+)$")
_VMAP = re.compile(r"(?P<key>iifname|oifname|ct state) vmap \{ ?(?P<pairs>[^}]*?) ?\}$")
_BASE = re.compile(r"type (\w+) hook (\w+) .*?priority (.*?);(?: policy (\w+);)?")


@dataclass(frozen=True)
class Packet:
    """One IPv4 packet as a hook sees it."""

    iifname: str | None
    oifname: str | None
    protocol: str
    sport: int
    dport: int
    saddr: IPv4Address
    daddr: IPv4Address
    state: str = "new"
    #: local, broadcast or unicast: where the host's own routes lead it.
    destination: str = "unicast"


@dataclass
class Chain:
    """One chain; a base chain has a hook."""

    family: str
    table: str
    name: str
    kind: str = ""
    hook: str = ""
    policy: str = "accept"
    rules: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"chain {self.name} of table {self.family} {self.table}"


@dataclass(frozen=True)
class Verdict:
    """What becomes of the packet. ``passes`` is None where it cannot be told."""

    passes: bool | None
    #: The chain that drops, or may drop, and its rule; the policy is written as such.
    chain: Chain | None = None
    rule: str = ""


def parse(text: str) -> list[Chain]:
    """All chains of `nft list ruleset`; what is not understood of a chain's head makes it no base chain."""
    found: list[Chain] = []
    family = table = ""
    chain: Chain | None = None
    depth = 0
    for raw in text.splitlines():
        line = raw.strip()
        if depth == 0 and (match := re.match(r"table (\w+) (\S+) \{", line)):
            family, table = match.groups()
        elif depth == 1 and (match := re.match(r"chain (\S+) \{", line)):
            chain = Chain(family, table, match[1])
            found.append(chain)
        elif depth == 2 and chain is not None and line != "}" and line and not line.startswith("#"):
            _take(chain, line)
        depth += (line.count("{") - line.count("}")) if not line.startswith("#") else 0
        if depth < 2:
            chain = None
    return found


def _take(chain: Chain, line: str) -> None:
    base = _BASE.match(line)
    if base is not None:
        chain.kind, chain.hook, chain.policy = base[1], base[2], base[4] or "accept"
    elif not line.startswith(("comment ", "policy ")):
        chain.rules.append(line.split(" # ")[0])


def judge(chains: list[Chain], hook: str, packet: Packet) -> Verdict:
    """Whether the packet passes every filter chain at the hook. A certain drop comes before a doubt."""
    doubt: Verdict | None = None
    for base in chains:
        if base.hook != hook or base.kind != "filter" or base.family not in ("ip", "inet"):
            continue
        mates = {one.name: one for one in chains if (one.family, one.table) == (base.family, base.table)}
        ends = _first(_walk(base, mates, packet, 0))
        if "end" in ends:
            ends.setdefault(base.policy, (base, f"policy {base.policy}"))
        dropped = ends.get("drop")
        if dropped is None:
            continue
        if "accept" not in ends:
            return Verdict(False, *dropped)
        doubt = doubt or Verdict(None, *dropped)
    return doubt or Verdict(True)


def _first(pairs: Iterable[tuple[str, tuple[Chain, str]]]) -> dict[str, tuple[Chain, str]]:
    """The first of each kind: the others are not come to, or add nothing."""
    found: dict[str, tuple[Chain, str]] = {}
    for end, why in pairs:
        found.setdefault(end, why)
    return found


def _walk(
    chain: Chain, mates: dict[str, Chain], packet: Packet, depth: int
) -> Iterator[tuple[str, tuple[Chain, str]]]:
    """What can become of it in this chain: pairs of accept, drop or end, and the rule that does it."""
    for rule in chain.rules:
        holds, verdict = _apply(rule, packet)
        if holds is False or verdict in ("", "continue"):
            continue
        word, _, target = verdict.partition(" ")
        if word in ("jump", "goto"):
            mate = mates.get(target)
            inner = _first(_walk(mate, mates, packet, depth + 1)) if mate and depth < _DEEPEST else {}
            yield from ((end, why) for end, why in inner.items() if end != "end")
            if holds and "end" not in inner and inner:
                return
            if holds and word == "goto":
                break
            continue
        yield ("end" if word == "return" else "drop" if word == "reject" else word), (chain, rule)
        if holds:
            return
    yield "end", (chain, "its end")


def _apply(rule: str, packet: Packet) -> tuple[bool | None, str]:
    """Whether the rule's conditions hold, and its verdict; no verdict is an empty one."""
    text = _HARMLESS.sub(" ", rule).strip()
    mapped = _VMAP.search(text)
    if mapped is not None:
        pairs = dict(pair.partition(" : ")[::2] for pair in re.split(r", ?", mapped["pairs"]))
        verdicts = [
            verdict.strip() for key, verdict in pairs.items() if _equals(mapped["key"], key.strip(), packet)
        ]
        text, verdict = text[: mapped.start()], verdicts[0] if verdicts else ""
    else:
        ending = _VERDICT.search(re.sub(r" +", " ", text))
        if ending is None:
            return None, ""  # a statement, or a verdict that only looks elsewhere (queue, dnat)
        text = re.sub(r" +", " ", text)
        text, verdict = text[: ending.start()], ending[1]
    holds: bool | None = True
    for match in _CONDITION.finditer(text):
        one = _condition(match["key"].removeprefix("meta "), match["value"], packet)
        if one is False:
            return False, verdict
        if one is None:
            holds = None
    if _CONDITION.sub("", text).strip():
        holds = None
    return holds, verdict


def _condition(key: str, value: str, packet: Packet) -> bool | None:
    inverted = value.startswith("!= ")
    values = re.split(r", ?", value.removeprefix("!= ").strip("{} "))
    answers = [_equals(key, one.strip(), packet) for one in values]
    if None in answers and True not in answers:
        return None
    return (True in answers) is not inverted


def _equals(key: str, value: str, packet: Packet) -> bool | None:
    """Whether the packet has this value there; None where the value is not understood."""
    if value.startswith("@"):
        return None
    head, _, part = key.partition(" ")
    if key in ("iifname", "iif", "oifname", "oif"):
        return _names(value.strip('"'), packet.iifname if key.startswith("i") else packet.oifname)
    if key in ("l4proto", "ip protocol"):
        return value == packet.protocol
    if key in ("saddr", "daddr", "ip saddr", "ip daddr"):
        return _within(value, packet.saddr if part == "saddr" else packet.daddr)
    if head in ("udp", "tcp", "th", "sctp", "dccp"):
        if head not in ("th", packet.protocol):
            return False
        return _port(value, packet.sport if part == "sport" else packet.dport) if part != "flags" else None
    simple = {
        "nfproto": "ipv4",
        "pkttype": "broadcast" if packet.destination == "broadcast" else "host",
        "ct state": packet.state,
        "ct direction": "original" if packet.state == "new" else "reply",
        "fib daddr type": packet.destination,
    }
    if key in simple:
        return value == simple[key]
    # IPv6, ICMP; a connection that has no status yet.
    return False if head in ("ip6", "icmp", "icmpv6") or key == "ct status" else None


def _names(pattern: str, name: str | None) -> bool:
    if name is None:
        return False
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _within(value: str, address: IPv4Address) -> bool | None:
    try:
        if "-" in value:
            first, _, last = value.partition("-")
            return IPv4Address(first) <= address <= IPv4Address(last)
        return address in IPv4Network(value, strict=False)
    except ValueError:
        return None


def _port(value: str, port: int) -> bool | None:
    first, _, last = value.partition("-")
    if not first.isdecimal() or (last and not last.isdecimal()):
        return None
    return int(first) <= port <= int(last or first)
