"""Each VDESWITCH and the options about them: ``PATH``, ``PATH[N]``, ``PATH[]``, and who is the switch there."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path

from vde_vmnet.config.choice import choice
from vde_vmnet.config.model import PtpSocket, SwitchConfig, SwitchRole
from vde_vmnet.errors import ConfigurationError

__all__ = ["add_options", "octal_mode", "parse"]

_NAME = re.compile(r"(?s)(?P<path>.+?)(?:\[(?P<port>\d+)\])?")
#: The request has 24 bits for the port.
_MAX_PORT = (1 << 24) - 1
#: VDESWITCHes of one network; each has a place of its own on the switch.
_MOST = 64


def add_options(add: Callable[..., object]) -> None:
    """``add`` is ``ArgumentParser.add_argument``."""
    add("--vde-group", metavar="GROUP", help='group that may plug in (default: "staff")')
    add("--vde-mode", metavar="MODE", help="octal mode of the switch directory (default: 0770)")
    add(
        "--vde-switch",
        metavar="(auto|plug|serve)",
        help="plug into the VDE switch at VDESWITCH, be the switch, or plug in if one is there (default: auto);"
        " VDESWITCH[N] asks it for port N, PATH[] is point-to-point mode for one guest without a switch;"
        " several VDESWITCHes are one network",
    )
    add(
        "--vde-ptp",
        metavar="(auto|dgram|seqpacket)",
        help="what PATH[] is: dgram for vdeplug4 up to 4.0.1 and libvdeplug2, seqpacket for newer vdeplug4"
        " (default: auto, which is dgram unless somebody serves seqpacket at PATH)",
    )


def parse(arguments: argparse.Namespace, instead: Path | None) -> tuple[SwitchConfig, ...]:
    """``instead``: what the network is named after without VDESWITCH; None when one is needed.

    At least one; the first names the network. Raises ConfigurationError that names the option at fault.
    """
    texts: list[str] = [text for text in arguments.vdeswitch if text]
    if not texts:
        return (_absent(arguments, instead),)
    if len(texts) > _MOST:
        raise ConfigurationError(f"{len(texts)} VDESWITCHes were given; a network has at most {_MOST}")
    role = choice(SwitchRole, arguments.vde_switch, "Unknown --vde-switch", SwitchRole.AUTO)
    if role is not SwitchRole.AUTO and all(map(_is_point_to_point, texts)):
        raise ConfigurationError(
            f'VDESWITCH "{texts[0]}" asks for point-to-point mode, where nobody is a switch',
            next_step=f"Leave --vde-switch={role.value} out, or the []",
        )
    ptp_socket = choice(PtpSocket, arguments.vde_ptp, "Unknown --vde-ptp", PtpSocket.AUTO)
    if arguments.vde_ptp is not None and not any(map(_is_point_to_point, texts)):
        raise ConfigurationError(
            f"--vde-ptp={ptp_socket.value} has no effect on a switch directory",
            next_step=f"For point-to-point mode write {texts[0]}[]",
        )
    switches: dict[Path, SwitchConfig] = {}
    for text in texts:
        one = _parse_one(text, role, ptp_socket, arguments)
        if one.directory in switches:
            # Two plugs in one switch would be a loop.
            raise ConfigurationError(f'VDESWITCH "{one.directory}" was given twice', next_step="Leave one out")
        switches[one.directory] = one
    return tuple(switches.values())


def _is_point_to_point(text: str) -> bool:
    return text.endswith("[]") and len(text) > len("[]")


def _parse_one(
    text: str, role: SwitchRole, ptp_socket: PtpSocket, arguments: argparse.Namespace
) -> SwitchConfig:
    point_to_point = _is_point_to_point(text)
    path, port = (text[:-2], None) if point_to_point else _split(text)
    if port is not None and role is SwitchRole.SERVE:
        raise ConfigurationError(
            f'VDESWITCH "{text}" asks a switch for a port, and --vde-switch=serve makes us the switch',
            next_step=f"Leave [{port}] out",
        )
    return SwitchConfig(
        directory=Path(os.path.realpath(path)),
        group=arguments.vde_group,
        mode=_directory_mode(arguments.vde_mode),
        role=role,
        port=port,
        point_to_point=point_to_point,
        ptp_socket=ptp_socket,
    )


def _absent(arguments: argparse.Namespace, instead: Path | None) -> SwitchConfig:
    if instead is None:
        raise ConfigurationError(
            "No VDESWITCH was given", next_step="Name a directory, such as /var/run/vde.ctl"
        )
    for option, value in (("--vde-switch", arguments.vde_switch), ("--vde-ptp", arguments.vde_ptp)):
        if value is not None:
            raise ConfigurationError(f"{option}={value} requires VDESWITCH")
    mode = _directory_mode(arguments.vde_mode)
    return SwitchConfig(directory=instead, group=arguments.vde_group, mode=mode, absent=True)


def _split(text: str) -> tuple[str, int | None]:
    named = _NAME.fullmatch(text)
    assert named is not None  # noqa: S101 - anything that is not empty is a path
    if named["port"] is None:
        return text, None
    port = int(named["port"])
    if port > _MAX_PORT:
        raise ConfigurationError(f'VDESWITCH "{text}" asks for a port above {_MAX_PORT}')
    return named["path"], port


def _directory_mode(text: str | None) -> int:
    if text is None:
        return SwitchConfig.mode
    mode = octal_mode("--vde-mode", text, "0770")
    if mode & 0o700 != 0o700:
        raise ConfigurationError(
            f'--vde-mode "{text}" locks out the daemon itself', next_step="Start it with 07"
        )
    return mode


def octal_mode(option: str, text: str, example: str) -> int:
    """Permission bits. Raises ConfigurationError."""
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise ConfigurationError(
            f'{option} "{text}" is not an octal mode from 0 to 0777', next_step=f"Try {example}"
        )
    return mode
