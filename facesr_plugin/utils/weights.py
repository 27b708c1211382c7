"""Find the weight files of other projects that this package uses, and download those that are missing.

The order is: a path given by the user; ``weights`` below ``FACESR_HOME`` (default ``~/.cache/facesr``) and torch's own
download folder; the network. A download counts only with its sha256. Where no hash is known beforehand, none is
invented: ``facesr weights fetch`` shows the one that it computed, and ``--accept`` remembers it as the file's.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from facesr_plugin.utils.download import download, file_sha256
from facesr_plugin.utils.files import atomic_write_text, expand_home

logger = logging.getLogger("basicsr.facesr")

_ACCEPTED = "accepted.json"
_UNACCEPTED = ".unaccepted"


class MissingWeightsError(FileNotFoundError):
    """Weights that are nowhere; the message says what they are, where to get them, and with which command."""


@dataclass(frozen=True)
class KnownWeights:
    """One file.

    Args:
        file: Its name.
        url: Where its authors publish it; None where only a page is known, from which users take the file themselves.
        sha256: Its hash, or the beginning of it that its authors publish; None if nothing is known.
        use: What it is for.
        licence: Of the file, as far as its authors state one.
        page: Where to look for a file without ``url``, in words; it is then put in place under the name ``file``.
    """

    file: str
    url: str | None
    sha256: str | None
    use: str
    licence: str
    page: str = ""

    @property
    def source(self) -> str:
        """Address of the file, or the page to look at."""
        return self.url or self.page


_TORCHVISION = "https://download.pytorch.org/models"
_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/v0.1.0"
_TORCHVISION_LICENCE = "torchvision, BSD-3-Clause; trained on ImageNet, whose terms are non-commercial research"
_RETINAFACE_LICENCE = "facexlib, MIT; trained on WIDER FACE"
_DIC_PAGE = "https://github.com/Maclory/Deep-Iterative-Collaboration"
_DIC_LICENCE = "none stated for the file; the code of DIC is MIT"

WEIGHTS: dict[str, KnownWeights] = {
    # torchvision publishes the first 8 digits of the hash, in the file's name
    "vgg19": KnownWeights(
        "vgg19-dcbb9e9d.pth",
        f"{_TORCHVISION}/vgg19-dcbb9e9d.pth",
        "dcbb9e9d",
        "perceptual loss of SPARNetHD",
        _TORCHVISION_LICENCE,
    ),
    "vgg16": KnownWeights(
        "vgg16-397923af.pth",
        f"{_TORCHVISION}/vgg16-397923af.pth",
        "397923af",
        "FacePerceptualLoss with vgg_type vgg16; calculate_lpips with net vgg",
        _TORCHVISION_LICENCE,
    ),
    "retinaface_resnet50": KnownWeights(
        "detection_Resnet50_Final.pth",
        f"{_FACEXLIB}/detection_Resnet50_Final.pth",
        None,
        "face detector, accurate",
        _RETINAFACE_LICENCE,
    ),
    "retinaface_mobile0.25": KnownWeights(
        "detection_mobilenet0.25_Final.pth",
        f"{_FACEXLIB}/detection_mobilenet0.25_Final.pth",
        None,
        "face detector, fast",
        _RETINAFACE_LICENCE,
    ),
    "fan98": KnownWeights(
        "alignment_WFLW_4HG.pth",
        f"{_FACEXLIB}/alignment_WFLW_4HG.pth",
        None,
        "98 landmarks: facesr prepare landmarks",
        "facexlib, MIT; trained on WFLW, whose terms are non-commercial research",
    ),
    "compressed_fan": KnownWeights(
        "compressed_fan.pth",
        None,
        "0fd7cd07ec542812f782833eb81ff5366fe31f9e86b7bf7b478339529ff1d7a3",
        "heatmaps of the landmarks for FacialAttentionLoss and FaceHeatmapLoss",
        "none stated by the authors of Progressive Face Super-Resolution",
        "the compressed FAN (1310412 bytes) of https://github.com/DeokyunKim/Progressive-Face-Super-Resolution",
    ),
    "lightcnn": KnownWeights(
        "LightCNN_feature.pth",
        None,
        None,
        "feature loss of DICGAN (LightCNNFeatureLoss)",
        _DIC_LICENCE,
        f"LightCNN_feature.pth of {_DIC_PAGE}",
    ),
    "dic_hourglass": KnownWeights(
        "FB_HG_68_CelebA.pth",
        None,
        None,
        "hourglass from which DIC's training starts (path.pretrain_network_hourglass)",
        _DIC_LICENCE,
        f"FB_HG_68_CelebA.pth of {_DIC_PAGE}",
    ),
    "stacked_hourglass": KnownWeights(
        "HG_68_CelebA.pth",
        None,
        None,
        "68 landmarks of DIC's evaluation: facesr prepare landmarks",
        _DIC_LICENCE,
        f"HG_68_CelebA.pth of {_DIC_PAGE}",
    ),
    "alexnet": KnownWeights(
        "alexnet-owt-7be5be79.pth",
        f"{_TORCHVISION}/alexnet-owt-7be5be79.pth",
        "7be5be79",
        "calculate_lpips with net alex",
        _TORCHVISION_LICENCE,
    ),
    # its authors put the first 8 digits into the file's name, as torch does
    "inception_fid": KnownWeights(
        "pt_inception-2015-12-05-6726825d.pth",
        "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
        "6726825d",
        "calculate_fid",
        "pytorch-fid, Apache-2.0; trained on ImageNet, whose terms are non-commercial research",
    ),
    "arcface": KnownWeights(
        "recognition_arcface_ir_se50.pth",
        f"{_FACEXLIB}/recognition_arcface_ir_se50.pth",
        None,
        "calculate_identity_similarity, calculate_aligned_identity_similarity",
        "facexlib, MIT; trained on MS-Celeb-1M, which its authors have withdrawn",
    ),
}


class Fetched(NamedTuple):
    """Result of ``fetch_weights``: where the file is, its hash, and whether it may be used."""

    path: Path
    sha256: str
    accepted: bool


def weights_folder() -> Path:
    """Folder for downloads: ``weights`` below ``FACESR_HOME``, by default below ``~/.cache/facesr``."""
    return expand_home(os.environ.get("FACESR_HOME") or "~/.cache/facesr") / "weights"


def search_folders() -> list[Path]:
    """Folders in which weights are looked for, in this order."""
    import torch

    return [weights_folder(), Path(torch.hub.get_dir()) / "checkpoints"]


def known_weights(name: str) -> KnownWeights:
    """Return an entry of ``WEIGHTS``.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in WEIGHTS:
        raise ValueError(f"unknown weights {name!r}. Known: {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def find_weights(name: str) -> Path | None:
    """Return the file in the first of ``search_folders`` that has it; its content is not looked at."""
    file = known_weights(name).file
    return next((folder / file for folder in search_folders() if (folder / file).is_file()), None)


def expected_sha256(name: str) -> str | None:
    """Return the published hash (or its beginning), else the one accepted by the user, else None."""
    known = known_weights(name)
    return known.sha256 or _accepted().get(known.file)


def resolve_weights(name: str, path: str | os.PathLike | None = None, *, fetch: bool = True) -> Path:
    """Return a file with the weights; download it if it is nowhere and its hash is known.

    Args:
        name: Key of ``WEIGHTS``.
        path: File chosen by the user; it is taken as it is, and then nothing is looked for.
        fetch: Whether it may be downloaded.

    Raises:
        FileNotFoundError: If ``path`` does not exist.
        MissingWeightsError: If the file is nowhere and cannot or may not be downloaded; the message has its name, its
            address, the folder to put it in, and the command that downloads it.
        ValueError: If the name is unknown, or the file found or downloaded has another hash.
    """
    if path is not None:
        given = expand_home(path)
        if not given.is_file():
            raise FileNotFoundError(f"weights must be an existing file, got {str(given)!r}")
        return given
    found, expected = find_weights(name), expected_sha256(name)
    if found is None and known_weights(name).url is not None and not (fetch and expected):
        but = ", or" if expected else ". Its hash is not known beforehand, so it is not downloaded unasked:"
        raise MissingWeightsError(f"{_whereabouts(name)}{but} run `facesr weights fetch {name}`")
    if found is None:
        return _download(name, weights_folder() / known_weights(name).file, expected)
    if expected is None:
        logger.info("weights %s: %s, taken as it is: no hash is known (facesr weights verify)", name, found)
        return found
    check_sha256(found, expected)
    return found


def check_sha256(path: Path, expected: str) -> str:
    """Compare a file with its hash, or the beginning of one, and return the whole hash.

    Raises:
        ValueError: If it differs.
    """
    actual = file_sha256(path)
    if not actual.startswith(expected):
        raise ValueError(f"{path} must have sha256 {expected}, got {actual}: it is damaged or another file. Delete it")
    return actual


def fetch_weights(name: str, *, accept: bool = False) -> Fetched:
    """Download a file unless it is there, and check it.

    Args:
        name: Key of ``WEIGHTS``.
        accept: Take the computed hash as the file's where none is known, and remember it.

    Returns:
        Where it is; without a known hash and ``accept`` it lies there under a name that nothing looks for.

    Raises:
        FileNotFoundError: If it cannot be downloaded.
        ValueError: If it has another hash than it must have.
    """
    known, expected, path = known_weights(name), expected_sha256(name), find_weights(name)
    target = weights_folder() / known.file
    waiting = target.with_name(target.name + _UNACCEPTED)
    if expected is not None:
        path = path or _download(name, target, expected)
        return Fetched(path, check_sha256(path, expected), accepted=True)
    if path is None:
        path = waiting if waiting.is_file() else _download(name, waiting, None)
    actual = file_sha256(path)
    if accept:
        if path == waiting:
            path = waiting.replace(target)
        _remember(known.file, actual)
    return Fetched(path, actual, accepted=accept)


def _download(name: str, target: Path, expected: str | None) -> Path:
    url = known_weights(name).url
    if url is None:
        raise MissingWeightsError(_whereabouts(name))
    logger.info("weights %s: downloading %s to %s", name, url, target)
    try:
        download(url, target, expected)
    except ConnectionError as error:
        raise MissingWeightsError(
            f"{_whereabouts(name)}, or run `facesr weights fetch {name}`. Download failed: {error}"
        ) from error
    return target


def _whereabouts(name: str) -> str:
    known = known_weights(name)
    folders = " or ".join(map(str, search_folders()))
    rest = "" if known.url else f" as {known.file}, or name another such file where it is used"
    return f"{known.file} ({known.use}) is not in {folders}. Put {known.source} into {weights_folder()}{rest}"


def _accepted() -> dict[str, str]:
    path = weights_folder() / _ACCEPTED
    if not path.is_file():
        return {}
    try:
        hashes = json.loads(path.read_text(encoding="utf-8"))
        return {str(file): str(digest) for file, digest in hashes.items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} must hold a JSON object of hashes: {error}. Delete it and accept anew") from error


def _remember(file: str, sha256: str) -> None:
    text = json.dumps({**_accepted(), file: sha256}, indent=2, sort_keys=True)
    atomic_write_text(weights_folder() / _ACCEPTED, text + "\n")
