"""Which recipe goes with a data set, as the chains in script/ ask for it."""

import sys

import pytest

from base import UserError
from method import STAGES, choose, stage_class


@pytest.mark.parametrize(
    "words, name",
    [
        ("voc", "paper"),
        ("coco --lr 0.1", "paper"),
        ("scenes", "small"),
        ("data/mine", "photo"),
        ("scenes --recipe photo", "photo"),
        ("scenes --steps 3 --recipe=photo", "photo"),
        ("data/mine --recipe smoke --seed 1", "smoke"),
        ("data/mine --out --recipe-of-mine", "photo"),
        ("data/mine --external", "photo-external"),
        ("scenes --external --recipe=photo", "photo-external"),
        ("data/mine --external --epochs 3", "photo"),
        ("data/mine --external --steps=9", "photo"),
        ("voc --external", "paper"),
    ],
)
def test_the_program_prints_the_recipe(words, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["choose", *words.split()])
    choose.main()
    assert capsys.readouterr().out == f"{name}\n"
    recipes = {recipe for stage in STAGES for recipe in stage_class(stage).recipes}
    assert name in recipes


def test_without_a_data_set_it_says_what_to_give(monkeypatch):
    for words in ([], ["--recipe", "photo"]):
        monkeypatch.setattr(sys, "argv", ["choose", *words])
        with pytest.raises(UserError, match="give the data set first"):
            choose.main()
