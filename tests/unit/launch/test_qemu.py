"""A QEMU command line is wired as little as it needs."""

import json

import pytest

from vde_vmnet.errors import ConfigurationError
from vde_vmnet.launch.qemu import Wiring, guest_name, is_qemu, properties, wire

MAC = "02:00:00:00:00:01"
QEMU = "qemu-system-x86_64"


def wired(*options: str, program: str = QEMU) -> Wiring:
    return wire([program, *options], descriptor=3, mac=MAC, netdev="vmnet0")


def added(*options: str, program: str = QEMU) -> tuple[str, ...]:
    """What was put behind; what was there is as it was."""
    command = wired(*options, program=program).command
    assert command[: len(options) + 1] == (program, *options)
    return command[len(options) + 1 :]


CONNECTION = ("-netdev", "socket,id=vmnet0,fd=3")
CARD = ("-device", f"virtio-net-pci,netdev=vmnet0,mac={MAC}")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("qemu-system-x86_64", True),
        ("/opt/bin/qemu-system-aarch64", True),
        ("qemu-kvm", True),
        ("kvm", True),
        ("qemu-img", False),
        ("qemu-x86_64", False),
        ("xqemu-system-x86_64", False),
        ("vfkit", False),
    ],
)
def test_which_program_is_qemu(program: str, expected: bool) -> None:
    assert is_qemu(program) is expected


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("-m", "1G", "disk.img"),
        ("-netdev", "user,id=other", "-device", "e1000,netdev=other"),
        ("-nic", "none"),
        ("-device", "virtio-blk-pci,drive=vmnet0"),
        ("-netdev", "socket,id=other,fd=33"),
        ("-object", "filter-dump,id=f,netdev=vmnet0,file=x"),
        ("-name", "-device"),
        ("-net",),
    ],
)
def test_a_connection_and_a_card(options: tuple[str, ...]) -> None:
    assert added(*options) == (*CONNECTION, *CARD)
    assert wired(*options).mac == MAC


def test_mainframes_have_no_pci() -> None:
    expected = ("-device", f"virtio-net-ccw,netdev=vmnet0,mac={MAC}")
    assert added(program="/usr/bin/qemu-system-s390x") == (*CONNECTION, *expected)


@pytest.mark.parametrize(
    "device",
    [
        "e1000,netdev=vmnet0,mac=52:54:00:00:00:09",
        "driver=e1000,mac=52:54:00:00:00:09,netdev=vmnet0",
        '{"driver": "e1000", "netdev": "vmnet0", "mac": "52:54:00:00:00:09"}',
    ],
)
@pytest.mark.parametrize("dash", ["-device", "--device"])
def test_a_card_of_its_own_gets_its_connection(dash: str, device: str) -> None:
    assert added(dash, device, "-m", "1G") == CONNECTION
    assert wired(dash, device).mac == "52:54:00:00:00:09"


def test_a_card_without_an_address_gets_one() -> None:
    done = wired("-device", "e1000,netdev=vmnet0", "-m", "1G")
    assert done.command == (QEMU, "-device", f"e1000,netdev=vmnet0,mac={MAC}", "-m", "1G", *CONNECTION)
    done = wired("-device", '{"driver": "e1000", "netdev": "vmnet0"}')
    assert json.loads(done.command[2]) == {"driver": "e1000", "netdev": "vmnet0", "mac": MAC}
    assert done.mac == MAC


@pytest.mark.parametrize(
    "option",
    [
        ("-netdev", "socket,id=x,fd=3"),
        ("-netdev", "stream,id=x,addr.type=fd,addr.str=3"),
        ("-netdev", "dgram,id=x,local.type=fd,local.str=3"),
        ("-netdev", '{"type": "stream", "id": "x", "addr": {"type": "fd", "str": "3"}}'),
        ("-netdev", "type=socket,fd=3,id=vmnet0"),
        ("-nic", "socket,fd=3,mac=52:54:00:00:00:09"),
        ("-net", "socket,fd=3"),
    ],
)
def test_nothing_is_added_to_what_uses_the_descriptor(option: tuple[str, str]) -> None:
    assert added(*option) == ()


def test_its_address_is_known_then_too() -> None:
    device = ("-device", "e1000,netdev=x,mac=52:54:00:00:00:09")
    assert wired("-netdev", "socket,id=x,fd=3", *device).mac == "52:54:00:00:00:09"
    assert wired("-nic", "socket,fd=3,mac=52:54:00:00:00:09").mac == "52:54:00:00:00:09"


def test_a_hub_has_the_cards() -> None:
    assert added("-netdev", "hubport,id=p,hubid=0,netdev=vmnet0", "-device", "e1000,netdev=q") == CONNECTION


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-netdev", "user,id=vmnet0"), '-netdev "vmnet0" of its own.*--netdev-id'),
        (("-daemonize",), "-daemonize puts QEMU in the background"),
    ],
)
def test_refused(options: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"(?s){message}"):
        wired(*options)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ((), None),
        (("-name", "web"), "web"),
        (("-name", "web,process=q"), "web"),
        (("--name", "guest=a,,b,debug-threads=on"), "a,b"),
        (("-name", "process=q"), None),
        (("-name",), None),
        (("-name", "one", "-name", "two"), "two"),
    ],
)
def test_the_name(options: tuple[str, ...], name: str | None) -> None:
    assert guest_name([QEMU, *options]) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("socket,id=a,fd=3", {"type": "socket", "id": "a", "fd": "3"}),
        ("a,,b,c=d,,,e", {"type": "a,b", "c": "d,", "e": "on"}),
        ("", {"type": ""}),
        ('{"type": "x", "a": {"b": 1, "c": {"d": true}}}', {"type": "x", "a.b": "1", "a.c.d": "True"}),
        ("{broken", {}),
        ("{}", {}),
    ],
)
def test_properties_as_qemu_reads_them(text: str, expected: dict[str, str]) -> None:
    assert properties(text, "type") == expected
