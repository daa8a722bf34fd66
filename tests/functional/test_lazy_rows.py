"""Whatever reads a parameter of lazy rows finds it up to date, and a look from outside leaves it as it was."""

import copy
import io

import pytest
import torch
from torch import nn

from sae.functional.lazy_rows import LazyRows, save_up_to_date, up_to_date

TRUE = torch.arange(6.0).reshape(3, 2)


class Keeper:
    """Rows hold -1 until they are brought up to date."""

    def __init__(self, parameter):
        self.parameter = parameter
        parameter.kept_by(self)

    def catch_up_(self, rows=None):
        rows = slice(None) if rows is None else rows
        self.parameter.behind[rows] = TRUE[rows]

    def caught_up(self):
        return TRUE.clone()


def late():
    parameter = LazyRows(-torch.ones(3, 2))
    return parameter, Keeper(parameter)


READERS = {
    "detach": lambda weight: weight.detach(),
    "data": lambda weight: weight.data,
    "clone": lambda weight: weight.clone(),
    "transpose": lambda weight: weight.T.T,
    "index": lambda weight: weight[torch.arange(3)],
    "product": lambda weight: torch.eye(3) @ weight,
    "linear": lambda weight: nn.functional.linear(torch.eye(3), weight.T).clone(),
    "embedding_bag": lambda weight: nn.functional.embedding_bag(torch.arange(3)[:, None], weight, mode="sum"),
    "where": lambda weight: torch.where(torch.tensor(True), weight, 0.0),
    "cat": lambda weight: torch.cat([weight]),
    "foreach": lambda weight: torch._foreach_mul([weight], 1.0)[0],
    "keyword": lambda weight: torch.add(torch.zeros(3, 2), other=weight),
    "to": lambda weight: weight.to(torch.float32),
    "numpy": lambda weight: torch.from_numpy(weight.detach().numpy()),
    "list": lambda weight: torch.tensor(weight.tolist()),
    "written in place": lambda weight: weight.data.mul_(1),
    "up_to_date": up_to_date,
    "deep copy": copy.deepcopy,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
def test_every_reader_finds_all_rows_up_to_date(reader):
    parameter, _ = late()
    assert torch.equal(reader(parameter), TRUE)


def test_a_written_number_stays():
    parameter, _ = late()
    with torch.no_grad():
        parameter[1] = 7.0
    assert parameter.behind.tolist() == [[0, 1], [7, 7], [4, 5]]


def test_its_gradient_is_that_of_a_plain_parameter():
    parameter, _ = late()
    plain = nn.Parameter(TRUE.clone())
    for weight in (parameter, plain):
        (weight.square().sum(dim=1) * torch.tensor([1.0, 2, 3])).sum().backward()
    assert torch.equal(parameter.grad, plain.grad)


def test_what_needs_no_number_brings_nothing_up_to_date():
    parameter, _ = late()
    assert (parameter.shape, parameter.dtype, parameter.device.type, len(parameter)) == ((3, 2), torch.float32, "cpu", 3)
    assert (parameter.grad, parameter.requires_grad, parameter.is_leaf) == (None, True, True)
    assert parameter in {parameter: 1}
    assert isinstance(parameter, nn.Parameter)
    parameter.grad = torch.zeros(3, 2)
    torch.optim.SGD([parameter], 0.1).zero_grad()
    assert (parameter.behind == -1).all()


def test_only_the_rows_asked_for_are_brought_up_to_date():
    parameter, _ = late()
    assert parameter.rows(torch.tensor([2])).tolist() == [[-1, -1], [-1, -1], [4, 5]]


def test_looks_from_outside_leave_it_as_it_was():
    parameter, _ = late()
    module = nn.Module()
    module.weight = parameter
    save_up_to_date(module, "weight")
    file = io.BytesIO()
    torch.save(parameter, file)
    file.seek(0)
    looks = [module.state_dict()["weight"], copy.deepcopy(module).weight, up_to_date(parameter), parameter.caught_up()]
    for look in [*looks, torch.load(file, weights_only=True)]:
        assert torch.equal(look, TRUE)
        assert not isinstance(look, LazyRows)
    assert (parameter.behind == -1).all()
    assert module.weight is parameter
    assert torch.equal(parameter.detach(), TRUE)  # saving is over
    assert (parameter.behind == TRUE).all()


def test_a_copy_of_the_module_saves_what_it_holds():
    module = nn.Module()
    module.weight = late()[0]
    save_up_to_date(module, "weight")
    copied = copy.deepcopy(module)
    with torch.no_grad():
        copied.weight.mul_(2)
    assert torch.equal(copied.state_dict()["weight"], 2 * TRUE)


def test_without_a_keeper_it_is_a_parameter():
    parameter = LazyRows(TRUE.clone())
    assert torch.equal(parameter.detach(), TRUE)
    assert torch.equal(parameter.caught_up(), TRUE)
    assert torch.equal(up_to_date(nn.Parameter(TRUE.clone())), TRUE)
