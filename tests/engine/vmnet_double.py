"""A framework of one interface made with ctypes, on the Blocks runtime of the system (libBlocksRuntime).

It takes the interpreter's lock for every call, which the real one does not: for the native boundary only.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from ctypes import CFUNCTYPE, POINTER, Structure, c_int, c_size_t, c_uint32, c_void_p

from vde_vmnet._engine import Engine

__all__ = ["SUCCESS", "Framework", "Retained", "blocks", "invoke"]

SUCCESS = 1000
_runtime = ctypes.CDLL("libBlocksRuntime.so.0")
_runtime._Block_copy.argtypes = [c_void_p]
_runtime._Block_copy.restype = c_void_p
_runtime._Block_release.argtypes = [c_void_p]
_runtime._Block_release.restype = None


def _address(symbol: object) -> int:
    return ctypes.cast(symbol, c_void_p).value or 0  # type: ignore[arg-type]


def blocks() -> dict[str, int]:
    """The argument ``blocks``."""
    stack_block = ctypes.addressof(c_void_p.in_dll(_runtime, "_NSConcreteStackBlock"))
    return {
        "stack_block": stack_block,
        "copy": _address(_runtime._Block_copy),
        "release": _address(_runtime._Block_release),
    }


class HeldBlock:
    """A copy of a block, as the framework keeps one; to be given up once."""

    def __init__(self, block: int) -> None:
        self._block = _runtime._Block_copy(block)

    def __call__(self, status: int, *objects: int) -> None:
        kind = CFUNCTYPE(None, c_void_p, c_uint32, *(c_void_p for _ in objects))
        kind(c_void_p.from_address(self._block + 16).value or 0)(self._block, status, *objects)

    def release(self) -> None:
        _runtime._Block_release(self._block)


def invoke(block: int, status: int, *objects: int) -> None:
    """Call a block as the framework does: a copy of it, which is then given up."""
    held = HeldBlock(block)
    held(status, *objects)
    held.release()


class Retained:
    """Counts of references to objects, in XPC's place; an object is any address."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self._retain = CFUNCTYPE(c_void_p, c_void_p)(self._add)
        self._release = CFUNCTYPE(None, c_void_p)(self._remove)
        self.retain, self.release = _address(self._retain), _address(self._release)

    def _add(self, thing: int) -> int:
        self.counts[thing] = self.counts.get(thing, 0) + 1
        return thing

    def _remove(self, thing: int) -> None:
        self.counts[thing] -= 1


class _Iovec(Structure):
    _fields_ = (("base", c_void_p), ("length", c_size_t))


class _Packet(Structure):
    _fields_ = (("size", c_size_t), ("iov", POINTER(_Iovec)), ("iov_count", c_uint32), ("flags", c_uint32))


_ReadOrWrite = CFUNCTYPE(c_uint32, c_void_p, POINTER(_Packet), POINTER(c_int))
_SetEventCallback = CFUNCTYPE(c_uint32, c_void_p, c_uint32, c_void_p, c_void_p)


class Framework:
    """vmnet.framework with one interface, started."""

    HANDLE = 0x1000
    QUEUE = 0x2000

    def __init__(self) -> None:
        self.arriving: deque[bytes] = deque()
        self.written: list[bytes] = []
        #: What writes give.
        self.write_status = SUCCESS
        self.callback_status = SUCCESS
        self.callback: HeldBlock | None = None
        self.wrote = threading.Condition()
        self._read = _ReadOrWrite(self._on_read)
        self._write = _ReadOrWrite(self._on_write)
        self._set = _SetEventCallback(self._on_set)

    def functions(self) -> dict[str, int]:
        """The argument ``functions``."""
        return {
            "read": _address(self._read),
            "write": _address(self._write),
            "set_event_callback": _address(self._set),
        }

    def attach(self, engine: Engine, **changed: object) -> int:
        arguments: dict[str, object] = {
            "port": 0,
            "name": "vmnet",
            "interface": self.HANDLE,
            "queue": self.QUEUE,
            "functions": self.functions(),
            "blocks": blocks(),
            "read_max_packets": 256,
            "write_max_packets": 256,
            "max_packet_size": 1514,
        }
        return engine.attach_vmnet(**(arguments | changed))  # type: ignore[arg-type]

    def arrive(self, *frames: bytes) -> None:
        self.arriving.extend(frames)
        assert self.callback is not None
        self.callback(1, 0)

    def wait_for_written(self, count: int) -> list[bytes]:
        with self.wrote:
            assert self.wrote.wait_for(lambda: len(self.written) >= count, timeout=10)
        return self.written

    def _on_read(self, handle: int, packets: ctypes._Pointer[_Packet], count: ctypes._Pointer[c_int]) -> int:
        assert handle == self.HANDLE
        asked, count[0] = count[0], 0
        for packet in packets[:asked]:
            if not self.arriving:
                break
            data = self.arriving.popleft()
            ctypes.memmove(packet.iov[0].base, data, len(data))
            packets[count[0]].size = len(data)
            count[0] += 1
        return SUCCESS

    def _on_write(self, handle: int, packets: ctypes._Pointer[_Packet], count: ctypes._Pointer[c_int]) -> int:
        assert handle == self.HANDLE
        if self.write_status == SUCCESS:
            with self.wrote:
                self.written += [
                    ctypes.string_at(packet.iov[0].base, packet.size) for packet in packets[: count[0]]
                ]
                self.wrote.notify_all()
        return self.write_status

    def _on_set(self, handle: int, mask: int, queue: int | None, block: int | None) -> int:
        assert (handle, mask) == (self.HANDLE, 1)
        if self.callback_status == SUCCESS:
            if self.callback is not None:
                self.callback.release()
            assert queue in (self.QUEUE, None)
            self.callback = HeldBlock(block) if block else None
        return self.callback_status
