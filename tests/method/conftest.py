"""What tests of methods share: stages at smoke size, on a dozen scenes, and images for them."""

import pytest
import torch
from recipes import change

from datalist.spec import resolve
from method import stage_class


@pytest.fixture
def make(scenes_root):
    """Builds a smoke-sized stage, named or given, with changes to its recipe."""

    def build(kind, **changes):
        kind = stage_class(kind) if isinstance(kind, str) else kind
        recipe = change(kind.recipes["smoke"], dataset=str(scenes_root), **changes)
        torch.manual_seed(0)
        return kind(recipe, resolve(recipe.data.dataset))

    return build
