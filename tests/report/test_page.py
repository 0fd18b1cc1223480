"""Pages without a browser: what they say, what they refuse, and that nothing breaks them."""

import base64
import dataclasses
import hashlib
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_kit import HOSTILE, group, read, select_report

import edgetl
from edgetl.cli.main import main
from edgetl.errors import DataError
from edgetl.features import ExtractOptions


def report(bundle, tmp_path, **options):
    return edgetl.write_report(bundle, tmp_path / "report.html", **options)


def test_the_page_says_what_the_evidence_says(plain, tmp_path):
    page = read(report(plain, tmp_path))
    evidence = plain.evidence
    right = sum(n for true, predicted, n in evidence.confusion_counts if true == predicted)
    assert 0 < right < evidence.n_test  # or there is nothing to show
    assert f"accuracy{100 * evidence.accuracy:.1f} %" in page.text
    assert f"{100 * evidence.accuracy_low:.1f} to {100 * evidence.accuracy_high:.1f} %" in page.text
    assert f"{right} of {evidence.n_test} test photos were answered right" in page.text
    assert "Every count is the same as in the bundle's evidence." in page.text
    for label, score in zip(evidence.labels, evidence.per_class, strict=True):
        assert f"{label}{100 * score.recall:.1f} % (" in page.text
    majority = evidence.baselines["majority"]
    assert f"{100 * majority.gain:+.1f} points ({100 * majority.gain_low:+.1f}" in page.text
    assert str(plain.manifest.provenance["data"]) in page.text
    for record in plain.manifest.files.values():
        assert record.sha256 in page.text
    assert hashlib.sha256((plain.path / "manifest.json").read_bytes()).hexdigest() in page.text


def test_the_worst_mistakes_are_shown_with_their_photos(plain, tmp_path):
    page = read(report(plain, tmp_path))
    runtime = edgetl.load(plain.path)
    wrong = []
    for photo in sorted((tmp_path / plain.manifest.provenance["data"]).glob("test/*/*.png")):
        answer = runtime.predict(photo)
        if answer.label != photo.parent.name:
            wrong.append((-round(answer.probability, 6), f"test/{photo.parent.name}/{photo.name}"))
    images = page.all("img")
    expected = [f"photo {name}" for _, name in sorted(wrong)]
    assert [image["alt"] for image in images] == expected
    for image in images:
        kind, data = image["src"].split(",")
        assert kind == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (24, 20)
    few = read(report(plain, tmp_path, options=edgetl.ReportOptions(mistakes=2)))
    assert [image["alt"] for image in few.all("img")] == expected[:2]
    none = read(report(plain, tmp_path, options=edgetl.ReportOptions(mistakes=0)))
    assert not none.all("img") and "mistakes" not in none.ids()


