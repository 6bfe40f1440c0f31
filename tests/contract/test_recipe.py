"""Recipes: their flags, their stored form, and the attributes of the stages that they build."""

import inspect
import json
import re
from collections import Counter
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch
from recipes import change
from test_stage import CASES, image_and_tag, make

import train
from base import UserError
from base.contract import Ability, Stage
from base.recipe import Data, Prediction, Solver
from method import STAGES, stage_class, summary
from method.choose import choose_recipe
from method.restore import restore_recipe
from utils import checkpoint
from utils.checkpoint import differences
from utils.export import tuples
from utils.flags import Predict, Train
from utils.infer import check

RECIPES = [(name, recipe) for name in STAGES for recipe in stage_class(name).recipes]
FILE = Path("run/last.pt")
ALIKE = ("ResNet38d.drop", "ResNet.multigrid", "LargeFOVHead.rate", "PyramidHead.rates")
"""Fields without which two families have the same fields, so that nothing can be inferred."""


@pytest.fixture(params=RECIPES, ids="/".join)
def recipe(request):
    name, recipe_name = request.param
    return stage_class(name).recipes[recipe_name]


def flags(text: str) -> Counter:
    """How often a help text lists each flag; a pair of --on and --no-on counts as --on."""
    return Counter(re.findall(r"^\W*(--[a-z][\w.-]*)", text, re.MULTILINE))


