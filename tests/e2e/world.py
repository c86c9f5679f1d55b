"""What lies beyond the host in the end-to-end tests: a second namespace with web and name servers."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.netns import Namespace, wire
from vde_vmnet.demo.traffic import HttpServer

__all__ = ["PAGE", "World", "dnsmasq"]

PAGE = b"hello from beyond\n"


def dnsmasq(namespace: Namespace, *options: str) -> None:
    """A dnsmasq in the namespace, ready when this returns, ended with the namespace."""
    server = subprocess.Popen(
        namespace.command(
            *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-facility=-"),
            *("--user=nobody", "--no-resolv", "--no-hosts", "--no-ping", "--leasefile-ro", *options),
        ),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )

    def end() -> None:
        server.kill()
        server.communicate()

    namespace.on_close.append(end)
    assert server.stderr is not None
    said = ""
    while ": started" not in said:
        line = server.stderr.readline()
        assert line, f"dnsmasq ended: {said}"
        said += line


class World:
    """A namespace on a cable to ``host``; addresses are documentation's (RFC 5737, RFC 3849).

    It has no route to any guest, so whatever it answers came through the NAT.
    """

    HOST4, WORLD4 = "203.0.113.1", "203.0.113.10"
    HOST6, WORLD6 = "2001:db8::1", "2001:db8::10"
    PORT = 8080
    #: A name that only the world's name server knows.
    NAME = "www.example.test"

    def __init__(self, host: Namespace) -> None:
        self._closing = ExitStack()
        with ExitStack() as unfinished:
            self.namespace = unfinished.enter_context(Namespace("world"))
            wire(host, "up0", self.namespace, "eth0")
            for namespace, device, four, six in (
                (host, "up0", self.HOST4, self.HOST6),
                (self.namespace, "eth0", self.WORLD4, self.WORLD6),
            ):
                namespace.run("ip", "address", "add", f"{four}/24", "dev", device)
                namespace.run("ip", "address", "add", f"{six}/64", "dev", device, "nodad")
            host.run("ip", "route", "add", "default", "via", self.WORLD4)
            host.run("ip", "-6", "route", "add", "default", "via", self.WORLD6)
            self.web4 = unfinished.enter_context(HttpServer(self.namespace.path, self.WORLD4, self.PORT, PAGE))
            self.web6 = unfinished.enter_context(HttpServer(self.namespace.path, self.WORLD6, self.PORT, PAGE))
            dnsmasq(
                self.namespace,
                f"--listen-address={self.WORLD4}",
                "--bind-interfaces",
                f"--host-record={self.NAME},{self.WORLD4}",
                "--local=/example.test/",
            )
            self._folder = Path(tempfile.mkdtemp(prefix="vdet-world-"))
            unfinished.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self._folder.chmod(0o755)
            self._resolv = self._folder / "resolv.conf"
            self._resolv.write_text(f"nameserver {self.WORLD4}\n")
            self._closing = unfinished.pop_all()

    @property
    def url4(self) -> str:
        """Of the page, by IPv4."""
        return f"http://{self.WORLD4}:{self.PORT}/"

    @property
    def url6(self) -> str:
        """Of the page, by IPv6."""
        return f"http://[{self.WORLD6}]:{self.PORT}/"

    def resolver(self) -> tuple[str, ...]:
        """What to put before a command so that the world's name server is the one of its host."""
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return "unshare", "--mount", "sh", "-c", script, str(self._resolv)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()
