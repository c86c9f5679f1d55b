"""The command ``vde_vmnet``: parse, dispatch, and turn the exception tree into messages and exit statuses."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

import vde_vmnet
from vde_vmnet import log
from vde_vmnet.cli.verbs import VERBS
from vde_vmnet.config import arguments
from vde_vmnet.config.model import DaemonConfig
from vde_vmnet.errors import ConfigurationError, UnavailableError, VdeVmnetError

__all__ = ["VERBS", "main", "report_errors", "run_daemon"]

_log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name) and return the exit status."""
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] in VERBS:
        return report_errors(lambda: VERBS[given[0]].run(given[1:]))
    return run_daemon(given, arguments.build_parser(), arguments.parse)


def report_errors(command: Callable[[], int]) -> int:
    """Run ``command`` with the log set up; what it raises becomes one line and an exit status."""
    log.configure(level="debug" if "DEBUG" in os.environ else "info")
    try:
        status = command()
        sys.stdout.flush()
    except VdeVmnetError as error:
        _log.error("%s", error)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("vde_vmnet"):
            raise
        missing = UnavailableError(
            f'The Python package "{error.name}" is not installed', next_step=f"pip install {error.name}"
        )
        _log.error("%s", missing)
        return missing.exit_code
    except BrokenPipeError:
        # Whoever read our output has had enough. What is still in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 130
    return status


def run_daemon(argv: Sequence[str], parser: argparse.ArgumentParser, parse: Callable[..., DaemonConfig]) -> int:
    """The daemon with a command line of this kind; ``parse`` is called as ``arguments.parse`` is."""
    return report_errors(lambda: _serve(argv, parser, parse))


def _serve(argv: Sequence[str], parser: argparse.ArgumentParser, parse: Callable[..., DaemonConfig]) -> int:
    try:
        options = parser.parse_args(argv)
        if options.help:
            parser.print_help()
            return 0
        if options.version:
            sys.stdout.write(f"{vde_vmnet.__version__}\n")
            return 0
        config = parse(options, debug="DEBUG" in os.environ, warn=_log.warning)
    except ConfigurationError:
        # The original prints its usage too; one line of it is enough beside a message that names the fault.
        sys.stdout.write(f"Usage: {parser.usage} (see {parser.prog} --help)\n")
        raise
    log.configure(level=config.log.level, json=config.log.json, timed=True)
    if os.geteuid() != os.getuid():
        _log.warning("Seems to run with SETUID, which is insecure and highly discouraged; see README.md")
    from vde_vmnet import daemon  # after the cheap refusals

    return daemon.run(config)