def test_equal_input_gives_an_equal_page(everything, tmp_path):
    options = {"select": select_report(), "options": edgetl.ReportOptions(cache=False)}
    pages = [report(everything, tmp_path, **options).read_bytes() for _ in range(2)]
    assert pages[0] == pages[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html"]


def test_nothing_breaks_out_and_nothing_is_loaded(everything, tmp_path):
    path = report(everything, tmp_path, select=select_report())
    text, page = path.read_text(encoding="utf-8"), read(path)  # which holds the nesting
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert all(image["src"].startswith("data:image/jpeg;") for image in page.all("img"))
    assert all(link["href"].startswith("#") for link in page.all("a"))
    assert not re.search(r"url\(|@import", text)
    for _, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on") or key == "style"]
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none';") and f"'sha256-{digest}'" in policy
    assert HOSTILE[0] in page.text and HOSTILE[1] in page.text
    assert "\u202e" not in text and HOSTILE[2].replace("\u202e", "\ufffd") in page.text
    assert len(page.ids()) == len(set(page.ids()))
    targets = [link["href"].removeprefix("#") for link in page.all("a")]
    assert set(targets) <= set(page.ids()) and "groups" in targets and "backbones" in targets


def test_what_further_parts_measured_is_shown(everything, tmp_path):
    text = read(report(everything, tmp_path, select=select_report())).text
    assert "It helps. Better than <b>all</b>." in text
    assert "1 less accurate than the others." in text
    assert "\u221225.0 (\u221235.0 to \u221215.0)< 0.001yes55.0 %" in text  # a group's row
    assert "Widest difference: studio over" in text and "+35.0 points (+10.0 to +50.0)" in text
    assert "They differ by at most 25.0 points." in text
    assert "The worst group before changed by +12.5 points." in text
    assert "all photos4080.0 %79.0 %\u22121.0 (\u22126.0 to +4.0)0.02" in text
    assert "(Nobody 1900)." in text and "option 77" in text and "deeper1" in text
    assert f"10.50.25, \u2014{HOSTILE[1]}20.25\u2014\u2014" in text  # the rows of a table
    assert "mitigation" in text and "deepest" in text
    assert "Whether some groups" not in text  # the limits, where it was measured
    assert "latency1.25 ms3.10\u00d7 as fast as float32" in text
    assert "\u2713 passed48 of 48" in text and "not run<i>asked: &" in text
    assert "at most 20 ms" in text and "90.0 %85.0 to 95.0 %8.00" in text


@pytest.mark.parametrize(
    ("finding", "title"),
    [
        ({"gain": 0.1, "gain_low": 0.05, "gain_high": 0.2}, "It helps. Better than"),
        ({"gain": 0.1, "gain_low": -0.05, "gain_high": 0.2}, "No evidence that it helps."),
        ({"gain": -0.1, "gain_low": -0.2, "gain_high": -0.05}, "Worse than a baseline."),
    ],
)
def test_the_verdict_goes_by_the_intervals(changed, plain, tmp_path, finding, title):
    base = dataclasses.replace(plain.evidence.baselines["majority"], **finding)
    knn = plain.evidence.baselines["knn"]  # which has to be matched only
    level = dataclasses.replace(knn, gain=0.0, gain_low=-0.1, gain_high=0.1)
    both = {"majority": base, "knn": level}
    bundle = changed(evidence={"baselines": both, "extra": {}})
    assert title in read(report(bundle, tmp_path)).text


def test_the_verdict_and_the_groups_of_an_adaptation(plain, backbone, tmp_path):
    """As `adapt` leaves them, from a table with a column of groups."""
    place = Path(plain.manifest.provenance["data"])
    lines = ["path,label,split,camera"]
    for number, photo in enumerate(sorted(place.glob("*/*/*.png"))):
        part, label = photo.parent.parent.name, photo.parent.name
        lines.append(f"{photo},{label},{part},{'<old>' if number % 2 else 'new'}")
    (tmp_path / "photos.csv").write_text("\n".join(lines))
    definition = edgetl.Preprocess(size=8, resize=8)
    bundle = edgetl.adapt(
        tmp_path / "photos.csv",
        backbone=backbone,
        head="ridge",
        options=edgetl.AdaptOptions(preprocess=definition, groups="camera"),
    )
    text = read(report(bundle, tmp_path)).text
    verdict, found = (bundle.evidence.extra[key] for key in ("verdict", "groups"))
    _, _, sentence = verdict["sentence"].partition(": ")
    assert f"{sentence[:1].upper()}{sentence[1:]}" in text
    assert "The tests behind the verdict" in text
    assert f"{found['sentence'][:1].upper()}{found['sentence'][1:]}." in text
    assert {row["group"] for row in found["groups"]} == {"<old>", "new"}
    for row in found["groups"]:
        assert f"{row['group']}{row['n']}{100 * row['accuracy']:.1f} %" in text
    assert "Every count is the same as in the bundle's evidence." in text


@pytest.mark.parametrize("broken", [7, [1], {"groups": 3}, {"groups": [{"group": 1}]}, None])
def test_extras_of_another_form_are_no_error(changed, tmp_path, broken):
    bundle = changed(evidence={"extra": {"groups": broken, "verdict": broken, "method": broken}})
    page = read(report(bundle, tmp_path))
    assert "limits" in page.ids() and "test photos were answered right" in page.text


def test_without_photos_the_page_says_so(changed, plain, tmp_path):
    gone = {**plain.manifest.provenance, "data": str(tmp_path / "gone")}
    page = read(report(changed(provenance=gone), tmp_path))
    assert f"are not at {tmp_path / 'gone'} any more" in page.text
    assert not page.all("img") and f"{100 * plain.evidence.ece:.1f} %" in page.text
    nowhere = read(report(changed(provenance={}), tmp_path))
    assert "the bundle does not say where its photos are" in nowhere.text
    (tmp_path / "gone").mkdir()
    empty = read(report(changed(provenance=gone), tmp_path))
    assert "could not be answered" in empty.text


def test_photos_that_are_named(plain, tmp_path):
    place = plain.manifest.provenance["data"]
    shutil.copytree(place, tmp_path / "copy")
    for photo in (tmp_path / "copy/test/coral").iterdir():
        photo.write_bytes(b"no photo") if photo.name.startswith("1") else None
    page = read(report(plain, tmp_path, data=tmp_path / "copy"))
    assert "These are not the answers that the bundle's evidence is about." in page.text
    assert "From 45 photos at" in page.text and "3 more could not be read" in page.text
    trained = read(report(plain, tmp_path, data=tmp_path / "copy/train"))
    assert "48 of them were trained on" in trained.text
    with pytest.raises(DataError, match="there is nothing at"):
        report(plain, tmp_path, data=tmp_path / "nothing")
    assert "were trained on" not in read(report(plain, tmp_path, data=place)).text


def test_a_test_part_of_its_own(plain, backbone, tmp_path):
    place = tmp_path / "photos"
    shutil.copytree(plain.manifest.provenance["data"], place)
    (place / "train").rename(tmp_path / "first")
    (place / "test").rename(tmp_path / "second")
    definition = edgetl.Preprocess(size=8, resize=8)
    bundle = edgetl.adapt(
        tmp_path / "first",
        test=tmp_path / "second",
        backbone=backbone,
        head="ridge",
        options=edgetl.AdaptOptions(preprocess=definition),
    )
    for data in (None, tmp_path / "second"):
        text = read(report(bundle, tmp_path, data=data)).text
        assert f"From 48 photos at {tmp_path / 'second'}" in text
        assert "Every count is the same as in the bundle's evidence." in text
        assert "A head on the frozen network." in text and "trained on:" not in text
    text = read(report(bundle, tmp_path, data=tmp_path / "first")).text
    assert "48 of them were trained on:" in text


def test_a_bundle_without_evidence_is_measured_now(changed, plain, tmp_path):
    bundle = changed()
    bundle = dataclasses.replace(
        bundle, manifest=dataclasses.replace(bundle.manifest, evidence=None)
    )
    page = read(report(bundle, tmp_path))
    assert "these figures were measured when this page was made" in page.text
    assert f"accuracy{100 * plain.evidence.accuracy:.1f} %" in page.text
    bundle = dataclasses.replace(
        bundle, manifest=dataclasses.replace(bundle.manifest, provenance={})
    )
    assert "This bundle holds no evidence" in read(report(bundle, tmp_path)).text


def test_a_bundle_that_has_learned(plain, tmp_path):
    folder = tmp_path / "learned.edgetl"
    shutil.copytree(plain.path, folder)
    generator = np.random.default_rng(3)
    noise = generator.integers(0, 40, (12, 20, 20, 3))
    red = list((noise + np.array([200, 0, 0])).astype(np.uint8))
    with edgetl.load(folder) as device:
        assert device.learn(red, ["red"] * 12).kept
        device.save()
    text = read(report(folder, tmp_path)).text
    assert "The head has changed since it was measured (generation 1, 12 samples learned)" in text
    assert "new classesred" in text and "From 48 photos" in text
    assert "These are not the answers that the bundle's evidence is about." in text
    with edgetl.load(folder) as device:
        device.forget("azure")
        device.save()
    text = read(report(folder, tmp_path)).text
    assert "classes forgottenazure" in text and "From 36 photos" in text


def test_a_further_task(plain, adapted, tmp_path):
    other = adapted(("elm", "fir", "oak"), train=6, test=4)
    both = plain.with_task("trees", other).save(tmp_path / "both.edgetl")
    page = read(report(both, tmp_path, task="trees"))
    assert "Tells 3 classes apart: elm, fir, oak" in page.text and ", task trees." in page.text
    assert "From 12 photos" in page.text and "further tasksmain (4 classes, accuracy" in page.text
    assert "trees (3 classes, accuracy" in read(report(both, tmp_path)).text


def test_where_nothing_is_mistaken_the_hardest_are_shown(adapted, tmp_path):
    bundle = adapted(("black", "midway", "stark", "white", "xx", "yy", "zz"), train=3, test=1)
    page = read(report(bundle, tmp_path))
    wrong = bundle.evidence.n_test - round(bundle.evidence.accuracy * bundle.evidence.n_test)
    assert len(page.all("img")) == (wrong or 7)
    assert ("Hardest photos" in page.text) == (wrong == 0)
    assert "7 classes have fewer than 10 test photos" in page.text


def test_select_that_is_something_else(plain, tmp_path):
    (tmp_path / "select.json").write_text(json.dumps(select_report()))
    assert "backbones" in read(report(plain, tmp_path, select=tmp_path / "select.json")).ids()
    for content in ("{", "[]", "{}", '{"candidates": [{"name": 1}]}', "[" * 100_000):
        (tmp_path / "select.json").write_text(content)
        with pytest.raises(DataError, match="select"):
            report(plain, tmp_path, select=tmp_path / "select.json")
    odd = {"candidates": [{"name": "x", "accuracy": "much", "milliseconds": None}]}
    assert "Figures of each backbone" in read(report(plain, tmp_path, select=odd)).text


def test_pages_stay_small(changed, plain, tmp_path):
    """A thousand classes and more, groups without number, and whatever else was measured."""
    n = 1500
    score = dataclasses.replace(plain.evidence.per_class[0], n=2)
    values = {
        "labels": tuple(f"class number {i} of many" for i in range(n)),
        "per_class": (score,) * n,
        "confusion_counts": tuple((i, (i + j) % n, 1) for i in range(n) for j in (0, 1)),
        "n_test": 2 * n,
        "extra": {
            "groups": {"groups": [group(f"group {i}", 0.7) for i in range(2000)]},
            "long": {str(i): list(range(50)) for i in range(2000)},
        },
    }
    path = report(changed(evidence=values, provenance={}), tmp_path)
    assert path.stat().st_size < 800_000  # with the thumbnails' share still to come
    page = read(path)
    assert "500 more classes" in page.text
    assert not [cell for cell in page.all("table") if cell.get("class") == "heat"]


def test_thumbnails_have_a_budget(plain, tmp_path, monkeypatch):
    monkeypatch.setattr("edgetl.report.mistakes._BYTES", 3000)
    page = read(report(plain, tmp_path))
    sizes = [len(image["src"]) for image in page.all("img")]
    assert sizes and sum(sizes) <= 3000 and "no picture" in page.text


def test_refusals(plain, tmp_path):
    with pytest.raises(ValueError, match="no task"):
        report(plain, tmp_path, task="other")
    with pytest.raises(ValueError, match="mistakes"):
        edgetl.ReportOptions(mistakes=-1)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        edgetl.write_report(plain, tmp_path / "no folder" / "report.html")
    with pytest.raises(FileExistsError, match="is a folder; name a file"):
        edgetl.write_report(plain, tmp_path)


def test_a_page_never_replaces_a_part_of_a_bundle(plain, tmp_path):
    place = plain.save(tmp_path / "mine").path  # whatever it is called
    for bundle, path in ((place, place / "manifest.json"), (plain, plain.path / "report.html")):
        with pytest.raises(FileExistsError, match="lies inside the bundle"):
            edgetl.write_report(bundle, path)
    assert edgetl.Bundle.load(place)


def test_a_strict_reader_of_photos(plain, tmp_path):
    shutil.copytree(plain.manifest.provenance["data"], tmp_path / "copy")
    (tmp_path / "copy/test/coral/0.png").write_bytes(b"")
    options = edgetl.ReportOptions(extract=ExtractOptions(strict=True))
    with pytest.raises(DataError, match="empty file"):
        report(plain, tmp_path, data=tmp_path / "copy", options=options)


def test_the_verb(plain, tmp_path, capsys):
    words = ["report", str(plain.path), "-o", str(tmp_path / "page.html"), "--quiet"]
    assert main(words) == 0
    size = (tmp_path / "page.html").stat().st_size
    assert capsys.readouterr().out == f"report: {tmp_path / 'page.html'}, {size / 1e6:.2f} MB\n"
    (tmp_path / "select.json").write_text(json.dumps(select_report()))
    more = ["--select", str(tmp_path / "select.json"), "--mistakes", "1", "--json"]
    more += ["--data", plain.manifest.provenance["data"]]
    assert main([*words, *more]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"report": words[3], "bytes": (tmp_path / "page.html").stat().st_size}
    assert len(read(tmp_path / "page.html").all("img")) == 1
    assert main([*words, "--select", "nowhere.json"]) == 1
    assert "nowhere.json" in capsys.readouterr().err
