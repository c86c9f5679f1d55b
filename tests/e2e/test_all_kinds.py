"""One daemon, one segment: a guest on every kind of port, all at once, and a Python plug among them."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import ARP, Ether

from tests.support.daemon import GATEWAY, Daemon, wait_until
from tests.support.guest import image, mac
from tests.support.netns import Namespace
from tests.support.vde_switch import VdeSwitch
from vde_vmnet import Plug
from vde_vmnet.demo.accounts import unprivileged_account
from vde_vmnet.demo.guest import Guest, GuestConfig

pytestmark = [pytest.mark.root, pytest.mark.guest]

#: Of the transfers below, in each direction; `make transfer` raises it to the issue's 1 GiB.
TRANSFER_MIB = int(os.environ.get("VDE_VMNET_TRANSFER_MIB", "24"))
_BLOCK = 1 << 20
_LINES = 180_000


@dataclass(frozen=True)
class Everybody:
    """The segment with everybody on it, booted and with an address each."""

    host: Namespace
    daemon: Daemon
    stream: Path
    guests: dict[str, Guest]
    addresses: dict[str, str]

    def each(self, ask: Callable[[str, Guest], object]) -> None:
        """``ask`` of all guests at once."""
        with ThreadPoolExecutor(len(self.guests)) as threads:
            for done in [threads.submit(ask, kind, guest) for kind, guest in self.guests.items()]:
                done.result()


@pytest.fixture(scope="module")
def everybody() -> Iterator[Everybody]:
    account = unprivileged_account()
    with ExitStack() as closing:
        host = closing.enter_context(Namespace("host"))
        place = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="vdet-")))
        place.chmod(0o755)
        shared, stream, dgram = place / "shared", place / "stream", place / "dgram"
        shared.mkdir()
        shared.chmod(0o777)  # the daemon's user and the guest's both make a socket there
        pair = shared / "p"
        switch = closing.enter_context(VdeSwitch(place / "theirs", "-m", "666"))
        daemon = closing.enter_context(
            Daemon(
                host,
                f"--vmnet-gateway={GATEWAY}",
                f"--user={account.name}",
                f"--stream={stream}",
                f"--dgram={dgram}",
                f"{pair}[]",
                str(switch.directory),
            )
        )
        plugs = {
            "vde": f"vde,sock={daemon.directory}",
            "ptp": f"vde,sock=ptp://{pair}",
            "vde_switch": f"vde,sock={switch.directory}",
            "stream": f"stream,addr.type=unix,addr.path={stream}",
            "dgram": f"dgram,local.type=unix,local.path={shared}/g,remote.type=unix,remote.path={dgram}",
        }
        guests = {
            kind: closing.enter_context(
                Guest(
                    GuestConfig(
                        image=image(),
                        evidence=daemon.evidence,
                        network=(
                            *("-netdev", f"{plug},id=net0"),
                            *("-device", f"virtio-net-pci,netdev=net0,mac={mac(number)},romfile="),
                        ),
                        name=kind.replace("_", "-"),
                        account=account,
                    )
                )
            )
            for number, (kind, plug) in enumerate(plugs.items(), 1)
        }
        addresses = {}
        for kind, guest in guests.items():
            guest.wait_ready(120)
            lease = guest.request_lease()
            assert lease is not None, kind
            addresses[kind] = lease["address"]
        assert len(set(addresses.values())) == len(guests)
        yield Everybody(host, daemon, stream, guests, addresses)


@pytest.mark.timeout(240)
def test_all_ping_all_and_the_host_both_ways_at_once(everybody: Everybody) -> None:
    targets = [GATEWAY, *everybody.addresses.values()]

    def ping(kind: str, guest: Guest) -> None:
        # A shell for each target, so that all of them are under way together.
        asked = " ".join(targets)
        script = (
            f"for a in {asked}; do ping -c 8 -i 0.25 -W 10 $a >/tmp/$a 2>&1 & done; wait;"
            f" for a in {asked}; do grep packets /tmp/$a; done"
        )
        done = guest.run(script, seconds=60)
        assert done.status == 0 and done.output.count(" 0% packet loss") == len(targets), (kind, done.output)

    def from_host(address: str) -> None:
        said = everybody.host.run("ping", "-c", "8", "-i", "0.25", "-W", "10", address, timeout=60)
        assert " 0% packet loss" in said, said

    with ThreadPoolExecutor(len(targets)) as threads:
        pings = [threads.submit(from_host, address) for address in everybody.addresses.values()]
        everybody.each(ping)
        for one in pings:
            one.result()


@pytest.mark.parametrize("where", ["vde", "stream"])
@pytest.mark.timeout(120)
def test_a_python_plug_talks_to_all(everybody: Everybody, where: str) -> None:
    ours, our_address = mac(99), "192.168.105.240"
    path = everybody.daemon.directory if where == "vde" else everybody.stream
    with Plug(path, description="python") as plug:

        def ask(request: Ether, layer: type[ARP | ICMP], address: str) -> Ether:
            plug.send(bytes(request))
            while True:
                answer = Ether(plug.receive(timeout=20))
                if layer in answer and address == (answer[ARP].psrc if layer is ARP else answer[IP].src):
                    return answer

        if where == "stream":
            # There is no handshake: what is sent waits for us, what is answered does not.
            wait_until(lambda: "plugged in" in everybody.daemon.log().split("has MAC")[-1], "the plug is there")
        for kind, address in everybody.addresses.items():
            who = ask(
                Ether(dst="ff:ff:ff:ff:ff:ff", src=ours)
                / ARP(op="who-has", hwsrc=ours, psrc=our_address, pdst=address),
                ARP,
                address,
            )
            station = who[ARP].hwsrc
            assert station == everybody.guests[kind].check("cat /sys/class/net/eth0/address").strip()
            payload = os.urandom(1200)
            echo = ask(
                Ether(dst=station, src=ours)
                / IP(src=our_address, dst=address)
                / ICMP(type="echo-request", id=7, seq=1)
                / payload,
                ICMP,
                address,
            )
            assert bytes(echo[ICMP].payload) == payload and echo[IP].src == address


@pytest.mark.timeout(120)
def test_frames_of_64_kib_pass_where_both_ends_allow_them(everybody: Everybody) -> None:
    """Not through somebody else's vde_switch, which takes ordinary ones only."""
    kinds = [kind for kind in everybody.guests if kind != "vde_switch"]
    for kind in kinds:
        everybody.guests[kind].check("ip link set eth0 mtu 65000")
    try:
        for kind in kinds:
            guest = everybody.guests[kind]
            others = [everybody.addresses[other] for other in kinds if other != kind]
            counters = "cd /sys/class/net/eth0/statistics; cat rx_packets rx_bytes"
            packets, octets = map(int, guest.check(counters).split())
            for address in others:
                said = guest.check(f"ping -c 3 -i 0.2 -W 10 -s 64000 {address}")
                assert " 0% packet loss" in said, (kind, address, said)
            more_packets, more_octets = map(int, guest.check(counters).split())
            # In one piece each: 64,000 bytes in ordinary frames would be 44 of them.
            assert more_octets - octets > 3 * 64_000 * len(others)
            assert more_packets - packets < 3 * 8 * len(others)
    finally:
        for kind in kinds:
            everybody.guests[kind].check("ip link set eth0 mtu 1500")


