"""Families of JASRNet's reference cases."""

from parity.jasrnet_data import image_metrics, landmark_error, pipeline
from parity.jasrnet_heatmaps import decoder, losses, targets
from parity.jasrnet_networks import network
from parity.jasrnet_train import train

FAMILIES_BY_NETWORK = {}
FAMILIES_BY_PREFIX = {
    "arch_": network,
    "heatmap_": targets,
    "decode_": decoder,
    "losses_": losses,
    "nme_": landmark_error,
    "image_metrics": image_metrics,
    "pipeline_": pipeline,
    "train_": train,
}
