"""A training by torchrun of which one rank dies: ``-m helpers.rank_faults RANK ITERATION ARGUMENTS``, not restarted."""

from __future__ import annotations

import os
import signal
import sys

from facesr_plugin.cli import main


def arm(rank: str, iteration: int) -> None:
    """Let that rank be killed at the beginning of that iteration, unless torchrun has started it again."""
    if os.environ["RANK"] != rank or os.environ["TORCHELASTIC_RESTART_COUNT"] != "0":
        return
    from facesr_plugin.models.face_sr_model import FaceSRModel

    feed = FaceSRModel.optimize_parameters

    def optimize_parameters(self: FaceSRModel, current_iter: int) -> None:
        if current_iter == iteration:
            os.kill(os.getpid(), signal.SIGKILL)
        feed(self, current_iter)

    FaceSRModel.optimize_parameters = optimize_parameters


if __name__ == "__main__":
    import facesr_plugin

    facesr_plugin.register()
    arm(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(["train", *sys.argv[3:]]))
