"""Throw mutated input at every parser of untrusted bytes; a target's invariant is its one sentence.

The engine's targets are in rust/fuzz. A finding prints the input, which then becomes a unit test.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vde_vmnet.errors import PeerError
from vde_vmnet.uplinks.linux.dnsmasq import lease_event
from vde_vmnet.wire import vde
from vde_vmnet.wire.console import MAX_COMMAND, Console, Facts, Port, Snapshot, Station, commands
from vde_vmnet.wire.stream import MAX_FRAME, StreamDecoder, encode_frame

DATA = Path(__file__).parents[1] / "data"


def vde_request(data: bytes) -> None:
    """Any bytes are a request, or refused with PeerError; a request reads back as itself."""
    try:
        request = vde.parse_request(data)
    except PeerError:
        return
    assert 0 < len(request.path) <= vde.SUN_PATH_SIZE
    assert request.description.isprintable()
    if len(request.path) < vde.SUN_PATH_SIZE and len(request.description.encode()) <= 127:
        again = vde.parse_request(vde.encode_request(request))
        # A stripped or replaced character may let more of the ends be stripped; nothing else may differ.
        assert (again.path, again.port, again.port0) == (request.path, request.port, request.port0)


def vde_reply(data: bytes) -> None:
    """Any bytes are a reply with a path, or refused with PeerError."""
    try:
        assert vde.parse_reply(data)
    except PeerError:
        return


def dnsmasq_log(data: bytes) -> None:
    """Any line of the DHCP server's log is a lease event or none; guests choose the names in it."""
    event = lease_event(data.decode("utf-8", "replace"))
    assert event is None or (event.mac and str(event.address))


def console_commands(data: bytes) -> None:
    """Any bytes are commands, each answered with one status line or the end, and nothing but text."""
    switch = Console(
        Facts("0", 1, "/sw", 0o660, "/m", 0o600, 4096, 8192, 300),
        lambda: Snapshot((Port(1, 0, 0, 0, 0, ((1, "one"),)),), (Station("02:00:00:00:00:01", 1, 0),), 1),
    )
    for line in commands(data[:MAX_COMMAND]):
        answer = switch.answer(line)
        assert line.isprintable() or "\t" in line
        if answer.ends:
            assert answer.text == "9999 END OF SESSION"
        elif line and not line.startswith("#"):
            assert re.fullmatch(r"1\d{3} [^\n]+\n", answer.text.splitlines(keepends=True)[-1])


def stream_frames(data: bytes) -> None:
    """Any bytes, however they are cut, give the same frames or PeerError, and no frame is empty or too long."""

    def decode(step: int) -> tuple[list[bytes], bool]:
        decoder, frames = StreamDecoder(), []
        try:
            for at in range(0, len(data), step):
                decoder.feed(data[at : at + step])
                while (frame := decoder.next()) is not None:
                    assert 0 < len(frame) <= MAX_FRAME
                    frames.append(frame)
        except PeerError:
            return frames, True
        return frames, False

    assert decode(len(data) or 1) == decode(1) == decode(7)


TARGETS: dict[str, tuple[Callable[[bytes], None], Sequence[bytes]]] = {
    "vde_request": (
        vde_request,
        [
            (DATA / "vde_request_qemu_vdeplug4.bin").read_bytes(),
            vde.encode_request(vde.PlugRequest(b"\0abstract".ljust(108, b"\0"), 7, "x" * 127)),
        ],
    ),
    "vde_reply": (vde_reply, [(DATA / "vde_reply_vde_switch.bin").read_bytes()]),
    "console_commands": (
        console_commands,
        [
            b"hash/find 02:00:00:00:00:01 0\n",
            b"port/print 1\nhelp port\n",
            b"vlan/create 3\n#x\nlogout\n",
            b"showinfo\nds/showinfo\nhash/print\nport/allprint\nshutdown\n",
        ],
    ),
    "stream_frames": (stream_frames, [encode_frame(b"x" * 60) + encode_frame(b"y" * 14), b"\0\0\0\0" * 3]),
    "dnsmasq_log": (
        dnsmasq_log,
        [b"dnsmasq-dhcp[1]: 123 DHCPACK(vmnet-1) 192.168.105.9 52:54:00:00:00:01 host", b"dnsmasq[1]: started"],
    ),
}


def mutate(source: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A seed with some bytes changed, cut, doubled or put in."""
    data = bytearray(source.choice(seeds))
    for _ in range(source.randint(0, 6)):
        at = source.randrange(len(data) + 1)
        match source.randrange(5):
            case 0:
                data[at : at + 1] = bytes([source.randrange(256)])
            case 1:
                del data[at : at + source.randint(1, 40)]
            case 2:
                data[at:at] = source.randbytes(source.randint(1, 40))
            case 3:
                data[at : at + 4] = source.choice([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\3\0\0\0", b"\n\x1b[2"])
            case 4:
                data *= 2
    return bytes(data[:400])


def main() -> int:
    """Run every target; the exit status is 1 when one has a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="for each target")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run")
    parser.add_argument("--only", choices=sorted(TARGETS), help="one target")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    for name, (target, seeds) in TARGETS.items():
        if options.only not in (None, name):
            continue
        source, count = random.Random(seed), 0
        end = time.monotonic() + options.seconds
        while time.monotonic() < end:
            for _ in range(200):
                data = mutate(source, seeds)
                try:
                    target(data)
                except BaseException:
                    sys.stderr.write(f"{name}: finding with {data!r} (--seed {seed}, input {count})\n")
                    raise
                count += 1
        print(f"{name}: {count} inputs, no finding (seed {seed})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
