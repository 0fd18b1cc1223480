"""``edgetl cache``, on real stores."""

import argparse
import json
import os
import time

import numpy as np
import pytest
from toy import DIM, PREPROCESS, ToyEngine, open_store

from edgetl.cli import cache as verb
from edgetl.features import extract
from edgetl.transfer.prefix_cache import PrefixCache


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run the verb; gives its exit code and what it prints."""
    monkeypatch.setenv("EDGETL_CACHE_DIR", str(tmp_path))

    def run(*words):
        parser = argparse.ArgumentParser()
        verb.add_parser(parser.add_subparsers(required=True))
        arguments = parser.parse_args(["cache", *words])
        code = arguments.run(arguments)
        return code, capsys.readouterr().out

    return run


@pytest.fixture
def root(tmp_path):
    return tmp_path / "features"


@pytest.fixture
def filled(root, photos):
    """Two stores, the float32 one last used two days ago; gives their keys."""
    keys = []
    for dtype in ("float16", "float32"):
        with open_store(root, dtype=dtype) as store:
            extract(photos[:20], engine=ToyEngine(), preprocess=PREPROCESS, store=store)
            keys.append(store.key)
    os.utime(root / f"{keys[1]}.lock", (time.time() - 2 * 86400,) * 2)
    return keys


def test_info_of_no_cache(call):
    code, text = call("info")
    assert code == 0
    assert "0 stores, 0.0 MB" in text
    assert json.loads(call("info", "--json")[1])["stores"] == []
    assert call("verify") == (0, "0 of 0 stores are sound\n")
    assert call("prune", "--all")[0] == 0


def test_info(call, filled):
    code, text = call("info", "--json")
    stores = json.loads(text)["stores"]
    assert code == 0
    assert [store["key"] for store in stores] == filled, "last used first"
    assert [(s["rows"], s["dim"], s["dtype"], s["about"]) for s in stores] == [
        (20, DIM, "float16", "toy"),
        (20, DIM, "float32", "toy"),
    ]
    assert stores[1]["size"] > stores[0]["size"] > 20 * DIM * 2
    assert stores[0]["used"] - stores[1]["used"] == pytest.approx(2 * 86400, abs=60)
    lines = call("info")[1].splitlines()
    assert len(lines) == 6
    assert lines[1].startswith(filled[0][:12])
    assert "20 rows" in lines[1]


def test_verify_finds_and_repairs_damage(call, filled, root):
    assert call("verify")[0] == 0
    with open_store(root) as store:
        digests = store._rows()
        out = np.empty((20, DIM), np.float32)
        store.read(digests.numbers, digests.words.view(np.uint8), out)
    (file,) = (root / f"{filled[0]}.lance" / "data").iterdir()
    row = out[3].astype(np.float16).tobytes()
    data = file.read_bytes()
    assert row in data
    file.write_bytes(data.replace(row, row[::-1]))

    code, text = call("verify", "--json")
    damaged = {store["key"]: store["damaged"] for store in json.loads(text)["stores"]}
    assert (code, damaged) == (7, {filled[0]: 1, filled[1]: 0})
    code, text = call("verify")
    assert code == 7
    assert "1 of 20 rows damaged; --repair drops them" in text
    code, text = call("verify", "--repair")
    assert code == 0
    assert "1 of 20 rows damaged; dropped" in text
    assert call("verify")[0] == 0
    assert {s["rows"] for s in json.loads(call("info", "--json")[1])["stores"]} == {19, 20}


def test_verify_finds_an_unreadable_version(call, filled, root):
    (manifest,) = (root / f"{filled[0]}.lance" / "_versions").glob("*.manifest")
    manifest.write_bytes(b"nonsense" * 30)
    for _ in range(2):
        code, text = call("verify")
        assert code == 7
        assert "1 versions unreadable; --repair drops them" in text
    assert "unreadable" in call("info")[1]
    assert call("verify", "--repair")[0] == 0
    assert call("verify") == (0, f"{filled[1][:12]}  20 rows, all whole\n1 of 1 stores are sound\n")


def test_prune_by_age(call, filled, root):
    code, text = call("prune", "--older-than", "1", "--json")
    assert code == 0
    done = json.loads(text)
    assert (done["removed"], done["busy"]) == ([filled[1]], [])
    assert done["freed"] > 20 * DIM * 4
    assert sorted(path.name for path in root.glob("*.lance")) == [f"{filled[0]}.lance"]


def test_prune_by_size_removes_what_was_used_longest_ago(call, filled, root):
    sizes = {s["key"]: s["size"] for s in json.loads(call("info", "--json")[1])["stores"]}
    assert json.loads(call("prune", "--max-size", "1G", "--json")[1])["removed"] == []
    limit = str(sum(sizes.values()) - 1)
    assert json.loads(call("prune", "--max-size", limit, "--json")[1])["removed"] == [filled[1]]
    assert json.loads(call("prune", "--max-size", "0", "--json")[1])["removed"] == [filled[0]]


def test_prune_leaves_alone_what_is_in_use(call, filled, root, photos):
    with open_store(root) as store:
        code, text = call("prune", "--all", "--json")
        assert code == 0
        assert (json.loads(text)["removed"], json.loads(text)["busy"]) == ([filled[1]], [filled[0]])
        result = extract(photos[:20], engine=ToyEngine(), preprocess=PREPROCESS, store=store)
        assert result.hits == 20
    assert "removed 1 stores" in call("prune", "--all")[1]
    assert list(root.glob("*.lance")) == []
    with open_store(root) as store:
        result = extract(photos[:20], engine=ToyEngine(), preprocess=PREPROCESS, store=store)
        assert result.misses == 20


def test_prune_forgets_files_that_are_gone(call, root, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("edgetl.features.content._RACY_NS", 0)
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(photos[0].read_bytes())
    time.sleep(0.03)
    with open_store(root) as store:
        extract([copy, photos[1]], engine=ToyEngine(), preprocess=PREPROCESS, store=store)
    copy.unlink()
    assert json.loads(call("prune", "--json")[1])["forgotten"] == 1
    with open_store(root) as store:
        assert store.paths.paths() == [os.fsencode(photos[1])]


def test_what_a_killed_process_left_is_removed(call, root, filled):
    old, new = root / ".unfinished-old", root / ".unfinished-new"
    old.mkdir()
    new.mkdir()
    os.utime(old, (time.time() - 7200,) * 2)
    call("prune")
    assert (old.exists(), new.exists()) == (False, True)


@pytest.fixture
def graphs(tmp_path):
    """Two graphs, the second last used two days ago, and what exports left: old and new."""
    old, new = tmp_path / "graphs" / "k1", tmp_path / "graphs" / "k2"
    for folder, size in ((old, 3000), (new, 5000)):
        (folder / ".new-abc").mkdir(parents=True)
        (folder / ".new-abc" / "backbone.onnx").write_bytes(b"x" * 100)
        (folder / f"{'f' * 64}.onnx").write_bytes(b"g" * size)
    ago = (time.time() - 2 * 86400,) * 2
    os.utime(old / f"{'f' * 64}.onnx", ago)
    os.utime(old / ".new-abc", ago)
    return old, new


def held(*folders):
    return [sorted(path.name[:4] for path in folder.iterdir()) for folder in folders]


def test_info_counts_graphs(call, graphs, tmp_path):
    found = json.loads(call("info", "--json")[1])["graphs"]
    assert found == {"root": str(tmp_path / "graphs"), "number": 2, "size": 8200}
    assert call("info")[1].splitlines()[-3].endswith("graphs: 2 exported graphs, 0.0 MB")


def test_prune_removes_graphs_by_age_or_all(call, graphs):
    assert json.loads(call("prune", "--json")[1])["graphs"] == 0
    assert held(*graphs) == [["ffff"], [".new", "ffff"]], "abandoned exports only"
    done = json.loads(call("prune", "--older-than", "1", "--json")[1])
    assert (done["graphs"], done["freed"]) == (1, 3000)
    assert held(*graphs) == [[], [".new", "ffff"]]
    assert json.loads(call("prune", "--max-size", "0", "--json")[1])["graphs"] == 0
    assert "removed 0 stores, 1 exported graphs" in call("prune", "--all")[1]
    assert held(*graphs) == [[], [".new"]], "an export that may be at work is left alone"


def test_a_graph_read_lately_is_not_old(call, graphs):
    graph = graphs[0] / f"{'f' * 64}.onnx"
    os.utime(graph, (time.time(), graph.stat().st_mtime))
    assert json.loads(call("prune", "--older-than", "1", "--json")[1])["graphs"] == 0


def test_graphs_stay_while_a_store_is_in_use(call, graphs, filled, root):
    with open_store(root):
        assert call("prune", "--all")[1].splitlines()[-1].endswith(", and the graphs")
        assert held(*graphs) == [["ffff"], [".new", "ffff"]]
    assert json.loads(call("prune", "--all", "--json")[1])["graphs"] == 2


@pytest.mark.parametrize(
    "words", [("prune", "--older-than", "-1"), ("prune", "--max-size", "5X"), (), ("clear",)]
)
def test_wrong_usage(call, words, capsys):
    with pytest.raises(SystemExit) as caught:
        call(*words)
    assert caught.value.code == 2


def test_sizes():
    assert [verb._bytes(text) for text in ("0", "5G", "500 MB", "1.5k")] == [
        0,
        5 * 10**9,
        5 * 10**8,
        1500,
    ]


def test_exports_and_engines_are_counted_and_removed(call, tmp_path):
    bundle = tmp_path / "exports" / "0123.edgetl"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_bytes(bytes(700))
    engine = tmp_path / "tensorrt" / "a.engine"
    engine.parent.mkdir()
    engine.write_bytes(bytes(300))
    found = json.loads(call("info", "--json")[1])["exports"]
    assert found["number"] == 2 and found["size"] >= 1000
    assert json.loads(call("prune", "--json")[1])["exports"] == 0
    os.utime(engine, (0, 0))
    assert json.loads(call("prune", "--older-than", "1", "--json")[1])["exports"] == 1
    assert bundle.is_dir() and not engine.exists()
    assert json.loads(call("prune", "--all", "--json")[1])["exports"] == 1
    assert not bundle.exists()


def test_what_fine_tuning_keeps_is_shown_and_shrunk(call, tmp_path):
    methods = tmp_path / "methods"
    ids = np.zeros((1, 32), np.uint8)
    for key in ("old", "new"):
        PrefixCache(methods / "activations", key, ids, (100,), max_bytes=10_000).close()
    os.utime(methods / "activations" / "old.lock", (time.time() - 5 * 86400,) * 2)
    (methods / "finetune").mkdir()
    (methods / "finetune" / "a.safetensors").write_bytes(bytes(700))
    found = json.loads(call("info", "--json")[1])
    assert (found["activations"]["number"], found["activations"]["size"]) == (2, 2 * 236)
    assert (found["checkpoints"]["number"], found["checkpoints"]["size"]) == (1, 700)
    assert "activations of 2 frozen networks" in call("info")[1]
    removed = json.loads(call("prune", "--older-than", "3", "--json")[1])
    assert (removed["activations"], removed["checkpoints"], removed["freed"]) == (1, 0, 236)
    assert json.loads(call("prune", "--max-size", "1K", "--json")[1])["activations"] == 0
    assert json.loads(call("prune", "--max-size", "100", "--json")[1])["activations"] == 1
    assert "1 checkpoints" in call("prune", "--all")[1]
    assert json.loads(call("info", "--json")[1])["checkpoints"]["number"] == 0
