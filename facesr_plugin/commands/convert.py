"""``facesr convert``: weights of other programs to ours, ours to theirs, .pth to .safetensors."""

from __future__ import annotations

import argparse
import os
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facesr_plugin.utils.cliargs import add_common, say, warn

if TYPE_CHECKING:
    from facesr_plugin.checkpoints import Weights

_OF_TRAINING = {"init_type", "checkpointing", "detach_attention"}  # change no result of trained weights


def add_parser(subparsers: Any) -> None:
    """Add the command to the ``facesr`` parser."""
    parser = subparsers.add_parser(
        "convert",
        help="convert weight files",
        description="Convert weights between official releases, mmagic and this package. The system and the network's "
        "arguments are found from the file; nothing in it is executed.",
    )
    parser.add_argument("source", metavar="IN", type=Path, help=".pth/.pt of any origin, .safetensors or .npz")
    parser.add_argument("target", metavar="OUT", type=Path, help=".pth, .pt or .safetensors")
    parser.add_argument("--system", help="refuse a file of another system than this one")
    parser.add_argument(
        "--to",
        choices=["facesr", "official", "mmagic"],
        default="facesr",
        help="key names and form of the file (default: facesr); mmagic: of DIC's networks only",
    )
    parser.add_argument(
        "--arch",
        help="network to take, of several or a part, e.g. LightCNNDiscriminator (default: the generator, whole)",
    )
    parser.add_argument(
        "--fold-spectral-norm", action="store_true", help="replace spectral norm by plain weights (inference, export)"
    )
    parser.add_argument(
        "--arg",
        dest="args",
        metavar="NAME=VALUE",
        type=_argument,
        action="append",
        default=[],
        help="constructor argument that an official file does not show, e.g. relu_type=relu (repeatable)",
    )
    add_common(parser, "overwrite")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Convert one file and say what it holds.

    Raises:
        FileNotFoundError: If IN does not exist.
        ValueError: If IN is not understood, or OUT exists and ``--overwrite`` is not given.
    """
    from facesr_plugin.checkpoints import load_weights, save_official, save_weights

    if os.path.lexists(args.target) and not args.overwrite:
        raise ValueError(f"OUT must not exist, got {str(args.target)!r}. Use --overwrite to replace it")
    weights = load_weights(args.source, system=args.system, args=dict(args.args), arch=args.arch)
    found = _describe(weights)
    if args.fold_spectral_norm:
        weights = _fold(weights)
    if args.to == "facesr":
        save_weights(args.target, weights)
    else:
        save_official(args.target, weights, args.to)
        _warn_of_hidden(args.target, weights)
    folded = ", spectral norm folded" if args.fold_spectral_norm else ""
    say(f"{args.source}: {found} -> {args.target} ({args.to} names{folded})")
    return 0


def _argument(text: str) -> tuple[str, int | bool | str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    if value.isdecimal():
        return name, int(value)
    return name, {"true": True, "false": False}.get(value.lower(), value)


def _describe(weights: Weights) -> str:
    arguments = ", ".join(f"{name} {value}" for name, value in {**weights.args, **weights.call}.items())
    ours = weights.kind in ("params", "params_ema")
    source = f"{weights.kind}, facesr names" if ours else f"{weights.kind} names"
    found = f"{weights.system} {weights.arch}, {len(weights.state_dict)} tensors ({source})"
    return f"{found}: {arguments}" if arguments else found


def _warn_of_hidden(path: Path, weights: Weights) -> None:
    """Name the constructor arguments that a file of another program does not show, where readers would take others."""
    from facesr_plugin.checkpoints.detect import format_of
    from facesr_plugin.registry import ARCH_REGISTRY

    defaults = {name: item.default for name, item in signature(ARCH_REGISTRY.get(weights.arch)).parameters.items()}
    shown = defaults | format_of(weights.system, weights.arch).infer_args(weights.state_dict)
    changing = weights.args.keys() - _OF_TRAINING
    hidden = [f"{name}={weights.args[name]}" for name in sorted(changing) if weights.args[name] != shown.get(name)]
    if hidden:
        warn(f"{path} does not show {', '.join(hidden)}: facesr convert --arg {' --arg '.join(hidden)} reads it so")


def _fold(weights: Weights) -> Weights:
    from facesr_plugin.checkpoints import fold_spectral_norm

    if not any(key.endswith(".weight_orig") for key in weights.state_dict):
        raise ValueError(f"IN must have spectral norm for --fold-spectral-norm, got {weights.path}, which has none")
    return weights._replace(
        args={**weights.args, "spectral_norm": False}, state_dict=fold_spectral_norm(weights.state_dict)
    )
