"""``vde_vmnet run [OPTIONS] -- COMMAND…``: a command with its network, which ends with it.

Order matters: what can be refused is refused before anything is started; the network is there before the
command; the command's end is the end of all.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from vde_vmnet import sockets, uplinks
from vde_vmnet.addresses import MacAddress
from vde_vmnet.config import arguments
from vde_vmnet.config.choice import choice
from vde_vmnet.config.model import Backend, DaemonConfig, UplinkConfig
from vde_vmnet.errors import ConfigurationError, UplinkError
from vde_vmnet.keeper import Stopped, stop_raises
from vde_vmnet.launch import identity, qemu, qemu_memory
from vde_vmnet.launch.command import NOT_EXECUTABLE, NOT_FOUND, Command
from vde_vmnet.launch.descriptor import FIRST, Descriptor
from vde_vmnet.launch.wired import DescriptorType, PrivateNetwork, connect, private_place

__all__ = ["DEFAULT_NETWORK", "build_parser", "main"]

_log = logging.getLogger(__name__)

#: Where a network usually is.
DEFAULT_NETWORK = Path("/var/run/vde.ctl")
_NETDEV = "vmnet0"
_DESCRIPTION = """\
Run COMMAND with its network: one that runs already, or a private one that ends with COMMAND. A
qemu-system-* command gets the options it lacks; any other finds a connected socket as descriptor 3 and in
its environment VDE_VMNET_FD, VDE_VMNET_FD_TYPE (stream: each frame after its length in 4 bytes, big-endian;
dgram: a frame is a datagram), VDE_VMNET_MAC and VDE_VMNET_NETWORK.
"""
_EPILOG = """\
Other options are those of vde_vmnet itself, such as --vmnet-gateway, and ask for a private network. As an
ordinary user it is the user-mode network, or isolated without libslirp. Under sudo the network is opened with
privilege, and COMMAND runs as the user who called sudo.

Exit status: COMMAND's; 128 and its number for a signal; 127 it was not found, 126 it cannot be run; else as
vde_vmnet: 1 wrong usage, 3 something is missing, 4 not permitted, 5 already in use, 6 the network failed.
"""


def build_parser() -> argparse.ArgumentParser:
    """What ``run`` knows beside the daemon's options."""
    parser = arguments.Parser(
        prog="vde_vmnet run",
        usage="vde_vmnet run [OPTION]... -- COMMAND [ARGS...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=arguments.GnuHelp,
        add_help=False,
        allow_abbrev=False,  # what is not here is the daemon's
    )
    add = parser.add_argument
    add(
        "--network",
        metavar="PATH",
        help="switch directory or stream socket of a running network; DIRECTORY[N] asks for port N"
        f" (default: {DEFAULT_NETWORK} if a switch answers there, else a private one)",
    )
    add("--private", action="store_true", help="a network of its own, whatever runs already")
    add(
        "--name", metavar="NAME", help="the VM's name, of which its MAC address is made (default: QEMU's -name)"
    )
    add("--mac", metavar="MAC", help="the VM's MAC address")
    add("--fd-number", metavar="N", help=f"descriptor of the connection (default: {FIRST})")
    add("--fd-type", metavar="(stream|dgram)", help="what it is to be (default: stream where there is one)")
    add(
        "--no-vhost-user",
        action="store_true",
        help="connect QEMU by a socket also where its guest could share its memory (Linux, private network)",
    )
    add("--netdev-id", metavar="ID", default=_NETDEV, help="name of QEMU's -netdev (default: %(default)s)")
    add("--user", metavar="USER", help="as whom COMMAND runs (default: who called sudo, else the caller)")
    add("--log", metavar="FILE", type=Path, help="append what a private network's daemon says to FILE")
    add("-h", "--help", action="store_true", help="display this help and exit")
    return parser


def main(argv: Sequence[str]) -> int:
    """Returns the exit status. Raises VdeVmnetError when the command could not be started."""
    parser = build_parser()
    at = argv.index("--") if "--" in argv else len(argv)
    options, others = parser.parse_known_args(argv[:at])
    if options.help:
        parser.print_help()
        return 0
    command = list(argv[at + 1 :])
    if not command:
        what = (
            "There is no COMMAND after --" if at < len(argv) else "There is no --, after which COMMAND stands"
        )
        raise ConfigurationError(what, next_step="Try: vde_vmnet run -- qemu-system-x86_64 -m 1G disk.img")
    return _Run(options, others, command).run()


