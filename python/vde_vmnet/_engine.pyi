"""The frame path, in Rust. Private: `ports/`, `uplinks/` and `daemon.py` hand descriptors in, nothing else.

Words: a *port* is a place on the switch, named by a number the caller chooses (who sits where is
the caller's affair, see ports/base.py); an *endpoint* is one open descriptor on a port. Several endpoints may
share a port (VDE allows it): frames to the port go to all of them, frames from one are not echoed to the
others. All methods may be called from any thread; those that say so wait for the engine's thread, with the
GIL released, for well under a millisecond; a signal handler that raises ends the wait.
"""

from typing import Literal, NotRequired, TypedDict, final, type_check_only

__all__ = ["Completion", "Engine", "EngineError", "__version__"]

__version__: str

class EngineError(Exception):
    """The engine refused a request or its thread has ended; the message says why."""

# The dictionaries below exist for type checkers only: import them under TYPE_CHECKING.

@type_check_only
class EndpointCounters(TypedDict):
    port: int
    name: str
    rx_frames: int  # received from the peer, dropped ones included
    rx_bytes: int
    tx_frames: int  # taken by the kernel for the peer
    tx_bytes: int
    queued_frames: int  # waiting in the egress queue now
    drops: dict[str, int]  # by reason, every reason present

@type_check_only
class FdbEntry(TypedDict):
    mac: str  # "52:54:00:12:34:56"
    port: int
    age_seconds: float

@type_check_only
class Event(TypedDict):
    # first_mac: an endpoint sent from an address it had not used before; at most 8 an endpoint, and none
    #   from receive-only ones. endpoint_down: its descriptor became useless and is closed; no detach needed.
    # trouble: something goes wrong at an endpoint, which goes on (frames are lost and counted); each kind of
    #   trouble is told once a minute at most. engine_failed: the engine's thread has ended by itself, and with
    #   it every endpoint.
    # capture_ended: on request or by itself, and why.
    # newcomer: somebody whom nobody knows sends to a door; told once, until admit() answers.
    kind: Literal["first_mac", "endpoint_down", "trouble", "newcomer", "capture_ended", "engine_failed"]
    endpoint: int  # -1 for engine_failed and capture_ended
    port: int
    mac: str  # first_mac only, else ""
    reason: str  # endpoint_down, trouble, capture_ended and engine_failed, else ""
    address: bytes  # newcomer only: a path, or b"\0" and an abstract name (Linux); else b""
    capture: NotRequired[int]  # these three for capture_ended only
    frames: NotRequired[int]
    dropped: NotRequired[int]

@type_check_only
class CaptureCounters(TypedDict):
    frames: int  # recorded
    dropped: int  # for which there was no room

# What vmnet.framework needs comes as addresses of symbols, which the caller keeps loaded: the engine opens no
# library and knows no names. A wrong address ends the process.

@type_check_only
class BlockRuntime(TypedDict):
    stack_block: int  # the data symbol _NSConcreteStackBlock
    copy: int  # _Block_copy
    release: int  # _Block_release

@type_check_only
class VmnetFunctions(TypedDict):
    read: int  # vmnet_read
    write: int  # vmnet_write
    set_event_callback: int  # vmnet_interface_set_event_callback

@final
class Completion:
    """One completion handler: a block that keeps what it is called with, and never waits for the GIL."""

    def __new__(cls, *, blocks: BlockRuntime, retain: int = 0, release: int = 0) -> Completion:
        """With the addresses of xpc_retain and xpc_release: a ``void (^)(vmnet_return_t, xpc_object_t)``.
        Without: a ``void (^)(vmnet_return_t)``. Raises ValueError (a null address), MemoryError.
        """

    @property
    def block(self) -> int:
        """Address of the block, valid as long as this object lives; the framework copies it."""

    def wait(self, timeout: float) -> tuple[int, int] | None:
        """What the handler was called with: status, and address of the object, 0 for none. None after
        ``timeout`` seconds (0 to a year; else ValueError).

        The object is retained and the caller releases it; a second wait gives the status again and no object.
        Releases the GIL; a signal handler that raises ends the wait. A handler that is called when this object
        is gone does nothing, and an object that nobody took is released with it.
        """

@type_check_only
class SlirpFunctions(TypedDict):  # addresses of libslirp's functions, none of them 0
    new: int  # slirp_new, and so on
    cleanup: int
    input: int
    pollfds_fill: int
    pollfds_poll: int
    add_hostxfwd: int
    remove_hostxfwd: int

