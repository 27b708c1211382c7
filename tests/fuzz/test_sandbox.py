"""The sandbox itself: each kind of failure is seen, and the next case is tried all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuzz.sandbox import Case, Sandbox


@pytest.fixture(scope="module")
def hasty() -> Iterator[Sandbox]:
    box = Sandbox(cpu_s=3)
    yield box
    box.close()


GOOD = Case("trouble", {"x": b""}, {"what": "accept"})


@pytest.mark.parametrize(
    ("what", "kind", "signature"),
    [
        ("accept", "accepted", ""),
        ("refuse", "refused", ""),
        ("unnamed", "failed", "names no file"),
        ("unprintable", "failed", "unprintable text"),
        ("long", "failed", "text of 5002 characters"),
        ("leak", "failed", "leaks builtins.TypeError"),
        ("unicode", "failed", "leaks builtins.UnicodeDecodeError"),
        ("crash", "failed", "dies of SIGSEGV"),
        ("hang", "failed", "hangs (over 3 s of CPU time)"),
        ("memory", "failed", "needs too much memory"),
        ("addresses", "failed", "leaks builtins.MemoryError"),
        ("code", "failed", "runs code: ['os.system']"),
        ("pickle", "failed", "runs code: ['pickle.find_class']"),
        ("write", "failed", "runs code: ['open']"),
        ("canary", "failed", "runs code: [] ['CANARY']"),
    ],
)
def test_sandbox_sees(hasty: Sandbox, what: str, kind: str, signature: str) -> None:
    outcome = hasty.run(Case("trouble", {"x": b""}, {"what": what}))
    assert outcome.kind == kind
    assert outcome.signature.startswith(signature)
    assert hasty.run(GOOD).kind == "accepted"


def test_cases_are_saved_whole() -> None:
    case = Case("trouble", {"a/b.bin": bytes(range(256))}, {"what": ["x", None]}, ("a",))
    assert Case.from_json(case.to_json()) == case
