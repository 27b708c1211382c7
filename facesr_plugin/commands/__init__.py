"""One module per ``facesr`` command: ``add_parser(subparsers)`` and ``run(args) -> int``."""
