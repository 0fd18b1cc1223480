"""Verdicts, groups and refusals of whole adaptations: photos told apart by what a network keeps."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import edgetl
from edgetl.cli.main import main
from edgetl.errors import AccuracyError, DataError

SIZE = 16
PREPROCESS = edgetl.Preprocess(size=SIZE, resize=SIZE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
SITES = ("north", "south", "west")


def photo(kind, generator):
    """Grey noise: "rough" or "smooth" by its strength, "left" or "right" by its lighter half."""
    noise = generator.normal(size=(SIZE, SIZE, 3)) * (40 if kind == "rough" else 12)
    if kind in ("left", "right"):
        half = slice(0, SIZE // 2) if kind == "left" else slice(SIZE // 2, SIZE)
        noise[:, half] += 30
    return Image.fromarray(np.clip(noise + 128, 0, 255).astype(np.uint8))


def table(folder, kinds, *, seed=0, count=140):
    """Photos of two kinds at three sites, half of them to test on; the path of their table."""
    folder.mkdir()
    generator = np.random.default_rng(seed)
    rows = [("path", "label", "split", "site")]
    for number in range(count):
        kind = kinds[number % 2]
        part = "train" if number % 4 < 2 else "test"
        photo(kind, generator).save(folder / f"{number}.png")
        rows.append((f"{number}.png", kind, part, SITES[number // 4 % 3]))
    with (folder / "photos.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "photos.csv"


@pytest.fixture(scope="module")
def textures(tmp_path_factory):
    return table(tmp_path_factory.mktemp("textures") / "photos", ("rough", "smooth"))


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    return table(tmp_path_factory.mktemp("sides") / "photos", ("left", "right"))


@pytest.fixture(scope="module")
def strengths(tmp_path_factory):
    """A network of mean squares: it sees how strong the noise is, and not where."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["images", "images"], ["squares"]),
            helper.make_node("GlobalAveragePool", ["squares"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
        ],
        "squares",
        [helper.make_tensor_value_info("images", kind, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("features", kind, ["n", 3])],
    )
    path = tmp_path_factory.mktemp("network") / "squares.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def adapted(data, network, **changes):
    options = {"preprocess": PREPROCESS, **changes.pop("options", {})}
    return edgetl.adapt(
        data, backbone=network, head="ridge", options=edgetl.AdaptOptions(**options), **changes
    )


def command(data, network, *more):
    definition = json.dumps(PREPROCESS.to_json())
    return [
        *("adapt", str(data), "--backbone", str(network), "--preprocess", definition),
        *("--head", "ridge", "--quiet", *map(str, more)),
    ]


def test_what_pixels_can_not_tell_helps(textures, strengths):
    evidence = adapted(textures, strengths, options={"refuse": "no evidence"}).evidence
    verdict = evidence.extra["verdict"]
    assert verdict["verdict"] == "helps"
    names = {item["name"]: item for item in verdict["comparisons"]}
    assert set(names) == {"majority", "raw pixels", "knn"}
    assert names["raw pixels"]["n"] == 70 and names["raw pixels"]["gain_low"] > 0
    assert evidence.accuracy == 1 and evidence.baselines["raw pixels"].accuracy < 0.75
    again = adapted(textures, strengths, options={"cache": False}).evidence
    assert again.extra["verdict"] == verdict, "with or without the cache"


def test_what_hurts_is_refused_and_only_its_evidence_kept(sides, strengths, tmp_path, capsys):
    """The network forgets where it is light, which raw pixels tell without an error."""
    output = tmp_path / "sides.edgetl"
    arguments = command(sides, strengths, "-o", output, "--fail-on-negative", "--json")
    assert main(arguments) == 5
    shown = capsys.readouterr()
    kept = tmp_path / "sides.edgetl.evidence.json"
    assert [item.name for item in tmp_path.iterdir()] == [kept.name]
    assert f"no bundle was written, the evidence is in {kept}" in shown.err
    assert "it hurts: -" in shown.err and "against raw pixels" in shown.err
    printed = json.loads(shown.out)
    assert (printed["verdict"], printed["refused"], printed["bundle"]) == ("hurts", True, None)
    evidence = edgetl.Evidence.from_json(json.loads(kept.read_text()))
    assert evidence.extra["verdict"] == printed["evidence"]["extra"]["verdict"]


def test_what_hurts_is_shipped_where_nobody_minds(sides, strengths, tmp_path, capsys):
    output = tmp_path / "sides.edgetl"
    assert main(command(sides, strengths, "-o", output)) == 0
    assert "verdict      it hurts" in capsys.readouterr().out
    assert edgetl.Bundle.load(output).evidence.extra["verdict"]["verdict"] == "hurts"


def test_a_bundle_that_was_there_stays(sides, strengths, tmp_path):
    output = tmp_path / "sides.edgetl"
    adapted(sides, strengths, output=output)
    before = sorted(item.name for item in output.iterdir())
    with pytest.raises(AccuracyError, match="the adaptation is refused: it hurts") as caught:
        adapted(sides, strengths, output=output, options={"refuse": "hurts"})
    assert caught.value.evidence.extra["verdict"]["verdict"] == "hurts"
    assert sorted(item.name for item in output.iterdir()) == before
    assert edgetl.Bundle.load(output)


def test_no_evidence_is_refused_only_if_wanted(textures, strengths, tmp_path):
    """Labels dealt out at random: no better than guessing, and no worse."""
    data = edgetl.load_dataset(textures)
    labels = np.random.default_rng(4).permutation(data.targets)
    mixed = edgetl.Dataset(data.names, data.sources, labels, data.labels, data.parts)
    found = adapted(mixed, strengths, options={"refuse": "hurts"}).evidence
    assert found.extra["verdict"]["verdict"] == "no evidence"
    with pytest.raises(AccuracyError, match="no evidence that it helps"):
        adapted(mixed, strengths, options={"refuse": "no evidence"})


def test_evaluating_judges_and_reports_too(textures, sides, strengths, tmp_path, capsys):
    output = tmp_path / "textures.edgetl"
    adapted(textures, strengths, output=output)
    arguments = ["evaluate", str(output), str(textures), "--quiet", "--json"]
    assert main([*arguments, "--groups", "site", "--fail-on-no-evidence"]) == 0
    printed = json.loads(capsys.readouterr().out)
    extra = printed["evidence"]["extra"]
    assert [item["name"] for item in extra["verdict"]["comparisons"]] == ["majority"]
    assert {score["group"] for score in extra["groups"]["groups"]} == set(SITES)
    renamed = edgetl.load_dataset(sides)
    other = edgetl.Dataset(
        renamed.names, renamed.sources, renamed.targets, ("rough", "smooth"), renamed.parts
    )
    with pytest.raises(AccuracyError, match="the bundle is refused"):
        edgetl.evaluate_bundle(output, other, options=edgetl.AdaptOptions(refuse="no evidence"))


def test_groups_of_a_table(textures, strengths, tmp_path, capsys):
    """At one site the test labels are turned round: the gap is found, and it is all of it."""
    rows = [line.split(",") for line in textures.read_text().splitlines()]
    turned = {"rough": "smooth", "smooth": "rough"}
    for row in rows[1:]:
        if row[2] == "test" and row[3] == "west":
            row[1] = turned[row[1]]
    data = textures.with_name("turned.csv")
    with data.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    output = tmp_path / "turned.edgetl"
    assert main(command(data, strengths, "-o", output, "--groups", "site", "--json")) == 0
    report = json.loads(capsys.readouterr().out)["evidence"]["extra"]["groups"]
    scores = {score["group"]: score for score in report["groups"]}
    assert (
        report["column"] == "site" and report["worst"] == "west" and scores["west"]["accuracy"] == 0
    )
    assert scores["west"]["found"] and scores["west"]["gap_high"] < 0
    assert sum(score["n"] for score in scores.values()) == 70
    assert "change" not in report
    shown = str(edgetl.Bundle.load(output).evidence)
    assert "groups       by site: 1 less accurate" in shown


@pytest.mark.parametrize(("way", "kind"), [("balanced", "ridge"), ("dro", "softmax")])
def test_mitigation_is_a_method_whose_price_is_told(
    textures, strengths, tmp_path, capsys, way, kind
):
    output = tmp_path / "mended.edgetl"
    more = ("-o", output, "--groups", "site", "--mitigate", way, "--json", "--head", kind)
    assert main(command(textures, strengths, *more)) == 0
    extra = json.loads(capsys.readouterr().out)["evidence"]["extra"]
    assert extra["method"]["name"] == f"group-{way}"
    assert len(extra["method"]["details"]["cells"]) == 6
    roles = {item["name"]: item["role"] for item in extra["verdict"]["comparisons"]}
    assert roles["no adaptation"] == "told" and roles["raw pixels"] == "beat"
    change = extra["groups"]["change"]
    assert change["overall"]["n"] == 70 and {c["group"] for c in change["groups"]} == set(SITES)
    bundle = edgetl.Bundle.load(output)
    assert bundle.head.kind == kind and bundle.learning is None


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (("--mitigate", "dro"), 2, "--mitigate needs --groups"),
        (("--groups", "site", "--mitigate", "dro", "--method", "group-dro"), 2, "does not go with"),
        (("--method", "group-dro"), 2, "needs at least two groups"),
        (("--groups", "camera"), 1, "column 'camera' is not in"),
    ],
)
def test_groups_that_are_not_there(textures, strengths, tmp_path, capsys, more, code, message):
    assert main(command(textures, strengths, "-o", tmp_path / "x", *more)) == code
    assert message in capsys.readouterr().err


