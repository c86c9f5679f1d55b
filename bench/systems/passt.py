"""Debian's ``passt``, with its defaults but for what a guest with a fixed address and an MTU of 1500 needs.

It ends the guest's TCP connections itself and opens others on the host: the guest's port is the host's own.
"""

from __future__ import annotations

from pathlib import Path

from bench.compare import PASST
from bench.errors import BenchError
from bench.netns import Namespace
from bench.segment import GATEWAY, IPERF3_PORT, PREFIX_LENGTH, guest_address
from bench.systems import cards
from bench.systems.base import Uplink, Wire, first_line, missing
from bench.systems.running import Running, place, start

__all__ = ["Passt"]

#: The host's own address on the interface that passt looks at; the guest has another one.
_HOST = "192.168.105.9"


class Passt:
    """For one guest."""

    name = PASST

    def unavailable_reason(self) -> str | None:
        return missing("passt", "passt")

    def version(self) -> str:
        return first_line(["dpkg-query", "--show", "--showformat=${Version}", "passt"])

    def offers(self, uplink: Uplink, wire: Wire = Wire.VDE) -> bool:
        return uplink is Uplink.HOST and wire is Wire.STREAM

    def start(self, uplink: Uplink, wire: Wire = Wire.VDE, guests: int = 1) -> Running:  # noqa: ARG002
        network = ("--netmask", str(PREFIX_LENGTH), "--gateway", GATEWAY, "--mtu", "1500")
        guest = ("--address", guest_address(), "--tcp-ports", str(IPERF3_PORT))

        def command(folder: Path) -> list[str]:
            # It becomes the user nobody before it makes these.
            for one in (folder, folder / "run"):
                one.chmod(0o777)
            options = ("--foreground", "--ipv4-only", *network, *guest)
            return ["passt", *options, "--pid", str(folder / "run" / "pid"), "--socket", str(place(folder))]

        namespace = Namespace()
        try:
            _give_route(namespace)
        except BenchError:
            namespace.close()
            raise
        running = start(command, namespace, cards.stream)
        running.guest_address = "127.0.0.1"
        # Made for its own user only.
        running.directory.chmod(0o777)
        return running


def _give_route(namespace: Namespace) -> None:
    """passt takes its bearings from an interface with a default route."""
    namespace.run("ip", "link", "add", "out0", "type", "veth", "peer", "name", "out1")
    namespace.run("ip", "address", "add", f"{_HOST}/{PREFIX_LENGTH}", "dev", "out0")
    namespace.run("ip", "link", "set", "out0", "up")
    namespace.run("ip", "link", "set", "out1", "up")
    namespace.run("ip", "route", "add", "default", "via", GATEWAY)
