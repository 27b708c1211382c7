"""What a run writes and reads: networks that describe themselves, and states for an exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import nn

from facesr_plugin.checkpoints import load_weights
from facesr_plugin.compat.resume import newest_state
from facesr_plugin.models import training_state
from facesr_plugin.models.due_validations import build_due_loaders, count_due
from facesr_plugin.models.old_checkpoints import remove_old_checkpoints
from facesr_plugin.models.option_rates import OptionRates
from facesr_plugin.utils.state_form import named_misfits
from facesr_plugin.utils.weights import WEIGHTS, resolve_weights


class CheckpointFiles:
    """The part of ``FaceSRModel`` that writes and reads its files."""

    _saved: tuple[int, int] | None = None
    _measured: tuple[int | str, int] = (0, 0)  # the iteration of the last validation, and of how many data sets

    @master_only
    def save_network(
        self,
        net: Any,
        net_label: str,
        current_iter: int | str,
        param_key: str | list[str] = "params",
        **more: dict[str, Any],
    ) -> None:
        """Write ``<net_label>_<iteration>.pth`` atomically, with a record of what it holds, and ``more`` in it.

        Raises:
            OSError: If it cannot be written; earlier checkpoints are unchanged.
        """
        nets, keys = (net, param_key) if isinstance(net, list) else ([net], [param_key])
        bare = [self.get_bare_model(part) for part in nets]
        section = "network_" + net_label.removeprefix("net_")
        content = {key: training_state.cpu_state(part) for key, part in zip(keys, bare, strict=True)}
        content["facesr"] = training_state.network_record(self.system, self.opt[section], bare[0]) | more
        if net_label == "net_g":
            stated = {"call": dict(self.call), "faces": training_state.stated_faces(self.opt, self.card)}
            content["facesr"] |= {name: value for name, value in stated.items() if value}
        name = "latest" if current_iter == -1 else current_iter
        self._write(Path(self.opt["path"]["models"]) / f"{net_label}_{name}.pth", content)

    def load_network(self, net: nn.Module, load_path: str, strict: bool = True, param_key: str = "params") -> None:
        """Load weights of this package, of BasicSR or of the official release through the safe reader.

        The file may hold several networks, or one that contains this one; a name of ``facesr weights list`` stands for
        its file. A test calls the generator as its file says.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file does not fit the network.
        """
        bare = self.get_bare_model(net)
        path = resolve_weights(load_path) if load_path in WEIGHTS else load_path
        weights = load_weights(path, prefer=param_key, arch=type(bare).__name__)
        get_root_logger().info(f"Loading {type(bare).__name__} from {load_path} ({weights.kind})")
        try:
            bare.load_state_dict(weights.state_dict, strict=strict)
        except RuntimeError as error:
            raise ValueError(
                f"{load_path} does not fit the options of {type(bare).__name__}: it holds {weights.arch} "
                f"{weights.args}. {error}"
            ) from error
        if not self.is_train and net is self.net_g:
            self.call = weights.call

    def save(self, epoch: int, current_iter: int) -> None:
        """Write the networks and the state, which counts the broken images of all ranks."""
        self.guard.look()
        self._skipped_images.gather()
        self._saved = (epoch, current_iter)
        super().save(epoch, current_iter)

    def save_metrics(self, current_iter: int | str) -> None:
        """Write the state of that iteration again, if it is the last one, with the best metrics of now."""
        self._measured = (current_iter, self._count_measured(current_iter) + 1)
        if self._saved is not None and self._saved[1] == current_iter:
            self.save_training_state(*self._saved)

    def _count_measured(self, iteration: int | str) -> int:
        return self._measured[1] if self._measured[0] == iteration else 0

    @master_only
    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Write ``<iteration>.state`` atomically: BasicSR's content and a ``facesr`` record for an exact resume.

        Then checkpoints beyond ``logger.keep_checkpoints`` are removed.

        Raises:
            OSError: If it cannot be written; earlier states are unchanged.
        """
        if current_iter == -1:
            return
        run = training_state.pack_run(
            self.opt["manual_seed"], self.opt["world_size"], self.best_metric_results, self.system_state()
        )
        due = max(0, count_due(self.opt, current_iter) - self._count_measured(current_iter))
        run |= {"skipped_images": self._skipped_images.state(), "validations_due": due, **self.steps_state()}
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [training_state.plain_scheduler_state(scheduler) for scheduler in self.schedulers],
            "facesr": run,
        }
        self._write(Path(self.opt["path"]["training_states"]) / f"{current_iter}.state", state)
        self._remove_old(current_iter)

    @master_only
    def _remove_old(self, newest: int) -> None:
        keep = (self.opt.get("logger") or {}).get("keep_checkpoints")
        if keep is not None:
            labels = ["net_" + key.removeprefix("network_") for key in self.opt if key.startswith("network_")]
            folders = (self.opt["path"]["models"], self.opt["path"]["training_states"])
            remove_old_checkpoints(*folders, labels, keep=keep, newest=newest)

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        """Write a file of the run; what is wrong with the disk becomes a text for who runs the training."""
        try:
            training_state.save_torch(path, content)
        except OSError as error:
            newest = newest_state(Path(self.opt["path"]["training_states"]))
            way_on = "there is none before it"
            if newest is not None:
                way_on = f"those before are intact: the same command with --auto_resume goes on from {newest.name}"
            raise OSError(
                f"the run stops, since it cannot write {path}: {error.strerror or error}. Make room (also check quota "
                f"and permissions); of the checkpoints, {way_on}."
            ) from None

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Continue from a state: optimisers, schedulers, place in the epoch, best metrics, the system's own state.

        Rates and schedules that the option file has changed are its own (``OptionRates``). Validations of its
        iteration that the run before did not come to are made now.
        """
        rates = OptionRates(self.optimizers, self.schedulers, self.opt["train"].get("scheduler"))
        with named_misfits(self.opt["path"].get("resume_state")):
            super().resume_training(resume_state)
            changes = rates.apply()
            run = resume_state.get("facesr")
            if run is not None:
                self._take_record(resume_state, run)
        for change in changes:
            get_root_logger().warning(f"Changed in the option file since the state was written: {change}.")
        self._validation.resume(self.opt["path"]["models"])
        if run is None:
            get_root_logger().warning("The state was not written by facesr_plugin: its epoch starts anew.")
            return
        self._remove_old(resume_state["iter"])  # a kill may have left some
        self._validate_due(resume_state["epoch"], resume_state["iter"], run.get("validations_due", 0))

    def _take_record(self, state: dict[str, Any], run: dict[str, Any]) -> None:
        training_state.restore_position(state, self.opt["world_size"])
        self.best_metric_results = run["best_metrics"]
        if "skipped_images" in run:  # states of older versions have none
            self._skipped_images.load_state(run["skipped_images"])
        self.load_steps_state(run)
        self.load_system_state(run["system_state"])

    def _validate_due(self, epoch: int, iteration: int, number: int) -> None:
        """Make the validations that the run before did not come to."""
        self._saved, self._measured = (epoch, iteration), (iteration, max(0, count_due(self.opt, iteration) - number))
        for loader in build_due_loaders(self.opt, number):
            name = loader.dataset.opt["name"]
            get_root_logger().info(f"Validating {name} now: the run ended before it did after iteration {iteration}.")
            self.validation(loader, iteration, None, self.opt["val"].get("save_img", False))
