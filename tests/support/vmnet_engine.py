"""A program: an engine with one interface of the simulated framework and one plug; a task is its argument.

    python -m tests.support.vmnet_engine LIBRARY TASK NUMBER

`out`: NUMBER frames from the plug to everybody. `in`: NUMBER frames from the bridge to the plug. `cycles`:
start, attach, a frame, detach, stop, NUMBER times. `idle`: nothing, for NUMBER milliseconds. Each prints one
line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import resource
import select
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.engine.plug import BROADCAST, Plug, engine_thread, eventually, frame, mac, open_descriptors
from vde_vmnet._engine import Engine
from vde_vmnet.config.model import Mode
from vde_vmnet.uplinks.vmnet import interface, xpc
from vde_vmnet.uplinks.vmnet.abi import Binding, OperatingMode
from vde_vmnet.uplinks.vmnet.failures import Situation
from vde_vmnet.uplinks.vmnet.library import Library
from vde_vmnet.uplinks.vmnet.patience import Patience

__all__ = ["main"]

_BRIDGE = "bridge100"
_ETHERTYPE = 0x88B5
#: asm-generic/socket.h; the module ``socket`` has no name for it.
_SO_RCVBUFFORCE = 33
#: Frames under way at once at most; the ring of an interface holds 256.
_BURST = 200
#: What a frame to the interface can be dropped for; others are of frames that come from it.
_NOT_WRITTEN = ("queue_full", "refused", "too_long", "write_failed")


def _start(binding: Binding) -> interface.Interface:
    entries = [
        xpc.Entry("vmnet_operation_mode_key", int(OperatingMode.HOST)),
        xpc.Entry("vmnet_start_address_key", "192.168.105.1"),
        xpc.Entry("vmnet_end_address_key", "192.168.105.254"),
        xpc.Entry("vmnet_subnet_mask_key", "255.255.255.0"),
    ]
    situation = Situation(doing="start the interface", mode=Mode.HOST, root=True, network_api=True)
    with xpc.description(binding, entries) as description:
        begin = partial(binding.call, "vmnet_start_interface", description)
        return interface.start(binding, "vmnet", begin, situation, Patience(10))


@contextmanager
def _running(binding: Binding, engine: Engine) -> Iterator[int]:
    """An interface on port 0 of the engine: its endpoint's number."""
    started = _start(binding)
    endpoint = started.attach(engine, 0)
    try:
        yield endpoint
    finally:
        engine.detach(endpoint=endpoint)
        started.close()


def _listen() -> socket.socket:
    bridge = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE))
    bridge.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
    bridge.bind((_BRIDGE, _ETHERTYPE))
    bridge.settimeout(10)
    return bridge


def _numbered(number: int, source: bytes) -> bytes:
    """Of a length of its own, from 60 bytes to the longest."""
    data = frame(BROADCAST, source, length=60 + number * 7 % 1455)
    return data[:14] + number.to_bytes(4, "big") + data[18:]


def _number(data: bytes) -> int:
    return int.from_bytes(data[14:18], "big")


def out(binding: Binding, engine: Engine, count: int) -> dict[str, object]:
    with _running(binding, engine) as uplink, Plug(engine, 1) as plug, _listen() as bridge:
        for number in range(count):
            plug.send(_numbered(number, mac(1)))

        def counters() -> dict[str, int]:
            now = engine.counters()[uplink]
            drops = {reason: now["drops"][reason] for reason in _NOT_WRITTEN if now["drops"][reason]}
            return {"sent": now["tx_frames"], "queued": now["queued_frames"], **drops}

        eventually(lambda: sum(counters().values()) == count and counters()["queued"] == 0)
        counted = counters()
        arrived = [bridge.recv(1 << 16) for _ in range(counted["sent"])]
        troubles = [event["reason"] for event in engine.take_events() if event["kind"] == "trouble"]
    numbers = [_number(data) for data in arrived]
    whole = all(data == _numbered(number, mac(1)) for number, data in zip(numbers, arrived, strict=True))
    return {"counted": counted, "in_order": numbers == sorted(set(numbers)), "whole": whole, "said": troubles}


def into(binding: Binding, engine: Engine, count: int) -> dict[str, object]:
    with _running(binding, engine), Plug(engine, 1) as plug, _listen() as bridge:
        arrived: list[bytes] = []
        for first in range(0, count, _BURST):
            burst = [_numbered(number, mac(9)) for number in range(first, min(first + _BURST, count))]
            for data in burst:
                bridge.send(data)
            while len(arrived) < first + len(burst):
                arrived += [data for data in plug.receive() if data[12:14] == _ETHERTYPE.to_bytes(2, "big")]
    return {"whole": arrived == [_numbered(number, mac(9)) for number in range(count)]}


def cycles(binding: Binding, engine: Engine, count: int) -> dict[str, object]:
    descriptors, memory = [], []
    # One stays, so that the network does.
    with _running(binding, engine), Plug(engine, 1) as plug:
        for number in range(count):
            with _running(binding, engine) as uplink:
                plug.send(frame(BROADCAST, mac(1)))
                eventually(partial(_has_sent, engine, uplink))
            if number in (count // 10, count - 1):
                descriptors.append(open_descriptors())
                memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return {"descriptors": descriptors, "grown_kib": memory[-1] - memory[0]}


def _has_sent(engine: Engine, endpoint: int) -> bool:
    return engine.counters()[endpoint]["tx_frames"] > 0


def idle(binding: Binding, engine: Engine, count: int) -> dict[str, object]:
    with _running(binding, engine), Plug(engine, 1) as plug:
        bridge = Path(f"/proc/sys/net/ipv6/conf/{_BRIDGE}/disable_ipv6")
        bridge.write_text("1")  # nobody else on it says anything
        plug.send(frame(BROADCAST, mac(1)))
        engine.counters()
        before = engine_thread()
        select.select([], [], [], count / 1000)
        after = engine_thread()
    return {"seconds": after[0] - before[0], "waits": after[1] - before[1]}


TASKS: dict[str, Callable[[Binding, Engine, int], dict[str, object]]] = {
    "out": out,
    "in": into,
    "cycles": cycles,
    "idle": idle,
}


def main(argv: Sequence[str]) -> None:
    """Carry out a task."""
    path, task, number = argv
    library = ctypes.CDLL(path)
    engine = Engine()
    with ExitStack() as closing:
        closing.callback(engine.close)
        print(json.dumps(TASKS[task](Binding(Library(library, library)), engine, int(number))))


if __name__ == "__main__":
    main(sys.argv[1:])