@type_check_only
class SlirpSegment(TypedDict):
    restricted: bool  # guests reach each other only
    network: str  # "192.168.105.0"
    mask: str
    host: str  # the stack's own address, which stands for the host
    nameserver: str  # where it answers DNS
    dhcp_start: str  # first address that it hands out, to 16 guests at most
    dhcp: bool
    prefix6: str | None  # of a /64; the three are None together
    host6: str | None
    nameserver6: str | None
    domain: str  # told by DHCP; may be empty
    mtu: int  # 1280…65521
    rules: list[tuple[str, int, bool]]  # network, prefix length, whether guests may connect there

@final
class Engine:
    def __new__(
        cls,
        *,
        fdb_capacity: int = 8192,
        fdb_ageing_seconds: float = 300.0,
        busy_poll_seconds: float = 0.0,
    ) -> Engine:
        """Start the engine's thread. Raises EngineError (no descriptors left) or ValueError (range).

        ``busy_poll_seconds``: how long the thread asks for more after traffic before it sleeps, 0.001 at most.
        """

    @property
    def event_fd(self) -> int:
        """Readable while take_events() has something to give; owned by the engine, open until it is deleted."""

    def attach(
        self,
        *,
        port: int,
        kind: Literal["dgram", "unixgram", "door", "reply", "stream", "tap", "vhost_user"],
        fd: int,
        name: str,
        receive_only: bool = False,
        peer: bytes = ...,
        offload_mtu: int | None = None,
    ) -> int:
        """Put an open descriptor on a port and return the endpoint's number (never reused).

        The engine owns ``fd`` from here on and closes it (it works on a duplicate: the number is free again
        when this returns); if this raises, the caller still owns it.
        ``dgram``: a connected AF_UNIX datagram socket, one bare frame a datagram; the caller says when the peer
        has gone. Or a SOCK_SEQPACKET one, of which endpoint_down says "peer closed" at the end. ``unixgram``: a
        connected AF_UNIX datagram socket of which endpoint_down says "peer closed" when the kernel tells
        that nobody is there, which it does when a frame is sent. ``door``: a bound AF_UNIX datagram socket that
        many send to; it is no place on the switch (``port`` is only shown), and what comes in is from those
        whom ``admit`` has named. ``reply``: a copy of a door's descriptor, to send to the address ``peer``
        with; endpoint_down as for ``unixgram``; see ``share_socket``. ``stream``: a connected stream socket, a
        4-byte big-endian length before each frame (QEMU's framing); endpoint_down says "peer closed" at the end
        of what the peer writes, and the reason when a length is above 69,632. ``tap``: a TAP or macvtap with
        IFF_VNET_HDR and a header size of 12. ``vhost_user``: a connected AF_UNIX stream socket on which the
        front end of a guest that shares its memory speaks (Linux); endpoint_down says "peer closed" when that
        has gone, and the reason when it, or the guest's driver, did what none does.
        ``receive_only``: frames to the port are not written here, and only unicast frames are taken from it.
        ``offload_mtu``: the peer is a guest of krunkit with offloading=on, whose frames may have unfinished
        checksums, and TCP ones up to 64 KiB, and say so by nothing; other peers are given segments with packets
        of so many bytes (576…65,535). A door and its replies must agree on it. Waits for the engine's thread.
        Raises ValueError (port outside 0…65535, wrong kind of descriptor), EngineError (engine ended).
        """

    def attach_vmnet(
        self,
        *,
        port: int,
        name: str,
        interface: int,
        queue: int,
        functions: VmnetFunctions,
        blocks: BlockRuntime,
        read_max_packets: int,
        write_max_packets: int,
        max_packet_size: int,
        offload: Literal["none", "tso", "virtio"] = "none",
        mtu: int = 1500,
    ) -> int:
        """Put a started interface of vmnet.framework on a port and return the endpoint's number.

        ``interface``: its interface_ref; ``queue``: the dispatch queue for the event callback; the limits are
        what the framework said at the start (packets from 1, ``max_packet_size`` 60…65,550 bytes). ``offload``:
        what it was started with: ``tso``, TSO and checksum offload, with segments of packets of ``mtu`` bytes
        (576…65,535); ``virtio``, TSO and a virtio-net header, which counts in ``max_packet_size``. The event
        callback is taken back when the endpoint is detached, goes by itself, or the engine is closed; the
        caller stops the interface and releases the queue after that. endpoint_down comes when reads have
        failed for ten seconds. Waits for the engine's thread. Raises ValueError (range, null address,
        callback refused), EngineError (engine ended).
        """

    def attach_slirp(self, *, port: int, name: str, functions: SlirpFunctions, segment: SlirpSegment) -> int:
        """Make a user-mode TCP/IP stack, put it on a port and return the endpoint's number.

        ``functions`` are believed: of a libslirp of at least 4.7 that stays loaded. One stack a process at a
        time. It opens sockets as this process, on behalf of guests; the most specific of ``rules`` decides
        where to, and without any it is allowed. Waits for the engine's thread. Raises ValueError (range, an
        address that is 0, a configuration that libslirp refuses), EngineError (engine ended).
        """

    def forward(
        self, *, endpoint: int, udp: bool, host: tuple[str, int], guest: tuple[str, int], on: bool
    ) -> None:
        """Open or close a way in from a host's address and port to a guest's, at a user-mode stack.

        Both of one family. Waits for the engine's thread. Raises OSError (the port is taken, the address is
        not the host's, there is no such way in, the endpoint has none), ValueError, EngineError.
        """

    def detach(self, *, endpoint: int) -> None:
        """Close an endpoint; what the FDB knew through its port is forgotten with the last endpoint of it.

        When this returns the descriptor is closed and take_events() says nothing about the endpoint any
        more. An unknown endpoint (it may have gone by itself, or the engine is closed) is no error. Waits
        for the engine's thread.
        """

    def admit(self, *, door: int, address: bytes, endpoint: int | None = None) -> None:
        """What comes to ``door`` from ``address`` is ``endpoint``'s from now on, and so is what was kept of it.

        Without ``endpoint`` what was kept is dropped, and with its next datagram it is a newcomer again. At
        most 64 newcomers wait at a door, with 8 frames each; what further ones send is dropped
        (unknown_sender). A door or endpoint that has gone is no error. Waits for the engine's thread. Raises
        EngineError (engine ended).
        """

    def share_socket(self, *, endpoint: int) -> None:
        """From now on others send from the socket of ``endpoint``, a ``reply``, too.

        Its client may leave an eighth of the socket's buffer unread. Other kinds take no notice; one that
        has gone is no error. Waits for the engine's thread. Raises EngineError (engine ended).
        """

    def set_port(self, *, port: int, up: bool) -> None:
        """Put a port down or up again, with every endpoint that is on it or joins it later.

        A port that is down neither sends nor receives: each frame is dropped (port_down), at the sender for
        what it sends, at the receiver for what would go to it or was queued there. Its stations are forgotten.
        Every port is up at first; one that has no endpoints is no error. Waits for the engine's thread. Raises
        ValueError (port outside 0…65535), EngineError (engine ended).
        """

    def start_capture(
        self,
        *,
        fd: int,
        ports: list[int] | None = None,
        snaplen: int = 262_144,
        buffer: int = 4_194_304,
        program: list[tuple[int, int, int, int]] | None = None,
        limit: int | None = None,
        prefix: bytes = ...,
    ) -> int:
        """Write copies of frames to ``fd`` as pcapng from now on; return the capture's number (never reused).

        The engine owns ``fd`` from here on, as in attach(). A socket or a pipe becomes non-blocking; a thread
        of the capture's own writes to it, when the processor has nothing better to do. Without ``ports`` each
        frame is recorded where it enters; with them where it enters one of them (inbound) and where it
        leaves through one (outbound). Of each at most ``snaplen`` bytes are kept. ``buffer`` bytes (128 KiB to
        64 MiB) may wait to be written; frames that do not fit are lost, counted, and told in the file.
        ``program``: a filter as pcap_compile() makes it, (code, jt, jf, k) each. ``prefix`` (at most 4 KiB)
        goes before the file. The capture ends by stop_capture(), when the reader goes or shuts its end of a
        socket down, after ``limit`` frames, or with the engine; what waits is then still written, and what
        each interface has seen. capture_ended says so each time. At most 8 at once. Waits for the engine's
        thread. Raises ValueError (range, a program that is refused), OSError (``fd`` is not open),
        EngineError (too many captures, engine ended).
        """

    def stop_capture(self, *, capture: int) -> CaptureCounters | None:
        """End a capture; None when there is none of this number, which is no error.

        What waits is still written after this; the descriptor is closed then, or after the reader has taken
        nothing for two seconds. Waits for the engine's thread. Raises EngineError (engine ended).
        """

    def captures(self) -> dict[int, CaptureCounters]:
        """Those that go on, by number. Waits for the engine's thread. Raises EngineError (engine ended)."""

    def take_events(self) -> list[Event]:
        """What happened since the last call, oldest first; empty when nothing did. Never waits."""

    def counters(self) -> dict[int, EndpointCounters]:
        """By endpoint. Waits for the engine's thread. Raises EngineError (engine ended)."""

    def fdb(self) -> list[FdbEntry]:
        """What the switch has learned. Waits for the engine's thread. Raises EngineError (engine ended)."""

    def close(self) -> None:
        """Close every endpoint and end the thread; a second call does nothing. Waits."""
