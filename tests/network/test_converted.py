"""Released weights: tensors under the released names become checkpoints that compute the same."""

import pytest
import torch

from base import UserError
from datalist.spec import VOC, Spec
from method import stage_class
from method.restore import restore
from network.convert import LAYOUTS, load_released
from script.released import SYSTEMS, Flags, choose_recipe, main
from utils import checkpoint

CLASSES = VOC[:4]


def build(system, flags):
    """Our network of a system's shape at smoke size, with statistics that are not 0 and 1."""
    torch.manual_seed(0)
    spec = Spec(name="voc", root=flags.out, classes=CLASSES, lists={})
    stage = stage_class(system.stage)(choose_recipe(system, flags), spec)
    for name, value in stage.network.state_dict().items():
        if name.endswith(("running_var", "bias")):
            value.uniform_(0.5, 1.5)
    return stage


def released_names(network, system):
    """The tensors of a network under the names of the released file."""
    layout = LAYOUTS[system.layout]
    back = {ours: theirs for theirs, ours in layout.names.items()}
    state = {}
    for key, value in network.state_dict().items():
        if "normalise." in key or key.startswith(layout.absent or ("\0",)):
            continue
        prefix = max((ours for ours in back if key.startswith(ours)), key=len)
        state[back[prefix] + key[len(prefix) :]] = value
    if system.layout == "seam":  # an output for the background comes first
        state["fc8.weight"] = torch.cat((state["fc8.weight"][:1] * 0, state["fc8.weight"]))
    return state


def flags_for(name, tmp_path):
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(CLASSES) + "\n")
    # VGG16 of the small recipes has batch normalisation, which SEC_pytorch's has not.
    recipe = {"seam": "smoke-resnet38d", "sec-pytorch": "paper"}.get(name, "smoke")
    return Flags(name, tmp_path / "released.pth", tmp_path / "run", classes=classes, recipe=recipe)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_released_file_becomes_a_checkpoint_that_computes_the_same(name, tmp_path):
    system, flags = SYSTEMS[name], flags_for(name, tmp_path)
    source = build(system, flags)
    part = source.network.get_submodule(system.part)
    state = released_names(part, system)
    torch.save({f"module.{key}": value for key, value in state.items()}, flags.released)
    main(flags)
    content = checkpoint.load(flags.out / "last.pt")
    stage = restore(flags.out / "last.pt", content, photos=True)
    assert stage.recipe.backbone.convention == ("caffe" if name == "sec-pytorch" else "torchvision")
    target = stage.network.get_submodule(system.part)
    image = torch.rand(2, 4 if name == "locate" else 3, 40, 48) * 255
    layout = LAYOUTS[system.layout]
    with torch.no_grad():
        expected, computed = part.eval()(image), target.eval()(image)
    if layout.absent:  # the refined maps are not of the released network
        expected, computed = expected[0], computed[0]
    for a, b in zip(*(x if isinstance(x, tuple) else (x,) for x in (expected, computed))):
        assert a.std() > 0 and torch.equal(a, b)


def test_seam_loses_its_output_for_the_background(tmp_path):
    flags = flags_for("seam", tmp_path)
    network = build(SYSTEMS["seam"], flags).network
    state = released_names(network, SYSTEMS["seam"])
    assert len(state["fc8.weight"]) == len(CLASSES)
    torch.save(state, flags.released)
    before = network.fc8.weight.clone()
    load_released(network, str(flags.released), "seam")
    assert torch.equal(network.fc8.weight, before)


def test_files_without_counted_batches_are_whole(tmp_path):
    flags = flags_for("irn", tmp_path)
    network = build(SYSTEMS["irn"], flags).network
    state = released_names(network, SYSTEMS["irn"])
    kept = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    torch.save(kept | {"fc_dp1.0.weight": torch.zeros(1)}, flags.released)
    report, _ = load_released(network, str(flags.released), "irn")
    assert report.unused == ["fc_dp1.0.weight"]
    assert all("num_batches_tracked" in key for key in report.missing)


def test_another_systems_file_is_refused_and_nothing_is_written(tmp_path):
    flags = flags_for("irn", tmp_path)
    state = released_names(build(SYSTEMS["irn"], flags).network, SYSTEMS["irn"])
    torch.save(state, flags.released)
    other = Flags("locate", flags.released, tmp_path / "x", classes=flags.classes, recipe="smoke")
    with pytest.raises(UserError, match="not the released network"):
        main(other)
    assert not (tmp_path / "x").exists()
    nowhere = Flags("irn", flags.released, tmp_path / "x", dataset="nowhere")
    with pytest.raises(UserError, match="--classes"):
        main(nowhere)
