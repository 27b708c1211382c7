"""Families of DIC's reference cases."""

from parity.dic_data import data, metrics
from parity.dic_files import key_map
from parity.dic_gan import discriminator, features, losses, unet
from parity.dic_networks import (
    attentive_block,
    feedback_hourglass,
    first_block,
    fusion,
    generator,
    gradients,
    merging,
    stacked_hourglass,
)
from parity.dic_train import train_step, train_step_gan

FAMILIES_BY_NETWORK = {
    "FeedbackBlockCustom": first_block,
    "FeedbackBlockHeatmapAttention": attentive_block,
    "FeatureHeatmapFusingBlock": fusion,
    "merge_heatmap_5": merging,
    "FeedbackHourGlass": feedback_hourglass,
    "StackedHourGlass": stacked_hourglass,
}
FAMILIES_BY_PREFIX = {
    "peer_key_map": key_map,
    "lightcnn_discriminator": discriminator,
    "lightcnn_features": features,
    "unet_": unet,
    "losses": losses,
    "dic_": generator,
    "grad_dic": gradients,
    "train_dic": train_step,
    "train_dicgan": train_step_gan,
    "data": data,
    "metrics": metrics,
}
