"""``vde_vmnet install`` and ``vde_vmnet uninstall``: the daemon as a service of launchd or systemd.

``make install`` and ``make uninstall`` call these. The plan is made first and checked; then it is shown
(``--dry-run``) or carried out.
"""

from __future__ import annotations

import argparse
import grp
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path, PurePosixPath

from vde_vmnet.config.arguments import GnuHelp, Parser
from vde_vmnet.errors import ConfigurationError, PrivilegeError, UnavailableError, VdeVmnetError
from vde_vmnet.keeper import Stopped, stop_raises
from vde_vmnet.privileges import DEFAULT_SOCKET_GROUP
from vde_vmnet.service import interpreter, launchd, systemd
from vde_vmnet.service.apply import Runner, install, read_record, run_command, uninstall
from vde_vmnet.service.networks import DEFAULT_GATEWAY, ServiceNetwork, check_plain
from vde_vmnet.service.payload import running_package
from vde_vmnet.service.plan import Plan, describe, installation, record_path
from vde_vmnet.service.prefix import refuse_if_others_may_write
from vde_vmnet.service.record import Record, describe_removal

__all__ = ["install_main", "install_parser", "uninstall_main", "uninstall_parser"]

_PREFIX = "/opt/vde"
_INTERRUPTED = 130


def install_main(argv: Sequence[str], *, manager: str | None = None, run: Runner = run_command) -> int:
    """``vde_vmnet install``; ``manager`` and ``run`` are for tests. Raises VdeVmnetError."""
    options = install_parser().parse_args(argv)
    manager = manager or _manager()
    prefix, root = _places(options)
    previous = read_record(prefix, root)
    networks = _networks(options, previous)
    problem: VdeVmnetError | None = None
    try:
        python = interpreter.choose(options.python, for_this_system=root == Path("/"))
    except VdeVmnetError as error:
        problem, python = error, interpreter.choose(options.python, for_this_system=False)
    plan = installation(
        manager,
        prefix,
        networks,
        python=PurePosixPath(python.path),
        version=python.version,
        payload=running_package(python.version),
        with_vde_switch=_wants_vde_switch(options, previous),
        start=not options.no_start and root == Path("/") and _can_start(manager),
    )
    if options.dry_run:
        sys.stdout.write(describe(plan))
    _check(options, plan, root, problem)
    if options.dry_run:
        return 0
    os.umask(0o022)
    try:
        with stop_raises():
            install(plan, previous, root=root, run=run, replace=options.replace)
    except Stopped:
        sys.stdout.write("Interrupted: everything is as it was before\n")
        return _INTERRUPTED
    sys.stdout.write(_installed(plan, root))
    return 0


def uninstall_main(argv: Sequence[str], *, run: Runner = run_command) -> int:
    """``vde_vmnet uninstall``; ``run`` is for tests. Raises VdeVmnetError."""
    options = uninstall_parser().parse_args(argv)
    prefix, root = _places(options)
    if root == Path("/"):
        refuse_if_others_may_write("--prefix", Path(prefix))  # the record says what is removed
    record = read_record(prefix, root)
    if record is None:
        raise ConfigurationError(
            f'Nothing is installed below "{prefix}"{_in(root)}',
            next_step="Name the --prefix it was installed with",
        )
    if options.dry_run:
        sys.stdout.write(describe_removal(record, start=root == Path("/")))
        return 0
    _refuse_without_root(root)
    uninstall(record, root=root, run=run, stop=root == Path("/"))
    sys.stdout.write(f"vde_vmnet {record.version} below {prefix}{_in(root)} is removed\n")
    return 0


def install_parser() -> argparse.ArgumentParser:
    """What ``install`` knows."""
    return _parser("install")


def uninstall_parser() -> argparse.ArgumentParser:
    """What ``uninstall`` knows."""
    return _parser("uninstall")


def _parser(verb: str) -> argparse.ArgumentParser:
    installing = verb == "install"
    parser = Parser(
        prog=f"vde_vmnet {verb}",
        usage=f"vde_vmnet {verb} [OPTION]...",
        formatter_class=GnuHelp,
        description="Install this program and start it as a service, with launchd or systemd."
        if installing
        else "Stop the services and remove what `vde_vmnet install` installed below PREFIX.",
    )
    add = parser.add_argument
    add(
        "--prefix",
        metavar="DIR",
        default=_own_prefix(),
        help="only root may write there (default: %(default)s)",
    )
    add("--destdir", metavar="DIR", help="put everything below DIR, for another system; start nothing")
    add(
        "--bridged",
        metavar="IF",
        action="append",
        default=[],
        help="a network bridged to IF too, at /var/run/vde.bridged.IF.ctl; can be repeated"
        if installing
        else "accepted because the original wanted it; all networks go with or without it",
    )
    add("--dry-run", action="store_true", help="show the whole plan and do nothing")
    if not installing:
        return parser
    add("--gateway", metavar="IP", help=f"address of the host on the shared network ({DEFAULT_GATEWAY})")
    add("--group", metavar="GROUP", help='who may plug in: the daemon\'s --vde-group ("staff")')
    add(
        "--with-vde-switch",
        action="store_true",
        default=None,
        help="launchd only: run PREFIX/bin/vde_switch (of vde-2) as the switch, as the original did",
    )
    add(
        "--without-vde-switch",
        dest="with_vde_switch",
        action="store_false",
        default=None,
        help="be the switch again, after an installation with one",
    )
    add("--python", metavar="PATH", type=Path, help="the Python to run on; only root may change it (found)")
    add("--no-start", action="store_true", help="install the services and start none")
    add("--no-services", action="store_true", help="install the commands only, for Lima for instance")
    add("--replace", action="store_true", help="take the place of files that we did not install")
    return parser


