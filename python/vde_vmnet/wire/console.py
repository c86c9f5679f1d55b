"""The switch console's language, as ``vde_switch -M`` speaks it: command lines to replies. Pure.

A reply is data lines between ``0000 DATA END WITH '.'`` and ``.``, if the command has any, and a status line:
``1000 Success``, or ``1`` with three digits of the host's errno and what is wrong.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from vde_vmnet.addresses import MacAddress

__all__ = ["MAX_COMMAND", "PROMPT", "Answer", "Console", "Facts", "Port", "Snapshot", "Station", "commands"]

# --- from the protocol -------------------------------------------------------------------------------
#: A command is what one ``read`` of at most this many bytes gives.
MAX_COMMAND = 128
PROMPT = b"\nvde$ "
_DATA = "0000 DATA END WITH '.'\n"
_SUCCESS = "1000 Success\n"
_END_OF_SESSION = "9999 END OF SESSION"

_WORDS = {
    errno.ENXIO: "No such device or address",
    errno.ENODEV: "No such device",
    errno.EINVAL: "Invalid argument",
    errno.ENOSYS: "Function not implemented",
    errno.EOPNOTSUPP: "Operation not supported",
}
_NO_VLAN = "tagged frames pass as they are; there is no VLAN table"
_FIXED = "it is chosen when the daemon starts"


@dataclass(frozen=True)
class Facts:
    """What does not change while the switch runs."""

    version: str
    pid: int
    #: What VDESWITCH names, and the mode of the sockets in it.
    directory: str
    mode: int
    #: Path and mode of the console itself.
    console: str
    console_mode: int
    #: Ports that clients may ask for, and what the forwarding database holds, for how long.
    ports: int
    fdb_capacity: int
    fdb_seconds: int


@dataclass(frozen=True)
class Port:
    """One active port."""

    number: int
    in_frames: int
    in_bytes: int
    out_frames: int
    out_bytes: int
    #: Number and name of each endpoint, newest first.
    endpoints: tuple[tuple[int, str], ...]


@dataclass(frozen=True)
class Station:
    """One entry of the forwarding database."""

    mac: str
    port: int
    age: int


@dataclass(frozen=True)
class Snapshot:
    """What changes."""

    ports: tuple[Port, ...]
    stations: tuple[Station, ...]
    uptime: int


@dataclass(frozen=True)
class Answer:
    """What to write; after ``ends`` the connection is closed, after ``stops`` the daemon too."""

    text: str
    ends: bool = False
    stops: bool = False


class _RefusedError(Exception):
    """A status that is not success."""

    def __init__(self, number: int, why: str = "") -> None:
        super().__init__(number)
        self.line = f"1{number:03d} {_WORDS[number]}{f' ({why})' if why else ''}\n"


def commands(data: bytes) -> list[str]:
    """The command lines of what one read gave, made printable; at least one."""
    text = data.decode("utf-8", "replace")
    lines = text.removesuffix("\n").split("\n")
    return ["".join(c for c in line if c.isprintable() or c == "\t").strip() for line in lines]


class Console:
    """Answers command lines. ``look`` is called for those that show something that changes."""

    def __init__(self, facts: Facts, look: Callable[[], Snapshot]) -> None:
        self._facts = facts
        self._look = look

    @property
    def banner(self) -> str:
        """What a client reads first; the prompt follows."""
        return f"VDE switch V.{self._facts.version}\nvde_vmnet: type help for the commands\n"

    def answer(self, line: str) -> Answer:
        """One command line without its newline."""
        if not line or line.startswith("#"):
            return Answer("")
        found = next((entry for entry in _TABLE if line.startswith(entry.path) and entry.syntax != _MENU), None)
        if found is None:
            return Answer(_RefusedError(errno.ENOSYS).line)
        if found.path in ("logout", "shutdown"):
            return Answer(_END_OF_SESSION, ends=True, stops=found.path == "shutdown")
        if isinstance(found.run, str):
            return Answer(_RefusedError(errno.EOPNOTSUPP, found.run).line)
        lines: list[str] = []
        status = _SUCCESS
        try:
            lines.extend(found.run(self, line.removeprefix(found.path).split()))
        except _RefusedError as refused:
            status = refused.line
        return Answer("".join((_DATA, *(f"{text}\n" for text in lines), ".\n", status)))

    # -- commands -------------------------------------------------------------------------------------

    def showinfo(self, _arguments: Sequence[str]) -> Iterator[str]:
        """The switch itself."""
        yield from self.banner.splitlines()
        yield ""
        # It takes no part in a spanning tree, and so has no address of its own.
        yield f"pid {self._facts.pid} MAC 00:00:00:00:00:00 uptime {self._look().uptime}"
        yield f"mgmt {self._facts.console} perm {self._facts.console_mode:04o}"

    def ds_showinfo(self, _arguments: Sequence[str]) -> Iterator[str]:
        """The data sockets."""
        yield f"ctl dir {self._facts.directory}"
        yield f"std mode {self._facts.mode:04o}"

    def help(self, arguments: Sequence[str]) -> Iterator[str]:
        """The table, or what of it begins with the argument."""
        prefix = arguments[0] if arguments else ""
        yield f"{'COMMAND PATH':<18} {'SYNTAX':<15} HELP"
        yield f"{'-' * 12:<18} {'-' * 14:<15} {'-' * 12}"
        for entry in _TABLE:
            # What is not here has its own answer, but is nothing to complete.
            if entry.path.startswith(prefix) and not (isinstance(entry.run, str) and entry.run):
                yield f"{entry.path:<18} {entry.syntax:<15} {entry.help}"

    def port_showinfo(self, _arguments: Sequence[str]) -> Iterator[str]:
        """The ports in general."""
        yield f"Numports={self._facts.ports}"
        yield "HUB=false"
        yield "counters=true"

    def port_print(self, arguments: Sequence[str]) -> Iterator[str]:
        """One port, or all. A port without endpoints does not exist here, so that all are active."""
        ports = self._look().ports
        if arguments:
            number = _number(arguments[0])
            ports = tuple(port for port in ports if port.number == number)
            if not ports:
                raise _RefusedError(errno.ENXIO)
        for port in ports:
            yield f"Port {port.number:04d} untagged_vlan=0000 ACTIVE - Unnamed Allocatable"
            yield " Current User: NONE Access Control: (User: NONE - Group: NONE)"
            yield f" IN:  pkts {port.in_frames:>10}          bytes {port.in_bytes:>20}"
            yield f" OUT: pkts {port.out_frames:>10}          bytes {port.out_bytes:>20}"
            for number, name in port.endpoints:
                yield f"  -- endpoint ID {number:04d} module {'unix prog':<12}: {name}"

    def hash_showinfo(self, _arguments: Sequence[str]) -> Iterator[str]:
        """The forwarding database in general; a station that moves is believed at once."""
        yield f"Hash size {self._facts.fdb_capacity}"
        yield "GC interval 0 secs"
        yield f"GC expire {self._facts.fdb_seconds} secs"
        yield "Min persistence 0 secs"

    def hash_print(self, _arguments: Sequence[str]) -> Iterator[str]:
        """The forwarding database."""
        yield from map(self._station, self._look().stations)

    def hash_find(self, arguments: Sequence[str]) -> Iterator[str]:
        """One station. There is one table for all VLANs; 0 is what people ask for."""
        try:
            mac = str(MacAddress.parse(arguments[0]))
        except (IndexError, ValueError):
            raise _RefusedError(errno.EINVAL) from None
        if len(arguments) > 1 and _number(arguments[1]) != 0:
            raise _RefusedError(errno.ENODEV)
        found = [station for station in self._look().stations if station.mac == mac]
        if not found:
            raise _RefusedError(errno.ENODEV)
        yield from map(self._station, found)

    def _station(self, station: Station) -> str:
        bucket = int(station.mac.replace(":", ""), 16) % self._facts.fdb_capacity
        where = f"Hash: {bucket:04d} Addr: {station.mac} VLAN 0000"
        return f"{where} to port: {station.port:03d}  age {station.age} secs"


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise _RefusedError(errno.EINVAL)
    return int(text)


_MENU = "============"


@dataclass(frozen=True)
class _Entry:
    """One row of the table. ``run`` is a method of the console, or why there is none."""

    path: str
    syntax: str
    help: str
    run: Callable[[Console, Sequence[str]], Iterator[str]] | str = ""


#: Longer paths before their beginnings: a line is the first entry that it starts with.
_TABLE = (
    _Entry("ds", _MENU, "DATA SOCKET MENU"),
    _Entry("ds/showinfo", "", "show ds info", Console.ds_showinfo),
    _Entry("help", "[arg]", "Help (limited to arg when specified)", Console.help),
    _Entry("logout", "", "logout from this mgmt terminal"),
    _Entry("shutdown", "", "shutdown of the switch"),
    _Entry("showinfo", "", "show switch version and info", Console.showinfo),
    _Entry("hash", _MENU, "HASH TABLE MENU"),
    _Entry("hash/showinfo", "", "show hash info", Console.hash_showinfo),
    _Entry("hash/print", "", "print the hash table", Console.hash_print),
    _Entry("hash/find", "MAC [VLAN]", "MAC lookup", Console.hash_find),
    _Entry("hash/set", "", "not here", _FIXED),
    _Entry("port", _MENU, "PORT STATUS MENU"),
    _Entry("port/showinfo", "", "show port info", Console.port_showinfo),
    _Entry("port/print", "[N]", "print the port/endpoint table", Console.port_print),
    _Entry("port/allprint", "[N]", "print the port/endpoint table (no port is inactive)", Console.port_print),
    _Entry("port/", "", "not here", "ports come and go with their clients"),
    _Entry("fstp/", "", "not here", "there is no spanning tree"),
    _Entry("vlan/", "", "not here", _NO_VLAN),
    _Entry("plugin/", "", "not here", "there are no plugins"),
    _Entry("debug/", "", "not here", "start with DEBUG=1 instead"),
    _Entry("load", "path", "not here", "scripts are read by the client"),
)
