from types import SimpleNamespace

import torch
from torch import nn

from pyro_reparam_ext.compiled.numbers import lists_of, numbers_of

RATE = 0.5
TABLE = {"a": 1, "b": torch.ones(2)}


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.beta = 2.0
        self.inner = nn.Linear(2, 3)
        self.log = [1, 2, 3]

    def forward(self, x):
        return self.beta * self.inner(x) * RATE


def found(*programs):
    return {number.name: number.value for number in numbers_of(*programs)}


def test_numbers_are_found_where_a_program_reads_them():
    network, count = Network(), 3

    def model():
        return network(torch.ones(2)) * count * TABLE["a"]

    where = f"of {model.__qualname__}"
    assert found(model) == {
        f"'count' {where}": 3,
        "'TABLE'['a']": 1,
        "'beta' of a Network": 2.0,
        **{f"'log' of a Network[{i}]": i + 1 for i in range(3)},
        "'RATE'": 0.5,
    }
    assert lists_of(model)["'log' of a Network"] == 3
    (counted,) = (x for x in numbers_of(model) if "count" in x.name)
    count = 4
    assert counted.value == 4


def test_of_methods_and_plain_objects():
    settings = SimpleNamespace(noise=1.0)

    class Program:
        def __init__(self):
            self.scale = 2.0

        def model(self):
            return self.scale * settings.noise

    names = found(Program().model)
    assert names == {"'scale' of a Program": 2.0, "'noise' of a SimpleNamespace": 1.0}


def test_what_is_gone_is_none():
    kept = {"a": 1.0}

    def model():
        return kept["a"]

    (number,) = numbers_of(model)
    del kept["a"]
    assert number.value is None
