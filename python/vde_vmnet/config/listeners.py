"""The sockets beside VDESWITCH: ``--stream`` and what else guests may plug into."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from vde_vmnet.config.model import ListenersConfig
from vde_vmnet.errors import ConfigurationError

__all__ = ["add_options", "network_name", "parse"]


def add_options(add: Callable[..., object]) -> None:
    """``add`` is ``ArgumentParser.add_argument``."""
    add(
        "--stream",
        metavar="PATH",
        action="append",
        default=[],
        help="listen on PATH for guests of -netdev stream and of socket_vmnet; can be repeated",
    )


def parse(arguments: argparse.Namespace) -> ListenersConfig:
    """Raises ConfigurationError that names the option at fault."""
    return ListenersConfig(stream=_paths("--stream", arguments.stream))


def network_name(listeners: ListenersConfig) -> Path | None:
    """What a network without VDESWITCH is named after: its first socket; None when it has none."""
    return next(iter(listeners.stream), None)


def _paths(option: str, texts: Sequence[str]) -> tuple[Path, ...]:
    paths: list[Path] = []
    for text in texts:
        folder, name = os.path.split(text)
        if name in ("", ".", ".."):
            raise ConfigurationError(
                f'{option} "{text}" names no socket', next_step="Write it like /tmp/net.sock"
            )
        # Of the name itself a symbolic link is not followed: it is refused when the socket is made.
        path = Path(os.path.realpath(folder)) / name
        if path in paths:
            raise ConfigurationError(f'{option} "{text}" was given twice', next_step="Leave one out")
        paths.append(path)
    return tuple(paths)
