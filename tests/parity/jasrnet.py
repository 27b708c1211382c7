"""Families of JASRNet's reference cases."""

from parity.jasrnet_networks import network

FAMILIES_BY_NETWORK = {}
FAMILIES_BY_PREFIX = {"arch_": network}
