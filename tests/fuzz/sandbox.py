"""Try one input at a time in a child process under limits, and judge what came of it.

The child dies of a crash, a hang (CPU time) or a full address space instead of the test's process; an audit hook sees
programs that are started, objects that Python's own unpickler looks up, and files that are written elsewhere.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from helpers.forkserver import SERVER

CPU_S = 10.0
_WALL_S = 120.0  # the machine may be busy; a child that waits for something uses no CPU time
_MAX_GROWTH = 512 * 2**20
_MAX_ADDRESSES = 4 * 2**30  # what is reserved and never used costs nothing
_MAX_TEXT = 4000
_CLEAN = (ValueError, KeyError, OSError, FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_CODE = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
)


@dataclass(frozen=True, repr=False)
class Case:
    """One input: files for the unit of a family, and what it is called with.

    Args:
        family: Module of this folder that has ``attempt(folder, case)``.
        files: Content by name; a name may have folders.
        arguments: JSON values.
        mentions: Texts of which an error has to hold one; the names of the files by default.
    """

    family: str
    files: dict[str, bytes]
    arguments: dict[str, Any] = field(default_factory=dict)
    mentions: tuple[str, ...] | None = None

    def __repr__(self) -> str:
        sizes = {name: len(content) for name, content in self.files.items()}
        return f"Case({self.family!r}, bytes {sizes}, {self.arguments})"

    def write(self, folder: Path) -> None:
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def to_json(self) -> str:
        files = {name: base64.b64encode(content).decode() for name, content in self.files.items()}
        content = {"family": self.family, "files": files, "arguments": self.arguments, "mentions": self.mentions}
        return json.dumps(content, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Case:
        content = json.loads(text)
        files = {name: base64.b64decode(data) for name, data in content["files"].items()}
        mentions = content["mentions"]
        return cls(content["family"], files, content["arguments"], None if mentions is None else tuple(mentions))


class Outcome(NamedTuple):
    """``kind`` is accepted, refused (cleanly) or failed; ``signature`` tells failures apart."""

    kind: str
    signature: str = ""
    text: str = ""


def attempt(case: Case, folder: Path) -> None:
    """Give the case to its unit, in this process."""
    case.write(folder)
    importlib.import_module(f"fuzz.{case.family}").attempt(folder, case)


class Sandbox:
    """A child that tries cases; a new one follows one that died.

    Args:
        cpu_s: CPU time of a case.
    """

    def __init__(self, cpu_s: float = CPU_S) -> None:
        self._cpu_s = cpu_s
        self._process: Any = None
        self._link: Connection | None = None

    def run(self, case: Case) -> Outcome:
        if self._process is None:
            self._start()
        self._link.send(case)
        try:
            if not self._link.poll(_WALL_S):
                self._process.kill()
                return self._bury(f"waits for ever (over {_WALL_S:.0f} s)")
            return self._link.recv()
        except (EOFError, ConnectionResetError):
            return self._bury(None)

    def close(self) -> None:
        if self._process is not None:
            self._link.close()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        self._link, theirs = SERVER.Pipe()
        self._process = SERVER.Process(target=_serve, args=(theirs, [str(path) for path in sys.path], self._cpu_s))
        self._process.start()
        theirs.close()

    def _bury(self, reason: str | None) -> Outcome:
        self._process.join()
        code, self._process = self._process.exitcode, None
        self._link.close()
        if reason is None:
            name = signal.Signals(-code).name if code and code < 0 else f"exit code {code}"
            reason = f"hangs (over {self._cpu_s:.0f} s of CPU time)" if name == "SIGPROF" else f"dies of {name}"
        return Outcome("failed", reason, reason)


def _serve(link: Connection, search: list[str], cpu_s: float) -> None:
    sys.path[:] = search
    importlib.import_module("fuzz.warm")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)  # image libraries write there
    with tempfile.TemporaryDirectory(prefix="facesr-fuzz-") as scratch:
        room = Path(scratch) / "room"
        room.mkdir()
        os.chdir(room)
        seen = _limit(scratch)
        while True:
            try:
                case = link.recv()
            except (EOFError, ConnectionResetError):
                return
            link.send(_try(case, Path(scratch), seen, cpu_s))


def _limit(scratch: str) -> list[str]:
    """Set the limits that last; return the list in which forbidden events appear."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _MAX_ADDRESSES,) * 2)
    sys.dont_write_bytecode = True
    seen: list[str] = []

    def watch(event: str, arguments: tuple) -> None:
        if event in _CODE or (event == "open" and _writes_elsewhere(arguments[0], arguments[2], scratch)):
            seen.append(event)

    sys.addaudithook(watch)
    return seen


def _writes_elsewhere(path: Any, flags: int | None, scratch: str) -> bool:
    if not isinstance(path, (str, bytes)) or not (flags or 0) & (os.O_WRONLY | os.O_RDWR):
        return False
    return not str(Path.cwd() / os.fsdecode(path)).startswith((scratch, "/dev/"))


def _try(case: Case, scratch: Path, seen: list[str], cpu_s: float) -> Outcome:
    folder = scratch / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    seen.clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        attempt(case, folder)
        outcome = Outcome("accepted")
    except Exception as error:
        outcome = _judge(error, case)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    strange = sorted(path.name for path in Path.cwd().iterdir())
    for name in strange:
        Path(name).unlink()
    if seen or strange:
        return Outcome("failed", f"runs code: {sorted(set(seen))} {strange}", "see signature")
    if growth > _MAX_GROWTH:
        return Outcome("failed", "needs too much memory", f"{growth / 2**20:.0f} MiB; {outcome}")
    return outcome


def _judge(error: Exception, case: Case) -> Outcome:
    """Tell an error that a user understands from one that leaked."""
    own = type(error).__module__.startswith("facesr_plugin") and isinstance(error, (ValueError, KeyError, OSError))
    text = str(error)
    mentions = list(case.files) if case.mentions is None else case.mentions
    names = [part for name in mentions for part in (name, Path(name).name, name.split("/")[0])]
    wrong = ""
    if type(error) not in _CLEAN and not own:
        wrong = f"leaks {type(error).__module__}.{type(error).__name__}"
    elif not text or len(text) > _MAX_TEXT * (1 + text.count("\n")):
        wrong = f"text of {len(text)} characters"
    elif not all(char.isprintable() or char == "\n" for char in text):
        wrong = "unprintable text"
    elif names and not any(name in text for name in names):
        wrong = "names no file"
    if not wrong:
        return Outcome("refused", text=text)
    own_frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "facesr_plugin/" in frame.filename]
    place = f"{Path(own_frames[-1].filename).name}:{own_frames[-1].name}" if own_frames else "?"
    return Outcome("failed", f"{wrong} from {place}", "".join(traceback.format_exception(error))[-6000:])
