import io

import numpy as np
import pytest
from PIL import Image

from facesr_plugin.data.face_png import encode_face, landmarks_of
from facesr_plugin.data.image_head import HEAD_BYTES, image_shape
from helpers.faces import make_image

POINTS = np.random.default_rng(0).uniform(0, 60, (68, 2)).astype(np.float32)


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
@pytest.mark.parametrize("points", [None, POINTS])
def test_image_shape_reads_what_the_package_writes(encoding, points):
    data = encode_face(make_image(0, 40, 50), points, encoding)
    assert image_shape(data[:HEAD_BYTES], "x") == (40, 50, 3)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 4)])
@pytest.mark.parametrize("progressive", [False, True])
def test_image_shape_reads_jpeg_files(mode, channels, progressive):
    buffer = io.BytesIO()
    Image.new(mode, (31, 17)).save(buffer, format="JPEG", progressive=progressive, comment="x" * 300)
    assert image_shape(buffer.getvalue(), "x") == (17, 31, channels)


@pytest.mark.parametrize("data", [b"", b"JFIF", b"\xff\xd8\xff\xe0\x00\x04ab", b"\x89PNG\r\n\x1a\n" + bytes(30)])
def test_image_shape_rejects_other_files(data):
    with pytest.raises(ValueError, match="image 'x' must be a PNG or JPEG, got b'"):
        image_shape(data, "x")


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_faces_carry_their_landmarks(encoding):
    assert np.array_equal(landmarks_of(encode_face(make_image(0), POINTS, encoding)), POINTS)
    assert landmarks_of(encode_face(make_image(0), None, encoding)) is None


def test_jpeg_faces_are_close():
    image = make_image(0, 64)
    decoded = np.asarray(Image.open(io.BytesIO(encode_face(image, None, "jpeg"))))
    assert np.abs(decoded.astype(int) - image).mean() < 1