def test_groups_are_asked_of_tables(textures, strengths, tmp_path):
    for data in (textures.parent, (np.zeros((4, 9, 9), np.uint8), ["a", "b", "a", "b"])):
        with pytest.raises(DataError, match="groups are a column of a table"):
            adapted(data, strengths, options={"groups": "site"})
    with pytest.raises(ValueError, match="refuse must be one of"):
        edgetl.AdaptOptions(refuse="always")


def test_an_export_keeps_method_groups_and_baselines_and_a_device_can_not_learn(
    textures, strengths, tmp_path
):
    bundle = adapted(
        textures,
        strengths,
        method="group-balanced",
        options={"groups": "site"},
        output=tmp_path / "a.edgetl",
    )
    options = edgetl.ExportOptions(verify_seconds=0.05, budget_ms=10_000)
    shipped = edgetl.export(
        bundle, edgetl.OnnxRuntime(), output=tmp_path / "b.edgetl", options=options
    )
    before, after = bundle.evidence, shipped.evidence
    assert after.extra["method"] == before.extra["method"]
    assert after.extra["groups"]["column"] == "site"
    assert after.extra["groups"]["groups"] == before.extra["groups"]["groups"]
    assert set(after.baselines) == {"majority", "raw pixels", "knn"}
    assert after.baselines["raw pixels"] == before.baselines["raw pixels"]
    edgetl.write_report(shipped, tmp_path / "b.html")
    page = (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "no: the method group-balanced made its head" in page and "smaller" not in page
    for path in (bundle.path, shipped.path):
        with (
            edgetl.load(path) as device,
            pytest.raises(ValueError, match="made by the method group-balanced, and learning"),
        ):
            device.learn(np.zeros((SIZE, SIZE, 3), np.uint8), "rust")
