"""Small images for the tests of the data path: deterministic, no two alike."""

from pathlib import Path

import numpy as np
from PIL import Image

from facesr_plugin.data.face_png import encode_face
from facesr_plugin.data.lmdb_store import LmdbWriter


def make_image(seed: int, height: int = 32, width: int | None = None) -> np.ndarray:
    """A smooth colour image, uint8 RGB."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width or height, height), Image.Resampling.BICUBIC))


def write_images(folder: Path, count: int, height: int = 32, width: int | None = None) -> list[str]:
    """Write ``face_00.png`` ... and return the names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"face_{i:02d}.png" for i in range(count)]
    for i, name in enumerate(names):
        Image.fromarray(make_image(i, height, width)).save(folder / name)
    return names


def write_lmdb(path: Path, count: int, height: int = 32, width: int | None = None) -> list[str]:
    """Write the same images into an LMDB and return the keys."""
    keys = [f"face_{i:02d}" for i in range(count)]
    with LmdbWriter(path, {"made_by": "tests"}) as writer:
        for i, key in enumerate(keys):
            writer.put({key: encode_face(make_image(i, height, width))})
        writer.finish()
    return keys
