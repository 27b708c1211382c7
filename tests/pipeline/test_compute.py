import pytest
import torch
from torch import Tensor, nn

from facesr_plugin.pipeline.compute import run_network


class Greedy(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def test_run_network_says_what_to_lower_when_memory_does_not_suffice() -> None:
    with pytest.raises(ValueError, match=r"batch 16 does not fit into the memory of cpu\. Lower it"):
        run_network(Greedy(), torch.zeros(1, 3, 4, 4), "fp32", "batch 16")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_run_network_returns_fp32_without_a_graph(precision: str) -> None:
    output = run_network(nn.Conv2d(3, 2, 1), torch.ones(1, 3, 4, 4), precision, "batch 1")
    assert output.dtype == torch.float32
    assert not output.requires_grad