# -- flags ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, recipe_name", RECIPES, ids=map("/".join, RECIPES))
def test_help_lists_each_field_once(name, recipe_name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as stop:
        train.command(name, ["--recipe", recipe_name, "--help"])
    assert stop.value.code in (0, None)
    listed = flags(capsys.readouterr().out)
    assert max(listed.values()) == 1, listed.most_common(3)
    names = [*checkpoint.flatten(stage_class(name).recipes[recipe_name])]
    names += [field.name for field in fields(Train)] + ["recipe", "backbone"]
    assert len(set(names)) == len(names)
    given = {flag.removeprefix("--").replace("-", "_") for flag in listed}
    prefixed = {flag.partition(".")[2] for flag in given if "." in flag}
    for field in names:
        assert field.rpartition(".")[2] in given | prefixed, field


@pytest.mark.parametrize("name, recipe_name", RECIPES, ids=map("/".join, RECIPES))
def test_without_further_flags_a_recipe_is_as_it_is_written(name, recipe_name):
    found, run = train.command(name, ["--recipe", recipe_name, "--out", "x"])
    assert found == stage_class(name).recipes[recipe_name]
    assert run == Train(Path("x"))
    changes = ["--steps", "7", "--size", "33", "50", "--weights", "none", "--out", "x"]
    found, _ = train.command(name, ["--recipe", recipe_name, *changes])
    wanted = stage_class(name).recipes[recipe_name]
    assert found == change(wanted, steps=7, size=(33, 50), weights="none")


def test_flags_change_single_fields_of_every_group():
    words = ["--recipe", "small", "--out", "x", "--lr", "0.5", "--no-mirror", "--floor", "1e-3"]
    words += ["--width", "1", "2", "3", "4", "5", "--crf-input", "score", "--quiet"]
    found, run = train.command("sec", words)
    wanted = stage_class("sec").recipes["small"]
    assert found == change(
        wanted, lr=0.5, mirror=False, floor=1e-3, width=(1, 2, 3, 4, 5), crf_input="score"
    )
    assert run.quiet and not Train(Path("x")).quiet


def test_the_segmenter_s_flags_carry_its_name():
    words = ["--recipe", "smoke", "--out", "x", "--segmenter.weights", "a.pt", "--weights", "b.pt"]
    found, _ = train.command("segmenter", [*words, "--decoder.dropout", "0.3"])
    assert found.segmenter.weights == "a.pt" and found.backbone.weights == "b.pt"
    assert found.decoder.dropout == 0.3 and found.head.dropout == 0.1


@pytest.mark.parametrize(
    "words", [("--odd", "1"), ("--policy", "never"), ("--lr", "fast"), ("--size", "3"), ()]
)
def test_what_is_no_flag_is_refused(words, capsys):
    out = ("--out", "x") if words else ()
    with pytest.raises(SystemExit) as stop:
        train.command("sec", [*words, *out])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert (words[0] if words else "--out") in error


def test_help_has_groups_with_their_texts(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        train.command("supervised", ["--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "The defaults shown are those of the recipe small" in text
    for part in ("Optimiser and length of the training", "Height and width of the network's input"):
        assert part in text
    assert "--rate" in text and "--cue" not in text and "--seed-weight" not in text


def test_the_recipe_follows_data_set_and_backbone():
    def chosen(*arguments):
        return choose_recipe(*arguments)[0]

    assert chosen("sec", "", "", "scenes") == "small"
    assert chosen("sec", "", "", "voc") == chosen("sec", "", "", "coco") == "paper"
    assert chosen("sec", "", "resnet50", "voc") == "paper-resnet50"
    assert chosen("sec", "smoke-resnet50", "resnet50", "x") == "smoke-resnet50"
    assert chosen("sec", "", "vgg16", "scenes") == "small"
    assert (
        chosen("sec", "", "", "mine") == "photo"
        and chosen("cue-foreground", "", "", "x") == "small"
    )
    assert choose_recipe("sec", "", "", "mine")[1].data.dataset == "mine"
    for arguments in (("sec", "huge", ""), ("sec", "", "resnet38d"), ("nothing", "", "")):
        with pytest.raises(UserError, match=r"has no recipe|is not a stage"):
            choose_recipe(*arguments, "scenes")


# -- smoke and stored form --------------------------------------------------------------------


def test_each_small_recipe_has_a_smoke_one_of_the_same_networks():
    for name in STAGES:
        recipes = stage_class(name).recipes
        for small in (key for key in recipes if key.startswith("small")):
            before, after = recipes[small], recipes[small.replace("small", "smoke")]
            assert type(before.backbone) is type(after.backbone)
            assert after.data.size == (32, 32) and after.solver.batch == 2
            assert after.solver.steps == (4 if before.solver.steps else 0)
            assert {f.name for f in fields(before)} == {f.name for f in fields(after)}
            for kept in ("norm", "convention"):
                assert getattr(before.backbone, kept) == getattr(after.backbone, kept)


def test_groups_are_frozen_dataclasses_of_plain_values(recipe):
    assert isinstance(recipe.data, Data) and isinstance(recipe.solver, Solver)
    for field in fields(recipe):
        group = getattr(recipe, field.name)
        assert is_dataclass(group) and group.__dataclass_params__.frozen
    hash(recipe)
    recipe.data.check()


def test_stored_and_restored_a_recipe_is_the_same(recipe):
    stored = asdict(recipe)
    assert restore_recipe(FILE, stored, type(recipe)) == recipe
    as_json = tuples(json.loads(json.dumps(stored)))
    assert restore_recipe(FILE, as_json, type(recipe)) == recipe


def test_what_a_stored_recipe_lacks_has_its_default(recipe):
    kind, stored = type(recipe), asdict(recipe)
    assert not differences(recipe, stored)
    for group in fields(recipe):
        older = {key: value for key, value in stored.items() if key != group.name}
        restored = restore_recipe(FILE, older, kind)
        assert restored == replace(recipe, **{group.name: group.default})
        content, own = stored[group.name], getattr(recipe, group.name)
        for field in fields(own):
            less = {key: value for key, value in content.items() if key != field.name}
            older = {**stored, group.name: less}
            alike = f"{type(own).__name__}.{field.name}" in ALIKE
            if alike and group.name in ("backbone", "head"):
                with pytest.raises(UserError, match="does not fit this version"):
                    restore_recipe(FILE, older, kind)
                continue
            expected = replace(recipe, **{group.name: replace(own, **{field.name: field.default})})
            assert restore_recipe(FILE, older, kind) == expected
            assert not differences(expected, older)
            assert bool(differences(recipe, older)) is (expected != recipe)


def test_other_fields_and_types_of_stored_recipes_are_refused(recipe):
    kind, stored = type(recipe), asdict(recipe)
    for group, content in stored.items():
        for bad in (
            {**stored, group: {**content, "unheard_of": 1}},
            {**stored, group: [1]},
            {**stored, "unheard_of": content},
        ):
            with pytest.raises(UserError, match=r"^run/last\.pt: its recipe"):
                restore_recipe(FILE, bad, kind)
        for name, value in content.items():
            wrong = {} if isinstance(value, str) else "wrong"
            if isinstance(value, str) or value is None or type(value) in (bool, int, float, tuple):
                bad = {**stored, group: {**content, name: wrong}}
                with pytest.raises(UserError, match=rf"its recipe .*{name}"):
                    restore_recipe(FILE, bad, kind)


def test_contradicting_fields_of_data_are_refused():
    for data in (Data(long=(3, 4)), Data(scale=(0.5, 1.0)), Data(test_long=9)):
        with pytest.raises(UserError, match="go with --fit crop"):
            data.check()
    with pytest.raises(UserError, match="exclude each other"):
        Data(fit="crop", long=(3, 4), scale=(0.5, 1.0)).check()


# -- stages -----------------------------------------------------------------------------------


def test_each_stage_keeps_the_protocol(scenes_root, scenes_cue):
    members = set(Stage.__annotations__) | {
        name for name, value in vars(Stage).items() if inspect.isfunction(value) and name[0] != "_"
    }
    assert members >= {"recipes", "can", "phases", "losses", "predict", "cues", "groups"}
    for case in CASES:
        stage = make(case, scenes_root, scenes_cue)
        for member in members:
            assert hasattr(stage, member), (case, member)
        assert isinstance(stage.can, frozenset) and stage.can <= set(Ability.__args__)
        assert {"paper", "small", "smoke"} <= stage.recipes.keys()
        for method in ("predict", "cues", "losses", "load", "dataset", "groups", "panels"):
            ours, asked = (
                [*inspect.signature(getattr(owner, method)).parameters]
                for owner in (type(stage), Stage)
            )
            assert ours == asked, (case, method)
        assert isinstance(stage.recipe.prediction, Prediction)
        assert summary(case[0]) == inspect.getdoc(type(stage)).partition("\n")[0]
        if "export" in stage.can:
            assert "predict" in stage.can


@pytest.mark.parametrize("case", CASES, ids="/".join)
def test_a_stage_does_what_it_can_and_is_refused_the_rest(case, scenes_root, scenes_cue, tmp_path):
    stage = make(case, scenes_root, scenes_cue)
    stage.network.eval()
    image, tag = image_and_tag(stage)
    predict = Predict(tmp_path, quiet=True)
    cue = replace(predict, save=("cue",))
    with torch.inference_mode():
        if "predict" in stage.can:
            check(stage, predict)
            for tags in (tag, None):
                score = stage.predict([image], tags, False)
                assert score.dtype == torch.float32 and score.shape[:2] == (2, stage.num_classes)
                assert score.min() >= 0 and score.max() <= 1
            untagged = stage.predict([image], torch.zeros_like(tag), False)
            if "cue" in stage.can or case[0] in ("cam", "rsepm", "segmenter", "resegment"):
                assert not untagged[:, 1:].any()
        else:
            with pytest.raises(UserError, match="predicts no classes"):
                check(stage, predict)
            with pytest.raises(NotImplementedError):
                stage.predict([image], None, False)
        if "cue" in stage.can:
            check(stage, cue)
            cues = stage.cues(image, tag)
            assert cues.dtype == torch.bool and cues.shape[:2] == (2, stage.num_classes)
            assert not cues[:, 2:].any()  # class 0 is the background, class 1 the one tag
        else:
            with pytest.raises(UserError, match=r"makes no cues|predicts no classes"):
                check(stage, cue)
            with pytest.raises(NotImplementedError):
                stage.cues(image, tag)
    if not stage.recipe.prediction.test_crf and "predict" in stage.can:
        with pytest.raises(UserError, match="recipe has no CRF at test"):
            check(stage, replace(predict, crf=True))
    if stage.can:
        with pytest.raises(UserError, match="above 0"):
            check(stage, replace(predict if "predict" in stage.can else cue, scales=(0.0,)))
