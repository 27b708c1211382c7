"""A data set of another project whose random draws depend on the place of a sample in the training alone.

BasicSR's data sets draw from the generators of the process that loads them, so a sample would depend on the number of
workers and on what was loaded before: a run that continues would see others.
"""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

from facesr_plugin.utils.resume import place_of
from facesr_plugin.utils.seeding import seed_generators

_SAMPLES = 1  # apart from the numbers of training iterations


class SeededSamples(Dataset):
    """The samples of a data set, each drawn from (seed, epoch, position).

    Args:
        dataset: Any that takes its random numbers from Python's, NumPy's or torch's global generator.
        seed: Of the run.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.opt = getattr(dataset, "opt", {})
        self._seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Return a sample.

        Args:
            index: Plain, or a ``SampleIndex`` whose epoch and position decide the random draws.

        Raises:
            RuntimeError: If the data set cannot give it, with its name and file.
        """
        seed_generators(self._seed, *place_of(index), _SAMPLES)
        try:
            return self.dataset[index]
        except Exception as error:  # of any data set; its text alone names no file
            raise RuntimeError(f"{self._describe(index)} cannot be loaded: {type(error).__name__}: {error}") from error

    def _describe(self, index: int) -> str:
        paths = getattr(self.dataset, "paths", None)
        place = f" ({paths[index]})" if isinstance(paths, (list, tuple)) and index < len(paths) else ""
        return f"sample {int(index)}{place} of data set {self.opt.get('name')!r} ({type(self.dataset).__name__})"
