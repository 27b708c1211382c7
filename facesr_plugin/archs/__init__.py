"""Networks: every ``*_arch.py`` of this folder registers its own."""

from facesr_plugin.utils.discovery import import_by_suffix

import_by_suffix(__name__, "_arch")
