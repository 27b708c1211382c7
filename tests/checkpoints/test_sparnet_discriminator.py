import pytest
import torch

from facesr_plugin.archs.sparnet_discriminator_arch import SPARNetDiscriminator
from facesr_plugin.checkpoints import UnsupportedCheckpointError, from_official, load_weights, to_official
from facesr_plugin.checkpoints.detect import _NoFilling, format_of

TINY = {"base_ch": 8, "n_layers": 2, "num_d": 2}
# the released order of keys, by layer
LAYERS = {
    "model.0.conv2d": ["bias", "weight_orig", "weight_u", "weight_v"],
    "model.1.conv2d": ["weight_orig", "weight_u", "weight_v"],
    "model.1.norm.norm": ["weight", "bias"],
    "model.2.conv2d": ["weight_orig", "weight_u", "weight_v"],
    "model.2.norm.norm": ["weight", "bias"],
    "score_out.conv2d": ["bias", "weight_orig", "weight_u", "weight_v"],
}


def state(**args):
    with torch.device("meta"), _NoFilling():
        return SPARNetDiscriminator(**args).state_dict()


def test_discriminator_conversion_gives_the_official_order_and_is_undone_exactly():
    ours = state(**TINY)
    official = to_official("sparnethd", dict(sorted(ours.items())), TINY)
    assert list(official) == [
        f"D_pool.{i}.{layer}.{leaf}" for i in range(2) for layer, leaves in LAYERS.items() for leaf in leaves
    ]
    converted = from_official("sparnethd", official)
    assert converted.arch == "SPARNetDiscriminator"
    assert list(converted.state_dict) == list(ours)
    assert all(converted.state_dict[key] is ours[key] for key in ours)


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"norm_type": "none", "spectral_norm": False},
        {"base_ch": 8, "max_ch": 20, "n_layers": 3, "num_d": 1, "input_ch": 1},
        {"norm_type": "bn", "relu_type": "prelu", "n_layers": 1},
    ],
    ids=str,
)
def test_discriminator_arguments_are_found_from_the_shapes(args):
    found = format_of("sparnethd", "SPARNetDiscriminator").infer_args(state(**args))
    published = {"input_ch": 3, "base_ch": 64, "max_ch": 512, "n_layers": 4, "num_d": 3}
    assert found == published | {"norm_type": "in", "relu_type": "leakyrelu", "spectral_norm": True} | args


def test_discriminator_file_is_recognised(tmp_path):
    network = SPARNetDiscriminator(**TINY)
    torch.save(to_official("sparnethd", network.state_dict(), TINY), tmp_path / "net_D.pth")
    loaded = load_weights(tmp_path / "net_D.pth")
    SPARNetDiscriminator(**loaded.args).load_state_dict(loaded.state_dict)


def test_discriminator_misfits_are_named():
    official = to_official("sparnethd", state(**TINY), TINY)
    del official["D_pool.1.score_out.conv2d.bias"]
    with pytest.raises(UnsupportedCheckpointError, match=r"SPARNetDiscriminator: missing \(1\): scales\.1\.score"):
        from_official("sparnethd", official)
    official = {key.replace("D_pool.0", "D_pool.3"): value for key, value in official.items()}
    with pytest.raises(UnsupportedCheckpointError, match=r"blocks are missing: scales\.0"):
        from_official("sparnethd", official)
