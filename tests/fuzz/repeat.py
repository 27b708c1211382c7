"""Try a saved case again, in this process: ``PYTHONPATH=tests python -m fuzz.repeat CASE.json``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import fuzz.warm  # noqa: F401
from fuzz.sandbox import Case, attempt


def main() -> None:
    case = Case.from_json(Path(sys.argv[1]).read_text())
    sizes = {name: len(content) for name, content in case.files.items()}
    print(f"{case.family}: bytes of the files {sizes}, arguments {case.arguments}")
    with tempfile.TemporaryDirectory() as folder:
        attempt(case, Path(folder))
    print("accepted")


if __name__ == "__main__":
    main()
