"""Models for BasicSR's training loop, registered by importing every ``*_model`` module; needs BasicSR."""

from facesr_plugin.registry import register
from facesr_plugin.utils.discovery import import_by_suffix

import_by_suffix(__name__, "_model")
register()  # if this import was the first of BasicSR's, the hook met this package half imported
