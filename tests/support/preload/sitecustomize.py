"""Loads what serves the control socket when Python starts: ``tests/support/observed.py`` says why."""

import importlib

for name in ("concurrent.futures.thread", "vde_vmnet.control.server"):
    importlib.import_module(name)
