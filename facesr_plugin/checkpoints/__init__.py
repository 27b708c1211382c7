"""Weight files: reading foreign ones safely, official key names, detection, our own record."""

from facesr_plugin.checkpoints.detect import Converted, from_official, to_official
from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError
from facesr_plugin.checkpoints.io import Weights, build_network, load_weights, make_record, save_official, save_weights
from facesr_plugin.checkpoints.reader import read_checkpoint
from facesr_plugin.checkpoints.spectral_norm import fold_spectral_norm

__all__ = [
    "Converted",
    "UnsupportedCheckpointError",
    "Weights",
    "build_network",
    "fold_spectral_norm",
    "from_official",
    "load_weights",
    "make_record",
    "read_checkpoint",
    "save_official",
    "save_weights",
    "to_official",
]
