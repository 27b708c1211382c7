"""The start-up hook in real processes: ``import basicsr`` knows the plugin, however Python and BasicSR were started."""

from __future__ import annotations

import resource
import statistics
import subprocess
import textwrap
from pathlib import Path

import pytest

from helpers.environments import TORCHRUN, ChildEnv, clean_env, run

pytestmark = pytest.mark.process

HOOKED = "import sys; print(sum(type(f).__module__ == '_facesr_autoload' for f in sys.meta_path))"
KNOWN = textwrap.dedent("""
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY
    print("SPARNet" in ARCH_REGISTRY, "SPARNetModel" in MODEL_REGISTRY, "FaceSRDataset" in DATASET_REGISTRY)
""")
ALL_KNOWN = "True True True\n"
NONE_KNOWN = "False False False\n"


def test_start_only_adds_one_finder(installed: ChildEnv) -> None:
    code = HOOKED + "; print([name for name in ('torch', 'basicsr', 'facesr_plugin', 'numpy') if name in sys.modules])"
    assert installed.code(code) == "1\n[]\n"


def test_start_costs_next_to_nothing(wheel_env: ChildEnv, shared: Path, tmp_path: Path) -> None:
    without = ChildEnv.create(tmp_path / "without", shared)
    times: dict[Path, list[float]] = {wheel_env.python: [], without.python: []}
    for _ in range(20):
        for python, taken in times.items():
            begin = _seconds_of_children()
            subprocess.run([python, "-c", ""], check=True, env=clean_env())
            taken.append(_seconds_of_children() - begin)
    with_hook, plain = (statistics.median(taken) for taken in times.values())
    assert with_hook - plain < 0.005, f"{with_hook * 1e3:.1f} ms with the hook, {plain * 1e3:.1f} ms without"


