"""``edgetl doctor``: it finds what is there, says what is not, and works where little is."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys

import pytest

import edgetl
from edgetl import native
from edgetl.cli.main import main
from edgetl.engines import available_cores

# Ends any attempt to reach the network, or to import what takes seconds.
GUARDS = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was used")
socket.socket.connect = socket.getaddrinfo = refuse
for name in ("torch", "torchvision", "timm", "onnx", "sklearn", "pyarrow", "lance"):
    sys.modules[name] = None
"""
RUN = """
from edgetl.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def doctor(tmp_path, *words, before="", path=None, **env):
    """The verb in a process of its own, where packages can be hidden, broken or made up."""
    environment = {**os.environ, "EDGETL_ISA": "", **env}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", GUARDS + before + RUN, "doctor", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def report(tmp_path, *, code=0, **options):
    result = doctor(tmp_path, "--json", **options)
    assert result.returncode == code, result.stderr + result.stdout
    return json.loads(result.stdout)


def hide(*names):
    """Make modules fail to import, and distributions of the same names vanish."""
    return f"""
import importlib.metadata
_version = importlib.metadata.version
def version(name):
    if name in {names!r}:
        raise importlib.metadata.PackageNotFoundError(name)
    return _version(name)
importlib.metadata.version = version
for name in {names!r}:
    sys.modules[name] = None
"""


def test_what_is_there_is_found(tmp_path):
    import onnxruntime

    found = report(tmp_path, EDGETL_CACHE_DIR=str(tmp_path / "here"), EDGETL_OFFLINE="1")
    assert found["usable"] and not found["problems"]
    assert found["edgetl"] == edgetl.__version__
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["cores"] == available_cores()
    core = found["core"]
    assert core["compiled"] and core["reason"] is None and core["cap"] is None
    assert core["path"] == native._core.__file__
    assert core["instruction_set"] == core["best"] == native.instruction_sets()[-1]
    engine = found["engines"]["onnxruntime"]
    assert engine["status"] == "ready"
    assert engine["details"]["version"] == onnxruntime.__version__
    assert engine["details"]["providers"] == onnxruntime.get_available_providers()
    for name in ("numpy", "pillow", "safetensors", "simplejpeg"):
        assert found["packages"][""][name] == importlib.metadata.version(name)
    assert set(found["packages"]) >= {"", "ort", "ort-gpu", "openvino", "tensorrt", "train"}
    assert found["cache"] == str(tmp_path / "here")
    assert found["offline"] is True


def test_the_table_has_a_row_for_every_part(tmp_path):
    result = doctor(tmp_path)
    assert result.returncode == 0, result.stderr
    first_words = [line.split("  ")[0] for line in result.stdout.splitlines()]
    for part in ("edgetl", "native core", "instruction set", "JPEG decoder", "CUDA module"):
        assert part in first_words
    for part in ("onnxruntime", "openvino", "tensorrt", "torch", "packages", "cache", "network"):
        assert part in first_words
    assert native.instruction_set() in result.stdout
    assert result.stderr == ""


def test_without_any_engine_nothing_can_run(tmp_path):
    gone = hide("onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch")
    found = report(tmp_path, code=3, before=gone)
    assert not found["usable"]
    assert len(found["problems"]) == 1
    assert "no engine can run here: none is installed" in found["problems"][0]
    assert "pip install 'edgetl[ort]'" in found["problems"][0]
    for name, extra in (("onnxruntime", "ort"), ("openvino", "openvino"), ("torch", "train")):
        part = found["engines"][name]
        assert part["status"] == "missing"
        assert part["mend"] == f"pip install 'edgetl[{extra}]'"
    text = doctor(tmp_path, before=gone)
    assert text.returncode == 3
    assert "problem: no engine can run here" in text.stdout


def test_an_engine_that_does_not_import_is_said_to_be_broken(tmp_path):
    package = tmp_path / "made-up" / "onnxruntime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('libonnxruntime.so.1: no such file')")
    alone = hide("openvino", "tensorrt", "tensorrt_rtx")
    found = report(tmp_path, code=3, before=alone, path=package.parent)
    engine = found["engines"]["onnxruntime"]
    assert engine["status"] == "broken"
    assert "libonnxruntime.so.1: no such file" in engine["reason"]
    assert "onnxruntime can't be used" in found["problems"][0]
    assert any("pip uninstall -y onnxruntime" in text for text in found["warnings"])


def test_two_wheels_of_onnxruntime_are_a_conflict(tmp_path):
    record = tmp_path / "made-up" / "onnxruntime_gpu-1.22.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.22.0\n"
    )
    found = report(tmp_path, path=record.parent)
    assert found["engines"]["onnxruntime"]["details"]["wheels"]["onnxruntime-gpu"] == "1.22.0"
    conflicts = [text for text in found["warnings"] if "overwrite each other" in text]
    assert len(conflicts) == 1
    assert "onnxruntime and onnxruntime-gpu" in conflicts[0]
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in conflicts[0]


def test_without_the_core_numpy_does_it_and_the_doctor_says_so(tmp_path):
    gone = "sys.modules['edgetl.native._core'] = None\n"
    found = report(tmp_path, before=gone, EDGETL_REQUIRE_NATIVE="0")
    assert found["usable"]
    assert not found["core"]["compiled"] and found["core"]["path"] is None
    assert found["core"]["instruction_set"] == "portable"
    assert len([text for text in found["warnings"] if "compiled core is missing" in text]) == 1
    assert "pip install" in found["warnings"][0]


def test_without_the_core_where_it_is_demanded_nothing_can_run(tmp_path):
    gone = "sys.modules['edgetl.native._core'] = None\n"
    found = report(tmp_path, code=3, before=gone, EDGETL_REQUIRE_NATIVE="1")
    assert any("EDGETL_REQUIRE_NATIVE is 1" in text for text in found["problems"])


def test_a_capped_instruction_set_is_a_warning(tmp_path):
    found = report(tmp_path, EDGETL_ISA="portable")
    assert found["core"]["cap"] == found["core"]["instruction_set"] == "portable"
    slower = native.instruction_sets()[-1] != "portable"
    assert any("EDGETL_ISA" in text for text in found["warnings"]) is slower


def test_an_unknown_instruction_set_is_a_problem(tmp_path):
    found = report(tmp_path, code=3, EDGETL_ISA="mmx")
    assert found["core"]["instruction_set"] is None
    assert any("got 'mmx'; unset it" in text for text in found["problems"])


def test_the_jpeg_decoder(tmp_path):
    from PIL import features

    from edgetl.native import jpeg

    found = report(tmp_path, EDGETL_DECODER="")["jpeg"]
    assert (found["status"] == "ready") == (jpeg.library() is not None)
    if found["status"] == "ready":
        assert found["details"]["path"] == jpeg.description()
        assert re.match(r"libjpeg-turbo \d+\.\d+\S* in the core, ", found["about"])
        version = features.version_feature("libjpeg_turbo")
        assert found["details"]["version"] == version and f" {version} " in found["about"]
        unknown = report(tmp_path, EDGETL_DECODER="", before="sys.modules['PIL.features'] = None\n")
        assert unknown["jpeg"]["status"] == "ready"
        assert unknown["jpeg"]["details"]["version"] is None
    by_choice = report(tmp_path, EDGETL_DECODER="python")["jpeg"]
    assert by_choice["status"] == "missing"
    assert "EDGETL_DECODER is python" in by_choice["reason"]
    wrong = report(tmp_path, code=3, EDGETL_DECODER="turbo")
    assert any("got 'turbo'; unset it" in text for text in wrong["problems"])


MODULE = """
import types
module = types.ModuleType("edgetl.native._cuda")
module.__file__ = "/somewhere/_cuda.so"
module.device_count = lambda: {count}
module.why_no_device = lambda: {why!r}
sys.modules["edgetl.native._cuda"] = module
"""


DAMAGED = """
class Damaged:
    def find_spec(self, name, path=None, target=None):
        if name == "edgetl.native._cuda":
            raise ImportError("_cuda.so: file too short")
