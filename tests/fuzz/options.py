"""Option files and ``--set``: random text, every shipped file with wrong values, bombs, tags and encodings."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import yaml
from hypothesis import strategies as st

from facesr_plugin.run_check import Start, check_run
from facesr_plugin.utils.option_file import load_option_file, override, shipped_options
from fuzz.mutate import damaged, damaged_text, edited_trees, odd_values, odd_words
from fuzz.sandbox import Case

_TOKENS = (
    "a: ",
    "b: ",
    "type: ",
    "- ",
    "? ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\n",
    "\n  ",
    "\n    ",
    "&a ",
    "*a ",
    "*b ",
    "<<: ",
    "!!python/object/apply:os.system ['touch CANARY'] ",
    "!!python/name:os.system ",
    "!!python/object/new:type {} ",
    "!!int ",
    "!!float ",
    "!!bool ",
    "!!null ",
    "!!timestamp ",
    "!!binary ",
    "!!set ",
    "!!omap ",
    "!!pairs ",
    "!!map ",
    "!!seq ",
    "!!str ",
    "!<tag:x> ",
    "!x ",
    "!",
    "'",
    '"',
    "|",
    ">",
    "|2-\n",
    "%YAML 9.9\n",
    "%TAG ! x\n",
    "---\n",
    "...\n",
    "#",
    "\t",
    "\0",
    "\x07",
    "\u2028",
    "\ud800",
    "é",
    "1",
    "0x",
    "0o9",
    "1:99:99",
    "9" * 5000,
    ".nan",
    "-.inf",
    "1_",
    "~",
    "=",
    "2020-99-99",
    "2020-01-01T99:99:99Z",
    "true",
    '"\\ud800"',
    '"\\U99999999"',
    '"\\x"',
    "====",
    "name: x\n",
    "model_type: SPARNetModel\n",
)
_TYPES = (
    "SPARNetHDModel",
    "DICModel",
    "JASRNetModel",
    "ProgressiveModel",
    "FaceSRDataset",
    "LandmarkDataset",
    "FaceCropDataset",
    "FaceAttentionLoss",
    "GANLoss",
    "WGANGPLoss",
    "calculate_ssim",
    "calculate_fid",
    "calculate_lpips",
    "DICNet",
)


@cache
def _shipped() -> dict[str, str]:
    return {name: path.read_text(encoding="utf-8") for name, path in shipped_options().items()}


def _bomb(kind: str, levels: int, width: int) -> str:
    if kind == "merge":
        lines = ["a0: &a0 {x0: 1, x1: 2}"]
        lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * width)}]}}" for i in range(1, levels)]
    elif kind == "mapping":
        lines = ["a0: &a0 {lr: 1}"]
        lines += [f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(width))}}}" for i in range(1, levels)]
    else:
        lines = ["a0: &a0 [lol]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def _deep(kind: str, depth: int) -> str:
    return {
        "list": "a: " + "[" * depth,
        "closed": "a: " + "[" * depth + "]" * depth,
        "flow": "{a: " * depth + "1" + "}" * depth,
        "block": "".join(" " * i + "a:\n" for i in range(min(depth, 600))),
        "dashes": "- " * depth + "1",
        "keys": "? " * depth + "1",
        "quotes": "'" * depth,
        "anchors": "&a " * depth,
        "tags": "!a " * depth,
    }[kind]


@st.composite
def _bombs(draw: Callable) -> bytes:
    kind = draw(st.sampled_from(("alias", "merge", "mapping")))
    levels, width = draw(st.integers(2, 40)), draw(st.integers(1, 12))
    last = f"*a{levels - 1}"
    text = draw(st.sampled_from(sorted(_shipped().values())))
    place = draw(
        st.sampled_from(("datasets:", "  train:", "train:", "val:", "path:", "network_g:", "name:", "logger:"))
    )
    use = draw(
        st.sampled_from(
            (
                f"bomb: {last}\n",
                f"{place.strip()} {last}\n",
                f"loop: &loop [*loop, {last}]\n",
                "loop: &loop {{x: *loop}}\n",
            )
        )
    )
    return (_bomb(kind, levels, width) + text + use).encode()


@st.composite
def _deeps(draw: Callable) -> bytes:
    kinds = ("list", "closed", "flow", "block", "dashes", "keys", "quotes", "anchors", "tags")
    depth = draw(st.one_of(st.integers(1, 120), st.integers(200, 30_000)))
    return (draw(st.sampled_from(("", "name: x\n"))) + _deep(draw(st.sampled_from(kinds)), depth)).encode()


@st.composite
def _edited(draw: Callable, name: str) -> bytes:
    tree = st.just(yaml.safe_load(_shipped()[name]))
    edited = draw(edited_trees(tree, odd_values(*_TYPES, "2e-4")))
    style = draw(st.sampled_from((None, True, False)))
    return yaml.safe_dump(edited, default_flow_style=style, allow_unicode=draw(st.booleans()), sort_keys=False).encode(
        "utf-8", "surrogatepass"
    )


@st.composite
def _inserted(draw: Callable, name: str) -> bytes:
    """A shipped file with tokens of YAML at the end of a line."""
    lines = _shipped()[name].splitlines()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        lines[at] += draw(st.sampled_from(("", " "))) + "".join(
            draw(st.lists(st.sampled_from(_TOKENS), min_size=1, max_size=4))
        )
    return "\n".join(lines).encode("utf-8", "surrogatepass")


@st.composite
def _assignments(draw: Callable, name: str) -> list[str]:
    keys = st.sampled_from(
        (
            "name",
            "train.total_iter",
            "train.optim_g.lr",
            "datasets.train.type",
            "path",
            "val.metrics",
            "network_g.type",
            "x",
            "train.optim_g.betas.0",
            "train.optim_g.betas.9",
            "..",
            "",
            "name.x",
            "train.",
            "scale.0.0",
        )
    )
    values = st.one_of(
        odd_words,
        st.sampled_from(_TOKENS),
        st.sampled_from(("[" * 3000, "*a", "!!int ''", "{a: &b [*b]}", "1:9", "!!python/name:os.system")),
    )
    texts = st.one_of(st.builds(lambda key, value: f"{key}={value}", keys, values), odd_words)
    return [text for text in draw(st.lists(texts, max_size=2)) if "\ud800" not in text]


@st.composite
def cases(draw: Callable) -> Case:
    name = draw(st.sampled_from(sorted(_shipped())))
    kind = draw(
        st.sampled_from(
            ("edited", "edited", "edited", "inserted", "tokens", "bytes", "words", "random", "bomb", "deep", "set")
        )
    )
    whole = _shipped()[name]
    contents = {
        "edited": _edited(name),
        "inserted": _inserted(name),
        "tokens": st.lists(st.sampled_from(_TOKENS), max_size=25).map(
            lambda tokens: "".join(tokens).encode("utf-8", "surrogatepass")
        ),
        "bytes": damaged(st.just(whole.encode())),
        "words": damaged_text(st.just(whole)),
        "random": st.binary(max_size=200),
        "bomb": _bombs(),
        "deep": _deeps(),
        "set": st.just(whole.encode()),
    }
    assignments = draw(_assignments(name)) if kind in ("set", "edited") else []
    train = draw(st.booleans()) if kind == "random" else not name.startswith("test_")
    return Case("options", {"opt.yml": draw(contents[kind])}, {"set": assignments, "train": train}, ())


def attempt(folder: Path, case: Case) -> None:
    """As ``facesr train`` and ``facesr test`` read a file before BasicSR starts."""
    path = folder / "opt.yml"
    try:
        options = load_option_file(path)
    except (ValueError, OSError) as error:
        if "opt.yml" not in str(error):
            raise AssertionError(f"the message does not name the file: {error}") from error
        raise
    override(options, case.arguments["set"])
    check_run(options, Start(case.arguments["train"]))
    yaml.safe_dump(options)
