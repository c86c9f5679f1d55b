"""Peers that do not read, are gone, or come and go: bounded, counted, and at nobody else's cost."""

from __future__ import annotations

import gc
import os
import re
import resource
import select
import socket
from pathlib import Path

from tests.engine.plug import BROADCAST, Plug, engine_thread, eventually, frame, mac, open_descriptors
from vde_vmnet._engine import Engine


def test_a_stuck_reader_loses_its_own_frames_only(engine: Engine) -> None:
    with Plug(engine, 1) as sender, Plug(engine, 2) as stuck, Plug(engine, 3) as reader:
        count = 6_000
        for number in range(count):
            sender.send(frame(BROADCAST, mac(1), length=1514, mark=number % 251))
            assert reader.receive()[0][-1] == number % 251
        counters = engine.counters()[stuck.endpoint]
        dropped = counters["drops"]["queue_full"]
        assert dropped > 0
        assert counters["queued_frames"] <= 1024
        assert counters["tx_frames"] + counters["queued_frames"] + dropped == count
        assert reader.drops() == sender.drops() == {}
        # It gets, in order, what was kept, and then everything again.
        kept = count - dropped
        marks = [received[-1] for received in stuck.receive(kept)]
        assert marks[:1000] == [number % 251 for number in range(1000)]
        assert len(marks) == kept
        sender.send(frame(BROADCAST, mac(1)))
        stuck.receive()


def test_a_stuck_reader_does_not_keep_the_engine_busy(engine: Engine) -> None:
    with Plug(engine, 1) as sender, Plug(engine, 2) as stuck:
        for _ in range(8_000):
            sender.send(frame(BROADCAST, mac(1)))
        eventually(lambda: sender.rx_frames() == 8_000)
        assert stuck.drops() == {"queue_full": stuck.drops()["queue_full"]}
        _assert_rests()


def test_a_peer_that_is_gone_costs_its_frames_and_no_processor_time(engine: Engine) -> None:
    with Plug(engine, 1) as sender, Plug(engine, 2) as gone, Plug(engine, 3) as other:
        gone.socket.close()
        for _ in range(100):
            sender.send(frame(BROADCAST, mac(1)))
        other.receive(100)
        eventually(lambda: gone.drops() == {"peer_gone": 100})
        _assert_rests()
        # The endpoint stays until it is detached.
        assert gone.endpoint in engine.counters()
        assert all(event["kind"] != "endpoint_down" for event in engine.take_events())


def test_a_peer_that_left_frames_unread_costs_no_processor_time(engine: Engine) -> None:
    with Plug(engine, 1) as sender, Plug(engine, 2) as gone:
        for _ in range(50):
            sender.send(frame(BROADCAST, mac(1)))
        eventually(lambda: gone.tx_frames() == 50)
        gone.socket.close()
        engine.counters()
        _assert_rests()


def test_every_reason_to_drop_is_explained(engine: Engine) -> None:
    page = (Path(__file__).parents[2] / "docs" / "concepts" / "engine.md").read_text()
    explained = re.findall(r"^\| `(\w+)` \| (?:sender|receiver|sender, receiver|door) \|", page, re.MULTILINE)
    with Plug(engine, 1) as plug:
        assert explained == list(engine.counters()[plug.endpoint]["drops"])


def test_an_idle_engine_rests(engine: Engine) -> None:
    with Plug(engine, 1) as one, Plug(engine, 2) as two:
        one.send(frame(BROADCAST, mac(1)))
        two.receive()
        engine.counters()
        _assert_rests()


def _assert_rests() -> None:
    before = engine_thread()
    # Nothing becomes readable: this is a wait for time to pass, which is what is being tested.
    select.select([], [], [], 0.3)
    after = engine_thread()
    assert after[0] - before[0] < 0.005
    assert after[1] - before[1] <= 2


def test_ten_thousand_plugs_leave_nothing_behind(engine: Engine) -> None:
    with Plug(engine, 1) as stays:
        stays.send(frame(BROADCAST, mac(1)))

        def come_and_go(count: int) -> None:
            for number in range(count):
                plug = Plug(engine, 2 + number % 50)
                plug.send(frame(mac(1), mac(100 + number)))
                stays.receive()
                plug.detach()

        come_and_go(1_000)
        gc.collect()
        descriptors, memory = open_descriptors(), _resident()
        come_and_go(10_000)
        gc.collect()
        assert open_descriptors() == descriptors
        assert _resident() - memory < 2 << 20
        assert len(engine.counters()) == 1
        assert len(engine.fdb()) == 1


def _resident() -> int:
    with open("/proc/self/statm") as statm:  # noqa: PTH123 - a file of /proc
        return int(statm.read().split()[1]) * resource.getpagesize()


def test_queued_frames_are_let_go_with_their_endpoint(engine: Engine) -> None:
    with Plug(engine, 1) as sender:
        memory = 0
        for attempt in range(12):
            stuck = Plug(engine, 2)
            stuck.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(3_000):
                sender.send(frame(BROADCAST, mac(1), length=1514))
            eventually(lambda: sender.rx_frames() % 3_000 == 0)
            stuck.detach()
            if attempt == 2:
                memory = _resident()
        assert _resident() - memory < 4 << 20


def test_one_that_waits_goes_on_when_another_fills_the_socket_that_they_share(
    engine: Engine, tmp_path: Path
) -> None:
    def named(name: str) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        made.settimeout(5)
        made.bind(str(tmp_path / name))
        return made

    with named("door") as door, named("stuck") as stuck, named("client") as client, Plug(engine, 1) as sender:
        for one in (stuck, client):
            one.connect(str(tmp_path / "door"))
        copy, peer = os.dup(door.fileno()), os.fsencode(tmp_path / "client")
        endpoint = engine.attach(port=2, kind="reply", fd=copy, name="client", peer=peer)
        # More than a quarter of the buffer, in few enough for a queue: nobody is told of room in the rest.
        door.setblocking(False)
        share = door.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
        for _ in range(8):
            door.sendto(bytes(share // 8), str(tmp_path / "stuck"))
        for _ in range(400):
            sender.send(frame(BROADCAST, mac(1), length=1514))
        eventually(lambda: sender.rx_frames() == 400)
        assert engine.counters()[endpoint]["queued_frames"] > 0
        engine.share_socket(endpoint=endpoint)
        for _ in range(400):
            assert client.recv(2000) == frame(BROADCAST, mac(1), length=1514)
        engine.detach(endpoint=endpoint)
