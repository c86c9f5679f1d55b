"""``--mgmt`` and its mode and group, named as ``vde_switch`` names them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from vde_vmnet.config.model import ConsoleConfig
from vde_vmnet.config.switch import octal_mode
from vde_vmnet.errors import ConfigurationError

__all__ = ["add_options", "parse"]


def add_options(add: Callable[..., object]) -> None:
    """``add`` is ``ArgumentParser.add_argument``."""
    add("--mgmt", metavar="PATH", help="switch console for vdeterm, unixterm and vdecmd on the socket PATH")
    add("--mgmtmode", metavar="MODE", help="octal mode of that socket (default: 0600)")
    add("--mgmtgroup", metavar="GROUP", help="group of that socket")


def parse(arguments: argparse.Namespace) -> ConsoleConfig | None:
    """Raises ConfigurationError that names the option at fault."""
    if arguments.mgmt is None:
        for option in ("mgmtmode", "mgmtgroup"):
            if getattr(arguments, option) is not None:
                raise ConfigurationError(f"--{option} requires --mgmt=PATH")
        return None
    if not arguments.mgmt:
        raise ConfigurationError("--mgmt needs a path")
    mode = ConsoleConfig.mode
    if arguments.mgmtmode is not None:
        mode = octal_mode("--mgmtmode", arguments.mgmtmode, "0660")
    return ConsoleConfig(Path(os.path.realpath(arguments.mgmt)), mode=mode, group=arguments.mgmtgroup)