def _seconds_of_children() -> float:
    """Processor time of the children so far; unlike the clock it does not count other processes' turns."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_import_basicsr_registers_the_plugin(installed: ChildEnv) -> None:
    assert installed.code("import basicsr" + KNOWN) == ALL_KNOWN


@pytest.mark.parametrize(
    "code", ["import facesr_plugin, basicsr", "import basicsr, facesr_plugin", "import facesr_plugin.models.stages"]
)
def test_plugin_may_be_imported_before_or_after(wheel_env: ChildEnv, code: str) -> None:
    assert wheel_env.code(code + KNOWN) == ALL_KNOWN


def test_submodule_import_registers_as_well(wheel_env: ChildEnv) -> None:
    code = "from basicsr.archs import build_network; print(type(build_network({'type': 'SPARNet'})).__name__)"
    assert wheel_env.code(code) == "SPARNet\n"


def test_isolated_python_has_the_hook(installed: ChildEnv) -> None:
    assert installed.code(HOOKED, "-I") == "1\n"


def test_python_without_site_has_no_hook(installed: ChildEnv) -> None:
    assert installed.code(HOOKED, "-S") == "0\n"


def test_autoload_can_be_turned_off(installed: ChildEnv) -> None:
    assert installed.code(HOOKED, FACESR_AUTOLOAD="0") == "0\n"


def test_autoload_off_leaves_basicsr_alone_until_asked(wheel_env: ChildEnv) -> None:
    alias = """
        import sys
        import torchvision.transforms.functional as functional
        sys.modules.setdefault("torchvision.transforms.functional_tensor", functional)
        import facesr_plugin
        import basicsr
    """
    code = textwrap.dedent(alias) + KNOWN + "facesr_plugin.register()" + KNOWN
    assert wheel_env.code(code, FACESR_AUTOLOAD="0") == NONE_KNOWN + ALL_KNOWN


def test_registering_again_changes_nothing(wheel_env: ChildEnv) -> None:
    code = """
        import basicsr, facesr_plugin
        from basicsr.utils import registry
        from basicsr.utils.options import parse_options
        every = [getattr(registry, name) for name in dir(registry) if name.endswith("_REGISTRY")]
        before = [dict(one._obj_map) for one in every]
        facesr_plugin.register()
        facesr_plugin.register()
        from basicsr.utils import options
        print(before == [one._obj_map for one in every], len(every), options.parse_options is parse_options)
    """
    assert wheel_env.code(textwrap.dedent(code)) == "True 5 True\n"


def test_taken_name_is_left_to_its_owner(wheel_env: ChildEnv, tmp_path: Path) -> None:
    (tmp_path / "other_plugin.py").write_text("class SPARNet:\n    pass\n")
    code = """
        import sys
        import torchvision.transforms.functional as functional
        sys.modules.setdefault("torchvision.transforms.functional_tensor", functional)
        import basicsr
        from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
        from other_plugin import SPARNet
        ARCH_REGISTRY.register(SPARNet)
        import facesr_plugin
        facesr_plugin.register()
        print(ARCH_REGISTRY.get("SPARNet") is SPARNet, "SPARNetModel" in MODEL_REGISTRY)
    """
    command = [wheel_env.python, "-c", textwrap.dedent(code)]
    done = run(command, cwd=tmp_path, FACESR_AUTOLOAD="0")
    assert done.stdout == "True True\n"
    (warning,) = (line for line in done.stderr.splitlines() if "SPARNet" in line)
    assert "facesr_plugin.archs.sparnet_arch" in warning
    assert "other_plugin" in warning


def test_broken_plugin_leaves_basicsr_importable(wheel_env: ChildEnv, tmp_path: Path) -> None:
    broken = tmp_path / "facesr_plugin"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('half an update')\n")
    code = "import basicsr; from basicsr.archs import build_network; print(basicsr.__version__)"
    done = run([wheel_env.python, "-c", code], cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.stdout == "1.4.2\n"
    (warning,) = (line for line in done.stderr.splitlines() if "facesr_plugin is not registered" in line)
    assert "half an update" in warning
    assert "facesr doctor" in warning


def test_failing_basicsr_keeps_its_own_error(wheel_env: ChildEnv, tmp_path: Path) -> None:
    (tmp_path / "basicsr").mkdir()
    (tmp_path / "basicsr" / "__init__.py").write_text("raise OSError('their disk')\n")
    done = run([wheel_env.python, "-c", "import basicsr"], cwd=tmp_path, check=False, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("OSError: their disk")
    assert "facesr" not in done.stderr.replace(str(tmp_path), "").split("Traceback")[0]


def test_spawned_child_builds_a_network(installed: ChildEnv, tmp_path: Path) -> None:
    script = tmp_path / "spawn.py"
    script.write_text(
        textwrap.dedent("""
        import multiprocessing

        def build(queue):
            from basicsr.archs import build_network
            queue.put(type(build_network({"type": "SPARNet", "min_ch": 4, "max_ch": 8, "res_depth": 1})).__name__)

        if __name__ == "__main__":
            context = multiprocessing.get_context("spawn")
            queue = context.Queue()
            child = context.Process(target=build, args=(queue,))
            child.start()
            print(queue.get(timeout=100))
            child.join()
    """)
    )
    assert run([installed.python, script], cwd=tmp_path).stdout.splitlines()[-1] == "SPARNet"


def test_torchrun_ranks_know_the_plugin(wheel_env: ChildEnv, tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        from basicsr.archs import build_network
        from basicsr.utils.dist_util import get_dist_info, init_dist

        init_dist("pytorch")
        network = build_network({"type": "SPARNet", "min_ch": 4, "max_ch": 8, "res_depth": 1})
        sys.stdout.write(f"rank {get_dist_info()} {type(network).__name__}\\n")
        import torch.distributed
        torch.distributed.destroy_process_group()
    """)
    )
    printed = run([wheel_env.python, *TORCHRUN, script], cwd=tmp_path, CUDA_VISIBLE_DEVICES="").stdout
    assert {line for line in printed.splitlines() if line.startswith("rank")} == {
        "rank (0, 2) SPARNet",
        "rank (1, 2) SPARNet",
    }


def test_dropped_alias_brings_the_defect_back(wheel_env: ChildEnv) -> None:
    code = """
        from importlib.machinery import PathFinder
        import torchvision.transforms
        print(PathFinder.find_spec("torchvision.transforms.functional_tensor", torchvision.transforms.__path__) is None)
        try:
            import basicsr
        except ModuleNotFoundError as error:
            print(error)
    """
    printed = wheel_env.code(textwrap.dedent(code), FACESR_COMPAT="-lmdb-writer, -functional-tensor")
    defect = "True\nNo module named 'torchvision.transforms.functional_tensor'\n"
    assert printed in (defect, "False\n")
