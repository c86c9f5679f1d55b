"""What goes below PREFIX/share beside the program: manual pages, and completion scripts where shells look.

``make docs`` writes these files into the package, where an installation takes them from.
"""

from __future__ import annotations

from vde_vmnet.cli import completion, manual
from vde_vmnet.cli.shells import SHELLS
from vde_vmnet.cli.verbs import VERBS
from vde_vmnet.config import arguments

__all__ = ["files"]

_COMPLETIONS = {
    "bash": "bash-completion/completions/vde_vmnet",
    "zsh": "zsh/site-functions/_vde_vmnet",
    "fish": "fish/vendor_completions.d/vde_vmnet.fish",
}


def files() -> dict[str, str]:
    """Paths below ``share``, and texts."""
    commands = completion.commands()
    found = {path: SHELLS[shell](commands) for shell, path in _COMPLETIONS.items()}
    for command in commands:
        parser = VERBS[command.name].build_parser() if command.name else arguments.build_parser()
        found[f"man/man1/{manual.file_name(command)}"] = manual.render(command, parser, commands)
    return found
