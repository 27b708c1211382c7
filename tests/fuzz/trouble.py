"""A unit that does what it is told, for the tests of the sandbox."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

from fuzz.sandbox import Case


def attempt(folder: Path, case: Case) -> None:
    _DEEDS[case.arguments["what"]](folder)


def _fail(error: Exception) -> None:
    raise error


def _hang(_: Path) -> None:
    while True:
        pass


_DEEDS = {
    "accept": lambda folder: None,
    "refuse": lambda folder: _fail(ValueError(f"{folder / 'x'} is damaged")),
    "unnamed": lambda folder: _fail(ValueError("it is damaged")),
    "unprintable": lambda folder: _fail(ValueError("x is \x1b[31m")),
    "long": lambda folder: _fail(ValueError("x " + "y" * 5000)),
    "leak": lambda folder: _fail(TypeError("x")),
    "unicode": lambda folder: (folder / "x").with_name("x").write_bytes(b"\xff") and (folder / "x").read_text("utf-8"),
    "crash": lambda folder: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": _hang,
    "memory": lambda folder: b"x" * (600 * 2**20),
    "addresses": lambda folder: bytearray(6 * 2**30),
    "code": lambda folder: os.system("true"),
    "pickle": lambda folder: pickle.loads(pickle.dumps(Path("x"))),
    "write": lambda folder: Path("/tmp/facesr-fuzz-elsewhere").open("a").close(),
    "canary": lambda folder: Path("CANARY").touch(),
}
