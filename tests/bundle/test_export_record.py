"""What a bundle says about its export: read back as written, and refused where it is damaged."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from edgetl.bundle import MANIFEST, Bundle, ExportRecord, GateRecord, Limits, Manifest
from edgetl.errors import CorruptError
from edgetl.heads import RidgeHead
from edgetl.preprocess import Preprocess

RECORD = ExportRecord(
    engine="tensorrt",
    precision="int8",
    fused=True,
    limits=Limits(
        least_cosine=0.9, mean_cosine=0.98, agreement=0.9, max_drop=0.5, budget_ms=12.5, slower=True
    ),
    gates=(
        GateRecord(
            name="parity: features", passed=True, measured="0.99", limit="0.98", exit_code=4
        ),
        GateRecord(name="speed", passed=None, measured="not here", limit="12.5 ms", exit_code=6),
    ),
    source="/models/größe.edgetl",
    source_digest="a" * 64,
    float_bytes=123,
    accuracy={"float32": 0.96, "before refit": 0.9, "shipped": 1.0},
    options={"max_batch": 4, "engine_stamp": {"version": [10, 3], "device": None}},
    search={"reason": "as asked", "candidates": [{"ms": 1.5, "verdict": None}]},
    machine={"processor": "some"},
    compiled={"engine": "backbone.int8.engine"},
)


@pytest.fixture
def saved(tmp_path):
    """A bundle with that record and the file that it says was compiled."""
    features = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    graph, engine = tmp_path / "graph.onnx", tmp_path / "built.engine"
    graph.write_bytes(b"\x08\x08" + bytes(range(256)))
    engine.write_bytes(bytes(reversed(range(256))) * 20)
    manifest = Manifest(
        labels=("a", "b", "c"),
        preprocess=Preprocess(),
        backbone="tiny",
        dim=4,
        graph="backbone.int8.onnx",
        graph_fingerprint="f" * 64,
        head="ridge",
        export=RECORD,
    )
    head = RidgeHead().fit(features, np.arange(30) % 3)
    bundle = Bundle(manifest, head, graph, compiled={"backbone.int8.engine": engine})
    return bundle.save(tmp_path / "exported.edgetl")


def test_it_survives_json():
    text = json.dumps(RECORD.to_json(), allow_nan=False)
    assert ExportRecord.from_json(json.loads(text)) == RECORD


def test_what_is_optional_may_be_absent():
    bare = {
        "engine": "onnxruntime",
        "precision": "fp32",
        "fused": False,
        "limits": {"least_cosine": 1, "mean_cosine": 1, "agreement": 1, "max_drop": 0},
    }
    record = ExportRecord.from_json(bare)
    assert record.gates == ()
    assert record.limits.budget_ms is None
    assert not record.limits.slower


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("engine"), "lacks"),
        (lambda r: r.update(surprise=1), "surprise"),
        (lambda r: r.update(engine="cuda"), "onnxruntime"),
        (lambda r: r.update(precision="int4"), "int8"),
        (lambda r: r.update(fused=1), "fused"),
        (lambda r: r.update(float_bytes=1.5), "float_bytes"),
        (lambda r: r.update(gates={}), "gates"),
        (lambda r: r["gates"][0].update(passed="yes"), "passed"),
        (lambda r: r["gates"][1].pop("limit"), "limit"),
        (lambda r: r["gates"][1].update(exit_code=None), "exit_code"),
        (lambda r: r.update(limits=None), "limits"),
        (lambda r: r["limits"].update(max_drop="0.5"), "max_drop"),
        (lambda r: r["limits"].update(agreement=2), "agreement"),
        (lambda r: r["limits"].update(budget_ms=0), "budget_ms"),
        (lambda r: r["limits"].update(budget_mb=-1.0), "budget_mb"),
        (lambda r: r.update(accuracy={"float32": "high"}), "accuracy"),
        (lambda r: r.update(compiled=["backbone.int8.engine"]), "compiled"),
        (lambda r: r.update(machine={"cores": 2}), "cores"),
    ],
)
def test_damaged_records_are_refused(change, message, saved):
    values = RECORD.to_json()
    change(values)
    with pytest.raises(CorruptError, match=message):
        ExportRecord.from_json(values)
    rewrite(saved, lambda content: content.update(export=values))
    with pytest.raises(CorruptError, match=message):
        Bundle.load(saved.path)


def rewrite(bundle, change):
    """Change the manifest's JSON, and mend its digest."""
    content = json.loads((bundle.path / MANIFEST).read_bytes())
    change(content)
    content["digest"] = "0" * 64
    data = json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
    stated = b'"digest": "'
    found = stated + hashlib.sha256(data).hexdigest().encode()
    (bundle.path / MANIFEST).write_bytes(data.replace(stated + b"0" * 64, found, 1))


def test_compiled_files_travel(saved, tmp_path):
    opened = Bundle.load(saved.path)
    assert opened.manifest.export == RECORD
    assert set(opened.compiled) == {"backbone.int8.engine"}
    content = bytes(reversed(range(256))) * 20
    assert opened.read_compiled("backbone.int8.engine") == content
    assert opened.size == sum(file.stat().st_size for file in saved.path.iterdir())
    again = opened.save(tmp_path / "again.edgetl")
    assert again.manifest == opened.manifest
    assert Bundle.load(again.path).read_compiled("backbone.int8.engine") == content
    # Over itself, too.
    assert opened.save(saved.path).read_compiled("backbone.int8.engine") == content


def test_a_changed_compiled_file_is_refused(saved, tmp_path):
    opened = Bundle.load(saved.path)
    file = saved.path / "backbone.int8.engine"
    whole = file.read_bytes()
    for position in (0, 2000, len(whole) - 1):
        changed = bytearray(whole)
        changed[position] ^= 1
        file.write_bytes(changed)
        with pytest.raises(CorruptError, match=r"backbone\.int8\.engine was changed"):
            Bundle.load(saved.path)
        with pytest.raises(CorruptError, match="was changed"):
            opened.read_compiled("backbone.int8.engine")
        with pytest.raises(CorruptError, match="was changed"):
            opened.save(tmp_path / "copy.edgetl")
        assert not (tmp_path / "copy.edgetl").exists()
    file.unlink()
    with pytest.raises(CorruptError, match=r"backbone\.int8\.engine is missing"):
        Bundle.load(saved.path)


@pytest.mark.parametrize("name", ["other.engine", "../built.engine", "/etc/hostname", MANIFEST])
def test_a_compiled_file_without_a_hash_is_refused(name, saved):
    rewrite(saved, lambda content: content["export"].update(compiled={"engine": name}))
    with pytest.raises(CorruptError, match="no hash of"):
        Bundle.load(saved.path)


def test_an_exported_graph_is_not_stamped_again(saved):
    assert saved.read_graph() == b"\x08\x08" + bytes(range(256))


def test_the_record_belongs_to_what_the_digest_proves(saved):
    file = saved.path / MANIFEST
    file.write_bytes(file.read_bytes().replace(b'"max_drop": 0.5', b'"max_drop": 9.5'))
    with pytest.raises(CorruptError, match="changed after it was written"):
        Bundle.load(saved.path)


def test_a_bundle_that_was_not_exported_says_so(saved, tmp_path):
    manifest = dataclasses.replace(saved.manifest, export=None, files={})
    plain = dataclasses.replace(saved, manifest=manifest, compiled={}).save(tmp_path / "plain")
    content = json.loads((plain.path / MANIFEST).read_bytes())
    assert content["export"] is None
    assert Bundle.load(plain.path).manifest.export is None
