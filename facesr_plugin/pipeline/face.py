"""One face of a photograph, from its five points to its restored picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Face:
    """What is known about a face; coordinates are pixels of the upright photo, pixel centres at integers.

    Args:
        landmarks: ``(5, 2)`` float64 (x, y): left and right eye (as seen in the picture), nose tip, mouth corners.
        box: ``(4,)`` x1 y1 x2 y2, if a detector or a file told it.
        score: Of the detector, in [0, 1].
        matrix: ``(2, 3)`` float64 from the photo to the crop.
        crop: ``(S, S, 3)`` uint8 RGB, aligned as the system's card says.
        restored: ``(S * scale, S * scale, 3)`` uint8 RGB.
        skipped: Why the face was left as it is; None if it was restored.
        note: What else the user should know about how it was found; None if there is nothing.

    Raises:
        ValueError: If the landmarks are not five finite points.
    """

    landmarks: np.ndarray
    box: np.ndarray | None = None
    score: float | None = None
    matrix: np.ndarray | None = None
    crop: np.ndarray | None = None
    restored: np.ndarray | None = None
    skipped: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        self.landmarks = np.asarray(self.landmarks, np.float64)
        if self.landmarks.shape != (5, 2) or not np.isfinite(self.landmarks).all():
            raise ValueError(f"landmarks must be 5 finite points (x, y), got shape {self.landmarks.shape}")

    @property
    def size(self) -> float:
        """Longer side of the box in pixels; without one, 2.6 distances between eyes or between eyes and mouth."""
        if self.box is not None:
            return float(max(self.box[2] - self.box[0], self.box[3] - self.box[1]))
        eyes, mouth = self.landmarks[:2], self.landmarks[3:]
        return 2.6 * float(max(np.hypot(*(eyes[1] - eyes[0])), np.hypot(*(mouth.mean(0) - eyes.mean(0)))))
