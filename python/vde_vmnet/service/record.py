"""What was installed, as JSON text: all that a removal, or the next installation, has to know. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Any

from vde_vmnet.errors import InternalError
from vde_vmnet.service.networks import ServiceNetwork
from vde_vmnet.service.plan import Plan, record_path, stop_commands

__all__ = ["Record", "describe_removal"]

_FORMAT = 1


@dataclass(frozen=True)
class Record:
    """An installation in the past."""

    version: str
    manager: str
    prefix: PurePosixPath
    networks: tuple[ServiceNetwork, ...]
    services: tuple[str, ...]
    environment: str
    files: tuple[str, ...]
    logs: tuple[str, ...]
    #: Those we made; parents first.
    folders: tuple[str, ...]
    with_vde_switch: bool
    #: Whether it was made for another system, with ``--destdir``.
    staged: bool

    @classmethod
    def of(
        cls, plan: Plan, *, folders: tuple[str, ...], staged: bool, previous: Record | None = None
    ) -> Record:
        """The record of ``plan`` about to be carried out over ``previous``."""
        return cls(
            plan.environment.payload.version,
            plan.manager,
            plan.prefix,
            plan.networks,
            plan.services,
            str(plan.environment.path),
            tuple(str(file.path) for file in plan.files),
            tuple(sorted({*plan.logs, *(previous.logs if previous else ())})),
            tuple(sorted({*folders, *(previous.folders if previous else ())})),
            plan.with_vde_switch,
            staged,
        )

    def over(self, previous: Record | None) -> Record:
        """The record while ``previous`` is being replaced: what is there may be of either."""
        if previous is None:
            return self
        return replace(
            self,
            services=tuple(dict.fromkeys((*self.services, *previous.services))),
            files=tuple(dict.fromkeys((*self.files, *previous.files))),
        )

    def render(self) -> str:
        """The file's text."""
        networks = [
            {"interface": network.interface, "gateway": str(network.gateway), "group": network.group}
            for network in self.networks
        ]
        plain = {
            "format": _FORMAT,
            **vars(self),
            "prefix": str(self.prefix),
            "networks": networks,
        }
        return json.dumps(plain, indent=2) + "\n"

    @classmethod
    def parse(cls, text: str) -> Record:
        """Raises InternalError for what ``render`` did not write."""
        try:
            plain: dict[str, Any] = json.loads(text)
            if plain["format"] != _FORMAT:
                raise InternalError(
                    f"The record of the installation has the format {plain['format']}, which is not known here",
                    next_step="Uninstall with the version that installed it: PREFIX/bin/vde_vmnet uninstall",
                )
            for path in (
                plain["prefix"],
                plain["environment"],
                *plain["files"],
                *plain["logs"],
                *plain["folders"],
            ):
                _check(path)
            return cls(
                str(plain["version"]),
                str(plain["manager"]),
                PurePosixPath(plain["prefix"]),
                tuple(
                    ServiceNetwork(entry["interface"], IPv4Address(entry["gateway"]), entry["group"])
                    for entry in plain["networks"]
                ),
                tuple(plain["services"]),
                str(plain["environment"]),
                tuple(plain["files"]),
                tuple(plain["logs"]),
                tuple(plain["folders"]),
                bool(plain["with_vde_switch"]),
                bool(plain["staged"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InternalError(f"The record of the installation is damaged: {error!r}") from error


def _check(path: str) -> None:
    """A staged folder may be somebody else's, and its record must not lead out of it. Raises ValueError."""
    if not path.startswith("/") or ".." in PurePosixPath(path).parts:
        raise ValueError(f"{path} is not a path in it")


def describe_removal(record: Record, *, start: bool) -> str:
    """What an uninstallation does, for people."""
    lines = [f"Remove vde_vmnet {record.version} below {record.prefix}.", "", "Run:"]
    commands = stop_commands(record.manager, record.services) if start else ()
    lines += [f"  {' '.join(command)}" for command in commands] or ["  nothing"]
    lines += ["", "Remove:"]
    gone = (record.environment, *record.files, *record.logs, str(record_path(record.prefix)))
    lines += [f"  {path}" for path in gone]
    lines += [f"  {folder}, if it is empty then" for folder in reversed(record.folders)]
    return "\n".join(lines) + "\n"
