"""The examples for apps: compiled against the C library, and answering as Python does."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import capi
import numpy as np
import pytest

import edgetl
from edgetl.bundle import Bundle, Manifest
from edgetl.demo.parts import CLASSES, FURTHER, part_images
from edgetl.heads import SoftmaxHead
from edgetl.preprocess import Preprocess
from edgetl.runtime import Runtime

EXAMPLES = Path(__file__).parents[2] / "examples"
SIDE = 48
LABELS = ("blue", "green", "red")
HEADERS = (os.environ.get("ONNXRUNTIME_INCLUDE", ""), "/usr/include/onnxruntime")


def run(*words: object, succeeds: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert (done.returncode == 0) == succeeds, done.stdout + done.stderr
    return done


def tool(name: str) -> str:
    """A program, which may lie beside Python."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def save_graph(path: Path, *, takes_bytes: bool) -> None:
    """A graph whose features are the means of the channels; another output comes first."""
    onnx = pytest.importorskip("onnx")
    helper, proto = onnx.helper, onnx.TensorProto
    shape, kind = ([1, 3, SIDE, SIDE], proto.FLOAT)
    nodes = [helper.make_node("Identity", ["images"], ["planes"])]
    if takes_bytes:
        shape, kind = ([1, SIDE, SIDE, 3], proto.UINT8)
        nodes = [
            helper.make_node("Cast", ["images"], ["floats"], to=proto.FLOAT),
            helper.make_node("Transpose", ["floats"], ["whole"], perm=[0, 3, 1, 2]),
            helper.make_node("Mul", ["whole", "scale"], ["planes"]),
        ]
    nodes += [
        helper.make_node("GlobalAveragePool", ["planes"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Softmax", ["features"], ["probabilities"], axis=1),
    ]
    outputs = [
        helper.make_tensor_value_info(name, proto.FLOAT, [1, 3])
        for name in ("probabilities", "features")
    ]
    scale = onnx.numpy_helper.from_array(np.array(1 / 255, np.float32), "scale")
    graph = helper.make_graph(
        nodes,
        "backbone",
        [helper.make_tensor_value_info("images", kind, shape)],
        outputs,
        [scale] if takes_bytes else [],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


@pytest.fixture(params=[False, True], ids=["floats", "bytes"])
def bundle(request, tmp_path):
    preprocess = Preprocess(size=SIDE, resize=56, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if request.param:
        preprocess = dataclasses.replace(preprocess, layout="nhwc", dtype="uint8")
    save_graph(tmp_path / "graph.onnx", takes_bytes=request.param)
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(3), 30)
    features = rng.uniform(0.3, 0.7, (90, 3)) + 0.1 * np.eye(3)[2 - codes]
    manifest = Manifest(
        labels=LABELS,
        preprocess=preprocess,
        backbone="mean colour",
        dim=3,
        graph="backbone.onnx",
        graph_fingerprint="0" * 64,
        head="softmax",
    )
    head = SoftmaxHead(C=100.0).fit(features.astype(np.float32), codes)
    return Bundle(manifest, head, tmp_path / "graph.onnx").save(tmp_path / "colour.edgetl")


@pytest.fixture
def frame(tmp_path):
    """A frame, and the file a camera would have left."""
    pixels = np.random.default_rng(1).integers(0, 256, (90, 121, 3), dtype=np.uint8)
    pixels[:, 40:80, 1] //= 2
    (tmp_path / "frame.rgb").write_bytes(pixels.tobytes())
    return pixels


@pytest.fixture(scope="module")
def classify(installed, tmp_path_factory):
    """The program in C++, with the onnxruntime that Python has."""
    headers = next(
        (Path(p) for p in HEADERS if p and Path(p, "onnxruntime_cxx_api.h").is_file()), None
    )
    if headers is None:
        pytest.skip(
            "no headers of onnxruntime: apt-get install libonnxruntime-dev (Debian 13), or name "
            "their folder in ONNXRUNTIME_INCLUDE"
        )
    spec = importlib.util.find_spec("onnxruntime")
    libraries = sorted(Path(spec.origin).parent.glob("capi/libonnxruntime.so.*")) if spec else []
    if not libraries:
        pytest.skip("this onnxruntime brings no shared library")
    folder = tmp_path_factory.mktemp("cpp")
    for name in (
        "libonnxruntime.so.1",
        "libonnxruntime.so",
    ):  # as it is called in itself, and for -l
        (folder / name).symlink_to(libraries[0])
    run(
        *(capi.cmake(), "-S", EXAMPLES / "cpp", "-B", folder / "build"),
        f"-DCMAKE_PREFIX_PATH={installed / 'prefix'}",
        f"-DONNXRUNTIME_INCLUDE={headers}",
        f"-DONNXRUNTIME_LIBRARY={folder / 'libonnxruntime.so'}",
    )
    run(capi.cmake(), "--build", folder / "build")
    return folder / "build/classify"


@pytest.fixture(scope="module")
def nano(installed, tmp_path_factory):
    """A bundle of the package's own backbone, fitted to drawn parts."""
    del installed  # or skip
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("nano")
    labels = [label for label in CLASSES for _ in range(12)]
    photos = [photo for label in CLASSES for photo in part_images(label, "train", 12)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGETL_CACHE_DIR", str(folder / "cache"))
        return edgetl.adapt(
            (photos, labels), backbone="edgetl_nano", head="ridge", output=folder / "parts.edgetl"
        )


def answers(printed: str) -> dict[str, float]:
    return {name: float(share) for share, name in (line.split() for line in printed.splitlines())}


def test_a_whole_bundle_in_cpp_answers_as_python_does(classify, bundle, frame):
    expected = Runtime(bundle).predict(frame)
    file = bundle.path.with_name("frame.rgb")
    printed = run(classify, bundle.path, file, 121, 90).stdout
    found = answers(printed)
    assert list(found) == [label for label, _ in expected.top(3)], "most probable first"
    for label, share in expected.top(3):
        assert abs(found[label] - share) < 1e-5
    file.write_bytes(np.ascontiguousarray(frame[..., ::-1]).tobytes())
    assert answers(run(classify, bundle.path, file, 121, 90, "bgr").stdout) == found


def test_the_program_in_cpp_runs_edgetl_nano(classify, nano, tmp_path):
    for place, photo in enumerate(part_images("dent", "test", 3)):
        expected = Runtime(nano).predict(photo)
        file = tmp_path / f"{place}.rgb"
        file.write_bytes(photo.tobytes())
        found = answers(run(classify, nano.path, file, *photo.shape[1::-1]).stdout)
        assert list(found) == [label for label, _ in expected.top(len(found))]
        np.testing.assert_allclose(
            list(found.values()), [share for _, share in expected.top(len(found))], atol=1e-5
        )


@pytest.mark.parametrize("linked", ["shared", "static"])
def test_the_program_in_c_learns_with_edgetl_nano(installed, nano, linked, tmp_path):
    folder = shutil.copytree(nano.path, tmp_path / "parts.edgetl")

    def device(verb, *words, given=b""):
        command = [installed / f"program/device_{linked}", verb, folder, *words]
        done = subprocess.run(command, input=given, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode().splitlines()

    def scored():
        lines = device("score", given=Runtime(nano).features(asked).tobytes())
        return np.array([line.split() for line in lines], float)

    asked = [*part_images("ok", "test", 2), *part_images(FURTHER, "test", 2)]
    shown = device("show")
    assert shown[:3] == [
        f"network {folder / 'backbone.onnx'}",
        "input 96 x 96 of float32 in nchw",
        "generation 0",
    ]
    assert shown[3:] == [f"class {label}" for label in nano.labels]
    expected = [answer.probabilities for answer in Runtime(nano).predict(asked)]
    np.testing.assert_allclose(scored(), expected, atol=1e-6)

    new = Runtime(nano).features(list(part_images(FURTHER, "train", 6)))
    device("learn", FURTHER, given=new.tobytes())
    assert device("show")[2] == "generation 1"
    learned = edgetl.load(folder)
    assert learned.labels == (*nano.labels, FURTHER)
    expected = [answer.probabilities for answer in learned.predict(asked)]
    np.testing.assert_allclose(scored(), expected, atol=1e-6)


def test_what_the_program_in_cpp_refuses(classify, bundle, frame, tmp_path):
    del frame
    file = tmp_path / "frame.rgb"
    for words, reason in (
        ((tmp_path / "nowhere", file, 121, 90), "nowhere"),
        ((bundle.path, file, 121, 91), "the frame has 32670 bytes, 33033 are needed"),
        ((bundle.path, file, 0, 90), "WIDTH and HEIGHT"),
    ):
        done = run(classify, *words, succeeds=False)
        assert done.returncode == 1 and done.stdout == "" and reason in done.stderr
    assert run(classify, bundle.path, succeeds=False).returncode == 2
    graph = bundle.path / "backbone.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    assert "backbone.onnx" in run(classify, bundle.path, file, 121, 90, succeeds=False).stderr


NATIVE = """
package edgetl;
final class Native {
    static { System.loadLibrary("edgetl_jni"); }
    native long open(String folder);
    native void close(long handle);
    native String graph(long handle);
    native long[] shape(long handle);
    native String[] labels(long handle);
    native void prepare(long handle, java.nio.ByteBuffer first, long firstStride,
                        java.nio.ByteBuffer second, long secondStride, int format, int width,
                        int height, int rotation, java.nio.ByteBuffer input);
    native double[] score(long handle, float[] features);
}
"""
SMOKE = """
package edgetl;
import java.nio.*;
import java.nio.file.*;
final class Smoke {
    public static void main(String[] words) throws Exception {
        Native lib = new Native();
        long bundle = lib.open(words[0]);
        int width = Integer.parseInt(words[2]), height = Integer.parseInt(words[3]);
        byte[] pixels = Files.readAllBytes(Path.of(words[1]));
        ByteBuffer frame = ByteBuffer.allocateDirect(pixels.length);
        frame.put(pixels);
        long[] shape = lib.shape(bundle);
        ByteBuffer input = ByteBuffer.allocateDirect((int) shape[3]);
        lib.prepare(bundle, frame, 3 * width, null, 0, 1, width, height, 0, input);
        byte[] made = new byte[(int) shape[3]];
        input.get(made);
        Files.write(Path.of(words[4]), made);
        float[] features = new float[(int) shape[4]];
        for (int i = 0; i < features.length; ++i) features[i] = Float.parseFloat(words[5 + i]);
        double[] shares = lib.score(bundle, features);
        String[] labels = lib.labels(bundle);
        for (int i = 0; i < shares.length; ++i) System.out.println(shares[i] + " " + labels[i]);
        System.err.println(lib.graph(bundle));
        try {
            lib.prepare(bundle, frame, 3 * width, null, 0, 1, width, height + 1, 0, input);
        } catch (IllegalStateException error) { System.err.println(error.getMessage()); }
        try {
            lib.score(bundle, new float[2]);
        } catch (IllegalStateException error) { System.err.println(error.getMessage()); }
        lib.close(bundle);
        try {
            lib.open(words[0] + "-missing");
        } catch (IllegalStateException error) { System.err.println(error.getMessage()); }
    }
}
"""


@pytest.fixture(scope="module")
def java(installed, tmp_path_factory):
    """The command that runs the JNI wrapper from a Java program with the Kotlin class's methods."""
    compiler, machine = tool("javac"), tool("java")
    folder = tmp_path_factory.mktemp("jni")
    home = Path(compiler).resolve().parents[1]
    if not (home / "include/jni.h").is_file():
        pytest.skip("this JDK has no jni.h")
    run(
        *(capi.cmake(), "-S", EXAMPLES / "kotlin", "-B", folder / "build"),
        f"-DCMAKE_PREFIX_PATH={installed / 'prefix'}",
        f"-DJAVA_HOME={home}",
    )
    run(capi.cmake(), "--build", folder / "build")
    sources = folder / "edgetl"
    sources.mkdir()
    (sources / "Native.java").write_text(NATIVE)
    (sources / "Smoke.java").write_text(SMOKE)
    run(compiler, "-d", folder, *sources.glob("*.java"))
    options = ("-Xcheck:jni", f"-Djava.library.path={folder / 'build'}", "-cp", folder)
    return (machine, *options, "edgetl.Smoke")


def test_the_jni_wrapper_answers_as_python_does(java, bundle, frame, tmp_path):
    expected = Runtime(bundle).predict(frame, features=True)
    features = [repr(float(value)) for value in expected.features]
    file, made = tmp_path / "frame.rgb", tmp_path / "input"
    done = run(*java, bundle.path, file, 121, 90, made, *features)
    assert made.read_bytes() == bundle.preprocess.apply(frame).tobytes()
    lines = [line for line in done.stdout.splitlines() if line.split()[-1] in LABELS]
    found = answers("\n".join(lines))
    assert tuple(found) == LABELS
    np.testing.assert_allclose(list(found.values()), expected.probabilities, atol=1e-6)
    said = done.stderr.splitlines()
    assert said[0] == str(bundle.path / "backbone.onnx")
    assert said[1] == "a buffer is not direct, or too small"
    assert "2" in said[2] and "3" in said[2], "features: what there are, and what is needed"
    assert "missing" in said[3]
    assert "WARNING" not in done.stdout, "of -Xcheck:jni"


def test_the_kotlin_class_declares_what_the_wrapper_defines():
    kotlin = (EXAMPLES / "kotlin/Bundle.kt").read_text(encoding="utf-8")
    c = (EXAMPLES / "kotlin/edgetl_jni.c").read_text(encoding="utf-8")
    external = [line for line in kotlin.splitlines() if "external fun" in line]
    declared = {line.split("fun ")[1].split("(")[0] for line in external}
    defined = {word.split("(")[0] for word in c.split("Java_edgetl_Native_")[1:]}
    native = [line for line in NATIVE.splitlines() if "native " in line]
    assert declared == defined == {line.split("(")[0].split()[-1] for line in native}


def test_swifts_module_map_takes_the_header(installed, tmp_path):
    clang = tool("clang")
    shutil.copy(installed / "prefix/include/edgetl.h", tmp_path)
    shutil.copy(EXAMPLES / "swift/module.modulemap", tmp_path)
    (tmp_path / "probe.c").write_text(
        "#pragma clang module import CEdgetl\nint probe(void) { return EDGETL_NV12 + EDGETL_OK; }\n"
    )
    cache = f"-fmodules-cache-path={tmp_path / 'cache'}"
    run(clang, "-fsyntax-only", "-fmodules", cache, "-I", tmp_path, tmp_path / "probe.c")


def test_swift_calls_only_what_the_header_declares(installed):
    header = (installed / "prefix/include/edgetl.h").read_text(encoding="utf-8")
    swift = (EXAMPLES / "swift/Edgetl.swift").read_text(encoding="utf-8")
    words = "".join(c if c.isalnum() or c == "_" else " " for c in swift).split()
    used = {word for word in words if word.startswith(("edgetl_", "EDGETL_"))}
    assert len(used) > 15
    assert [word for word in sorted(used) if word not in header] == []


def test_python_s_runtime_goes_on_from_what_c_learned(library, bundle, frame):
    rows = np.array([[0.6, 0.2, 0.2], [0.62, 0.2, 0.21]], np.float32)
    with (
        capi.open_bundle(library, bundle.path) as opened,
        capi.Learner.of_bundle(library, opened) as learner,
    ):
        learner.learn(rows, ["rust", "rust"])
        with learner.commit(opened) as changed:
            head = capi.head_of(library, changed)
            device = edgetl.load(bundle.path)
            found = device.predict(frame, features=True)
            expected = capi.probabilities(library, head, found.features[None])[0]
    assert device.labels == (*LABELS, "rust")
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)
    kept = device.learner.generations()[-1].number
    assert kept == 1
    done = device.learn_features(rows[:1], ["gold"])
    assert (done.generation, device.labels) == (2, (*LABELS, "rust", "gold"))
    device.rollback(kept)
    assert device.labels == (*LABELS, "rust")
    np.testing.assert_array_equal(device.predict(frame).probabilities, found.probabilities)
