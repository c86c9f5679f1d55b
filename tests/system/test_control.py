"""The control socket of a real daemon: what it shows, what it changes, whom it lets, and what it withstands."""

from __future__ import annotations

import json
import os
import resource
import select
import shlex
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import TypeVar

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.observed import Raw, as_user, observed_network
from tests.support.vde_peer import frame
from vde_vmnet import Network, Plug
from vde_vmnet.control import paths
from vde_vmnet.control.client import Client, connect
from vde_vmnet.control.models import Event
from vde_vmnet.errors import ConfigurationError, UnavailableError

ROOT = Path(__file__).parents[2]
Observed = tuple[Network, Client]
_Seen = TypeVar("_Seen")


@pytest.fixture(scope="module")
def running() -> Iterator[Observed]:
    with observed_network("--backend=none", "--metrics=127.0.0.1:0") as found:
        yield found


@pytest.fixture
def plugs(running: Observed) -> Iterator[tuple[Plug, Plug]]:
    with running[0].plug() as one, running[0].plug() as other:
        exchange(one, other)
        yield one, other


def exchange(one: Plug, other: Plug) -> None:
    """Both are known to the switch afterwards."""
    one.send(frame(2, 1))
    assert other.receive(5.0) == frame(2, 1)
    other.send(frame(1, 2))
    assert one.receive(5.0) == frame(1, 2)


def next_of(events: Iterator[Event], kind: str) -> Event:
    return next(event for event in events if event.kind == kind)


def last_event(client: Client) -> int:
    """Its number: events are counted, and not told twice."""
    for family in text_string_to_metric_families(client.metrics()):
        if family.name == "vde_vmnet_events":
            return int(sum(sample.value for sample in family.samples))
    return 0


def is_readable(one: socket.socket) -> bool:
    poll = select.poll()
    poll.register(one, select.POLLIN)
    return bool(poll.poll(0))


def wait_for(look: Callable[[], _Seen], enough: Callable[[_Seen], bool], seconds: float = 15.0) -> _Seen:
    """What ``look`` gives when it is ``enough``; for what tells nobody."""
    deadline = time.monotonic() + seconds
    while not enough(seen := look()):
        assert time.monotonic() < deadline, seen
        select.poll().poll(10)
    return seen


def raw(running: Observed) -> Raw:
    return Raw(running[1].path)


def test_it_shows_who_is_plugged_in(running: Observed, plugs: tuple[Plug, Plug]) -> None:
    network, client = running
    info = client.network()
    assert info.api == 1 and info.name == str(network.directory) and info.uplink.kind == "none"
    assert info.may_change and info.control == str(client.path)
    first, second = client.ports()
    assert (first.number, first.kind, first.up) == (1, "vde", True)
    assert first.macs == ["02:00:00:00:00:01"] and second.macs == ["02:00:00:00:00:02"]
    assert first.counters.rx_frames == 1 and first.counters.tx_bytes == 60
    peer = first.endpoints[0].peer
    assert peer is not None and peer.pid == os.getpid() and peer.uid == os.getuid()
    assert peer.command == Path("/proc/self/comm").read_text().strip()
    assert [(entry.mac, entry.port) for entry in client.fdb()] == [
        ("02:00:00:00:00:01", 1),
        ("02:00:00:00:00:02", 2),
    ]
    assert client.port(2) == second
    counters = client.counters()
    assert counters.total.rx_frames == 2 and [port.port for port in counters.ports] == [1, 2]
    assert client.leases() == []


def test_the_registry_leads_to_it(running: Observed) -> None:
    network, client = running
    assert client.path in list(paths.find())
    for given in (network.directory, client.path):
        with connect(given) as found:
            assert found.network().name == str(network.directory)
    with pytest.raises(UnavailableError, match="runs at"):
        connect(network.directory.with_name("other"))


def test_a_port_can_be_put_down_and_its_guest_unplugged(running: Observed, plugs: tuple[Plug, Plug]) -> None:
    _, client = running
    one, other = plugs
    events = client.events(since=last_event(client))
    assert client.port_down(2) == "Port 2 is down"
    assert not client.port(2).up
    one.send(frame(2, 1))
    other.send(frame(1, 2))
    wait_for(lambda: client.port(2).counters.drops.get("port_down", 0), lambda count: count >= 2)
    assert 'port="2",kind="vde"} 0' in client.metrics()
    assert client.port_up(2) == "Port 2 is up"
    exchange(one, other)
    client.kick(2)
    assert [next_of(events, "port_set").message.partition(",")[0] for _ in range(2)] == [
        "Port 2 is down",
        "Port 2 is up",
    ]
    left = next_of(events, "port_down")
    assert (left.port, left.reason, left.pid) == (2, "kicked", os.getpid())
    with pytest.raises(ConfigurationError, match="Nothing is plugged in on port 77"):
        client.kick(77)