def _own_prefix() -> str:
    """An installed program means itself."""
    own = PurePosixPath(sys.prefix).parent.parent
    return str(own) if Path(record_path(own)).is_file() else _PREFIX


def _places(options: argparse.Namespace) -> tuple[PurePosixPath, Path]:
    prefix = Path(check_plain("--prefix", options.prefix))
    if not prefix.is_absolute() or ".." in prefix.parts or prefix == Path("/"):
        raise ConfigurationError(
            f'--prefix "{options.prefix}" is not an absolute path of a folder', next_step=f"Try {_PREFIX}"
        )
    return PurePosixPath(prefix), Path(options.destdir).absolute() if options.destdir else Path("/")


def _networks(options: argparse.Namespace, previous: Record | None) -> tuple[ServiceNetwork, ...]:
    """The shared one, those that are installed, and those that are asked for; or none."""
    if options.no_services:
        if options.bridged or options.with_vde_switch or options.gateway or options.group:
            raise ConfigurationError("--no-services leaves no network that the other options could describe")
        return ()
    known = {network.interface: network for network in (previous.networks if previous else ())}
    for interface in (None, *options.bridged):
        known.setdefault(interface, ServiceNetwork(interface))
    if options.gateway is not None:
        try:
            known[None] = replace(known[None], gateway=IPv4Address(options.gateway))
        except ValueError:
            raise ConfigurationError(f'--gateway "{options.gateway}" is not an IPv4 address') from None
    if options.group is not None:
        known = {interface: replace(network, group=options.group) for interface, network in known.items()}
    return tuple(known[interface] for interface in sorted(known, key=lambda name: name or ""))


def _wants_vde_switch(options: argparse.Namespace, previous: Record | None) -> bool:
    if options.with_vde_switch is None:
        return previous is not None and previous.with_vde_switch
    return bool(options.with_vde_switch)


def _manager() -> str:
    if sys.platform == "darwin":
        return "launchd"
    if sys.platform == "linux":
        return "systemd"
    raise UnavailableError(
        f"Services are known for macOS and Linux, and this is {sys.platform}",
        next_step="Start `vde_vmnet --vmnet-gateway=192.168.105.1 /var/run/vde.ctl` as root at boot yourself",
    )


def _can_start(manager: str) -> bool:
    """Where systemd did not boot the machine its units are written all the same (sd_booted(3))."""
    return manager != "systemd" or Path("/run/systemd/system").is_dir()


def _check(options: argparse.Namespace, plan: Plan, root: Path, problem: VdeVmnetError | None) -> None:
    """Raises VdeVmnetError when the plan is not to be carried out."""
    if plan.with_vde_switch and plan.manager != "launchd":
        raise ConfigurationError(
            "--with-vde-switch is for macOS: there is no unit for vde_switch",
            next_step="Start your vde_switch yourself: the daemon plugs into one that serves at its directory",
        )
    if root != Path("/"):
        return
    refuse_if_others_may_write("--prefix", Path(plan.prefix))
    if problem is not None:
        raise problem
    for network in plan.networks:
        _refuse_absent_group(network.group or DEFAULT_SOCKET_GROUP)
    switch = Path(plan.prefix) / "bin/vde_switch"
    if plan.with_vde_switch and not switch.exists():
        raise UnavailableError(
            f'--with-vde-switch: there is no "{switch}"', next_step=f"Install vde-2 with --prefix={plan.prefix}"
        )
    if not options.dry_run:
        _refuse_without_root(root)


def _refuse_absent_group(group: str) -> None:
    try:
        if not group.isdecimal():
            grp.getgrnam(group)
    except KeyError:
        raise ConfigurationError(
            f'There is no group "{group}" on this machine, so nobody could plug in',
            next_step="Name one with --group",
        ) from None


def _refuse_without_root(root: Path) -> None:
    if root == Path("/") and os.geteuid() != 0:
        raise PrivilegeError(
            "Installing and removing services needs root", next_step="Run it with sudo, or look with --dry-run"
        )


def _in(root: Path) -> str:
    return "" if root == Path("/") else f" in {root}"


def _installed(plan: Plan, root: Path) -> str:
    lines = [f"vde_vmnet {plan.environment.payload.version} is installed below {plan.prefix}{_in(root)}"]
    environment = plan.environment
    whose = ", which only root can change" if root == Path("/") else ""
    lines += [f"It runs on {environment.python} ({'.'.join(map(str, environment.version))}){whose}"]
    if not any(name.startswith("msgspec/") for name in environment.payload.files):
        ours = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
        lines += [f"Without control socket and the commands that use it, whose packages are here for {ours}"]
    lines += [f"Guests plug into {network.switch}" for network in plan.networks] if plan.start else []
    if plan.logs and root == Path("/"):
        lines += [f"Logs: {' '.join(plan.logs)}"]
    elif plan.start and plan.services:
        lines += [f"Logs: journalctl -u {plan.services[0]}"]
    if plan.services and not plan.start and root == Path("/"):
        manager = launchd if plan.manager == "launchd" else systemd
        why = "" if _can_start(plan.manager) else ", because systemd did not boot this machine"
        lines += [f"Not started{why}; the service files are in {manager.DIRECTORY}"]
    return "\n".join(lines) + "\n"
