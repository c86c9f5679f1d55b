"""``--control``, ``--metrics`` and how the log is written: what observers of a network are given."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Literal, get_args

from vde_vmnet.config.model import ControlConfig, LogConfig
from vde_vmnet.errors import ConfigurationError

__all__ = ["add_options", "log_config", "parse"]

_NONE = "none"
Level = Literal["debug", "info", "warning", "error"]
_LEVELS: tuple[str, ...] = get_args(Level)
_FORMATS = ("text", "json")


def add_options(add: Callable[..., object]) -> None:
    """``add`` is ``ArgumentParser.add_argument``."""
    add(
        "--control",
        metavar="(PATH|none)",
        help="socket for the commands that watch and change the network (default: VDESWITCH.control)",
    )
    add("--control-group", metavar="GROUP", help="group that may watch it (default: the one that may plug in)")
    add(
        "--metrics",
        metavar="HOST:PORT",
        help="serve Prometheus' metrics on this loopback address too, to every user of this host",
    )
    add("--log-format", metavar="(text|json)", help="how a line of the log looks (default: text)")
    add(
        "--log-level",
        metavar="(debug|info|warning|error)",
        help="the least that is logged (default: info, or debug with DEBUG in the environment)",
    )


def parse(arguments: argparse.Namespace) -> ControlConfig:
    """Raises ConfigurationError that names the option at fault."""
    metrics = None if arguments.metrics is None else _loopback(arguments.metrics)
    if arguments.control == "":
        raise ConfigurationError("--control needs a path, or none")
    if arguments.control == _NONE and arguments.control_group is not None:
        raise ConfigurationError("--control-group has no effect with --control=none")
    wanted = arguments.control not in (None, _NONE)
    return ControlConfig(
        enabled=arguments.control != _NONE,
        path=Path(os.path.realpath(arguments.control)) if wanted else None,
        group=arguments.control_group,
        metrics=metrics,
    )


def log_config(arguments: argparse.Namespace, *, debug: bool) -> LogConfig:
    """Raises ConfigurationError that names the option at fault."""
    for option, said, known in (
        ("--log-format", arguments.log_format, _FORMATS),
        ("--log-level", arguments.log_level, _LEVELS),
    ):
        if said is not None and said not in known:
            raise ConfigurationError(
                f'Unknown {option} "{said}"', next_step=f"Choose one of: {', '.join(known)}"
            )
    default: Level = "debug" if debug else "info"
    given: Level = arguments.log_level or default
    return LogConfig(level=given, json=arguments.log_format == "json")


def _loopback(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if not colon or address is None or not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise ConfigurationError(
            f'--metrics "{text}" is not an address and a port', next_step="Write it like 127.0.0.1:9100"
        )
    if not address.is_loopback or (isinstance(address, IPv6Address) and address.ipv4_mapped is not None):
        raise ConfigurationError(
            f'--metrics "{text}" is not a loopback address, and whoever reaches it may read everything there',
            next_step="Use 127.0.0.1 or [::1], and a proxy that asks who is there for other machines",
        )
    return str(address), int(port)