def test_events_tell_who_comes_and_goes(running: Observed) -> None:
    network, client = running
    events = client.events(since=last_event(client))
    with network.plug(description="hello world") as plug:
        up = next_of(events, "port_up")
        assert (up.port, up.name, up.pid, up.uid) == (1, "hello world", os.getpid(), os.getuid())
        assert up.port_kind == "vde"
        plug.send(frame(2, 7))
        assert next_of(events, "first_mac").mac == "02:00:00:00:00:07"
    down = next_of(events, "port_down")
    assert (down.port, down.endpoint) == (1, up.endpoint)
    assert [line for line in client.logs() if line.fields.get("event") == "port_down"]
    assert "event=port_up port=1" in network.log() and 'name="hello world"' in network.log()


def test_the_log_s_level_changes_while_it_runs(running: Observed) -> None:
    network, client = running
    assert client.log_level() == "info"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(network.directory / "ctl"))
    assert client.set_log_level("debug") == "debug"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(network.directory / "ctl"))
        following = client.follow_logs(since=0)
        client.log_level()
    line = next(line for line in following if "left without a word" in line.message)
    assert line.level == "debug" and line.seq <= client.logs(lines=1)[0].seq
    assert client.set_log_level("info") == "info"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code", "words"),
    [
        ("GET", "/v1/nothing", None, 404, "not_found", "nothing at"),
        ("GET", "/v2/network", None, 404, "not_found", "nothing at"),
        ("DELETE", "/v1/network", None, 405, "method_not_allowed", "DELETE"),
        ("PUT", "/v1/log", '{"level": "loud"}', 400, "invalid_request", "loud"),
        ("PUT", "/v1/log", '{"level": "info", "more": 1}', 400, "invalid_request", "more"),
        ("PUT", "/v1/log", "nonsense", 400, "invalid_request", "body"),
        ("PUT", "/v1/log", None, 400, "invalid_request", "body"),
        ("PUT", "/v1/log", "x" * 200_000, 413, "too_large", "bytes"),
        ("GET", "/v1/log?verbose=1", None, 400, "invalid_request", "verbose"),
        ("GET", "/v1/logs?lines=0", None, 400, "invalid_request", "lines"),
        ("GET", "/v1/logs?lines=1&lines=2", None, 400, "invalid_request", "twice"),
        ("GET", "/v1/ports/65536", None, 404, "not_found", "65536"),
        ("GET", "/v1/ports/one", None, 404, "not_found", "one"),
        ("POST", "/v1/ports/9/down", None, 404, "not_found", "port 9"),
        ("POST", "/v1/ports/1/kick", '{"hard": true}', 400, "invalid_request", "no body"),
        ("POST", "/v1/reservations", '{"mac": "x", "address": "1.2.3.4"}', 400, "invalid_request", "mac"),
        (
            "POST",
            "/v1/reservations",
            '{"mac": "02:00:00:00:00:01", "address": "10.0.0.300"}',
            400,
            "invalid_request",
            "10.0.0.300",
        ),
        (
            "POST",
            "/v1/reservations",
            '{"mac": "02:00:00:00:00:01", "address": "10.0.0.3"}',
            501,
            "unavailable",
            "no uplink",
        ),
        ("DELETE", "/v1/reservations/02:00:00:00:00:01", None, 404, "not_found", "02:00"),
        (
            "POST",
            "/v1/forwards",
            '{"host_port": 80, "guest": "10.0.0.3", "guest_port": 80}',
            501,
            "unavailable",
            "isolated",
        ),
        (
            "POST",
            "/v1/forwards",
            '{"host_port": 0, "guest": "a", "guest_port": 80}',
            400,
            "invalid_request",
            "1",
        ),
    ],
)
def test_a_wrong_request_is_refused_in_json(
    running: Observed, method: str, path: str, body: str | None, status: int, code: str, words: str
) -> None:
    found, answer = raw(running).ask(method, path, body)
    assert (found, answer["code"]) == (status, code), answer
    assert (
        words in answer["message"] and answer["next_step"] and set(answer) == {"code", "message", "next_step"}
    )


@pytest.mark.parametrize("request_", [b"hello\r\n\r\n", b"GET / HTTP/1.1\r\nA: " + b"b" * 20000])
def test_what_is_no_http_is_refused_in_json(running: Observed, request_: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(running[1].path))
        client.sendall(request_)
        with client.makefile("rb") as reader:
            answer = reader.read()
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"code":"invalid_request"' in answer


@pytest.mark.root
def test_others_may_look_if_the_file_lets_them_and_change_nothing(running: Observed) -> None:
    _, client = running
    status = client.path.stat()
    assert stat.S_IMODE(status.st_mode) == 0o660
    stranger = as_user(12345, 12345, client.path, "GET", "/v1/network")
    assert stranger == (0, {})
    code, info = as_user(12345, status.st_gid, client.path, "GET", "/v1/network")
    assert code == 200 and info["may_change"] is False
    for method, path in (("POST", "/v1/shutdown"), ("PUT", "/v1/log"), ("POST", "/v1/ports/1/down")):
        code, refusal = as_user(12345, status.st_gid, client.path, method, path)
        assert (code, refusal["code"]) == (403, "forbidden") and "root" in refusal["next_step"]
    code, info = as_user(status.st_uid, status.st_gid, client.path, "GET", "/v1/network")
    assert info["may_change"] is True


