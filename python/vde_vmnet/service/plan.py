"""What an installation writes, owns and runs, as data: one object for dry run, deed and tests. Pure.

Paths are those of the system that will run it; where they are put meanwhile (``--destdir``) is not known here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePosixPath

from vde_vmnet.service import launchd, systemd
from vde_vmnet.service.networks import ServiceNetwork

__all__ = [
    "Command",
    "Environment",
    "Payload",
    "Plan",
    "TextFile",
    "describe",
    "installation",
    "look_commands",
    "record_path",
    "reload_commands",
    "start_commands",
    "stop_commands",
]

Command = tuple[str, ...]

#: What of the package goes below PREFIX/share.
_SHARE = "vde_vmnet/share/"


@dataclass(frozen=True)
class TextFile:
    """A file, put in place at once and whole."""

    path: PurePosixPath
    text: str
    mode: int = 0o644


@dataclass(frozen=True)
class Payload:
    """A whole package: what a folder of Python modules is given."""

    version: str
    #: By path below the folder, such as ``vde_vmnet/__init__.py``.
    files: dict[str, bytes] = field(repr=False)
    #: Name of the command -> ``module:function``.
    commands: dict[str, str]


@dataclass(frozen=True)
class Environment:
    """A virtual environment (PEP 405) with nothing but the package in it."""

    path: PurePosixPath
    #: The interpreter it borrows, which is outside.
    python: PurePosixPath
    version: tuple[int, int, int]
    payload: Payload

    @property
    def packages(self) -> str:
        """Folder of the modules, below ``path``."""
        return f"lib/python{self.version[0]}.{self.version[1]}/site-packages"

    @property
    def configuration(self) -> str:
        """Text of ``pyvenv.cfg``."""
        version = ".".join(map(str, self.version))
        return f"home = {self.python.parent}\ninclude-system-site-packages = false\nversion = {version}\n"


@dataclass(frozen=True)
class Plan:
    """An installation."""

    #: "launchd" or "systemd".
    manager: str
    prefix: PurePosixPath
    networks: tuple[ServiceNetwork, ...]
    environment: Environment
    files: tuple[TextFile, ...]
    #: As the manager calls them: files of property lists, or names of units; in the order they start.
    services: tuple[str, ...]
    #: What the services write by themselves.
    logs: tuple[str, ...]
    with_vde_switch: bool
    #: Whether the services are loaded and started now.
    start: bool

    @property
    def folders(self) -> tuple[PurePosixPath, ...]:
        """What must be there; parents first."""
        wanted = {path.parent for path in (self.environment.path, *(file.path for file in self.files))}
        return tuple(sorted({folder for path in wanted for folder in (path, *path.parents)}))


def record_path(prefix: PurePosixPath) -> PurePosixPath:
    """Where an installation is remembered, for its removal."""
    return prefix / "lib/vde_vmnet.json"


def installation(
    manager: str,
    prefix: PurePosixPath,
    networks: tuple[ServiceNetwork, ...],
    *,
    python: PurePosixPath,
    version: tuple[int, int, int],
    payload: Payload,
    with_vde_switch: bool = False,
    start: bool = True,
) -> Plan:
    """The plan for these networks. ``with_vde_switch`` is for launchd only."""
    environment = Environment(prefix / "lib/vde_vmnet", python, version, payload)
    files = [_launcher(prefix, environment, name, where) for name, where in sorted(payload.commands.items())]
    files += _shared(prefix, payload)
    services: list[str] = []
    logs: list[str] = []
    if manager == "launchd":
        for network in networks:
            for service in launchd.property_lists(network, prefix, with_vde_switch=with_vde_switch):
                files.append(TextFile(service.path, service.render()))
                services.append(str(service.path))
                logs += launchd.logs(service)
    else:
        units = {systemd.unit_file(network): network for network in reversed(networks)}
        files += [TextFile(path, systemd.unit_text(units[path], prefix)) for path in sorted(units)]
        services = [systemd.unit_name(network) for network in networks]
    return Plan(
        manager,
        prefix,
        networks,
        environment,
        tuple(files),
        tuple(services),
        tuple(logs),
        with_vde_switch=with_vde_switch,
        start=start,
    )


def _shared(prefix: PurePosixPath, payload: Payload) -> list[TextFile]:
    """Manual pages and completion scripts, where programs look for them."""
    return [
        TextFile(prefix / "share" / name.removeprefix(_SHARE), payload.files[name].decode())
        for name in sorted(payload.files)
        if name.startswith(_SHARE)
    ]


def _launcher(prefix: PurePosixPath, environment: Environment, name: str, where: str) -> TextFile:
    module, function = where.split(":")
    # -I: nothing of the caller's environment or folder decides what is imported, which matters under sudo.
    text = (
        f"#!{environment.path}/bin/python -I\n"
        "import sys\n\n"
        f"from {module} import {function}\n\n"
        f"sys.exit({function}())\n"
    )
    return TextFile(prefix / "bin" / name, text, 0o755)


def start_commands(manager: str, services: tuple[str, ...]) -> tuple[Command, ...]:
    """What starts services whose files are in place."""
    if manager == "launchd":
        return tuple(command for path in services for command in launchd.start_commands(PurePosixPath(path)))
    return systemd.start_commands(services)


def stop_commands(manager: str, services: tuple[str, ...]) -> tuple[Command, ...]:
    """What stops and forgets them, last one first; each may fail, for a service that does not run."""
    if manager == "launchd":
        return tuple(launchd.stop_command(PurePosixPath(path)) for path in reversed(services))
    return systemd.stop_commands(tuple(reversed(services)))


def look_commands(manager: str, services: tuple[str, ...]) -> tuple[Command, ...]:
    """What fails for each service that is gone, where stopping one does not wait for that."""
    if manager == "launchd":
        return tuple(launchd.look_command(PurePosixPath(path)) for path in services)
    return ()


def reload_commands(manager: str) -> tuple[Command, ...]:
    """What makes the manager forget files that are gone."""
    return systemd.RELOAD if manager == "systemd" else ()


def describe(plan: Plan) -> str:
    """The whole plan for people, with the text of every file."""
    environment = plan.environment
    version = ".".join(map(str, environment.version))
    lines = [f"Install vde_vmnet {environment.payload.version} below {plan.prefix}, for {plan.manager}.", ""]
    lines += ["Folders, made where they are missing, owned by root, mode 0755:"]
    lines += [f"  {folder}" for folder in plan.folders if str(folder) != "/"]
    lines += ["", f"Environment {environment.path}:"]
    files = environment.payload.files
    size = sum(map(len, files.values())) // 1024
    lines += [
        f"  bin/python -> {environment.python} ({version})",
        *(f"  pyvenv.cfg: {line}" for line in environment.configuration.splitlines()),
        f"  {environment.packages}: {len(files)} files of the package, {size} KiB, and compiled",
    ]
    for file in plan.files:
        lines += ["", f"File {file.path}, mode {file.mode:04o}:"]
        lines += [f"  | {line}".rstrip() for line in file.text.splitlines()]
    lines += ["", f"File {record_path(plan.prefix)}: what was installed, for its removal", "", "Then run:"]
    lines += _shown(plan)
    return "\n".join(lines) + "\n"


def _shown(plan: Plan) -> list[str]:
    if not plan.start or not plan.services:
        return ["  nothing; no service is started"]
    stop = stop_commands(plan.manager, plan.services) if plan.manager == "launchd" else ()
    return [
        *(f"  {' '.join(command)}    (may fail: not loaded yet)" for command in stop),
        *(f"  {' '.join(command)}" for command in start_commands(plan.manager, plan.services)),
    ]