class _Run:
    def __init__(self, options: argparse.Namespace, others: list[str], command: list[str]) -> None:
        """Checks everything that can be checked before anything is done."""
        self._options = options
        self._command = command
        self._kind = None
        if options.fd_type is not None:
            self._kind = choice(DescriptorType, options.fd_type, "Unknown --fd-type", DescriptorType.STREAM)
        self._number = _number(options.fd_number)
        self._account = identity.command_account(options.user, os.environ)
        self._environment = identity.environment_of(self._account, os.environ)
        self._mac = _mac(options, command, self._account)
        self._daemon = _daemon_options(others)
        private = options.private or others or options.log
        if private and options.network is not None:
            given = others[0] if others else "--private" if options.private else "--log"
            raise ConfigurationError(
                f"{given} is about a private network, and --network={options.network} names one that runs"
            )
        self._network = None if private else options.network or _usual_network(self._account)
        if self._network is None:
            # Ours first: of what is given twice the last counts.
            self._daemon = [*self._private_options(_parsed(self._daemon)), *self._daemon]

    def _private_options(self, config: DaemonConfig) -> list[str]:
        more = ["--vde-mode=0700"]
        if self._account is not None:
            more.append(f"--user={self._account.name}")
        uplink, _ = uplinks.choose(config.backend, config.uplink, "run")
        nothing_asked = config.backend is Backend.AUTO and config.uplink == UplinkConfig()
        reason = uplink.unavailable_reason() if uplink.name == Backend.USER.value and nothing_asked else None
        if reason is not None:
            _log.info("The private network is isolated: %s", reason)
            more.append(f"--backend={Backend.NONE.value}")
        return more

    def run(self) -> int:
        try:
            program = _find(self._command[0], self._environment)
        except OSError as error:
            return _not_run(self._command[0], error)
        if os.geteuid() == 0 and self._account is None and self._options.user is None:
            _log.warning("%s runs as root; --user=USER has it run as somebody else", self._command[0])
        is_qemu = qemu.is_qemu(self._command[0])
        with ExitStack() as closing:
            # First of all, before anything of ours can have the number. QEMU is told which it is.
            number = FIRST if self._number is None and not is_qemu else self._number
            descriptor = closing.enter_context(Descriptor(number))
            wiring = qemu.Wiring(tuple(self._command), self._mac)
            place = private_place()
            shared = self._shared(place, descriptor.number) if is_qemu else None
            if is_qemu:
                wiring = qemu.wire(
                    self._command,
                    descriptor=descriptor.number,
                    mac=self._mac,
                    netdev=self._options.netdev_id,
                    shared=shared,
                )
            try:
                with stop_raises():
                    private, environment = self._connect(descriptor, place, shared, closing)
                    _log.debug("Running %s", wiring.command)
                    try:
                        running = Command(
                            wiring.command,
                            program=program,
                            account=self._account,
                            environment={**self._environment, **environment, "VDE_VMNET_MAC": wiring.mac},
                        )
                    except OSError as error:
                        return _not_run(self._command[0], error)
            except Stopped as stopped:
                return 128 + signal.Signals[str(stopped)]
            descriptor.close()
            return _wait(running, private)

    def _shared(self, place: Path, descriptor: int) -> qemu.Shared | None:
        """How QEMU's guest shares its memory with a private network at ``place``; None when it does not."""
        asked_otherwise = self._options.no_vhost_user or self._kind is not None or self._number is not None
        if sys.platform != "linux" or self._network is not None or asked_otherwise:
            return None
        netdev = self._options.netdev_id
        if not qemu.takes_shared(self._command, descriptor=descriptor, netdev=netdev):
            return None
        found = qemu_memory.sharing(self._command, name=netdev)
        return qemu.Shared(f"{place}.vhost-user", found.options, found.kvm) if found is not None else None

    def _connect(
        self, descriptor: Descriptor, place: Path, shared: qemu.Shared | None, closing: ExitStack
    ) -> tuple[PrivateNetwork | None, dict[str, str]]:
        """Fill the descriptor; what the command's environment says about it."""
        private = None
        shown = self._network
        if shown is None:
            kind = self._kind or DescriptorType.STREAM
            options = [*self._daemon, *([f"--vhost-user={shared.path}"] if shared is not None else [])]
            private = PrivateNetwork(
                options,
                kind if shared is None else None,
                directory=place,
                log=self._options.log,
                closing=closing,
            )
            shown = str(private.directory)
            if private.connection is None:
                _log.info("On the private network %s, with shared memory", shown)
                return private, {"VDE_VMNET_NETWORK": shown}
            descriptor.fill(private.connection)
        else:
            if self._account is not None:
                # Nothing here needs root any more, and who may plug in is decided as for that user.
                identity.become(self._account)
                self._account = None
            kind = connect(shown, self._kind, descriptor, closing)
        _log.info("On the %s network %s", "private" if private is not None else "running", shown)
        return private, {
            "VDE_VMNET_FD": str(descriptor.number),
            "VDE_VMNET_FD_TYPE": kind.value,
            "VDE_VMNET_NETWORK": shown,
        }


