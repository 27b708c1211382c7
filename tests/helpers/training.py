"""Build a registered model for one training process on the CPU, without files."""

from basicsr.models import build_model as build_basicsr_model

from facesr_plugin.registry import register


def build_model(model_type, network_g, train, **options):
    """Return a BasicSR model.

    Args:
        model_type: Registered name.
        network_g: Section of that name.
        train: Section of that name.
        options: Further options, over the defaults below.
    """
    register()
    defaults = {
        "name": "unit",
        "model_type": model_type,
        "scale": 8,
        "num_gpu": 0,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "manual_seed": 0,
        "is_train": True,
        "path": {},
        "network_g": network_g,
        "train": train,
    }
    return build_basicsr_model({**defaults, **options})
