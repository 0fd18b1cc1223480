"""CSV and Parquet tables: columns, types of labels, splits, and every gap reported with its row."""

import csv
from pathlib import Path

import pytest

from edgetl.data import load_dataset
from edgetl.errors import DataError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def photos(tmp_path):
    """A folder with some files that the tables name."""
    for name in ("1.jpg", "2.jpg", "a,b.jpg", 'q"q.jpg', "ü.jpg", "sub/3.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def write_csv(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def write_parquet(folder: Path, **columns) -> Path:
    path = folder / "table.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def classes(dataset):
    return [dataset.labels[target] for target in dataset.targets]


def test_real_table_of_sounds(assets, tmp_path):
    """A table made for sound: path, label and split columns are those any table has."""
    original = assets / "data" / "fsdd" / "metadata.csv"
    # Its paths are relative to a folder below its own.
    with pytest.raises(DataError, match="none of the first 20 files"):
        load_dataset(original, path_column="file")
    with original.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["file"] = str(original.parent / "recordings" / row["file"])
    with (tmp_path / "sounds.CSV").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    dataset = load_dataset(tmp_path / "sounds.CSV", path_column="file")
    assert list(dataset.names) == [row["file"] for row in rows]
    assert classes(dataset) == [row["label"] for row in rows]
    assert dataset.labels == tuple("0123456789")
    assert all(source.is_file() for source in dataset.sources)
    test = dataset.part("test")
    assert list(test.names) == [row["file"] for row in rows if row["split"] == "test"]


def test_a_real_table_without_paths_names_its_columns(assets):
    advice = r"`edgetl\.load_dataset\(path, path_column=\.\.\., label_column=\.\.\.\)`"
    message = rf"column 'path' is not in .*which has: 'text', 'label'.*{advice}"
    with pytest.raises(DataError, match=message):
        load_dataset(assets / "data" / "snips_intents" / "train.csv")


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_csv_as_programs_write_it(photos, newline, encoding):
    lines = ["path,label", "1.jpg,x", '"a,b.jpg",y', '"q""q.jpg", x ', "", "ü.jpg,ÿ", "sub/3.jpg,y"]
    dataset = load_dataset(write_csv(photos, newline.join(lines), encoding))
    assert dataset.names == ("1.jpg", "a,b.jpg", 'q"q.jpg', "ü.jpg", "sub/3.jpg")
    assert classes(dataset) == ["x", "y", "x", "ÿ", "y"]
    assert dataset.sources[4] == photos / "sub" / "3.jpg"
    assert all(source.is_file() for source in dataset.sources)


def test_paths_absolute_relative_and_home(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    monkeypatch.setenv("USERPROFILE", str(photos))
    table = write_csv(photos / "sub", f"path,label\n{photos / '1.jpg'},a\n../2.jpg,b\n~/ü.jpg,b\n")
    dataset = load_dataset(table)
    assert list(dataset.sources) == [photos / "1.jpg", photos / "2.jpg", photos / "ü.jpg"]


def test_columns_can_be_named(photos):
    table = write_csv(
        photos, "split,f,species,fold\nnonsense,1.jpg,a,train\n,2.jpg,a,test\n?,ü.jpg,b,Train\n"
    )
    dataset = load_dataset(table, path_column="f", label_column="species", split_column="fold")
    assert dataset.parts == ("train", "test", "train")


def test_split_column(photos):
    table = write_csv(photos, "label,split,path\na,train,1.jpg\nb,TRAINING,2.jpg\na,valid,ü.jpg\n")
    train, test = load_dataset(table).split()
    assert train.names == ("1.jpg", "2.jpg")
    assert test.names == ("ü.jpg",)
    table = write_csv(photos, "label,split,path\na,train,1.jpg\nb,holdout,2.jpg\n")
    with pytest.raises(DataError, match=r"'split'.*says 'holdout' in line 3"):
        load_dataset(table)
    with pytest.raises(DataError, match="column 'fold' is not in"):
        load_dataset(table, split_column="fold")


@pytest.mark.parametrize(
    "values",
    [
        pa.array([3, 10, 3], pa.int64()),
        pa.array([3.0, 10.0, 3.0], pa.float64()),
        pa.array(["3", "10", "3"]),
        pa.array(["3", "10", "3"]).dictionary_encode(),
        pa.array([3, 10, 3], pa.uint8()),
    ],
    ids=lambda values: str(values.type),
)
def test_numbers_become_the_same_labels_in_every_type(photos, values):
    table = write_parquet(photos, path=["1.jpg", "2.jpg", "ü.jpg"], label=values)
    dataset = load_dataset(table)
    assert dataset.labels == ("10", "3")
    assert classes(dataset) == ["3", "10", "3"]


def test_numbers_in_csv(photos):
    for three in ("3", "3.0", " 3.0"):
        dataset = load_dataset(write_csv(photos, f"path,label\n1.jpg,{three}\n2.jpg,-1.0\n"))
        assert dataset.labels == ("-1", "3")
    kept = load_dataset(write_csv(photos, "path,label\n1.jpg,3.50\n2.jpg,007\nü.jpg,v1.0\n"))
    assert kept.labels == ("007", "3.50", "v1.0")


def test_parquet_equals_csv(photos):
    rows = {
        "path": ["1.jpg", "2.jpg", "ü.jpg"],
        "label": ["a", "b", "a"],
        "split": ["train", "train", "test"],
    }
    text = "\n".join(",".join(cells) for cells in [rows, *zip(*rows.values(), strict=True)])
    one = load_dataset(write_csv(photos, text))
    other = load_dataset(write_parquet(photos, **rows, unused=[b"1", b"2", b"3"]))
    for name in ("names", "sources", "labels", "parts"):
        assert getattr(one, name) == getattr(other, name)
    assert one.targets.tolist() == other.targets.tolist()


def test_a_parquet_file_in_a_folder_named_like_a_partition(photos):
    folder = photos / "split=train"
    folder.mkdir()
    for name in ("1.jpg", "2.jpg"):
        (folder / name).touch()
    assert (
        load_dataset(write_parquet(folder, path=["1.jpg", "2.jpg"], label=["a", "b"])).parts is None
    )


def test_empty_cells_are_reported_with_their_rows(photos):
    with pytest.raises(DataError, match=r"'label'.*empty in 2 rows \(line 3, 5\)"):
        load_dataset(write_csv(photos, "path,label\n1.jpg,a\n2.jpg,\nü.jpg,b\nsub/3.jpg,  \n"))
    with pytest.raises(DataError, match=r"'path'.*empty in 1 row \(line 2\)"):
        load_dataset(write_csv(photos, "path,label\n,a\n2.jpg,b\n"))
    for missing in (None, float("nan")):
        with pytest.raises(DataError, match=r"'label'.*empty in 1 row \(row 2\)"):
            load_dataset(write_parquet(photos, path=["1.jpg", "2.jpg"], label=[1.5, missing]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path;label\n1.jpg;a\n", "something else than commas"),
        ("path\tlabel\n1.jpg\ta\n", "something else than commas"),
        ("path,label\n1,5.jpg,a\n2.jpg,b\n", r"line 2: 3 cells under 2 columns"),
        ("path,label\n1.jpg\n", r"line 2: 1 cell under 2 columns"),
        ("path,label,label\n1.jpg,a,b\n", "column 'label' is twice in"),
        ("path,label\n", "a header and no rows"),
        ("", "column 'path' is not in .*which has: nothing"),
        ('path,label\n"1.jpg,a\n', "no CSV file, line 2"),
        ("path,label\n1.jpg,a\n./1.jpg,b\n", r"'./1.jpg' two labels, 'a' and 'b' \(line 3\)"),
        ("path,label\nx/1.jpg,a\nx/2.jpg,b\n", "none of the first 2 files .*the table's folder"),
        ("path,label\n1.jpg,a\n2.jpg,a\n", "one class only"),
    ],
)
def test_csv_that_cannot_be_used(photos, text, message):
    with pytest.raises(DataError, match=message):
        load_dataset(write_csv(photos, text))


def test_files_that_are_no_tables(photos):
    with pytest.raises(DataError, match="not UTF-8"):
        load_dataset(write_csv(photos, "path,label\nü.jpg,ä\n", "latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        load_dataset(write_csv(photos, "path,label\n1.jpg,a\n", "utf-16"))
    broken = photos / "broken.parquet"
    for content in (b"", b"PAR1", b"no parquet at all" * 10):
        broken.write_bytes(content)
        with pytest.raises(DataError, match="is no Parquet file"):
            load_dataset(broken)
    whole = write_parquet(photos, path=["1.jpg", "2.jpg"], label=["a", "b"]).read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="is no Parquet file"):
        load_dataset(broken)


def test_images_inside_parquet_are_refused_by_name(photos):
    table = write_parquet(photos, path=[b"\xff\xd8", b"\xff\xd8"], label=["a", "b"])
    with pytest.raises(DataError, match=r"'path'.*holds bytes values instead of paths"):
        load_dataset(table)


def test_repeated_paths(photos):
    table = write_csv(
        photos,
        "path,label,split\n1.jpg,a,train\n./1.jpg,a,train\n1.jpg,a,test\n2.jpg,b,train\n",
    )
    dataset = load_dataset(table)
    assert dataset.names == ("1.jpg", "1.jpg (test)", "2.jpg")
    assert dataset.parts == ("train", "test", "train")
    assert any("1 row" in note and "repeating another" in note for note in dataset.notes)


def test_a_few_missing_files_are_left_to_the_report_on_skipped_samples(photos):
    dataset = load_dataset(write_csv(photos, "path,label\nmissing.jpg,a\n2.jpg,b\n"))
    assert dataset.names == ("missing.jpg", "2.jpg")