def _wait(running: Command, private: PrivateNetwork | None) -> int:
    def on_child() -> None:
        error = private.loss() if private is not None else None
        if error is not None:
            # The guest goes on: what it has in memory may be worth more than its network.
            _log.error("%s", error)

    status = running.wait(on_child)
    if private is not None:
        try:
            private.stop()
        except UplinkError as error:
            _log.error("%s", error)
    return status


def _number(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < FIRST:
        raise ConfigurationError(f'--fd-number "{text}" is not a number from {FIRST} on')
    return int(text)


def _mac(options: argparse.Namespace, command: Sequence[str], account: identity.Account | None) -> str:
    if options.mac is not None:
        try:
            return str(MacAddress.parse(options.mac))
        except ValueError as error:
            raise ConfigurationError(f"--mac: {error}") from None
    named = qemu.guest_name(command) if qemu.is_qemu(command[0]) else None
    return identity.stable_mac(
        options.name or named or "\0".join(command),
        uid=account.uid if account else os.getuid(),
        machine=identity.machine_id(),
    )


def _daemon_options(others: list[str]) -> list[str]:
    """The same, once they are known to be options of a daemon that we can start."""
    given = arguments.build_parser().parse_args(others)
    if given.vdeswitch:
        raise ConfigurationError(
            f'"{given.vdeswitch[0]}" is no option', next_step="Put -- before COMMAND, and = before a value"
        )
    for option in ("pidfile", "vde_switch", "fd", "version"):
        if getattr(given, option):
            raise ConfigurationError(f"--{option.replace('_', '-')} is not for vde_vmnet run")
    return others


def _parsed(others: Sequence[str]) -> DaemonConfig:
    """Raises ConfigurationError as the daemon would; its warnings are said here, where they are seen."""
    given = arguments.build_parser().parse_args([*others, "/"])
    return arguments.parse(given, debug=False, warn=_log.warning if others else _log.debug)


def _usual_network(account: identity.Account | None) -> str | None:
    """The network that runs at the usual place; None when there is none, or none for that user."""
    if not sockets.has_live_switch(DEFAULT_NETWORK):
        return None
    if not identity.may_write(account, DEFAULT_NETWORK / sockets.CONTROL_NAME):
        _log.info("A private network, since this user may not use %s", DEFAULT_NETWORK)
        return None
    return str(DEFAULT_NETWORK)


def _find(name: str, environment: dict[str, str]) -> str:
    """The program's path. Raises OSError as exec would."""
    if os.sep in name:
        if not os.path.lexists(name):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        if Path(name).is_dir() or not os.access(name, os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return name
    found = shutil.which(name, path=environment.get("PATH", os.defpath))
    if found is not None:
        return found
    for folder in environment.get("PATH", os.defpath).split(os.pathsep):
        if (Path(folder) / name).is_file():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def _not_run(name: str, error: OSError) -> int:
    _log.error('Cannot run "%s": %s', name, error.strerror or error)
    sys.stderr.flush()
    return NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
