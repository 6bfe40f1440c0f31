"""Which recipe goes with a data set, as the chains in script/ ask for it."""

import pytest
import tyro

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
def test_the_program_prints_the_recipe(words, name, capsys):
    tyro.cli(choose.main, args=words.split(), return_unknown_args=True)
    assert capsys.readouterr().out == f"{name}\n"
    recipes = {recipe for stage in STAGES for recipe in stage_class(stage).recipes}
    assert name in recipes


@pytest.mark.parametrize("words", [[], ["--recipe", "photo"]])
def test_without_a_data_set_it_says_what_to_give(words, capsys):
    with pytest.raises(SystemExit):
        tyro.cli(choose.main, args=words, return_unknown_args=True)
    assert "coco, scenes or a folder" in "".join(capsys.readouterr())