sys.meta_path.insert(0, Damaged())
"""


def test_the_cuda_module_and_its_devices(tmp_path):
    none = report(tmp_path, before="sys.modules['edgetl.native._cuda'] = None\n")["cuda"]
    assert none["status"] == "missing"
    assert none["reason"] == "not built" and "EDGETL_CUDA=ON" in none["mend"]
    broken = report(tmp_path, before=DAMAGED)
    assert broken["cuda"]["status"] == "broken"
    (warning,) = (text for text in broken["warnings"] if "CUDA" in text)
    assert "file too short; mend it with: EDGETL_CUDA=ON pip install ." in warning
    idle = report(tmp_path, before=MODULE.format(count=0, why="no CUDA driver"))["cuda"]
    assert idle["status"] == "missing"
    assert idle["reason"].endswith("no GPU here that CUDA can use: no CUDA driver")
    ready = report(tmp_path, before=MODULE.format(count=2, why=""))["cuda"]
    assert ready["status"] == "ready"
    assert ready["details"]["devices"] == 2


@pytest.mark.parametrize("name", ["numpy", "PIL"])
def test_a_missing_package_of_its_own_is_no_traceback(name, tmp_path):
    result = doctor(tmp_path, before=hide(name, {"PIL": "pillow"}.get(name, name)))
    assert result.returncode == 3
    assert "Traceback" not in result.stderr
    assert {"PIL": "pillow"}.get(name, name) in result.stderr + result.stdout


def test_in_this_process(capsys):
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.startswith("edgetl ")
