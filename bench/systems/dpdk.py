"""``dpdk-testpmd`` as the back end of two vhost-user ports: a relay that looks at no address.

It is no switch and never sleeps: what it shows is the ceiling of such ports on this machine.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench.compare import DPDK
from bench.processes import cores
from bench.systems import cards
from bench.systems.base import Uplink, Wire, first_line
from bench.systems.running import Running, place, vhost_user_socket
from bench.testpmd import Testpmd, testpmd_unavailable_reason

__all__ = ["DpdkRelay"]


class DpdkRelay:
    """On the first of our processor cores, where ours is measured too."""

    name = DPDK

    def unavailable_reason(self) -> str | None:
        return testpmd_unavailable_reason()

    def version(self) -> str:
        return first_line(["dpkg-query", "--show", "--showformat=${Version}", "dpdk-dev"])

    def offers(self, uplink: Uplink, wire: Wire = Wire.VDE) -> bool:
        return uplink is Uplink.NONE and wire is Wire.VHOST_USER

    def start(self, uplink: Uplink, wire: Wire = Wire.VHOST_USER, guests: int = 2) -> Running:  # noqa: ARG002
        with ExitStack() as undo:
            folder = Path(tempfile.mkdtemp(prefix="vde-bench-", dir="/tmp"))
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
            directory = place(folder)
            sockets = [vhost_user_socket(directory, number) for number in range(guests)]
            devices = [f"net_vhost{number},iface={path},queues=1" for number, path in enumerate(sockets)]
            relay = undo.enter_context(Testpmd(devices, ["--forward-mode=io"], cores()[0], folder))
            relay.ask("start")
            card = cards.vhost_user(lambda number: vhost_user_socket(directory, number))
            return Running(directory, 0.0, None, card, undo.pop_all(), relay.process)
