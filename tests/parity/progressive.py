"""Families of the progressive system's reference cases."""

from parity.progressive_data import data_chain, metrics, schedule
from parity.progressive_losses import heatmap_attention, objective, perceptual
from parity.progressive_networks import compressed_fan, critic, generator, generator_gradient, teacher_fan
from parity.progressive_train import train_step

FAMILIES_BY_NETWORK = {}
FAMILIES_BY_PREFIX = {
    "generator_": generator,
    "generator_grad": generator_gradient,
    "discriminator": critic,
    "fan_": compressed_fan,
    "fan_teacher": teacher_fan,
    "data_chain": data_chain,
    "metrics": metrics,
    "schedule": schedule,
    "train_step": train_step,
    "heatmap_attention": heatmap_attention,
    "perceptual": perceptual,
    "objective_": objective,
}
