"""`examples/geometry`: the picture is of a federation that ends at the max-margin model."""

import importlib.util
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest

from common.geometry import angle
from tests.processes import ROOT, Finished

FOLDER = ROOT / "examples" / "geometry"


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw", FOLDER / "draw.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture(draw: ModuleType, tmp_path: Path) -> None:
    draw.main(tmp_path / "geometry.svg")
    texts = [element.text for element in ElementTree.parse(tmp_path / "geometry.svg").iter()]
    assert {"north alone", "east alone", "all together", "ŵ", "100"} <= set(texts)
    committed = ElementTree.parse(ROOT / "docs" / "images" / "geometry.svg")
    assert [element.text for element in committed.iter()] == texts, "python examples/geometry/draw.py"


def test_the_way_ends_where_all_examples_are_taken_together(draw: ModuleType) -> None:
    config = draw.Config.of(draw.read(FOLDER / "geometry.toml", ()))
    files = sorted((FOLDER / "data").glob("*.csv"))
    way, norm = draw.run(config, files)
    data = [draw.datafiles.read(file) for file in files]
    exact = draw.direction(np.vstack([draw.signed(part.X, part.y, draw.CLASSES) for part in data]))
    assert angle(way.models[-1], exact) < 0.1
    assert np.linalg.norm(way.models[-1] / norm - exact) < 0.05 * np.linalg.norm(exact)
    alone = [angle(model, exact) for model in way.local[0].values()]
    assert min(alone) > 40, "alone, the clients are far from it"


def test_the_configuration_runs(localgd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    done: Finished = localgd("run", FOLDER / "geometry.toml", "--quiet", "--out", tmp_path / "run")
    assert done.code == 0, done.stderr
