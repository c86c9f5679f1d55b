"""A guest without a virtual machine: a network namespace whose TAP is plugged into a switch directory."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.netns import Namespace

__all__ = ["Station"]

# busybox udhcpc: the event as argument, the lease in the environment. No resolv.conf, which is the machine's.
_SCRIPT = """#!/bin/sh
case "$1" in
deconfig) ip -4 addr flush dev "$interface"; ip link set "$interface" up ;;
bound|renew)
    ip -4 addr flush dev "$interface"
    ip addr add "$ip/$mask" dev "$interface"
    [ -n "$mtu" ] && ip link set "$interface" mtu "$mtu"
    for address in $router; do ip route replace default via "$address" dev "$interface"; done
    printf 'address=%s\\ndns=%s\\nrouter=%s\\nmtu=%s\\n' "$ip" "$dns" "$router" "$mtu" > "$LEASE" ;;
esac
"""


class Station:
    """Being plugged in when the constructor returns, without an address. A context manager."""

    def __init__(self, directory: Path, number: int, *, name: str = "") -> None:
        self.mac = f"52:54:00:76:65:{number:02x}"
        #: The switch that it is plugged into.
        self.directory = directory
        self.name = name or f"station{number}"
        #: What DHCP gave: address, dns, router, mtu.
        self.lease: dict[str, str] = {}
        self._closing = ExitStack()
        with ExitStack() as unfinished:
            self.namespace = unfinished.enter_context(Namespace(self.name))
            self._place = Path(unfinished.enter_context(tempfile.TemporaryDirectory(prefix="vdet-station-")))
            self.namespace.run("ip", "tuntap", "add", "dev", "eth0", "mode", "tap")
            self.namespace.run("ip", "link", "set", "eth0", "address", self.mac)
            plug = subprocess.Popen(
                self.namespace.command("vde_plug2tap", "-s", str(directory), "eth0"), stdin=subprocess.DEVNULL
            )
            unfinished.callback(plug.wait)
            unfinished.callback(plug.kill)
            self.namespace.run("ip", "link", "set", "eth0", "up")
            self._closing = unfinished.pop_all()

    def request_lease(self, *options: str) -> dict[str, str]:
        """Ask for an address and set it up. ``options`` are udhcpc's, such as ``-r ADDRESS``."""
        script, lease = self._place / "script", self._place / "lease"
        script.write_text(_SCRIPT)
        script.chmod(0o755)
        lease.unlink(missing_ok=True)
        said = self.namespace.run(
            *(
                "env",
                f"LEASE={lease}",
                "busybox",
                "udhcpc",
                "-i",
                "eth0",
                "-q",
                "-n",
                "-f",
                "-t",
                "5",
                "-T",
                "1",
            ),
            *("-x", f"hostname:{self.name}", "-O", "mtu", "-s", str(script), *options),
        )
        assert lease.exists(), said
        self.lease = dict(line.split("=", 1) for line in lease.read_text().splitlines())
        return self.lease

    @property
    def address(self) -> str:
        """Its own."""
        return self.lease["address"]

    def resolve(self, name: str) -> str:
        """What its name server says."""
        return self.namespace.run("busybox", "nslookup", name, self.lease["dns"], check=False)

    def pings(self, address: str, *options: str) -> bool:
        """Whether somebody answers."""
        return self.namespace.succeeds("ping", "-c", "1", "-W", "2", *options, address)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()