def test_metrics_are_prometheus_text_on_both_sockets(running: Observed, plugs: tuple[Plug, Plug]) -> None:
    _, client = running
    address = client.network().metrics
    assert address is not None
    connection = HTTPConnection(address, timeout=10)
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    text = response.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    received = {sample.labels["port"]: sample.value for sample in families["vde_vmnet_received_frames"].samples}
    assert received == {"1": 1.0, "2": 1.0}
    assert families.keys() == {family.name for family in text_string_to_metric_families(client.metrics())}
    connection.request("GET", "/v1/network")
    assert connection.getresponse().status == 404  # metrics and nothing else, for whoever is there
    connection.close()


def examples() -> list[str]:
    pages = [ROOT / "docs" / "reference" / name for name in ("control-protocol.md", "metrics.md")]
    found = [line for page in pages for line in page.read_text().splitlines() if line.startswith("curl ")]
    assert len(found) >= 10
    return found


def test_the_examples_of_the_manual_work(running: Observed, plugs: tuple[Plug, Plug]) -> None:
    _, client = running
    for command in examples():
        line = command.replace("/var/run/vde.ctl.control", shlex.quote(str(client.path)))
        endless = " -N " in line
        if endless:
            line = line.replace(" -N ", " -N --max-time 0.5 ")
        done = subprocess.run(
            ["sh", "-c", f"{line} -sS"], capture_output=True, text=True, timeout=20, check=False
        )
        assert done.returncode == (28 if endless else 0), done.stderr
        if endless:
            assert '"kind":"port_up"' in done.stdout and done.stdout.startswith("id: ")
        elif line.endswith("/metrics"):
            assert "vde_vmnet_port_up" in done.stdout
        else:
            assert "code" not in json.loads(done.stdout), done.stdout
    client.set_log_level("info")


def test_a_thousand_connections_and_slow_ones_are_no_matter(running: Observed) -> None:
    network, client = running
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    clients = []
    try:
        for number in range(1000):
            one = socket.socket(socket.AF_UNIX)
            one.connect(str(client.path))
            clients.append(one)
            if number % 2:
                with suppress(ConnectionError):  # one that was turned away already
                    one.send(b"GET /v1/network HTTP/1.1\r\nX: ")
            if number == 500:
                with network.plug() as one_plug, network.plug() as other_plug:
                    exchange(one_plug, other_plug)
        # The others were told why, and left.
        readable = wait_for(
            lambda: [one for one in clients if is_readable(one)], lambda found: len(found) > 900
        )
        answer = next(one for one in reversed(clients[::2]) if one in readable).recv(4096)
        assert answer.startswith(b"HTTP/1.1 503 ") and b'"busy"' in answer
        started = time.monotonic()
        with network.plug() as one_plug, network.plug() as other_plug:
            exchange(one_plug, other_plug)
        assert time.monotonic() - started < 2.0
    finally:
        for one in clients:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def answers() -> bool:
        with suppress(UnavailableError):
            return client.network().api == 1
        return False

    wait_for(answers, bool)


def test_an_observer_that_does_not_read_is_dropped(running: Observed) -> None:
    network, client = running
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(str(client.path))
        stuck.sendall(b"GET /v1/events?since=0 HTTP/1.1\r\nHost: x\r\n\r\n")
        stuck.recv(1)  # it is being served
        before = client.counters().time
        rounds = 0
        while "was dropped: it does not read" not in network.log():
            for _ in range(100):
                client.set_log_level("warning")
                client.set_log_level("info")
            rounds += 1
            assert rounds < 60
        assert client.counters().time - before < 30
        poll = select.poll()
        poll.register(stuck, 0)
        assert poll.poll(5000)  # hung up


def test_its_end_is_told_and_leaves_nothing() -> None:
    with observed_network() as (network, client):
        client.reload()
        events = client.events(since=0)
        next(events)
        assert client.shutdown() == "The network is being taken down"
        assert [event.kind for event in events][-1] == "stopping"
        wait_for(lambda: client.path.exists() or client.path in list(paths.find()), lambda there: not there)
        with pytest.raises(UnavailableError, match="No network answers"):
            client.network()
        wait_for(network.directory.exists, lambda there: not there)


def test_without_a_control_socket_nothing_is_there() -> None:
    with observed_network("--backend=none", "--control=none") as (_, client):
        assert not client.path.exists()


def test_the_log_can_be_json() -> None:
    with observed_network("--backend=none", "--log-format=json", "--log-level=warning") as (network, client):
        assert client.log_level() == "warning"
        client.set_log_level("info")
        with network.plug(description="json"):
            pass
        wait_for(network.log, lambda text: "unplugged" in text)
        lines = [json.loads(line) for line in network.log().splitlines() if line.startswith("{")]
    (up,) = [line for line in lines if line.get("event") == "port_up"]
    assert (up["level"], up["port"], up["name"]) == ("info", 1, "json")
    assert not [line for line in lines if line["message"].startswith("Plug a guest in")]
