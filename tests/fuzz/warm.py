"""Import in the server process, once, what the cases need."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import facesr_plugin  # noqa: E402

facesr_plugin.register()

import facesr_plugin.archs  # noqa: E402, F401
import facesr_plugin.commands.convert  # noqa: E402, F401
from fuzz import checkpoints, databases, landmarks, options, pictures, states  # noqa: E402, F401
