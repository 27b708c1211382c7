"""Put a restored face back into its photo: only its region is touched, under a mask that fades to nothing.

The mask is geometric (from the crop's border inwards), so black pixels inside a face are kept, and there is no seam.
The arithmetic inside the mask is that of facexlib's ``paste_faces_to_input_image`` (bilinear warp, linear blend), which
works on the whole photo for every face. What differs: the result is rounded (truncated, faces would get half a level
darker), a face that is shrunk to half or less is first reduced by area, and enlarged photos keep their pixel corners in
place (facexlib shifts the face by half a pixel).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from facesr_plugin.ops.affine import invert, rescale_target
from facesr_plugin.ops.align import bounds, reduce

_HALF = np.float32(31 / 64)  # to round; a whole half would be two levels from facexlib's where that rounds first
_FADE = (0.03, 0.14)  # the mask grows from 0 to 1 between these distances from the border, in parts of the side


def enlarge(photo: np.ndarray, factor: int) -> np.ndarray:
    """Enlarge ``(H, W)`` or ``(H, W, C)``, uint8 or uint16, ``factor`` times with OpenCV's Lanczos (8 taps)."""
    if factor == 1:
        return photo
    height, width = photo.shape[:2]
    return cv2.resize(photo, (width * factor, height * factor), interpolation=cv2.INTER_LANCZOS4)


def paste_face(
    photo: np.ndarray,
    restored: np.ndarray,
    matrix: np.ndarray,
    *,
    upscale: int = 1,
    weight: float = 1.0,
    mask: np.ndarray | None = None,
) -> None:
    """Blend a restored face into a photo, in place. Pixels where the mask is 0 keep every bit.

    Args:
        photo: ``(H, W)`` or ``(H, W, 3)`` RGB, uint8 or uint16; enlarged already.
        restored: ``(S, S, 3)`` uint8 RGB. Into a grey photo its luma goes.
        matrix: From the photo before it was enlarged to the restored face's pixels.
        upscale: Factor by which the photo was enlarged.
        weight: 1 for the restored face, 0 for the photo, between for a blend.
        mask: ``(H, W)`` float32 in [0, 1] over the photo, in place of the face's own.
    """
    side = restored.shape[0]
    back = rescale_target(invert(matrix), upscale)
    region = bounds(back, side).within(photo.shape[:2])
    window = photo[region.top : region.bottom, region.left : region.right]
    if window.size == 0:
        return
    back[:, 2] -= (region.left, region.top)
    if photo.ndim == 2:
        restored = cv2.cvtColor(restored, cv2.COLOR_RGB2GRAY)
    size = window.shape[1::-1]
    small, to_window = reduce(restored.astype(np.float32), back)
    face = cv2.warpAffine(small, to_window, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if mask is None:
        small, to_window = reduce(_fading_mask(side), back)
        opacity = cv2.warpAffine(small, to_window, size, flags=cv2.INTER_LINEAR)
    else:
        opacity = mask[region.top : region.bottom, region.left : region.right]
    _blend(window, face, opacity * weight)


def _blend(window: np.ndarray, face: np.ndarray, opacity: np.ndarray) -> None:
    """Mix ``face`` (levels of 8 bits) into ``window`` in place; where ``opacity`` is 0 this changes nothing."""
    largest = np.iinfo(window.dtype).max
    if window.ndim == 3:
        opacity = opacity[:, :, None]
    mixed = window.astype(np.float32)
    mixed += (face * np.float32(largest / 255) - mixed) * opacity
    mixed += _HALF
    np.clip(mixed, 0, largest, out=mixed)
    window[...] = mixed  # truncates


@lru_cache(maxsize=4)
def _fading_mask(side: int) -> np.ndarray:
    """Return ``(side, side)`` float32: 1 inside, smoothly 0 towards the border, with rounded corners."""
    place = (np.arange(side) + 0.5) / side
    t = np.clip((np.minimum(place, 1 - place) - _FADE[0]) / (_FADE[1] - _FADE[0]), 0, 1)
    ramp = t * t * (3 - 2 * t)
    mask = np.outer(ramp, ramp).astype(np.float32)
    mask.setflags(write=False)
    return mask
