"""Which QEMU commands have, or can be given, memory that is shared, and what they lack."""

import json

import pytest

from vde_vmnet.launch.qemu import Shared, Wiring, takes_shared, wire
from vde_vmnet.launch.qemu_memory import Sharing, sharing

MAC = "02:00:00:00:00:01"
QEMU = "qemu-system-x86_64"
MEMFD = "memory-backend-memfd,id=m,size=1G"


def given(size: str) -> tuple[str, ...]:
    return (
        *("-object", f"memory-backend-memfd,id=vmnet0-memory,size={size},share=on"),
        *("-machine", "memory-backend=vmnet0-memory"),
    )


@pytest.mark.parametrize(
    ("options", "added"),
    [
        (("-m", "1G"), given("1G")),
        (("-m", "512"), given("512M")),
        (("-m", "size=2G,slots=2,maxmem=8G"), given("2G")),
        (("-m", "1G", "-m", "2G"), given("2G")),
        (("-m", "1G", "-machine", "q35"), given("1G")),
        (("-object", MEMFD, "-machine", "q35,memory-backend=m"), ()),
        (("-object", f"{MEMFD},share=on", "-M", "memory-backend=m"), ()),
        (("-object", f"{MEMFD},share=off", "-machine", "memory-backend=m"), None),
        (("-object", "memory-backend-file,id=m,size=1G,share=on", "-machine", "memory-backend=m"), ()),
        (("-object", "memory-backend-file,id=m,size=1G", "-machine", "memory-backend=m"), None),
        (("-object", "memory-backend-ram,id=m,size=1G,share=on", "-machine", "memory-backend=m"), None),
        (("-machine", "memory-backend=m", "-m", "1G"), None),
        (("-object", MEMFD, "-numa", "node,memdev=m", "-m", "1G"), ()),
        (("-object", MEMFD, "-numa", "node,memdev=m", "-numa", "node,memdev=other"), None),
        (("-numa", "node,mem=1G"), None),
        ((), None),
        (("-m", "some"), None),
        (("-m", "1G", "-mem-path", "/dev/hugepages"), None),
        (("-m", "1G", "-incoming", "defer"), None),
        (("-m", "1G", "-loadvm", "before"), None),
        (("-m", "1G", "-readconfig", "file"), None),
    ],
)
def test_what_a_command_lacks(options: tuple[str, ...], added: tuple[str, ...] | None) -> None:
    found = sharing([QEMU, *options], name="vmnet0")
    assert found == (None if added is None else Sharing(added, kvm=False))


@pytest.mark.parametrize(
    ("program", "options", "kvm"),
    [
        (QEMU, (), False),
        (QEMU, ("-enable-kvm",), True),
        (QEMU, ("-accel", "kvm"), True),
        (QEMU, ("-accel", "kvm", "-accel", "tcg"), True),
        (QEMU, ("-accel", "tcg,thread=multi"), False),
        (QEMU, ("-machine", "q35,accel=kvm:tcg"), True),
        (QEMU, ("-machine", "q35,accel=tcg"), False),
        ("/usr/bin/kvm", (), True),
    ],
)
def test_kvm_is_seen(program: str, options: tuple[str, ...], kvm: bool) -> None:
    found = sharing([program, "-m", "1G", *options], name="vmnet0")
    assert found is not None and found.kvm is kvm


@pytest.mark.parametrize(
    ("options", "takes"),
    [
        ((), True),
        (("-device", "virtio-net-pci,netdev=vmnet0"), True),
        (("-device", "e1000,netdev=vmnet0"), False),
        (("-device", "e1000,netdev=other"), True),
        (("-netdev", "socket,id=vmnet0,fd=3"), False),
        (("-netdev", "hubport,id=h,hubid=0,netdev=vmnet0"), False),
    ],
)
def test_whose_connection_can_be_one_with_shared_memory(options: tuple[str, ...], takes: bool) -> None:
    assert takes_shared([QEMU, *options], descriptor=3, netdev="vmnet0") is takes


def wired(*options: str, kvm: bool = False) -> Wiring:
    shared = Shared("/run/a,b", ("-object", "memory"), kvm)
    return wire([QEMU, *options], descriptor=3, mac=MAC, netdev="vmnet0", shared=shared)


LINK = (
    *("-object", "memory", "-chardev", "socket,id=vmnet0-link,path=/run/a,,b"),
    *("-netdev", "vhost-user,id=vmnet0,chardev=vmnet0-link"),
)


def test_a_card_does_without_the_interrupts_that_crash_qemu() -> None:
    card = f"virtio-net-pci,netdev=vmnet0,mac={MAC}"
    assert wired().command == (QEMU, *LINK, "-device", f"{card},vectors=0")
    assert wired(kvm=True).command == (QEMU, *LINK, "-device", card)
    own = "virtio-net-pci,netdev=vmnet0,mac=02:00:00:00:00:09"
    assert wired("-device", own) == Wiring((QEMU, "-device", f"{own},vectors=0", *LINK), "02:00:00:00:00:09")
    assert wired("-device", f"{own},vectors=4").command[2] == f"{own},vectors=4"
    assert wired("-device", "virtio-net-device,netdev=vmnet0").command[2].endswith(f"mac={MAC}")
    written = wired("-device", json.dumps({"driver": "virtio-net-pci", "netdev": "vmnet0"})).command[2]
    assert json.loads(written) == {"driver": "virtio-net-pci", "netdev": "vmnet0", "mac": MAC, "vectors": 0}
