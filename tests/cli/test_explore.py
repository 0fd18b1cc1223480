"""``edgetl explore`` on photos with and without class folders: tables, JSON, CSV, refusals."""

import csv
import json
import shutil

import numpy as np
import pytest
from colours import save_mean_colours, write_photos
from PIL import Image

import edgetl
from edgetl.cli.main import main

COLOURS = {"red": (200, 60, 60), "green": (60, 190, 70), "blue": (50, 70, 200)}
PREPROCESS = '{"size": 8, "resize": 8}'


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Class folders of three colours with a copy and an odd one, the same flat, and a backbone."""
    root = tmp_path_factory.mktemp("explore")
    generator = np.random.default_rng(0)
    write_photos(root / "classes", COLOURS, 12, generator, shade=18)
    shutil.copy(root / "classes/red/3.png", root / "classes/red/copy.png")
    odd = np.full((12, 12, 3), (250, 250, 20), np.uint8)
    Image.fromarray(odd).save(root / "classes/green/odd.png")
    (root / "flat").mkdir()
    for path in sorted((root / "classes").rglob("*.png")):
        shutil.copy(path, root / "flat" / f"{path.parent.name}-{path.name}")
    (root / "labelled").mkdir()
    for label in COLOURS:
        (root / "labelled" / label).mkdir()
        for place in range(3):
            shutil.copy(root / f"classes/{label}/{place}.png", root / "labelled" / label)
    save_mean_colours(root / "means.onnx", size=8)
    return root


def options(**changed):
    definition = edgetl.Preprocess(size=8, resize=8)
    return edgetl.ExploreOptions(
        **{"adapt": edgetl.AdaptOptions(preprocess=definition, cache=False)} | changed
    )


def words(photos, folder, *more):
    return [
        *("explore", str(photos / folder), "--backbone", str(photos / "means.onnx")),
        *("--preprocess", PREPROCESS, "--quiet", "--no-cache", *more),
    ]


def test_clusters_are_compared_with_class_folders(photos):
    report = edgetl.explore(
        photos / "classes", backbone=photos / "means.onnx", options=options(clusters=3)
    )
    assert report.agreement.purity > 0.9 and report.agreement.nmi > 0.8
    assert sum(row.size for row in report.clusters) == len(report.names) == 38
    assert {row.common[0] for row in report.clusters} == set(COLOURS)
    assert report.identical == (("red/3.png", "red/copy.png"),)
    assert report.outliers[0].name == "green/odd.png" and len(report.outliers) == 38
    assert "NMI" in str(report) and "red/3.png = red/copy.png" in str(report)


def test_photos_without_folders_have_no_classes(photos):
    report = edgetl.explore(
        photos / "flat", backbone=photos / "means.onnx", options=options(label_next=6)
    )
    assert report.agreement is None and report.silhouette == max(report.tried.values())
    assert all(row.common is None for row in report.clusters)
    assert report.strategy == "typical" and len(report.label_next) == 6
    assert not {"red-3.png", "red-copy.png"} <= {row.name for row in report.label_next}


def test_labelled_photos_guide_what_to_label_and_what_is_odd(photos):
    report = edgetl.explore(
        photos / "flat",
        backbone=photos / "means.onnx",
        labels_from=photos / "labelled",
        options=options(clusters=None, duplicates=False, label_next=28, strategy="badge"),
    )
    assert report.labelled == 9 and report.clusters is None and report.duplicates is None
    assert report.outliers[0].name == "green-odd.png" and report.outliers[0].p_value == 0.1
    picked = {row.name for row in report.label_next}
    assert len(picked) == 28 and not picked & {"red-00.png", "blue-02.png"}  # labelled already
    assert "10 photos are copies or labelled already" in report.notes[-1]


def test_the_command_prints_tables_json_and_csv(photos, tmp_path, capsys):
    assert main(words(photos, "flat", "--csv", str(tmp_path / "found.csv"))) == 0
    text = capsys.readouterr().out
    assert "38 photos" in text and "near duplicates" in text and "silhouette" in text
    with (tmp_path / "found.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert len(rows) == 38 and {row["cluster"] for row in rows.values()} >= {"0", "1"}
    group = rows["red-3.png"]["duplicate_group"]
    assert group != "" and group == rows["red-copy.png"]["duplicate_group"]
    assert float(rows["green-odd.png"]["outlier_score"]) > 0
    asked = ("--label-next", "3", "--strategy", "coreset", "--json")
    assert main(words(photos, "flat", *asked)) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["label_next"]) == 3 and found["clusters"] is None
    assert found["strategy"] == "coreset" and found["outliers"] is None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--clusters", "many"), "whole number or auto"),
        (("--clusters", "0"), "clusters must be"),
        (("--label-next", "-1"), "label_next must be"),
        (("--label-next", "3", "--strategy", "margin"), "needs labelled samples"),
        (("--outliers", "--false-discoveries", "1"), "false_discoveries"),
    ],
)
def test_what_cannot_be_is_refused(photos, capsys, more, message):
    assert main(words(photos, "flat", *more)) == 2
    assert message in capsys.readouterr().err


def test_too_many_are_refused(photos):
    for changed in ({"label_next": 38}, {"clusters": 99}):
        with pytest.raises(edgetl.EdgetlError, match="photos"):
            edgetl.explore(
                photos / "flat", backbone=photos / "means.onnx", options=options(**changed)
            )
