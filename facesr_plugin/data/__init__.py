"""Data sets, registered by importing every ``*_dataset`` module."""

from facesr_plugin.utils.discovery import import_by_suffix

import_by_suffix(__name__, "_dataset")
