"""The filter language of tcpdump, compiled by the system's libpcap in this process for the daemon to run."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_uint8, c_uint16, c_uint32, c_void_p

from vde_vmnet.errors import ConfigurationError, UnavailableError

__all__ = ["Program", "compile_filter", "unavailable_reason"]

#: Instructions of classic BPF: code, jt, jf, k.
Program = list[tuple[int, int, int, int]]

#: Debian's name, that of other Linux systems, and macOS's.
_NAMES = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.dylib")
_ETHERNET = 1  # DLT_EN10MB
#: PCAP_NETMASK_UNKNOWN: "ip broadcast" is refused, since which address that is depends on the network.
_NO_NETMASK = 0xFFFFFFFF


class _Instruction(ctypes.Structure):
    """``struct bpf_insn``."""

    _fields_ = (("code", c_uint16), ("jt", c_uint8), ("jf", c_uint8), ("k", c_uint32))


class _Program(ctypes.Structure):
    """``struct bpf_program``."""

    _fields_ = (("len", c_uint), ("insns", POINTER(_Instruction)))


def unavailable_reason() -> str | None:
    """Why filters cannot be compiled here, as one sentence, or None."""
    return None if _library() else "libpcap, which compiles filters, is not installed"


def compile_filter(expression: str, *, snap_length: int = 262_144) -> Program:
    """The program for an expression such as ``arp or udp port 67``.

    Raises ConfigurationError with what libpcap says, UnavailableError without libpcap.
    """
    library = _library()
    if library is None:
        raise UnavailableError(
            f"--filter cannot be used: {unavailable_reason()}",
            next_step="Install libpcap (Debian and Ubuntu: apt-get install libpcap0.8), or filter later:"
            " vde_vmnet capture | tcpdump -r - EXPR",
        )
    if "\0" in expression:
        raise ConfigurationError("--filter has a null byte in it")
    library.pcap_open_dead.restype = c_void_p
    library.pcap_geterr.restype = c_char_p
    handle = c_void_p(library.pcap_open_dead(c_int(_ETHERNET), c_int(snap_length)))
    if not handle:
        raise UnavailableError("libpcap gives no handle to compile the filter with")
    try:
        program = _Program()
        if library.pcap_compile(handle, byref(program), expression.encode(), c_int(1), c_uint32(_NO_NETMASK)):
            said = library.pcap_geterr(handle).decode(errors="replace")
            raise ConfigurationError(
                f'--filter "{expression}" is not understood: {said}', next_step="See pcap-filter(7)"
            )
        try:
            return [(one.code, one.jt, one.jf, one.k) for one in program.insns[: program.len]]
        finally:
            library.pcap_freecode(byref(program))
    finally:
        library.pcap_close(handle)


def _library() -> ctypes.CDLL | None:
    for name in _NAMES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None
