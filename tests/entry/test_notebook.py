"""The notebook of docs runs photos.sh on a folder and shows overlays, a table and a prediction."""

import os
from pathlib import Path

import pytest
from test_tour import draw

nbformat = pytest.importorskip("nbformat", reason="notebooks need nbformat")
nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient")
NOTEBOOK = Path(__file__).resolve().parents[2] / "docs/photos.ipynb"


def test_notebook_is_small_and_has_no_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 20_000
    for cell in notebook.cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


def test_notebook_shows_overlays_and_numbers(tmp_path, monkeypatch):
    draw(tmp_path / "photos")
    settings = {"FOLDER": tmp_path / "photos", "OUT": tmp_path / "out"}
    settings |= {"TRAIN": "--recipe smoke --quiet", "OMP_NUM_THREADS": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, str(value))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": NOTEBOOK.parent}}
    client = nbclient.NotebookClient(notebook, timeout=1800, resources=where)
    client.execute(env=dict(os.environ))
    cells = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [[kind for output in cell for kind in output.get("data", {})] for cell in cells]
    images = [kinds.count("image/jpeg") for kinds in outputs]
    assert images == [0, 0, 6, 0, 1] and "text/markdown" in outputs[3]
    table = notebook.cells[7].outputs[0]["data"]["text/markdown"].splitlines()
    assert table[0].startswith("|name|id|background %|") and len(table) == 12
