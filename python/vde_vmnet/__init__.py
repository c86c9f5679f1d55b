"""A real network for rootless virtual machines: VDE switch and uplink in one daemon.

For Python programs: ``Plug`` and ``AsyncPlug`` move frames on any VDE switch, ``Network`` starts one.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vde_vmnet.network import Network as Network
    from vde_vmnet.plug import AsyncPlug as AsyncPlug
    from vde_vmnet.plug import Plug as Plug

__all__ = ["AsyncPlug", "Network", "Plug", "__version__"]

#: Written once, in the Cargo workspace; the package's metadata carries it here.
__version__: str

_HOMES = {"AsyncPlug": "vde_vmnet.plug", "Network": "vde_vmnet.network", "Plug": "vde_vmnet.plug"}


def __getattr__(name: str) -> object:
    # Loading these, and reading metadata, costs tens of milliseconds, which a daemon does not spend.
    if name == "__version__":
        from importlib.metadata import version

        return version("vde_vmnet")
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