def sent(mebibytes: int) -> str:
    """The checksum of what each sends: numbered blocks of numbered lines, so that no two parts are alike."""
    block = b"".join(b"%d\n" % number for number in range(1, _LINES + 1))[:_BLOCK]
    assert len(block) == _BLOCK
    whole = hashlib.md5(usedforsecurity=False)
    for number in range(1, mebibytes + 1):
        whole.update(b"block %d\n" % number)
        whole.update(block)
    return whole.hexdigest()


#: `nc -e` gives them the socket itself, which cat and md5sum use in large pieces.
_SEND = f"#!/bin/sh\nfor n in $(seq {TRANSFER_MIB}); do echo block $n; cat /tmp/block; done\n"
_RECEIVE = "#!/bin/sh\nmd5sum > /tmp/sum.part; mv /tmp/sum.part /tmp/sum\n"


@pytest.mark.timeout(240 + 4 * TRANSFER_MIB)
def test_what_guests_send_each_other_arrives_byte_for_byte(everybody: Everybody) -> None:
    """Everybody sends to the next and receives from the one before, all at once."""
    kinds = list(everybody.guests)
    following = dict(zip(kinds, [*kinds[1:], kinds[0]], strict=True))
    everybody.each(
        lambda _, guest: guest.check(
            f"cd /tmp; seq 1 {_LINES} | head -c {_BLOCK} > block; rm -f sum;"
            f" printf '{_SEND}' > send; printf '{_RECEIVE}' > receive; chmod +x send receive;"
            " nc -l -p 5001 -e /tmp/receive > /dev/null 2>&1 & true"
        )
    )

    def send(kind: str, guest: Guest) -> None:
        script = (
            f"nc {everybody.addresses[following[kind]]} 5001 -e /tmp/send;"
            f" for try in $(seq {600 + 40 * TRANSFER_MIB}); do [ -s /tmp/sum ] && break; usleep 100000; done;"
            " cat /tmp/sum"
        )
        assert guest.check(script, seconds=120 + 4 * TRANSFER_MIB).split()[0] == expected, kind

    expected = sent(TRANSFER_MIB)
    begun = time.monotonic()
    everybody.each(send)
    seconds = time.monotonic() - begun
    print(f"{len(kinds)} transfers of {TRANSFER_MIB} MiB in {seconds:.1f} s")
