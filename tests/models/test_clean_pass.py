"""Passes that go on from a clean one: equal to whole passes to rounding, and whole ones where a model cannot go on."""

import pytest
import torch
from torch.testing import assert_close

from sae.models.clean_pass import CleanPass
from sae.models.hook_points import resolve_hook_point
from sae.models.next_token import final_states
from sae.models.splice import splice
from sae.models.structure import blocks_path
from tests.dashboards.collect.texts import make_blocks, open_model
from tests.models.tiny import DECODERS

ROWS, BEGIN = torch.tensor([4, 1, 1]), 3  # one block twice


def opened(family, site="resid_post", layer=1):
    model, blocks = open_model(family), make_blocks(5)
    return model, blocks, resolve_hook_point(model, site=site, layer=layer)


def counted(model):
    """Numbers of the blocks that run, and the positions that each sees, filled in as they do."""
    seen = []
    layers = model.module.get_submodule(blocks_path(model.module))
    for number, layer in enumerate(layers):
        inner = next(child for child in layer.modules() if not list(child.children()) and list(child.parameters()))
        inner.register_forward_pre_hook(lambda _, given, number=number: seen.append((number, given[0].shape[1])))
    return seen


def changed_states(model, blocks, point, go, begin):
    """Final states with all kept positions from BEGIN on made half as large at the point."""
    mask = torch.arange(blocks.context_length).expand(len(ROWS), -1) >= BEGIN
    with splice(model, point, lambda rows: rows / 2, mask[:, begin:]):
        return go()


@pytest.mark.parametrize("site", ["resid_post", "resid_pre", "mlp_out"])
@pytest.mark.parametrize("family", DECODERS)
def test_going_on_equals_a_whole_pass(family, site):
    model, blocks, point = opened(family, site)
    clean = CleanPass(model, blocks.ids, blocks.attention, reads=[point], changes=[point])
    assert clean.goes_on
    found = changed_states(model, blocks, point, lambda: clean.go_on(ROWS, BEGIN), BEGIN)
    some = blocks.select(ROWS)
    expected = changed_states(model, blocks, point, lambda: final_states(model, some.ids, some.attention), 0)
    attended = some.attention[:, BEGIN:]
    assert_close(found[attended], expected[:, BEGIN:][attended], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[attended], clean.states[ROWS, BEGIN:][attended], atol=1e-2)


def test_what_lies_before_is_not_run_again():
    model, blocks, point = opened("llama")
    clean = CleanPass(model, blocks.ids, blocks.attention, reads=[], changes=[point])
    seen = counted(model)
    clean.go_on(ROWS, BEGIN)
    assert seen == [(2, blocks.context_length - BEGIN)]
    earlier = CleanPass(model, blocks.ids, blocks.attention, reads=[], changes=[opened("llama", "mlp_out")[2]])
    seen.clear()
    earlier.go_on(ROWS, BEGIN)
    assert [number for number, _ in seen] == [1, 2]


def test_from_the_first_position_on_nothing_is_kept():
    model, blocks, point = opened("gpt2")
    clean = CleanPass(model, blocks.ids, blocks.attention, reads=[], changes=[point])
    assert_close(clean.go_on(ROWS, 0), clean.states[ROWS])


def test_the_clean_pass_itself_is_a_plain_one():
    model, blocks, point = opened("llama")
    clean = CleanPass(model, blocks.ids, blocks.attention, reads=[point], changes=[point])
    assert_close(clean.states, final_states(model, blocks.ids, blocks.attention))
    seen = []
    with splice(model, point, lambda rows: seen.append(rows) or rows, blocks.attention):
        final_states(model, blocks.ids, blocks.attention)
    assert_close(clean.values[point.name][blocks.attention], seen[0])
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in model.module.modules())


def test_a_model_that_forgets_is_run_whole():
    model, blocks, point = opened("llama")
    run = model.module.base_model.forward
    model.module.base_model.forward = lambda **given: run(**{**given, "past_key_values": None, "use_cache": False})
    clean = CleanPass(model, blocks.ids, blocks.attention, reads=[], changes=[point])
    assert not clean.goes_on
    assert_close(clean.go_on(ROWS, 0), clean.states[ROWS])
