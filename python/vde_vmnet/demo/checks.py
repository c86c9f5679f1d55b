"""What the demo claims, one function a row: each returns what was seen, or raises CheckFailedError."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from vde_vmnet.demo.errors import CheckFailedError, GuestError
from vde_vmnet.demo.guest import Guest
from vde_vmnet.demo.netns import Namespace
from vde_vmnet.demo.traffic import HttpServer, ThroughputServer, fetch

__all__ = ["CHECKS", "USER_CHECKS", "Check", "Row", "Scene", "Surroundings", "run_check"]

_THROUGHPUT_SECONDS = 1.5
_PINGS = 3
_GREETING = b"hello from beyond\n"


@dataclass(frozen=True)
class Surroundings:
    """What the demo makes around the network when it may."""

    host: Namespace
    world: Namespace
    outside: str
    beyond: str


@dataclass
class Scene:
    """Who takes part. ``lease`` is filled by the first check that needs the network."""

    guest: Guest
    gateway: str
    network: IPv4Network
    #: Name under which guests find the host.
    host_name: str
    #: Where the host's servers listen and its clients are: a namespace, and the address that guests reach at
    #: the gateway's.
    host_path: str
    listens: str
    #: For the host's web server.
    http_port: int = 8080
    #: Where the host finds the guest's port 80: an address and port of its own, or the guest's own.
    forwarded: tuple[str, int] | None = None
    #: The address that a server of the host sees a guest at; None is the guest's own.
    seen_as: str | None = None
    #: Host and world as namespaces, the host's own address towards the world, and the world's.
    around: Surroundings | None = None
    lease: dict[str, str] = field(default_factory=dict)

    @property
    def guest_address(self) -> str:
        """Raises CheckFailedError before there is one."""
        if not self.lease:
            raise CheckFailedError("the guest has no address")
        return self.lease["address"]


@dataclass(frozen=True)
class Check:
    """One row to be: its title and what fills it."""

    title: str
    run: Callable[[Scene], str]


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    title: str
    held: bool
    seen: str
    seconds: float


def run_check(check: Check, scene: Scene) -> Row:
    """Carry one check out; a failure of any part of it is a row, not an exception."""
    started = time.monotonic()
    try:
        held, seen = True, check.run(scene)
    except (CheckFailedError, GuestError, OSError) as error:
        held, seen = False, " ".join(str(error).split())
    return Row(check.title, held, seen, time.monotonic() - started)


def _rootless(scene: Scene) -> str:
    credentials = scene.guest.credentials()
    account = scene.guest.config.account
    if not credentials.rootless:
        raise CheckFailedError(f"it has {credentials}")
    who = f"user {account.name} (uid {account.uid})" if account else f"you (uid {min(credentials.uids)})"
    return f"{who}, no capabilities, groups {sorted(credentials.groups) or '-'}"


def _lease(scene: Scene) -> str:
    lease = scene.guest.request_lease()
    if lease is None:
        raise CheckFailedError("no DHCP server answered")
    if IPv4Address(lease["address"]) not in scene.network:
        raise CheckFailedError(f"{lease['address']} is not in {scene.network}")
    if lease["router"] != scene.gateway:
        raise CheckFailedError(f"the router is {lease['router'] or 'not given'} instead of {scene.gateway}")
    scene.lease = lease
    minutes = int(lease["seconds"]) // 60
    return f"{lease['address']}/{lease['prefix']} for {minutes} min from {lease['server']}"


def _ping_statistics(output: str) -> str:
    answered = re.search(r"(\d+) packets transmitted, (\d+) packets received", output)
    times = re.search(r"min/avg/max = ([\d.]+)/([\d.]+)/", output)
    if answered is None or times is None or answered[1] != answered[2]:
        raise CheckFailedError(output or "ping said nothing")
    return f"{answered[2]} of {answered[1]} answered, best {times[1]} ms"


def _ping_host(scene: Scene) -> str:
    _ = scene.guest_address
    said = scene.guest.run(f"ping -c {_PINGS} -i 0.2 -W 2 {scene.gateway}").output
    return f"{scene.gateway}: {_ping_statistics(said)}"


def _ping_guest(scene: Scene) -> str:
    address = scene.guest_address
    said = _around(scene).host.run("busybox", "ping", "-c", str(_PINGS), "-i", "0.2", "-W", "2", address)
    return f"{address}: {_ping_statistics(said)}"


def _name(scene: Scene) -> str:
    said = scene.guest.run(f"nslookup {scene.host_name} {scene.lease.get('dns') or scene.gateway}").output
    addresses = re.findall(r"^Address(?: \d+)?: +(\S+)", said.partition("Name:")[2], re.MULTILINE)
    if scene.gateway not in addresses:
        raise CheckFailedError(f"{scene.host_name}: {said}")
    return f"{scene.host_name} is {scene.gateway}"


def _guest_fetches(scene: Scene, address: str) -> str:
    url = f"http://{address}:{scene.http_port}/"
    said = scene.guest.run(f"timeout 10 wget -q -O - {url}").output
    if said.encode() != _GREETING:
        raise CheckFailedError(f"{url} gave: {said}")
    return url


def _http_host(scene: Scene) -> str:
    address = scene.guest_address
    expected = scene.seen_as or address
    with HttpServer(scene.host_path, scene.listens, scene.http_port, _GREETING) as server:
        url = _guest_fetches(scene, scene.gateway)
    if server.clients != [expected]:
        raise CheckFailedError(f"{url} was asked by {server.clients} instead of {expected}")
    return f"{url}, asked by {expected}"


def _http_guest(scene: Scene) -> str:
    address = scene.guest_address
    scene.guest.check("httpd -p 80 -h /var/www")
    where, port = scene.forwarded or (address, 80)
    page = fetch(scene.host_path, where, port)
    url = f"http://{where}/" if port == 80 else f"http://{where}:{port}/"
    if page != b"hello from the guest\n":
        raise CheckFailedError(f"{url} gave: {page[:80]!r}")
    return url


def _http_world(scene: Scene) -> str:
    _ = scene.guest_address
    around = _around(scene)
    with HttpServer(around.world.path, around.beyond, scene.http_port, _GREETING) as server:
        url = _guest_fetches(scene, around.beyond)
    if server.clients != [around.outside]:
        raise CheckFailedError(f"{url} was asked by {server.clients} instead of {around.outside}")
    return f"{url}, which saw the host's {around.outside}"


def _around(scene: Scene) -> Surroundings:
    if scene.around is None:
        raise CheckFailedError("only root can make the namespaces for this")
    return scene.around


def _throughput(scene: Scene, command: str, *, sending: bool) -> str:
    _ = scene.guest_address
    with ThroughputServer(
        scene.host_path, scene.listens, seconds=_THROUGHPUT_SECONDS, sending=sending
    ) as server:
        said = scene.guest.run(command.format(target=f"{scene.gateway} {server.port}"), seconds=30)
        result = server.result()
    if result is None:
        raise CheckFailedError(f"nothing arrived: {said.output}")
    return str(result)


def _throughput_out(scene: Scene) -> str:
    return _throughput(scene, "nc {target} -e dd if=/dev/zero bs=64k", sending=False)


def _throughput_in(scene: Scene) -> str:
    return _throughput(scene, "nc {target} -e dd of=/dev/null bs=64k", sending=True)


#: Without root, in the order in which they are carried out and shown.
USER_CHECKS: Sequence[Check] = (
    Check("QEMU runs without root", _rootless),
    Check("DHCP lease", _lease),
    Check("ping guest -> gateway", _ping_host),
    Check("name of the host", _name),
    Check("HTTP guest -> host", _http_host),
    Check("HTTP host -> guest, forwarded", _http_guest),
    Check("TCP guest -> host", _throughput_out),
    Check("TCP host -> guest", _throughput_in),
)

#: As root.
CHECKS: Sequence[Check] = (
    Check("QEMU runs without root", _rootless),
    Check("DHCP lease", _lease),
    Check("ping guest -> host", _ping_host),
    Check("ping host -> guest", _ping_guest),
    Check("name of the host", _name),
    Check("HTTP guest -> host", _http_host),
    Check("HTTP host -> guest", _http_guest),
    Check("HTTP guest -> world, by NAT", _http_world),
    Check("TCP guest -> host", _throughput_out),
    Check("TCP host -> guest", _throughput_in),
)
