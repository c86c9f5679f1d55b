"""The command ``vde_vmnet``: parse, dispatch, and turn the exception tree into messages and exit statuses."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence

import vde_vmnet
from vde_vmnet import log
from vde_vmnet.config import arguments
from vde_vmnet.errors import ConfigurationError, VdeVmnetError

__all__ = ["VERBS", "main"]

_log = logging.getLogger(__name__)


def _demo(argv: Sequence[str]) -> int:
    from vde_vmnet import demo  # not imported by the daemon, which runs as root

    return demo.main(list(argv))


#: First words that are a command; a switch directory of such a name is written ``./NAME``.
VERBS: dict[str, Callable[[Sequence[str]], int]] = {"demo": _demo}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name) and return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    debug = "DEBUG" in os.environ
    log.configure(debug=debug)
    try:
        if argv and argv[0] in VERBS:
            return VERBS[argv[0]](argv[1:])
        return _serve(argv, debug=debug)
    except VdeVmnetError as error:
        _log.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _serve(argv: Sequence[str], *, debug: bool) -> int:
    parser = arguments.build_parser()
    try:
        options = parser.parse_args(argv)
        if options.help:
            parser.print_help()
            return 0
        if options.version:
            sys.stdout.write(f"{vde_vmnet.__version__}\n")
            return 0
        config = arguments.parse(options, debug=debug, warn=_log.warning)
    except ConfigurationError:
        # The original prints its usage too; one line of it is enough beside a message that names the fault.
        sys.stdout.write("Usage: vde_vmnet [OPTION]... [VDESWITCH] (see vde_vmnet --help)\n")
        raise
    if os.geteuid() != os.getuid():
        _log.warning("Seems to run with SETUID, which is insecure and highly discouraged; see README.md")
    from vde_vmnet import daemon  # after the cheap refusals

    return daemon.run(config)
