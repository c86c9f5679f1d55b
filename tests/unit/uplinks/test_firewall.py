"""What doctor makes of firewalls: packets led through rules as nft prints them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from vde_vmnet.errors import ConflictError
from vde_vmnet.uplinks.check import Level
from vde_vmnet.uplinks.linux.firewall import Segment, bridge_check, checks, is_shared, legacy_checks, manager
from vde_vmnet.uplinks.linux.ruleset import Packet, judge, parse

DATA = Path(__file__).parents[2] / "data" / "nft"
DEVICE = "vmnet-1a2b3c4d"
SEGMENT = Segment(DEVICE, IPv4Network("192.168.105.0/24"))
REQUEST = Packet(
    *(DEVICE, None, "udp", 68, 67),
    saddr=IPv4Address(0),
    daddr=IPv4Address("255.255.255.255"),
    destination="broadcast",
)


def chain(*rules: str, hook: str = "input", policy: str = "accept", more: str = "") -> str:
    body = "\n".join(f"\t\t{rule}" for rule in rules)
    head = f"type filter hook {hook} priority filter; policy {policy};"
    return f"table inet t {{\n\tchain base {{\n\t\t{head}\n{body}\n\t}}\n{more}}}\n"


@pytest.mark.parametrize(
    ("name", "findings"),
    [
        (
            "docker",
            [("drops what guests send to the world", "policy drop", "iptables -I DOCKER-USER -i vmnet-+")],
        ),
        (
            "ufw",
            [
                ("drops the guests' DHCP requests", "counter drop", f"sudo ufw allow in on {DEVICE}"),
                ("drops the guests' DNS queries", "policy drop", f"sudo ufw allow in on {DEVICE}"),
                ("drops what guests send to the world", "policy drop", f"sudo ufw route allow in on {DEVICE}"),
            ],
        ),
        (
            "firewalld",
            [
                ("drops the guests' DHCP requests", "reject with icmpx", f"--add-interface={DEVICE}"),
            ],
        ),
    ],
)
def test_firewalls_as_they_are(name: str, findings: list[tuple[str, str, str]]) -> None:
    found = list(checks((DATA / f"{name}.txt").read_text(), SEGMENT))
    assert len(found) == len(findings), found
    for one, (said, rule, step) in zip(found, findings, strict=True):
        assert said in one.said and rule in one.said
        assert step in one.next_step
        assert one.why and one.blame is ConflictError


def test_what_was_advised_opens_the_way() -> None:
    text = (DATA / "docker.txt").read_text()
    opened = text.replace(
        "\tchain DOCKER-USER {\n",
        '\tchain DOCKER-USER {\n\t\toifname "vmnet-*" ct state related,established counter accept\n'
        '\t\tiifname "vmnet-*" counter accept\n',
    )
    assert [one.level for one in checks(opened, SEGMENT)] == [Level.OK]
    ruled = chain('iifname "vmnet-*" accept', policy="drop")
    assert [one.level for one in checks(ruled, SEGMENT)] == [Level.OK]


def test_a_host_only_segment_asks_for_no_way_out() -> None:
    text = (DATA / "docker.txt").read_text()
    host_only = Segment(DEVICE, SEGMENT.network, shared=False)
    assert [one.level for one in checks(text, host_only)] == [Level.OK]


def test_a_bridge_behind_docker_s_policy() -> None:
    text = (DATA / "docker.txt").read_text()
    found = bridge_check(text, "br0")
    assert found is not None and found.level is Level.WARNING
    assert "bridged on br0" in found.said and "-i br0 -o br0" in found.next_step
    assert bridge_check(text, "docker0") is None, "Docker lets its own through"
    assert bridge_check((DATA / "firewalld.txt").read_text(), "br0") is not None


def test_our_own_tables_are_not_in_the_way() -> None:
    ours = chain("drop").replace("table inet t", "table inet vde_vmnet_1a2b3c4d")
    assert [one.level for one in checks(ours, SEGMENT)] == [Level.OK]


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ((), True),
        (('iifname "eth0" drop',), True),
        ((f'iifname "{DEVICE}" drop',), False),
        (('iifname != "eth0" drop',), False),
        (('iifname { "eth0", "vmnet-*" } drop',), False),
        (("udp dport 67 drop",), False),
        (("udp dport { 53, 67 } drop",), False),
        (("udp dport != 67 drop",), True),
        (("udp sport 60-70 reject",), False),
        (("tcp dport 67 drop",), True),
        (("meta l4proto { icmp, ipv6-icmp } accept", "meta l4proto udp drop"), False),
        (("ip saddr 0.0.0.0 drop",), False),
        (("ip saddr != { 10.0.0.0/8, 192.168.0.0-192.168.255.255 } drop",), False),
        (("ip6 saddr ::1 drop",), True),
        (("ct state invalid drop",), True),
        (("ct state vmap { established : accept, related : accept, new : drop }",), False),
        (("ct state vmap { established : accept, invalid : drop }",), True),
        (('iifname vmap { "lo" : accept, "vmnet-*" : jump other }', "accept"), False),
        (("fib daddr type broadcast drop",), False),
        (("fib daddr type { local, multicast } drop",), True),
        (('counter packets 1 bytes 9 log prefix "a drop " level info drop',), False),
        (('log prefix "x drop"',), True),
        (('comment "drop"',), True),
        (('udp dport 67 counter packets 0 bytes 0 drop comment "why"',), False),
        (("jump other", "accept"), False),
        (("goto other", "accept"), False),
        (("jump nowhere",), True),
        (("jump loop",), True),
        (("udp dport 68 jump other",), True),
        (("return", "drop"), True),
        # What cannot be told from here.
        (("limit rate 3/minute drop",), None),
        (("ip saddr @blocked drop",), None),
        (("meta mark 0x00000001 drop",), None),
        (("ip daddr @sets drop", "drop"), False),
    ],
)
def test_what_becomes_of_a_dhcp_request(rules: tuple[str, ...], passes: bool | None) -> None:
    more = "\tchain other {\n\t\tudp dport 67 drop\n\t}\n\tchain loop {\n\t\tjump loop\n\t}\n"
    assert judge(parse(chain(*rules, more=more)), "input", REQUEST).passes is passes


def test_a_doubt_is_a_warning_that_quotes_the_rule() -> None:
    (found,) = checks(chain("iifname @guests accept", policy="drop"), SEGMENT)
    assert found.level is Level.WARNING
    assert "it may be" in found.said and "policy drop" in found.said


def test_every_table_must_let_it_through() -> None:
    text = chain("accept") + chain(policy="drop").replace("inet t", "ip u")
    verdict = judge(parse(text), "input", REQUEST)
    assert verdict.passes is False and str(verdict.chain) == "chain base of table ip u"


def test_what_is_no_ruleset_has_no_chains() -> None:
    for text in ("", "}}}{{{", "table\n", "chain x {", "table ip a {\n\tchain b {", "# Warning\n"):
        assert all(one.hook == "" for one in parse(text))


def test_legacy_iptables() -> None:
    save = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [1:2]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -i lo -j ACCEPT\n"
    found = list(legacy_checks(save, SEGMENT))
    assert [one.level for one in found] == [Level.WARNING, Level.WARNING]
    assert "iptables-legacy -I INPUT -i vmnet-+ -j ACCEPT" in found[0].next_step
    opened = f"{save}-A INPUT -i vmnet-+ -j ACCEPT\n-A FORWARD -i vmnet-1a2b3c4d -j ACCEPT\n"
    assert not list(legacy_checks(opened, SEGMENT))
    assert not list(legacy_checks("*filter\n:INPUT ACCEPT [0:0]\n", SEGMENT))


def test_which_manager_is_on() -> None:
    assert manager("# x\nENABLED=yes\n", set()) == "ufw"
    assert manager("ENABLED=no\n", {"bash", "firewalld"}) == "firewalld"
    assert manager("", {"bash"}) is None


def test_whether_a_running_network_is_shared() -> None:
    text = (
        "table inet vde_vmnet_1a2b3c4d {\n\tchain postrouting {\n"
        "\t\ttype nat hook postrouting priority srcnat; policy accept;\n\t}\n}\n"
    )
    assert is_shared(text, DEVICE)
    assert not is_shared(text, "vmnet-00000000")
