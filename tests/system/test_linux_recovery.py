"""What a killed uplink leaves, and who clears it up; networks that share a setting; what is foreign stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Namespace
from tests.system.linux_uplink import RefusedError, UplinkProcess, picture, processes

pytestmark = pytest.mark.root

FORWARD = "net.ipv4.ip_forward"


@pytest.fixture
def host() -> Iterator[Namespace]:
    with Namespace("host") as namespace:
        namespace.run("ip", "link", "add", "up0", "type", "veth", "peer", "up1")
        namespace.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        for device in ("up0", "up1"):
            namespace.run("sysctl", "-qw", f"net.ipv6.conf.{device}.accept_dad=0")
            namespace.run("ip", "link", "set", device, "up")
        yield namespace


def forwards(host: Namespace) -> bool:
    return host.run("sysctl", "-n", FORWARD).strip() == "1"


def until_ended(host: Namespace, *programs: str) -> None:
    """The kernel ends them when their parent is gone; `tail --pid` waits for that."""
    for program in programs:
        for pid in processes(host, program):
            host.run("timeout", "5", "tail", "--pid", str(pid), "-s", "0.02", "-f", "/dev/null")


def test_after_kill_9_the_kernel_has_cleared_most_and_the_next_start_the_rest(
    host: Namespace, state: Path
) -> None:
    before = picture(host)
    uplink = UplinkProcess(host, state, prefix="fd12:3456:789a::/64")
    assert forwards(host)
    uplink.kill()
    until_ended(host, "dnsmasq", "nft")
    after = picture(host)
    for key in ("links", "addresses", "rules", "processes"):
        assert after[key] == before[key]
    assert forwards(host)
    again = UplinkProcess(host, state, id=uplink.id)
    assert again.opened["swept"] == [uplink.id]
    assert again.stop()
    assert picture(host) == before
    assert {path.name for path in state.iterdir()} <= {".lock", ".opening"}


def test_another_network_clears_up_as_well(host: Namespace, state: Path) -> None:
    before = picture(host)
    killed = UplinkProcess(host, state)
    killed.kill()
    other = UplinkProcess(host, state, mode="host")
    assert other.opened["swept"] == [killed.id]
    assert not forwards(host)
    assert other.stop()
    assert picture(host) == before


def test_leftovers_without_a_record_are_known_by_name(host: Namespace, state: Path) -> None:
    before = picture(host)
    host.run("ip", "tuntap", "add", "dev", "vmnet-aaaa0002", "mode", "tap")
    host.run("nft", "add", "table", "inet", "vde_vmnet_aaaa0002")
    uplink = UplinkProcess(host, state, id="aaaa0002")
    assert uplink.stop()
    assert picture(host) == before


def test_the_same_network_cannot_run_twice(host: Namespace, state: Path) -> None:
    uplink = UplinkProcess(host, state, id="aaaa0003")
    with pytest.raises(RefusedError, match="aaaa0003 is already running") as refused:
        UplinkProcess(host, state, id="aaaa0003")
    assert refused.value.kind == "ConflictError"
    assert host.succeeds("ip", "link", "show", "vmnet-aaaa0003")
    assert uplink.stop()


@pytest.mark.parametrize("order", ["oldest first", "newest first"])
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_last_of_two_networks_turns_forwarding_off(
    host: Namespace, state: Path, order: str, end: str
) -> None:
    host.run("sysctl", "-qw", "net.ipv4.conf.up0.forwarding=1", "net.ipv4.conf.all.accept_redirects=0")
    before = picture(host)
    running = [UplinkProcess(host, state, prefix=f"fd12:3456:789{digit}::/64") for digit in "ab"]
    assert [one.opened["facts"]["gateway"] for one in running] == ["192.168.105.1/24", "192.168.106.1/24"]
    if order == "newest first":
        running.reverse()
    first, last = running
    if end == "kill":
        first.kill()
        # Some other start finds what it left.
        assert UplinkProcess(host, state, mode="host").stop()
    else:
        assert first.stop()
    assert forwards(host)
    assert host.run("sysctl", "-n", "net.ipv6.conf.up0.accept_ra").strip() == "2"
    assert last.stop()
    assert picture(host) == before


def test_networks_that_start_together_choose_different_subnets(host: Namespace, state: Path) -> None:
    starting = [UplinkProcess(host, state, wait=False) for _ in range(4)]
    gateways = {one.opened["facts"]["gateway"] for one in starting}
    assert len(gateways) == 4
    for one in starting:
        assert one.stop()


def test_both_killed_at_once(host: Namespace, state: Path) -> None:
    before = picture(host)
    for one in [UplinkProcess(host, state) for _ in range(2)]:
        one.kill()
    assert UplinkProcess(host, state, mode="host").stop()
    assert picture(host) == before


def test_forwarding_that_was_on_stays_on(host: Namespace, state: Path) -> None:
    host.run("sysctl", "-qw", f"{FORWARD}=1")
    before = picture(host)
    assert UplinkProcess(host, state).stop()
    assert picture(host) == before


def test_a_setting_that_somebody_changed_meanwhile_is_theirs(host: Namespace, state: Path) -> None:
    uplink = UplinkProcess(host, state)
    host.run("sysctl", "-qw", f"{FORWARD}=0")
    host.run("sysctl", "-qw", "net.ipv4.conf.up0.forwarding=1")
    before = host.run("sysctl", "net.ipv4.conf.up0.forwarding")
    assert uplink.stop()
    assert not forwards(host)
    assert host.run("sysctl", "net.ipv4.conf.up0.forwarding") == before


def test_foreign_tables_and_servers_are_untouched(host: Namespace, state: Path) -> None:
    host.run("nft", "add table inet filter { chain forward { type filter hook forward priority 0; }; }")
    host.run("nft", "add table inet vde_vmnet_other")
    host.run("ip", "address", "add", "10.9.8.1/24", "dev", "up0")
    host.run(
        "dnsmasq", "--conf-file=/dev/null", "--interface=up0", "--bind-interfaces", "--except-interface=lo",
        "--pid-file=", "--dhcp-range=10.9.8.5,10.9.8.9", "--dhcp-leasefile=/dev/null",
    )  # fmt: skip
    before = picture(host)
    uplink = UplinkProcess(host, state)
    host.run("nft", "flush", "ruleset")
    # A reload of the host's firewall does not cut guests off: the table is ours alone.
    assert f"vde_vmnet_{uplink.id}" in host.run("nft", "list", "tables")
    host.run("nft", "add table inet filter { chain forward { type filter hook forward priority 0; }; }")
    host.run("nft", "add table inet vde_vmnet_other")
    assert uplink.stop()
    assert picture(host) == before


def test_another_namespaces_network_is_left_alone(host: Namespace, state: Path) -> None:
    with Namespace("other") as other:
        killed = UplinkProcess(other, state)
        killed.kill()
        uplink = UplinkProcess(host, state)
        assert uplink.opened["swept"] == []
        assert uplink.stop()
        assert forwards(other)
        back = UplinkProcess(other, state)
        assert back.opened["swept"] == [killed.id]
        assert back.stop()
        assert not forwards(other)


def test_a_namespace_that_has_ended_leaves_no_record(host: Namespace, state: Path) -> None:
    with Namespace("other") as other:
        UplinkProcess(other, state).kill()
    assert UplinkProcess(host, state).stop()
    assert {path.name for path in state.iterdir()} <= {".lock", ".opening"}


def test_a_state_directory_that_others_can_write_is_refused(host: Namespace, state: Path) -> None:
    state.chmod(0o777)
    with pytest.raises(RefusedError, match="writable by no other") as refused:
        UplinkProcess(host, state)
    assert refused.value.kind == "PrivilegeError"
