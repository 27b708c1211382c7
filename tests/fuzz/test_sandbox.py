"""The sandbox itself: each kind of failure is seen, and the next case is tried all the same."""

from __future__ import annotations

import pytest

from fuzz.sandbox import Case, Sandbox

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
        ("hang", "failed", "hangs (over 10 s of CPU time)"),
        ("memory", "failed", "needs too much memory"),
        ("addresses", "failed", "leaks builtins.MemoryError"),
        ("code", "failed", "runs code: ['os.system']"),
        ("pickle", "failed", "runs code: ['pickle.find_class']"),
        ("write", "failed", "runs code: ['open']"),
        ("canary", "failed", "runs code: [] ['CANARY']"),
    ],
)
def test_sandbox_sees(sandbox: Sandbox, what: str, kind: str, signature: str) -> None:
    outcome = sandbox.run(Case("trouble", {"x": b""}, {"what": what}))
    assert outcome.kind == kind
    assert outcome.signature.startswith(signature)
    assert sandbox.run(GOOD).kind == "accepted"


def test_cases_are_saved_whole() -> None:
    case = Case("trouble", {"a/b.bin": bytes(range(256))}, {"what": ["x", None]}, ("a",))
    assert Case.from_json(case.to_json()) == case
