"""The first words that are a command, in one table: what runs them, their parsers, and what they are for.

Nothing of a command is loaded before it is asked for: the daemon is root's, and loads none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import cast

__all__ = ["VERBS", "Verb"]


def _named(word: str) -> tuple[str, str]:
    """Main and parser of a verb whose module holds several."""
    return f"{word}_main", f"{word}_parser"


@dataclass(frozen=True)
class Verb:
    """One command."""

    name: str
    #: Below ``vde_vmnet``.
    module: str
    #: What it does, as one clause.
    says: str
    main: str = "main"
    parser: str = "build_parser"

    def run(self, argv: Sequence[str]) -> int:
        """Its exit status. Raises VdeVmnetError."""
        return cast("Callable[[Sequence[str]], int]", self._get(self.main))(argv)

    def build_parser(self) -> argparse.ArgumentParser:
        """What it knows, for help, manual and completion."""
        return cast("Callable[[], argparse.ArgumentParser]", self._get(self.parser))()

    def _get(self, name: str) -> object:
        return getattr(import_module(f"vde_vmnet.{self.module}"), name)


_ALL = (
    Verb("capture", "cli.capture", "capture what passes the switch, for Wireshark and tcpdump"),
    Verb("completion", "cli.completion", "print the completion script of a shell"),
    Verb("dashboard", "cli.dashboard", "show a running network in the browser"),
    Verb("demo", "demo", "show a rootless guest on a network, in namespaces of its own"),
    Verb("doctor", "cli.doctor", "say what is in the way of a network on this host"),
    Verb("events", "cli.events", "follow what happens on a running network"),
    Verb("fdb", "cli.fdb", "print the stations that the switch has learned"),
    Verb(
        "forward", "cli.change", "add, remove or list ports of the host that lead to guests", *_named("forward")
    ),
    Verb("install", "cli.install", "install it as a service of launchd or systemd", *_named("install")),
    Verb("kick", "cli.change", "unplug a guest", *_named("kick")),
    Verb("leases", "cli.leases", "print which guest has which address"),
    Verb("log-level", "cli.change", "print or set how much a running network logs", *_named("log_level")),
    Verb("logs", "cli.logs", "print or follow the log of a running network"),
    Verb("port", "cli.change", "take a port down, or up again", *_named("port")),
    Verb("ports", "cli.ports", "print what is plugged in"),
    Verb("reload", "cli.change", "have a running network read its files again", *_named("reload")),
    Verb("reserve", "cli.change", "add, remove or list addresses that are kept for guests", *_named("reserve")),
    Verb("run", "cli.run", "run a VM with its network, which ends with it"),
    Verb("shutdown", "cli.change", "take a running network down", *_named("shutdown")),
    Verb("status", "cli.status", "show a running network on one screen"),
    Verb("sudoers", "cli.sudoers", "print the rules with which users, or Lima, may run it with sudo"),
    Verb("top", "cli.top", "watch the ports of a running network live"),
    Verb("uninstall", "cli.install", "remove what install installed", *_named("uninstall")),
)

#: By name; a switch directory of such a name is written ``./NAME``.
VERBS = {verb.name: verb for verb in _ALL}
