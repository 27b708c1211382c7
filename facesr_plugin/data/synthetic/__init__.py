"""Synthetic faces with exact landmarks: the embedded default data for tests and the demo.

A face is a parametric 3-D head (``head.py``) on which skin, features and hair are painted (``skin.py``,
``features.py``, ``hair.py``) through its 68 landmarks, seen by an orthographic camera (``camera.py``), lit
(``shading.py``), and set into a scene (``scene.py``). numpy and OpenCV only; no photograph and no learnt model is
involved.
"""

from __future__ import annotations

from facesr_plugin.data.synthetic.generator import MAX_SIZE, MIN_SIZE, generate_face

__all__ = ["MAX_SIZE", "MIN_SIZE", "generate_face"]
