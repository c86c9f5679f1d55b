"""Which uplink is chosen, why, and the sentences that say why one cannot be used."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from vde_vmnet import uplinks
from vde_vmnet.addresses import NamedForward
from vde_vmnet.config.access import AccessRule
from vde_vmnet.config.model import Backend, Mode, UplinkConfig
from vde_vmnet.errors import ConfigurationError, PrivilegeError, UnavailableError, UplinkError
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.uplinks import choose
from vde_vmnet.uplinks.linux import LinuxUplink, children, link, programs
from vde_vmnet.uplinks.none import NoneUplink
from vde_vmnet.uplinks.vmnet import library

CONFIG = UplinkConfig()
EVERYTHING = (1 << 41) - 1


@pytest.fixture
def capable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Linux with everything that the uplink needs."""
    for module in (uplinks, children):
        monkeypatch.setattr(module, "effective_capabilities", lambda: EVERYTHING)
    monkeypatch.setattr(programs, "find", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(link, "TUN_DEVICE", tmp_path)


@pytest.fixture
def incapable(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (uplinks, children):
        monkeypatch.setattr(module, "effective_capabilities", lambda: 0)


@pytest.mark.parametrize(
    ("backend", "name"),
    [(Backend.AUTO, "linux"), (Backend.LINUX, "linux"), (Backend.USER, "user"), (Backend.NONE, "none")],
)
def test_choice_with_privilege(capable: None, backend: Backend, name: str) -> None:
    uplink, why = choose(backend, CONFIG, "1a2b3c4d")
    assert uplink.name == name
    assert why.startswith(name) and "\n" not in why


def test_a_mac_has_vmnet(incapable: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "is_macos", lambda: True)
    uplink, why = choose(Backend.AUTO, CONFIG, "1a2b3c4d")
    assert uplink.name == "vmnet" and why == "vmnet, since this is a Mac"
    assert not uplink.survives_fork


def test_vmnet_elsewhere() -> None:
    uplink, why = choose(Backend.VMNET, CONFIG, "1a2b3c4d")
    assert why == "vmnet, asked for with --backend=vmnet"
    assert uplink.unavailable_reason() == "The vmnet uplink needs macOS"
    undo = UndoRecord.in_memory("1a2b3c4d")
    with pytest.raises(UnavailableError, match="needs macOS"):
        uplink.open(undo)
    with pytest.raises(UplinkError, match="hears every guest"):
        uplink.open_guest_mac("52:54:00:aa:bb:01", undo)


def test_vmnet_follows_no_names() -> None:
    config = UplinkConfig(named_forwards=(NamedForward.parse("80:web:80"),))
    with pytest.raises(ConfigurationError, match=r"--forward tcp:80:web:80.*--reserve"):
        choose(Backend.VMNET, config, "1a2b3c4d")
    for backend in (Backend.USER, Backend.LINUX):
        assert choose(backend, config, "1a2b3c4d")[0].name == backend.value


def test_vmnet_has_no_filter() -> None:
    config = UplinkConfig(rules=(AccessRule(IPv4Network("10.0.0.0/8"), allow=False),))
    with pytest.raises(ConfigurationError, match=r"--allow and --deny .*vmnet.*pf"):
        choose(Backend.VMNET, config, "1a2b3c4d")


def test_without_privilege_it_is_the_user_mode_stack(incapable: None) -> None:
    uplink, why = choose(Backend.AUTO, CONFIG, "1a2b3c4d")
    assert uplink.name == "user"
    assert why.startswith("user, since")
    uplink, _ = choose(Backend.LINUX, CONFIG, "1a2b3c4d")
    with pytest.raises(PrivilegeError, match=r"CAP_NET_ADMIN.*sudo.*--backend=none"):
        uplink.open(UndoRecord.in_memory("1a2b3c4d"))


def test_none_needs_nothing_and_opens_nothing(incapable: None) -> None:
    uplink = NoneUplink()
    undo = UndoRecord.in_memory("1a2b3c4d")
    assert uplink.unavailable_reason() is None
    assert uplink.open(undo).endpoint is None
    with pytest.raises(UplinkError):
        uplink.open_guest_mac("52:54:00:aa:bb:01", undo)


def test_reasons(capable: None, monkeypatch: pytest.MonkeyPatch) -> None:
    uplink = LinuxUplink(CONFIG, "1a2b3c4d")
    undo = UndoRecord.in_memory("1a2b3c4d")
    assert uplink.unavailable_reason() is None

    monkeypatch.setattr(programs, "find", lambda name: None if name in ("nft", "dnsmasq") else "/bin/x")
    assert uplink.unavailable_reason() == "nft and dnsmasq are not installed"
    assert LinuxUplink(UplinkConfig(mode=Mode.BRIDGED), "1a2b3c4d").unavailable_reason() is None
    with pytest.raises(UnavailableError, match="apt-get install nftables dnsmasq-base"):
        uplink.open(undo)

    monkeypatch.setattr(children, "effective_capabilities", lambda: 0)
    assert uplink.unavailable_reason() == "The linux uplink needs root (CAP_NET_ADMIN)"

    monkeypatch.setattr(link, "TUN_DEVICE", Path("/nonexistent/tun"))
    assert uplink.unavailable_reason() == "/nonexistent/tun does not exist"
    with pytest.raises(UnavailableError, match="modprobe tun"):
        uplink.open(undo)

    monkeypatch.setattr("sys.platform", "darwin")
    assert uplink.unavailable_reason() == "The linux uplink needs Linux"


def test_a_routed_uplink_hears_every_guest() -> None:
    with pytest.raises(UplinkError, match="hears every guest"):
        LinuxUplink(CONFIG, "1a2b3c4d").open_guest_mac("52:54:00:aa:bb:01", UndoRecord.in_memory("1a2b3c4d"))


def test_programs_say_what_they_said() -> None:
    assert programs.run(["sh", "-c", "cat; echo more"], text="text ") == "text more\n"
    with pytest.raises(UplinkError, match=r"^sh -c .* failed: no luck$"):
        programs.run(["sh", "-c", "echo no  luck >&2; exit 3"])
    with pytest.raises(UplinkError, match="status 3"):
        programs.run(["sh", "-c", "exit 3"])


def test_missing_programs_name_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "find", lambda name: None)
    with pytest.raises(UnavailableError, match=r"dnsmasq is not installed.*apt-get install dnsmasq-base"):
        programs.require("dnsmasq")
    assert programs.missing_reason(["ip"]) == "ip is not installed"
    assert programs.missing_reason([]) is None
