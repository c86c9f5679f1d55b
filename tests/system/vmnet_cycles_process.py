"""A process that opens and closes the vmnet uplink again and again, several at a time, with frames both ways.

    python -m tests.system.vmnet_cycles_process LIBRARY CYCLES

It says how many cycles went well, how many of the framework's objects live at the end that did not live at
the beginning, and, where AddressSanitizer counts them, how many bytes more are allocated than after a warm-up
of ``WARM_UP`` cycles; else 0.
"""

from __future__ import annotations

import ctypes
import gc
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

from vde_vmnet._engine import Engine
from vde_vmnet.config.model import Mode, UplinkConfig
from vde_vmnet.ports.base import UPLINK_PORT
from vde_vmnet.recovery import UndoRecord
from vde_vmnet.uplinks.vmnet import VmnetUplink, library

__all__ = ["WARM_UP"]

WARM_UP = 100

_WORKERS = 4
#: A broadcast of EtherType 0x88b5, local experimental.
_FRAME = b"\xff" * 6 + b"\x02\0\0\0\0\x01\x88\xb5" + b"\0" * 46


def _cycle(number: int) -> int:
    """One uplink with an engine and a guest, from open to close."""
    network = f"{number:08x}"
    opened = VmnetUplink(UplinkConfig(mode=Mode.HOST), network).open(UndoRecord.in_memory(network))
    assert opened.endpoint is not None
    engine = Engine()
    guest, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    engine.attach(port=1, kind="dgram", fd=ours.detach(), name="guest")
    opened.endpoint.attach(engine, UPLINK_PORT)
    guest.send(_FRAME)
    engine.counters()
    engine.close()
    opened.endpoint.close()
    guest.close()
    return 1


def _allocated(simulator: ctypes.CDLL) -> int:
    """Bytes of the heap that are in use, but for what the simulator keeps to recognise late uses."""
    gc.collect()
    simulator.vmnet_sim_objects()  # waits for what is on its way
    process = ctypes.CDLL(None)
    try:
        count = process.__sanitizer_get_current_allocated_bytes
    except AttributeError:
        return 0
    count.restype = simulator.vmnet_sim_kept_bytes.restype = ctypes.c_size_t
    return int(count()) - int(simulator.vmnet_sim_kept_bytes())


def main() -> None:
    """See the module."""
    simulator = ctypes.CDLL(sys.argv[1])
    simulator.vmnet_sim_objects.restype = ctypes.c_long
    library.load = lambda: library.Library(simulator, simulator)
    library.is_macos = lambda: True
    cycles = int(sys.argv[2])
    network = VmnetUplink(UplinkConfig(mode=Mode.HOST), "first").open(UndoRecord.in_memory("first"))
    assert network.endpoint is not None
    before = simulator.vmnet_sim_objects()
    with ThreadPoolExecutor(_WORKERS) as pool:
        done = sum(pool.map(_cycle, range(WARM_UP)))
        warm = _allocated(simulator)
        done += sum(pool.map(_cycle, range(WARM_UP, cycles)))
    print(done, simulator.vmnet_sim_objects() - before, _allocated(simulator) - warm, flush=True)
    network.endpoint.close()


if __name__ == "__main__":
    main()
