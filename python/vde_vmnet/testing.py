"""pytest fixtures: a programmable Ethernet segment in a test. Needs pytest, which the daemon does not.

In ``conftest.py``: ``pytest_plugins = ["vde_vmnet.testing"]``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from vde_vmnet.network import Network
from vde_vmnet.plug import Plug

__all__ = ["vde_network", "vde_plug"]


@pytest.fixture
def vde_network() -> Iterator[Network]:
    """An isolated network of the test's own; needs no privilege."""
    with Network() as network:
        yield network


@pytest.fixture
def vde_plug(vde_network: Network) -> Iterator[Callable[[], Plug]]:
    """Call it for a new plug in ``vde_network``; all are unplugged at the end."""
    with ExitStack() as plugs:
        yield lambda: plugs.enter_context(vde_network.plug())
