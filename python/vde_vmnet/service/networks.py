"""The networks that the system starts at boot: names, paths and command lines as the original has them. Pure.

The original's installation (its README, Makefile and ``launchd/``) brings one shared network at
``/var/run/vde.ctl`` with the gateway 192.168.105.1, and with ``BRIDGED=IF`` one more at
``/var/run/vde.bridged.IF.ctl``. What plugs into those keeps working.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address

from vde_vmnet.errors import ConfigurationError

__all__ = ["DEFAULT_GATEWAY", "ServiceNetwork", "check_plain"]

DEFAULT_GATEWAY = IPv4Address("192.168.105.1")

#: One word to launchd, systemd, sudo, a shell and a ``#!`` line alike: no blank, no quote, no ``%``, no ``:``.
_PLAIN = re.compile(r"[A-Za-z0-9_./+@-]+")
#: An interface's name becomes part of file names and of a unit's name; 15 is IFNAMSIZ without its NUL.
_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,14}")


def check_plain(option: str, text: str) -> str:
    """``text``, when it can stand in all the files we write. Raises ConfigurationError, naming ``option``."""
    if not _PLAIN.fullmatch(text):
        raise ConfigurationError(
            f'{option} "{text}" has characters that service files, sudoers and scripts cannot carry',
            next_step="Use letters, digits and _ . / + @ - only",
        )
    return text


@dataclass(frozen=True)
class ServiceNetwork:
    """One network: bridged to ``interface``, or shared without one. Raises ConfigurationError when made."""

    #: The physical interface of a bridged network.
    interface: str | None = None
    #: Address of the host on a shared network.
    gateway: IPv4Address = DEFAULT_GATEWAY
    #: Who may plug in; None leaves it to the daemon ("staff").
    group: str | None = None

    def __post_init__(self) -> None:
        if self.interface is not None and not _INTERFACE.fullmatch(self.interface):
            raise ConfigurationError(
                f'--bridged "{self.interface}" is not the name of an interface',
                next_step="Try en0 on macOS; `ip link` lists them on Linux",
            )
        if self.group is not None:
            check_plain("--group", self.group)

    @property
    def suffix(self) -> str:
        """What the names of a bridged network's files have and the shared one's have not."""
        return "" if self.interface is None else f".bridged.{self.interface}"

    @property
    def switch(self) -> str:
        """The switch directory."""
        return f"/var/run/vde{self.suffix}.ctl"

    def arguments(self, interface: str | None = None) -> tuple[str, ...]:
        """The daemon's command line without its name; ``interface`` is written in the place of ours."""
        group = () if self.group is None else (f"--vde-group={self.group}",)
        if self.interface is None:
            return (*group, f"--vmnet-gateway={self.gateway}", self.switch)
        shown = interface or self.interface
        return (
            *group,
            "--vmnet-mode=bridged",
            f"--vmnet-interface={shown}",
            self.switch.replace(f".{self.interface}.", f".{shown}."),
        )
