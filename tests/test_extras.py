"""Optional packages, folders and the exception tree."""

from pathlib import Path

import pytest

from edgetl import errors
from edgetl._extras import require
from edgetl._paths import cache_dir, offline


def test_a_missing_package_names_its_extra():
    with pytest.raises(errors.MissingDependencyError, match=r"edgetl\[train\]"):
        require("no_such_package_anywhere", extra="train")
    assert require("json", extra="train").loads("1") == 1


def test_a_package_that_breaks_inside_keeps_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "breaks_inside.py").write_text("import no_such_package_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError) as raised:
        require("breaks_inside", extra="train")
    assert not isinstance(raised.value, errors.EdgetlError)


def test_the_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("EDGETL_CACHE_DIR", "~/somewhere")
    assert cache_dir() == Path.home() / "somewhere"
    monkeypatch.delenv("EDGETL_CACHE_DIR")
    pytest.importorskip("platformdirs")
    assert cache_dir().name == "edgetl"


@pytest.mark.parametrize("name", ["EDGETL_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(monkeypatch, name):
    monkeypatch.delenv("EDGETL_OFFLINE")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert not offline()
    monkeypatch.setenv(name, "1")
    assert offline()


def test_every_error_has_the_exit_code_that_the_tree_shows():
    leaves = {
        name: cls
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, errors.EdgetlError)
    }
    assert len(leaves) == 12
    for name, cls in leaves.items():
        line = next(x for x in errors.__doc__.splitlines() if name in x.split("+--")[-1].split())
        assert int(line.split(name)[1].split()[0]) == cls.exit_code
