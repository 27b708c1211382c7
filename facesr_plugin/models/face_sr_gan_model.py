"""The base of systems that train their generator against a discriminator, on ``FaceSRModel``.

It adds to the base: the network ``net_d`` with its optimiser and files, and the order of one iteration. A system says
what each side's adversarial terms are (``adversarial_losses``, ``discriminator_losses``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from basicsr.archs import build_network
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from facesr_plugin.models.face_sr_model import FaceSRModel


class FaceSRGANModel(FaceSRModel, ABC):
    """Train a generator and a discriminator on the same batch.

    First are the generator's gradients, against a discriminator that stands still and gets none. Then the discriminator
    learns from the ground truth and from that result, by forwards of its own: two graphs are never in memory together.
    Both step when all gradients are there, so that one that is no number stops both.

    Args:
        opt: BasicSR's options; training needs ``network_d``, ``train.optim_d`` and ``train.gan_opt`` as well.

    Raises:
        ValueError: As ``FaceSRModel``; if one of these is missing.
    """

    train_keys: ClassVar[frozenset[str]] = FaceSRModel.train_keys | {"optim_d"}
    own_losses: ClassVar[frozenset[str]] = FaceSRModel.own_losses | {"gan"}

    def __init__(self, opt: dict[str, Any]) -> None:
        if opt["is_train"]:
            for problem in find_missing_opponent(opt):
                raise ValueError(problem)
        super().__init__(opt)

    @classmethod
    def find_problems(cls, options: dict[str, Any]) -> Iterator[str]:
        """Report what the discriminator lacks, and what the base finds."""
        yield from find_missing_opponent(options)
        yield from super().find_problems(options)

    # What a system says

    @abstractmethod
    def adversarial_losses(self) -> dict[str, Tensor]:
        """Weighted terms of the generator, by name, that need ``self.net_d``."""

    @abstractmethod
    def discriminator_losses(self) -> dict[str, Tensor]:
        """Weighted terms of the discriminator on ``self.gt`` and ``self.output``, logged as ``l_d_<name>``."""

    def penalty_losses(self, critic: Callable[[Tensor], Tensor | Sequence[Tensor]]) -> dict[str, Tensor]:
        """The penalty of the discriminator's gradient, if ``gan_opt`` has one; for ``discriminator_losses``.

        Args:
            critic: Gives the scores of images, as ``gan_opt`` takes them.
        """
        if not hasattr(self.gan, "gradient_penalty"):
            return {}
        return {"penalty": self.gan.gradient_penalty(critic, self.gt, self.output)}

    def networks_to_compile(self) -> list[nn.Module]:
        """Both; without the discriminator if its gradient is penalised: compiled code has no second derivatives."""
        compiles_both = self.is_train and not hasattr(self.gan, "gradient_penalty")
        return [*super().networks_to_compile(), *([self.net_d] if compiles_both else [])]

    # Set-up

    def init_training_settings(self) -> None:
        """Build the discriminator, then all that the base builds; ``gan_opt`` becomes ``self.gan``."""
        self.net_d = self.model_to_device(build_network(self.opt["network_d"]))
        self.print_network(self.net_d)
        path = self.opt["path"]
        if path.get("pretrain_network_d") is not None:
            strict = path.get("strict_load_d", True)
            self.load_network(self.net_d, path["pretrain_network_d"], strict, path.get("param_key_d", "params"))
        self.net_d.train()
        super().init_training_settings()
        self.gan = self.criteria.pop("gan")

    def setup_optimizers(self) -> None:
        """Build both optimisers, in BasicSR's order: generator, discriminator."""
        settings = dict(self.opt["train"]["optim_d"])  # BasicSR pops optim_g's type; YAML lets both be one section
        super().setup_optimizers()
        self.optimizer_d = self.get_optimizer(settings.pop("type"), self.net_d.parameters(), **settings)
        self.optimizers.append(self.optimizer_d)

    # One iteration

    def generator_losses(self) -> dict[str, Tensor]:
        """The terms on (sr, gt), then the adversarial ones."""
        return {**super().generator_losses(), **self.adversarial_losses()}

    def train_on_batch(self) -> dict[str, Tensor]:
        """One step of each; nothing is computed between them."""
        with self._standing_discriminator():
            losses = self.generator_gradients()
        losses |= self.train_discriminator()
        self.update_generator()
        return losses

    def train_discriminator(self) -> dict[str, Tensor]:
        """One step of the discriminator on ``self.gt`` and ``self.output``; returns what is logged."""
        self.optimizer_d.zero_grad(set_to_none=True)
        losses = self.backward(self.net_d, self.discriminator_losses, "l_d_", ("gt", "output"))
        self.judge(self.optimizer_d, self.net_d)
        self.step(self.optimizer_d)
        return losses

    @contextmanager
    def _standing_discriminator(self) -> Iterator[None]:
        """Keep gradients away from the discriminator, and its forwards from what the ranks exchange."""
        connected, learning = self.net_d, [p for p in self.net_d.parameters() if p.requires_grad]
        if isinstance(connected, DistributedDataParallel):
            self.net_d = connected.module
        self.net_d.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)
            self.net_d = connected

    # Files

    def save(self, epoch: int, current_iter: int) -> None:
        """Write both networks, then the state, so that a state never lacks its networks."""
        self.save_network(self.net_d, "net_d", current_iter)
        super().save(epoch, current_iter)


def find_missing_opponent(options: dict[str, Any]) -> Iterator[str]:
    """Say what of a discriminator's options is missing."""
    for where, name in ((options, "network_d"), (options["train"], "optim_d"), (options["train"], "gan_opt")):
        if not where.get(name):
            yield f"{name} must be in the options of a training with a discriminator, got none"
