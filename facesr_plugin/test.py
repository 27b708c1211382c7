"""Test with BasicSR's loop: ``python -m facesr_plugin.test -opt ...`` is ``facesr test``."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from facesr_plugin.cli import main

    sys.exit(main(["test", *sys.argv[1:]]))
