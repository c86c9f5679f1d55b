"""The commands ``socket_vmnet`` and ``socket_vmnet_client``, for those who call them so, as Lima does.

The first has that program's command line and is the daemon with one ``--stream``; the second connects and
becomes the command it is given, with the connection as descriptor 3.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Sequence

import vde_vmnet
from vde_vmnet.cli import report_errors, run_daemon
from vde_vmnet.config import arguments
from vde_vmnet.config.model import DaemonConfig
from vde_vmnet.errors import ConfigurationError

__all__ = ["build_parser", "client_main", "main", "parse"]

#: Where the client's command finds its connection: the first descriptor that is free in an ordinary process.
_CLIENT_FD = 3

_USAGE = "socket_vmnet [OPTION]... SOCKET"
_CLIENT_USAGE = "socket_vmnet_client SOCKET COMMAND [ARGS...]"
_DESCRIPTION = """\
A network for QEMU's stream and socket clients, which connect to SOCKET, such as /var/run/socket_vmnet. This
is vde_vmnet under the name and with the options of socket_vmnet; vde_vmnet --stream=SOCKET has more.
"""
_CLIENT_DESCRIPTION = """\
Connect to SOCKET and run COMMAND with the connection as file descriptor 3:
  socket_vmnet_client /var/run/socket_vmnet qemu-system-x86_64 -netdev socket,id=net0,fd=3 ...
"""
#: Options that both programs have, with the same meaning.
_SHARED = (
    *("vmnet_mode", "vmnet_interface", "vmnet_gateway", "vmnet_dhcp_end", "vmnet_mask", "vmnet_interface_id"),
    *("vmnet_network_identifier", "vmnet_nat66_prefix", "vmnet_disable_dhcp", "pidfile"),
)


def build_parser() -> argparse.ArgumentParser:
    """socket_vmnet's parser."""
    parser = arguments.Parser(
        prog="socket_vmnet",
        usage=_USAGE,
        description=_DESCRIPTION,
        formatter_class=arguments.GnuHelp,
        add_help=False,
    )
    add = parser.add_argument
    add("--socket-group", metavar="GROUP", help='group that may connect (default: "staff")')
    arguments.add_vmnet_options(add)
    add("-p", "--pidfile", metavar="PIDFILE", help="save pid to PIDFILE when the network is ready")
    add("-h", "--help", action="store_true", help="display this help and exit")
    add("-v", "--version", action="store_true", help="display version information and exit")
    add("socket", metavar="SOCKET", nargs="?", help=argparse.SUPPRESS)
    return parser


def parse(options: argparse.Namespace, *, debug: bool, warn: Callable[[str], None]) -> DaemonConfig:
    """The daemon that these options mean. Raises ConfigurationError."""
    if not options.socket:
        raise ConfigurationError("No SOCKET was given", next_step="Name a path, such as /var/run/socket_vmnet")
    ours = arguments.build_parser().parse_args([f"--stream={options.socket}"])
    ours.vde_group = options.socket_group
    for name in _SHARED:
        setattr(ours, name, getattr(options, name))
    return arguments.parse(ours, debug=debug, warn=warn)


def main(argv: Sequence[str] | None = None) -> int:
    """The command ``socket_vmnet``: 0 after a stop signal, and 1 for every failure, as that program does."""
    return min(1, run_daemon(sys.argv[1:] if argv is None else argv, build_parser(), parse))


def client_main(argv: Sequence[str] | None = None) -> int:
    """The command ``socket_vmnet_client``; returns only when COMMAND could not be run."""
    given = list(sys.argv[1:] if argv is None else argv)
    return report_errors(lambda: _client(given))


def _client(given: list[str]) -> int:
    if given[:1] in (["-h"], ["--help"]):
        sys.stdout.write(f"Usage: {_CLIENT_USAGE}\n{_CLIENT_DESCRIPTION}")
        return 0
    if given[:1] in (["-v"], ["--version"]):
        sys.stdout.write(f"{vde_vmnet.__version__}\n")
        return 0
    if given[:1] == ["--"]:
        del given[0]
    path, command = given[:1], given[1:]
    if command[:1] == ["--"]:
        del command[0]
    if not path or not command or path[0].startswith("-"):
        sys.stdout.write(f"Usage: {_CLIENT_USAGE}\n")
        raise ConfigurationError("SOCKET and COMMAND are needed")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(path[0])
        except OSError as error:
            raise ConfigurationError(
                f'Cannot connect to "{path[0]}": {error.strerror or error}',
                next_step="Is the daemon running, and are you in its group?",
            ) from None
        if connection.fileno() == _CLIENT_FD:
            os.set_inheritable(_CLIENT_FD, True)
        else:
            os.dup2(connection.fileno(), _CLIENT_FD, inheritable=True)
        sys.stdout.flush()
        try:
            os.execvp(command[0], command)  # noqa: S606 - to become the command is what the user asked for
        except OSError as error:
            raise ConfigurationError(f'Cannot run "{command[0]}": {error.strerror}') from None
