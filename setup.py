"""Build facesr_plugin: the package, its option files, and the start-up hook in the root of the wheel."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).parent
HOOK_FILES = ("facesr_plugin.pth", "facesr_plugin.start")


class BuildWithHook(build_py):
    """Copy the start-up files beside the package, so that a wheel puts them into site-packages."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for name in HOOK_FILES:
                self.copy_file(str(ROOT / name), str(Path(self.build_lib) / name), preserve_mode=False)

    def get_outputs(self, include_bytecode=1):
        hook = [] if self.editable_mode else [str(Path(self.build_lib) / name) for name in HOOK_FILES]
        return super().get_outputs(include_bytecode) + hook


class EditableWithHook(editable_wheel):
    """Put the start-up files into an editable wheel as well."""

    def _select_strategy(self, *args, **kwargs):
        return StrategyWithHook(super()._select_strategy(*args, **kwargs))


class StrategyWithHook:
    """Wrap the chosen way of linking to the source tree and add the start-up files."""

    def __init__(self, strategy):
        self.strategy = strategy

    def __call__(self, wheel, files, mapping):
        self.strategy(wheel, files, mapping)
        for name in HOOK_FILES:
            wheel.writestr(name, (ROOT / name).read_bytes())

    def __enter__(self):
        self.strategy.__enter__()
        return self

    def __exit__(self, *exception):
        return self.strategy.__exit__(*exception)


PLOTS = ["matplotlib>=3.7"]
METRICS = ["scipy>=1.10", "lpips>=0.1.4"]
LANDMARKS = ["face-alignment>=1.3"]
DEV = [
    "pytest>=7.4",
    "pytest-xdist>=3.5",
    "ruff>=0.8",
    "scikit-image>=0.21",
    "hypothesis>=6.90",
    "pre-commit>=3.5",
    "torchmetrics>=1.2",
    *PLOTS,
    *METRICS,
]

setup(
    name="facesr-plugin",
    version=re.search(r'__version__ = "(.+)"', (ROOT / "facesr_plugin/version.py").read_text())[1],
    description="Face super-resolution for BasicSR: SPARNet, SPARNetHD, Progressive FSR, DIC and JASRNet",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["facesr_plugin", "facesr_plugin.*"]), "facesr_plugin.options"],
    package_dir={"facesr_plugin.options": "options"},
    package_data={"facesr_plugin.options": ["*.yml"], "facesr_plugin.evaluation": ["templates/*"]},
    py_modules=["_facesr_autoload"],
    entry_points={"console_scripts": ["facesr = facesr_plugin.cli:main"]},
    install_requires=[
        'basicsr>=1.4.2; python_version < "3.13"',
        "facexlib>=0.3",
        "torch>=2.1",
        "torchvision>=0.16",
        "numpy>=1.23",
        "Pillow>=9.5",
        "opencv-python>=4.8",
        "lmdb>=1.4.1",
        "PyYAML>=6.0",
        "tqdm>=4.60",
        "jinja2>=3.1",
        "safetensors>=0.4",
    ],
    extras_require={"mmcv": ["mmcv>=2.0"], "plots": PLOTS, "metrics": METRICS, "landmarks": LANDMARKS, "dev": DEV},
    cmdclass={"build_py": BuildWithHook, "editable_wheel": EditableWithHook},
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
