"""The base of every generator's training, validation and test in this package, on BasicSR's SRModel.

A system derives from ``FaceSRModel``, names its card, and says what its prediction (``predict``) and its loss terms
(``generator_losses``) are. The base does the rest: protocol of the card (input preparation, range, rounding), losses
from every ``train.<name>_opt`` section, moving averages with buffers, logging without a device synchronisation per
iteration, atomic checkpoints that describe themselves, and exact resume.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from itertools import chain
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from basicsr.models.sr_model import SRModel
from torch import Tensor, nn

from facesr_plugin.cards import get_card
from facesr_plugin.data.device_degradation import DeviceDegrader
from facesr_plugin.models import training_state
from facesr_plugin.models.building import build_criteria, build_optimizer, check_networks, check_train
from facesr_plugin.models.checkpoint_files import CheckpointFiles
from facesr_plugin.models.distributed import DistributedNetworks
from facesr_plugin.models.gradient_steps import GradientSteps
from facesr_plugin.models.option_problems import RUN_FINDERS, find_size_problems
from facesr_plugin.models.skipped_images import SkippedImages
from facesr_plugin.models.speed import compile_networks, set_tf32, uncompiled
from facesr_plugin.models.validation import Result, Validation
from facesr_plugin.ops.protocol import denormalise, normalise, prepare_input, quantise
from facesr_plugin.utils.resume import POSITION
from facesr_plugin.utils.run_report import CURRENT_RUN


class FaceSRModel(DistributedNetworks, GradientSteps, CheckpointFiles, SRModel):
    """Train, validate and test one generator.

    Args:
        opt: BasicSR's options. ``train`` takes ``total_iter``, ``warmup_iter``, ``ema_decay``, ``optim_g``,
            ``scheduler`` (none: constant learning rate), ``accumulate`` (compute gradients in that many equal parts of
            the batch, one after the other: less memory; the same gradients but for BatchNorm and spectral norm, whose
            statistics and vectors move once in each part; default 1), ``amp`` (``bf16`` or ``fp16``: see
            ``Precision``; default ~), ``clip_grad_value`` (cut the generator's gradients to that magnitude; default 0:
            leave them), ``clip_grad_norm`` (shorten them together to that norm; default 0), ``nonfinite_limit`` (how
            many iterations in a row may be left out since a loss or gradient is no number; default 10),
            ``channels_last`` (memory order of the convolutions: 1.4 times faster on a CPU, results differ by rounding;
            default false), ``compile`` (arguments of torch.compile, or true, for the networks that learn; default
            false), ``tf32`` (let a GPU round factors to 10 bits; default false, in the whole process), ``sync_bn``
            (BatchNorm over the batches of all ranks, on GPUs; default false) and one ``<name>_opt`` section per loss.
            ``val``: see ``Validation``.

    Attributes:
        call: Arguments of the generator beside the images; its checkpoints remember them.

    Raises:
        ValueError: If ``train`` or a network has an unknown key, there is no such network or no loss, the name of one
            is misspelt, or an option of its steps is wrong; see ``Validation``, also for other errors.
    """

    system: ClassVar[str] = ""
    train_keys: ClassVar[frozenset[str]] = frozenset(
        {"total_iter", "warmup_iter", "ema_decay", "accumulate", "amp", "clip_grad_norm", "clip_grad_value",
         "nonfinite_limit", "channels_last", "compile", "tf32", "sync_bn", "optim_g", "scheduler"}
    )  # fmt: skip
    own_losses: ClassVar[frozenset[str]] = frozenset()  # whose names decide what they compare
    val_keys: ClassVar[tuple[str, ...]] = ()  # beside those of every model
    path_keys: ClassVar[tuple[str, ...]] = ()  # of a training, beside those of each network
    batch_fields: ClassVar[tuple[str, ...]] = ("lq", "gt")  # what `accumulate` divides
    remedy: ClassVar[str] = "Lower train.optim_g.lr, or set train.clip_grad_norm."  # of losses that are no numbers
    call: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, opt: dict[str, Any]) -> None:
        opt = deepcopy(opt)  # BasicSR pops `type` out of the sections it reads
        check_networks(opt)
        self.card = get_card(self.system)
        self.best_metric_results: dict[str, dict] = {}
        self._losses: dict[str, Tensor] = {}
        self._memory_format = torch.contiguous_format
        if opt["is_train"]:
            POSITION.reset()
            CURRENT_RUN.start(self)
            check_train(opt["train"], self.train_keys, self.own_losses)
            for problem in chain.from_iterable(find(opt) for find in RUN_FINDERS):
                raise ValueError(problem)
            self._memory_format = torch.channels_last if opt["train"].get("channels_last") else self._memory_format
        set_tf32((opt.get("train") or {}).get("tf32") or False)
        super().__init__(opt)
        self._skipped_images = SkippedImages(opt, self.device)
        self._validation = Validation(opt, self.get_bare_model(self.net_g), self.device)
        self._compile = (opt.get("train") or {}).get("compile")
        compile_networks(map(self.get_bare_model, self.networks_to_compile()), self._compile)

    # What a system says

    def predict(self, net: nn.Module) -> Tensor:
        """Restore ``self.lq``: (N, 3, H, W) in the card's range."""
        return net(self.lq, **self.call)

    def generator_losses(self) -> dict[str, Tensor]:
        """Weighted scalar terms by name; the base sums, steps and logs them as ``l_g_<name>``."""
        return {name: criterion(self.output, self.gt) for name, criterion in self.criteria.items()}

    def networks_to_compile(self) -> list[nn.Module]:
        """Those that ``train.compile`` is for."""
        return [self.net_g]

    def idle_parts(self) -> Sequence[nn.Module]:
        """Parts of the networks that the coming iteration does not train: no rank waits for their gradients."""
        return ()

    @classmethod
    def find_problems(cls, options: dict[str, Any]) -> Iterator[str]:
        """Say what in the option file of a training cannot work, beyond what holds for all systems."""
        yield from find_size_problems(options, get_card(cls.system))

    def system_state(self) -> dict[str, Any]:
        """What a resumed run needs beyond networks, optimisers and schedulers (a stage, a phase); plain types."""
        return {}

    def load_system_state(self, state: dict[str, Any]) -> None:
        """Take back what ``system_state`` gave."""

    # Set-up

    def init_training_settings(self) -> None:
        """Build the moving average, the criteria and the optimisers."""
        self.net_g.train()
        train_opt = self.opt["train"]
        self.ema_decay = train_opt.get("ema_decay") or 0
        if self.ema_decay > 0:
            self._init_ema()
        self.criteria = {name: loss.to(self.device) for name, loss in build_criteria(train_opt).items()}
        self.setup_optimizers()
        self.setup_schedulers()
        self.init_steps(train_opt)

    def _init_ema(self) -> None:
        self.net_g_ema = deepcopy(self.get_bare_model(self.net_g)).requires_grad_(False).eval()
        path = self.opt["path"].get("pretrain_network_g")
        if path is not None:
            self.load_network(self.net_g_ema, path, self.opt["path"].get("strict_load_g", True), "params_ema")

    def setup_schedulers(self) -> None:
        """Build BasicSR's scheduler; without a ``scheduler`` section the learning rate is constant."""
        if self.opt["train"].get("scheduler"):
            super().setup_schedulers()

    def get_optimizer(self, optim_type: str, params: Any, lr: float, **settings: Any) -> torch.optim.Optimizer:
        """Build an optimiser by name (BasicSR 1.4.2 knows only Adam)."""
        return build_optimizer(optim_type, params, lr, **settings)

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Continue from a state; see ``CheckpointFiles``.

        Raises:
            ValueError: If it has more iterations than the training is to have, or does not fit.
        """
        done, total = resume_state["iter"], self._total_iter
        if done > total:
            raise ValueError(
                f"train.total_iter must be at least the iterations that the training state has, {done}, got {total}: "
                "nothing is left to do. Raise it, or take the networks that are there."
            )
        super().resume_training(resume_state)

    @property
    def _total_iter(self) -> int:
        return int(self.opt["train"]["total_iter"])

    # One iteration

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take a batch: ``lq`` and, except for a plain test, ``gt``; RGB in [0, 1].

        ``landmarks`` ``(N, K, 2)`` in pixels of ``gt`` are kept if the batch has them, else None. A batch with
        ``degradation_seed`` (the data set's option ``degrade_on: device``) gets its ``lq`` here.
        """
        batch = self._take(data, ("lq", "gt", "landmarks"))
        gt, self.landmarks = batch.get("gt"), batch.get("landmarks")
        if "degradation_seed" in data:
            batch["lq"] = self._degrade(gt, data["degradation_seed"])
        size = None if gt is None or self.card.upsampling is None else tuple(gt.shape[-2:])
        self.lq = prepare_input(batch["lq"], self.card, size).contiguous(memory_format=self._memory_format)
        if gt is not None:
            self.gt = normalise(gt, self.card)

    def _take(self, data: dict[str, Any], names: Sequence[str]) -> dict[str, Tensor]:
        """Note a batch, and return what it has of these, on the device."""
        self.fed = data
        self._skipped_images.take(data)
        return {name: data[name].to(self.device, non_blocking=True) for name in names if name in data}

    def _degrade(self, gt: Tensor, seeds: Tensor) -> Tensor:
        if not hasattr(self, "_degrader"):
            self._degrader = DeviceDegrader(self.opt["datasets"]["train"])
        return self._degrader(gt, seeds)

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration on the batch of ``feed_data``."""
        training_state.seed_iteration(self.opt["manual_seed"], self.opt["rank"], current_iter)
        self.let_rest(self.idle_parts())
        self._losses = self.guarded_iteration(current_iter)
        POSITION.samples += len(self.lq)

    def train_on_batch(self) -> dict[str, Tensor]:
        """One step of the generator; returns what is logged."""
        losses = self.generator_gradients()
        self.update_generator()
        return losses

    def get_current_log(self) -> dict[str, float]:
        """Losses of the last iteration, averaged over ranks; the only place that waits for the device."""
        self.guard.look()
        self.log_dict = self.reduce_loss_dict(self._losses)
        self._skipped_images.gather()
        return self.log_dict

    @property
    def skipped_images(self) -> int:
        """Broken images that the data set replaced, on all ranks, up to the last log or save."""
        return self._skipped_images.total

    # Validation and test

    @property
    def net_to_test(self) -> nn.Module:
        """The average if there is one, else the generator."""
        return self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)

    @torch.no_grad()
    def test(self) -> None:
        """Restore ``self.lq`` in eval mode with the average if there is one."""
        net = self.net_to_test
        training = net.training
        net.eval()
        self.output = self.predict(net)
        net.train(training)

    def current_results(self) -> dict[str, Result]:
        """What ``test`` made of the batch, by name; the main result's is empty."""
        return {"": Result(self.output)}

    def forget_batch(self) -> None:
        """Drop the batch and its result: memory, and the next batch may have no ``gt``."""
        for name in {*self.batch_fields, "gt", "output", "fed"}:
            vars(self).pop(name, None)

    def get_current_visuals(self) -> dict[str, Tensor]:
        """Images in [0, 1] as BasicSR expects them; ``result`` is already rounded as the card says."""
        visuals = {"lq": denormalise(self.lq, self.card).cpu(), "result": quantise(self.output, self.card).cpu() / 255}
        if hasattr(self, "gt"):
            visuals["gt"] = denormalise(self.gt, self.card).cpu()
        return visuals

    def nondist_validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool) -> None:
        """Measure a data set; see ``Validation``."""
        with uncompiled(self._compile):
            self._validation.run(self, dataloader, current_iter, tb_logger, save_img)

    dist_validation = nondist_validation

    def validation(self, dataloader: Any, current_iter: int | str, tb_logger: Any, save_img: bool = False) -> None:
        """Validate on all ranks; a state saved in this iteration is written again, with the best metric of now.

        BasicSR's loop counts on after its end: the last validation is that of the last iteration.
        """
        if self.is_train:
            current_iter = min(current_iter, self._total_iter)
        super().validation(dataloader, current_iter, tb_logger, save_img)
        self.save_metrics(current_iter)

    @property
    def has_ended(self) -> bool:
        """Whether all iterations are done and the latest networks saved: what comes is the last validation."""
        return self._saved is not None and self._saved[1] == -1

    def is_comparable(self, iteration: int) -> bool:
        """Whether metrics of that iteration of the training can be compared with those of now."""
        return True
