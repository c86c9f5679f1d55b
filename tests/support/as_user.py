"""Runs ``vde_vmnet`` as an ordinary user, wherever the checkout lies: everything is loaded first, as root.

python as_user.py USER ARGS…                            vde_vmnet ARGS
python as_user.py USER --library SIMULATOR -- ARGS…     the same on a simulated Mac (vmnet_launcher.py)
"""

from __future__ import annotations

import ctypes
import importlib
import os
import pkgutil
import pwd
import sys
from pathlib import Path

__all__ = ["program"]


def program(user: str) -> tuple[str, ...]:
    """What to give to Python before the arguments."""
    return __file__, user


def main(user: str, *argv: str) -> int:
    """The exit status."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    import vde_vmnet
    from tests.support import vmnet_launcher
    from vde_vmnet import cli

    for module in pkgutil.walk_packages(vde_vmnet.__path__, "vde_vmnet."):
        if not module.name.startswith(("vde_vmnet.__main__", "vde_vmnet.demo", "vde_vmnet.testing")):
            importlib.import_module(module.name)
    simulated = argv[:1] == ("--library",)
    if simulated:
        ctypes.CDLL(argv[1])
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    return vmnet_launcher.main(argv) if simulated else cli.main(argv)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
