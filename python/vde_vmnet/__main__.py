"""``python -m vde_vmnet``."""

import sys

from vde_vmnet.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
