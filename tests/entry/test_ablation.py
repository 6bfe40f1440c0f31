"""The scripts behind the README's tables, over one seed at smoke size."""

import re
from itertools import takewhile

import pytest
from program import chain

from datalist.image import read_image


@pytest.mark.parametrize(
    "name, rows",
    [("ablation", 7), ("dsrg_ablation", 5), ("locate_ablation", 6), ("rsepm_ablation", 10)],
)
def test_table_has_a_number_in_every_row(name, rows, scenes_root, external_root, tmp_path):
    flags = {"DATASET": str(scenes_root), "EXTERNAL": str(external_root), "SEEDS": "0"}
    if name == "rsepm_ablation":
        flags |= {"RSEPM": "--recipe smoke", "MIXES": "edge none"}
    lines = chain(f"study/{name}", tmp_path, **flags).splitlines()
    below = lines[lines.index("|---|---|---|") + 1 :]
    table = list(takewhile(lambda line: line.startswith("| "), below))
    assert len(table) == rows, table
    assert all(re.fullmatch(r"\| .+ \| \d+\.\d \| \d+\.\d \|", line) for line in table), table
    for picture in tmp_path.rglob("*.png"):
        if picture.parent.name not in ("label", "overlay"):
            assert read_image(picture).std() > 1
