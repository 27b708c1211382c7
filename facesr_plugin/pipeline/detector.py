"""Find faces with facexlib's RetinaFace (Deng et al., CVPR 2020).

facexlib's ``FaceRestoreHelper`` is not used: it loads ParseNet, takes one photo at a time and stumbles over grey ones.
What differs from it: weights come from the project's resolver and its restricted reader, and photos are reduced by
area to a largest side before the network, since time and memory grow with their pixels.
"""

from __future__ import annotations

import os
import warnings

import cv2
import numpy as np
import torch

from facesr_plugin.checkpoints import read_checkpoint
from facesr_plugin.pipeline.face import Face
from facesr_plugin.utils.text import plain_line
from facesr_plugin.utils.weights import resolve_weights

DETECTORS = ("resnet50", "mobile0.25")
MAX_SIDE = 1600
_THRESHOLD = 0.9
_MIN_FACE_PX = 4


class FaceDetector:
    """RetinaFace with its weights; call it with a photo.

    Args:
        kind: ``resnet50`` (accurate) or ``mobile0.25`` (about 20 times faster).
        weights: File; by default the resolver looks for it (``facesr weights list``).
        device: Where it runs.
        max_side: Photos whose longer side is larger are reduced to it before they are searched.
        threshold: Smallest score of a face, in [0, 1].

    Raises:
        FileNotFoundError: If the weights are nowhere.
        ValueError: If ``kind`` is unknown or the file holds other weights.
    """

    def __init__(
        self,
        kind: str = "resnet50",
        weights: str | os.PathLike | None = None,
        *,
        device: torch.device | str = "cpu",
        max_side: int = MAX_SIDE,
        threshold: float = _THRESHOLD,
    ) -> None:
        if kind not in DETECTORS:
            raise ValueError(f"detector must be one of {', '.join(DETECTORS)}, got {kind!r}")
        self._network = _load(kind, resolve_weights(f"retinaface_{kind}", weights), torch.device(device))
        self._max_side = max_side
        self._threshold = threshold

    @torch.no_grad()
    def __call__(self, photo: np.ndarray) -> list[Face]:
        """Return the faces of ``(H, W, 3)`` uint8 RGB, the best score first; those below 4 pixels are left out."""
        height, width = photo.shape[:2]
        factor = min(1.0, self._max_side / max(height, width))
        bgr = photo[..., ::-1]
        if factor < 1:
            size = (max(round(width * factor), 1), max(round(height * factor), 1))
            bgr = cv2.resize(np.ascontiguousarray(bgr), size, interpolation=cv2.INTER_AREA)
        found = self._network.detect_faces(np.ascontiguousarray(bgr), self._threshold).astype(np.float64)
        scale = np.array([width / bgr.shape[1], height / bgr.shape[0]])
        faces = [
            # the network's pixels have their corners, not their centres, at integers
            Face(row[5:].reshape(5, 2) * scale - 0.5, row[:4] * np.tile(scale, 2) - 0.5, float(row[4]))
            for row in found
            if np.isfinite(row).all()
        ]
        return [face for face in faces if face.size >= _MIN_FACE_PX]


def _load(kind: str, path: os.PathLike, device: torch.device) -> torch.nn.Module:
    from facexlib.detection.retinaface import RetinaFace

    state = read_checkpoint(path)
    if not isinstance(state, dict):
        raise ValueError(f"{path} must hold a state dict of RetinaFace, got {type(state).__name__}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pretrained.*|.*weight enum.*", category=UserWarning)
        network = RetinaFace(network_name=kind, device=device)
    try:
        network.load_state_dict({str(key).removeprefix("module."): value for key, value in state.items()})
    except (RuntimeError, TypeError) as error:
        reason = plain_line(str(error), 200)
        raise ValueError(f"{path} must hold weights of the detector {kind}, got others: {reason}") from error
    return network.eval()
