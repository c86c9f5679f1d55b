"""The sockets beside VDESWITCH: ``--stream`` and ``--dgram``, and what else guests may plug into."""

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
    add(
        "--dgram",
        metavar="PATH",
        action="append",
        default=[],
        help="listen on PATH for guests of -netdev dgram, vfkit and krunkit, each with a socket of its own;"
        " can be repeated",
    )
    add(
        "--dgram-offload",
        metavar="PATH",
        action="append",
        default=[],
        help="as --dgram, for guests of krunkit with offloading=on; can be repeated",
    )
    add(
        "--stream-offload",
        metavar="PATH",
        action="append",
        default=[],
        help="as --stream, for guests of krunkit with type=unixstream,offloading=on; can be repeated",
    )
    add(
        "--vhost-user",
        metavar="PATH",
        action="append",
        default=[],
        help="listen on PATH for guests that share their memory: -netdev vhost-user of QEMU, on Linux;"
        " can be repeated",
    )
    add(
        "--fd",
        metavar="N",
        help="serve the guest at the other end of descriptor N, a connected stream or datagram socket, and end"
        " when it does",
    )


def parse(arguments: argparse.Namespace) -> ListenersConfig:
    """Raises ConfigurationError that names the option at fault."""
    seen: dict[Path, str] = {}
    stream = _paths("--stream", arguments.stream, seen)
    stream_offload = _paths("--stream-offload", arguments.stream_offload, seen)
    dgram = _paths("--dgram", arguments.dgram, seen)
    dgram_offload = _paths("--dgram-offload", arguments.dgram_offload, seen)
    vhost_user = _paths("--vhost-user", arguments.vhost_user, seen)
    return ListenersConfig(
        stream=stream + stream_offload,
        dgram=dgram + dgram_offload,
        vhost_user=vhost_user,
        offload=frozenset(stream_offload + dgram_offload),
        fd=_descriptor(arguments.fd),
    )


def network_name(listeners: ListenersConfig) -> Path | None:
    """What a network without VDESWITCH is named after: its first socket; None when it has none."""
    for path in (*listeners.stream, *listeners.dgram, *listeners.vhost_user):
        return path
    # A descriptor has no name that the next start would know; what a killed one left, any start removes.
    return Path(f"/dev/fd/{os.getpid()}/{listeners.fd}") if listeners.fd is not None else None


def _descriptor(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal()):
        raise ConfigurationError(f'--fd "{text}" is not the number of a descriptor', next_step="Try --fd=3")
    if text in ("1", "2"):
        raise ConfigurationError(f"--fd={text} is where this program's own words go", next_step="Try --fd=3")
    return int(text)


def _paths(option: str, texts: Sequence[str], seen: dict[Path, str]) -> tuple[Path, ...]:
    """``seen``: what other options named before, and by which; these are added."""
    paths: list[Path] = []
    for text in texts:
        folder, name = os.path.split(text)
        if name in ("", ".", ".."):
            raise ConfigurationError(
                f'{option} "{text}" names no socket', next_step="Write it like /tmp/net.sock"
            )
        # Of the name itself a symbolic link is not followed: it is refused when the socket is made.
        path = Path(os.path.realpath(folder)) / name
        other = seen.setdefault(path, option)
        if path in paths:
            raise ConfigurationError(f'{option} "{text}" was given twice', next_step="Leave one out")
        if other != option:
            raise ConfigurationError(f'{option} "{path}" is also a {other}', next_step="Choose another path")
        paths.append(path)
    return tuple(paths)
