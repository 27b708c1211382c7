"""Restore the faces of whole photographs: align, restore in batches over photos, paste back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from facesr_plugin.cards import SystemCard
from facesr_plugin.ops.affine import rescale_target, scale_of
from facesr_plugin.ops.align import crop_face
from facesr_plugin.pipeline.aligner import alignment
from facesr_plugin.pipeline.face import Face
from facesr_plugin.pipeline.paste import enlarge, paste_face

if TYPE_CHECKING:
    from facesr_plugin.pipeline.restorer import Restorer

_WAITING_PHOTOS = 8
_WAITING_SAMPLES = 300_000_000  # one photo of 100 megapixels


@dataclass(frozen=True)
class PhotoOptions:
    """What is done with the faces of a photo.

    Args:
        upscale: The photo is enlarged this many times, at least 1.
        only_largest: Restore the largest face only.
        min_face: Leave smaller faces as they are; longer side of the box in pixels.
        weight: 1 for the restored face, 0 for the photo, between for a blend.
        force: Shrink faces that hold more than a super-resolution network's small input, instead of skipping them.
        batch: Faces that go through the network at a time, at least 1.
        background: Enlarges a photo, ``(H, W)`` or ``(H, W, 3)``, ``upscale`` times; by default Lanczos, which with 1
            keeps every bit. ``background.load_background`` gives one that restores by a network.

    Raises:
        ValueError: If a value is out of its range.
    """

    upscale: int = 1
    only_largest: bool = False
    min_face: float = 0.0
    weight: float = 1.0
    force: bool = False
    batch: int = 16
    background: Callable[[np.ndarray, int], np.ndarray] = enlarge

    def __post_init__(self) -> None:
        for name in ("upscale", "batch"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must be from 0 to 1, got {self.weight}")
        if not self.min_face >= 0:
            raise ValueError(f"min_face must not be negative, got {self.min_face}")


class Result(NamedTuple):
    """A restored photo, in the type and channels that it came in, and its faces."""

    image: np.ndarray
    faces: list[Face]


def check_photo(photo: np.ndarray) -> None:
    """Refuse what is no photo.

    Raises:
        TypeError: If it is not a uint8 or uint16 array.
        ValueError: If it is neither ``(H, W)`` nor ``(H, W, 3)``, or empty.
    """
    if not isinstance(photo, np.ndarray) or photo.dtype not in (np.uint8, np.uint16):
        raise TypeError(f"image must be a uint8 or uint16 array, got {getattr(photo, 'dtype', type(photo).__name__)}")
    if photo.ndim not in (2, 3) or photo.shape[2:] not in ((), (3,)) or photo.size == 0:
        raise ValueError(f"image must have shape (H, W) or (H, W, 3), RGB, got {photo.shape}")


def to_rgb8(photo: np.ndarray) -> np.ndarray:
    """Return what detector and network see of a photo: ``(H, W, 3)`` uint8; 16 bits keep their upper 8."""
    image = photo if photo.dtype == np.uint8 else (photo >> 8).astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def restore_photos(
    restorer: Restorer, photos: Iterable[tuple[np.ndarray, list[Face]]], options: PhotoOptions
) -> Iterator[Result]:
    """Restore the faces of photos, in order; few photos are held at a time.

    Args:
        restorer: Of the faces.
        photos: Each ``(H, W)`` grey or ``(H, W, 3)`` RGB, uint8 or uint16, with the faces found in it.
        options: What to do with them.

    Yields:
        A ``Result`` per photo: a new array, enlarged ``upscale`` times. Outside the faces it has the bits of the photo
        (of what ``options.background`` makes of it). Every face says what became of it.

    Raises:
        TypeError, ValueError: If a photo is none, or the network fails; see ``Restorer``.
    """
    waiting: list[tuple[np.ndarray, list[Face]]] = []
    for photo, faces in photos:
        check_photo(photo)
        _prepare(photo, faces, restorer.card, options)
        waiting.append((photo, faces))
        if _enough(waiting, options.batch):
            yield from _finish(restorer, waiting, options)
            waiting = []
    yield from _finish(restorer, waiting, options)


def _enough(waiting: list[tuple[np.ndarray, list[Face]]], batch: int) -> bool:
    samples = sum(photo.size for photo, _ in waiting)
    return len(waiting) >= _WAITING_PHOTOS or samples >= _WAITING_SAMPLES or len(_chosen(waiting)) >= batch


def _prepare(photo: np.ndarray, faces: list[Face], card: SystemCard, options: PhotoOptions) -> None:
    """Give each face its matrix, and its crop or the reason why it is skipped."""
    rgb = to_rgb8(photo) if faces else photo
    largest = max(faces, key=lambda face: face.size, default=None)
    for face in faces:
        try:
            face.matrix = alignment(face.landmarks, card)
            if options.only_largest and face is not largest:
                face.skipped = "not the largest"
            else:
                face.skipped = _objection(face, card, options)
            if face.skipped is None:
                face.crop = crop_face(rgb, face.matrix, card.lq_size)
        except ValueError as error:
            face.skipped = str(error)


def _objection(face: Face, card: SystemCard, options: PhotoOptions) -> str | None:
    if face.size < options.min_face:
        return f"{face.size:.0f} pixels, smaller than {options.min_face:g}"
    side = card.lq_size / scale_of(face.matrix)
    if card.scale > 1 and round(side) > card.lq_size and not options.force:
        return f"larger than the network's input ({side:.0f} of {card.lq_size} pixels); force shrinks it"
    return None


def _chosen(photos: list[tuple[np.ndarray, list[Face]]]) -> list[Face]:
    return [face for _, faces in photos for face in faces if face.crop is not None and face.skipped is None]


def _finish(restorer: Restorer, photos: list[tuple[np.ndarray, list[Face]]], options: PhotoOptions) -> Iterator[Result]:
    chosen = _chosen(photos)
    for face, restored in zip(chosen, restorer([face.crop for face in chosen], options.batch), strict=True):
        face.restored = restored
    for photo, faces in photos:
        image = options.background(photo, options.upscale)
        image = image.copy() if image is photo else image
        for face in _chosen([(photo, faces)]):
            matrix = rescale_target(face.matrix, face.restored.shape[0] / face.crop.shape[0])
            paste_face(image, face.restored, matrix, upscale=options.upscale, weight=options.weight)
        yield Result(image, faces)
