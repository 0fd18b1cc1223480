"""The groups of samples: read from a table's column, kept with their samples."""

import numpy as np
import pytest

from edgetl import Dataset, load_dataset
from edgetl.errors import DataError

TABLE = """path,label,site,split
a.png,cat, north ,train
b.png,dog,7.0,train
c.png,cat,,test
d.png,dog,7,test
"""


@pytest.fixture
def table(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(b"")
    (tmp_path / "photos.csv").write_text(TABLE)
    return tmp_path / "photos.csv"


def test_a_column_of_a_table(table):
    data = load_dataset(table, group_column="site")
    assert data.groups == ("north", "7", "", "7")
    assert load_dataset(table).groups is None
    train, test = data.split()
    assert (train.groups, test.groups) == (("north", "7"), ("", "7"))
    assert load_dataset(data, labels=["dog", "cat"]).groups == data.groups


def test_a_parquet_table_gives_the_same(table):
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow.csv")
    parquet.write_table(arrow.read_csv(table), table.with_suffix(".parquet"))
    data = load_dataset(table.with_suffix(".parquet"), group_column="site")
    assert [group.strip() for group in data.groups] == ["north", "7.0", "", "7"]


def test_groups_may_be_the_classes(table):
    assert load_dataset(table, group_column="label").groups == ("cat", "dog", "cat", "dog")


def test_a_sample_is_in_one_group(table):
    with table.open("a") as file:
        file.write("a.png,cat,south,test\n")
    with pytest.raises(DataError, match=r"'a.png' into two groups, 'north' and 'south' \(line 6\)"):
        load_dataset(table, group_column="site")
    assert len(load_dataset(table)) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [(TABLE, "column 'camera' is not in"), ("path,label,camera\na.png,x,\nb.png,y,\n", "is empty")],
)
def test_a_column_without_groups(table, text, message):
    table.write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(table, group_column="camera")


def test_a_dataset_keeps_its_groups_with_its_samples():
    data = Dataset(
        ("x", "y", "z"), (b"",) * 3, np.array([0, 1, 0]), ("a", "b"), groups=("p", "q", "")
    )
    assert data.subset([2, 0]).groups == ("", "p")
    with pytest.raises(ValueError, match="2 groups for 3 samples"):
        Dataset(data.names, data.sources, data.targets, data.labels, groups=("p", "q"))
    plain = Dataset(data.names, data.sources, data.targets, data.labels)
    with pytest.raises(DataError, match="has no groups"):
        load_dataset(plain, group_column="site")
