"""Start-up hook of facesr_plugin: ``import basicsr`` also registers the plugin's networks, models and data sets.

Started by ``facesr_plugin.pth`` (``.start`` from Python 3.15) at interpreter start. It only adds one finder to
``sys.meta_path``; nothing is imported until something imports ``basicsr``. ``FACESR_AUTOLOAD=0`` turns it off,
``FACESR_COMPAT=off`` or ``FACESR_COMPAT=-name,-name`` drop repairs of BasicSR (``facesr doctor`` lists them).
"""

import os
import sys

ALIAS = "torchvision.transforms.functional_tensor"  # gone since torchvision 0.17, imported by basicsr 1.4.2


def install(force: bool = False) -> None:
    """Put the finder in place; register at once if BasicSR is already loaded. Idempotent."""
    if os.environ.get("FACESR_AUTOLOAD") == "0" and not force:
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
        loaded = sys.modules.get("basicsr")
        if loaded is not None and not getattr(loaded.__spec__, "_initializing", False):
            _register_or_warn()


def compat_enabled(name: str) -> bool:
    """Whether ``FACESR_COMPAT`` leaves the named repair on."""
    dropped = [word.strip() for word in os.environ.get("FACESR_COMPAT", "").split(",")]
    return "off" not in dropped and f"-{name}" not in dropped


class _Finder:
    def find_spec(self, name, path=None, target=None):  # noqa: ANN001, ANN202
        if name not in ("basicsr", ALIAS):
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        if name == ALIAS:
            return spec or (type(sys.__spec__)(name, _AliasLoader()) if compat_enabled("functional-tensor") else None)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader)
        return spec


class _AliasLoader:
    create_module = staticmethod(lambda spec: None)

    def exec_module(self, module):  # noqa: ANN001, ANN202
        from torchvision.transforms import functional

        vars(module).update({key: value for key, value in vars(functional).items() if not key.startswith("__")})


class _RegisteringLoader:
    def __init__(self, loader):  # noqa: ANN001, ANN204
        self._loader = loader

    def __getattr__(self, name):  # noqa: ANN001, ANN204
        return getattr(self._loader, name)

    def exec_module(self, module):  # noqa: ANN001, ANN202
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _register_or_warn()


def _register_or_warn() -> None:
    try:
        from facesr_plugin.registry import register

        register()
    except Exception as error:  # a defect of ours must never break `import basicsr`
        import warnings

        warnings.warn(f"facesr_plugin is not registered in BasicSR: {error!r}. Try `facesr doctor`.", stacklevel=2)
