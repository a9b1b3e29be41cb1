"""Functions of values that a program may compute: those that broadcast, and those that do not.

A form is written once, as a Python expression of the values' own (plain) shapes. It *broadcasts* if it
means the same where the values have further dims on the left.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .grammar import KINDS, Numbers

DISCRETE_SCALARS = ("bernoulli", "binomial", "categorical")
VECTORS = ("bernoulli-event", "one_hot", "normal-event", "multivariate_normal")


@dataclass(frozen=True)
class Value:
    """A value that a feature reads: its name, kind, plates with their dims, plain batch shape."""

    name: str
    kind: str
    dims: dict[str, int]
    batch: tuple[int, ...]

    @property
    def plates(self) -> tuple[str, ...]:
        return tuple(self.dims)

    @property
    def event_dim(self) -> int:
        return len(KINDS[self.kind].event)

    @property
    def scalar(self) -> bool:
        return not self.event_dim

    @property
    def number(self) -> str:
        """The value as a floating point number."""
        return f"{self.name}.double()" if self.kind.startswith("categorical") else self.name


@dataclass(frozen=True)
class Target:
    """Where the result is used: its plates, and the plain batch shape that they give."""

    plates: tuple[str, ...]
    batch: tuple[int, ...]
    whole: bool
    """Whether none of the plates is sub-sampled."""


Write = Callable[[list[Value], Target, Numbers], str]


@dataclass(frozen=True)
class Form:
    """``plain``: the form for the exact answer, where a value can't be read as a number."""

    applies: Callable[[list[Value], Target], bool]
    write: Write
    broadcasts: bool = True
    smooth: bool = True
    """Whether a value between the points of the support gives one between the results."""
    plain: Write | None = None
    arity: int = 1


def tensor(numbers: object) -> str:
    return f"T({numbers})"


def _table(numbers: Numbers, kind: str) -> str:
    return tensor(numbers(KINDS[kind].values))


def _inside(values: list[Value], target: Target) -> bool:
    return all(set(v.plates) <= set(target.plates) for v in values)


def _free(values: list[Value], target: Target) -> bool:
    return not any(v.plates for v in values)


def _of(*kinds: str) -> Callable[[list[Value], Target], bool]:
    return lambda v, t: v[0].kind in kinds


def _both(*conditions: Callable[[list[Value], Target], bool]) -> Callable[[list[Value], Target], bool]:
    return lambda v, t: all(condition(v, t) for condition in conditions)


def _scalar(values: list[Value], target: Target) -> bool:
    return all(v.scalar for v in values)


def _number(values: list[Value], target: Target) -> bool:
    return _scalar(values, target) and not any(v.kind == "categorical" for v in values)


def _leaves(values: list[Value], target: Target) -> bool:
    """All of the plates of the first value are left."""
    return bool(values[0].plates) and not set(values[0].plates) & set(target.plates)


def _outside(values: list[Value], target: Target) -> bool:
    """Some of the plates of the first value are left."""
    return not _inside(values, target)


def _in_one_plate(values: list[Value], target: Target) -> bool:
    """The values lie in the rightmost plate only: their plain batch shape has one dim."""
    return all(len(v.batch) == 1 and v.plates for v in values)


def _into_vector(values: list[Value], target: Target) -> bool:
    """The target lies in the rightmost plate, whole; perhaps in others."""
    return target.whole and bool(target.batch) and target.batch[-1] > 1


def _branch(condition: str) -> tuple[Write, Write]:
    def write(v: list[Value], t: Target, n: Numbers) -> str:
        return f"({tensor(n())} if {condition.format(v[0].name)} else {tensor(n())})"

    def plain(v: list[Value], t: Target, n: Numbers) -> str:
        return f"torch.where({v[0].name} > 0.5, {tensor(n())}, {tensor(n())})"

    return write, plain


_item, _item_plain = _branch("{}.item() > 0.5")
_bool, _bool_plain = _branch("{} > 0.5")


FORMS: dict[str, Form] = {
    # -- elementwise over plates, whatever the event ----------------------------------------------
    "value": Form(_both(_inside, _number), lambda v, t, n: v[0].name),
    "table": Form(
        _both(_inside, _of("categorical")), lambda v, t, n: f"{_table(n, v[0].kind)}[{v[0].name}]"
    ),
    "class": Form(_both(_inside, _of("categorical")), lambda v, t, n: f"({v[0].name} == 1).double()"),
    "table_event": Form(
        _both(_inside, _of("categorical-event")),
        lambda v, t, n: f"{_table(n, v[0].kind)}[{v[0].name}].sum(-1)",
    ),
    "weighted": Form(
        _both(_inside, _of(*VECTORS)),
        lambda v, t, n: f"({v[0].name} * {tensor(n(*KINDS[v[0].kind].event))}).sum(-1)",
    ),
    "matrix_vector": Form(
        _both(_inside, _of(*VECTORS)),
        lambda v, t, n: f"{v[0].name} @ {tensor(n(*KINDS[v[0].kind].event))}",
    ),
    "weighted_matrix": Form(
        _both(_inside, _of("one_hot-event")),
        lambda v, t, n: f"({v[0].name} * {tensor(n(2, 3))}).sum((-1, -2))",
    ),
    "last_index": Form(_both(_inside, _of(*VECTORS)), lambda v, t, n: f"{v[0].name}[..., 1]"),
    "last_indices": Form(
        _both(_inside, _of("one_hot-event")), lambda v, t, n: f"{v[0].name}[..., 1, 2]"
    ),
    "last_softmax": Form(
        _both(_inside, _of(*VECTORS)),
        lambda v, t, n: f"({v[0].name} * {tensor(n(*KINDS[v[0].kind].event))}).softmax(-1)[..., 0]",
    ),
    "last_cumsum": Form(
        _both(_inside, _of(*VECTORS)), lambda v, t, n: f"{v[0].name}.cumsum(-1)[..., 1]"
    ),
    "last_prod": Form(_both(_inside, _of(*VECTORS)), lambda v, t, n: f"(0.5 + {v[0].name}).prod(-1)"),
    "product": Form(_both(_inside, _number), lambda v, t, n: f"{v[0].name} * {v[1].name}", arity=2),
    "step": Form(
        _both(_inside, _of("bernoulli", "binomial")),
        lambda v, t, n: f"({v[0].name} > 0.5).double()",
        smooth=False,
    ),
    "index": Form(
        _both(_inside, _of("bernoulli", "binomial")),
        lambda v, t, n: f"{_table(n, v[0].kind)}[{v[0].name}.long()]",
        smooth=False,
    ),
    "event_index": Form(
        _both(_inside, _of("bernoulli-event")),
        lambda v, t, n: f"{_table(n, v[0].kind)}[{v[0].name}.long()].sum(-1)",
        smooth=False,
    ),
    # -- out of plates, by named dims -------------------------------------------------------------
    "sum_plates": Form(
        _both(_outside, _scalar),
        lambda v, t, n: f"{v[0].number}.sum({_left(v[0], t)}, keepdim=True)",
    ),
    "mean_plates": Form(
        _both(_outside, _of(*VECTORS)),
        lambda v, t, n: f"{v[0].name}[..., 0].mean({_left(v[0], t)}, keepdim=True)",
    ),
    # -- scalars outside of plates ----------------------------------------------------------------
    "branch_item": Form(
        _both(_free, _of("bernoulli")), _item, broadcasts=False, smooth=False, plain=_item_plain
    ),
    "branch_bool": Form(
        _both(_free, _of("bernoulli", "binomial", "categorical")),
        _bool,
        broadcasts=False,
        smooth=False,
        plain=_bool_plain,
    ),
    "index_int": Form(
        _both(_free, _of(*DISCRETE_SCALARS)),
        lambda v, t, n: f"{_table(n, v[0].kind)}[int({v[0].name})]",
        broadcasts=False,
        smooth=False,
        plain=lambda v, t, n: f"{_table(n, v[0].kind)}[{v[0].name}.long()]",
    ),
    "stack": Form(
        _both(_free, _number),
        lambda v, t, n: f"torch.stack([{v[0].name}, {v[1].name}]) @ {tensor(n(2))}",
        broadcasts=False,
        arity=2,
    ),
    "stack_softmax": Form(
        _both(_free, _number),
        lambda v, t, n: f"torch.stack([{v[0].name}, {v[1].name}]).softmax(0)[0]",
        broadcasts=False,
        arity=2,
    ),
    "cat_scalars": Form(
        _both(_free, _number),
        lambda v, t, n: f"torch.cat([{v[0].name}.reshape(1), {v[1].name}.reshape(1)]).prod()",
        broadcasts=False,
        arity=2,
    ),
    # -- vectors outside of plates ----------------------------------------------------------------
    "sum_all": Form(
        _both(_free, _of(*VECTORS, "one_hot-event")),
        lambda v, t, n: f"({v[0].name} * {tensor(n(*KINDS[v[0].kind].event))}).sum()",
        broadcasts=False,
    ),
    "first_index": Form(
        _both(_free, _of(*VECTORS)), lambda v, t, n: f"{v[0].name}[0]", broadcasts=False
    ),
    "minus_mean": Form(
        _both(_free, _of("bernoulli-event")),
        lambda v, t, n: f"({v[0].name} * {tensor(n(2))} - {v[0].name}.mean())[..., 0]",
        broadcasts=False,
    ),
    "first_cumsum": Form(
        _both(_free, _of(*VECTORS)), lambda v, t, n: f"{v[0].name}.cumsum(0)[..., 1]", broadcasts=False
    ),
    "first_softmax": Form(
        _both(_free, _of(*VECTORS)), lambda v, t, n: f"{v[0].name}.softmax(0)[..., 0]", broadcasts=False
    ),
    "einsum_dot": Form(
        _both(_free, _of(*VECTORS)),
        lambda v, t, n: f'torch.einsum("i,i->", {v[0].name}, {tensor(n(*KINDS[v[0].kind].event))})',
        broadcasts=False,
    ),
    "table_sum": Form(
        _both(_free, _of("categorical-event")),
        lambda v, t, n: f"{_table(n, v[0].kind)}[{v[0].name}].sum()",
        broadcasts=False,
    ),
    "cat_vectors": Form(
        _both(_free, lambda v, t: all(x.kind in VECTORS for x in v)),
        lambda v, t, n: (
            f"torch.cat([{v[0].name}, {v[1].name}]) @ "
            f"{tensor(n(sum(KINDS[x.kind].event[0] for x in v)))}"
        ),
        broadcasts=False,
        arity=2,
    ),
    "matmul": Form(
        _both(_free, _into_vector, _of(*VECTORS)),
        lambda v, t, n: f"{v[0].name} @ {tensor(n(t.batch[-1], *KINDS[v[0].kind].event))}.T",
        broadcasts=False,
    ),
    "einsum_rows": Form(
        _both(_free, _into_vector, _of(*VECTORS)),
        lambda v, t, n: (
            f'torch.einsum("i,ji->j", {v[0].name}, {tensor(n(t.batch[-1], *KINDS[v[0].kind].event))})'
        ),
        broadcasts=False,
    ),
    "element_by_element": Form(
        _both(
            _free,
            _into_vector,
            _of(*VECTORS),
            lambda v, t: KINDS[v[0].kind].event == t.batch[-1:],
        ),
        lambda v, t, n: v[0].name,
        broadcasts=False,
    ),
    # -- out of plates, by position ---------------------------------------------------------------
    "plate_sum": Form(
        _both(_leaves, _scalar), lambda v, t, n: f"{v[0].number}.sum()", broadcasts=False
    ),
    "plate_event_sum": Form(
        _both(_leaves, _of(*VECTORS)),
        lambda v, t, n: f"({v[0].name} * {tensor(n(*KINDS[v[0].kind].event))}).mean()",
        broadcasts=False,
    ),
    "plate_first": Form(
        _both(_leaves, _scalar, _in_one_plate), lambda v, t, n: f"{v[0].number}[0]", broadcasts=False
    ),
    "plate_event_first": Form(
        _both(_leaves, _of(*VECTORS), _in_one_plate),
        lambda v, t, n: f"{v[0].name}[0, 1]",
        broadcasts=False,
    ),
    "plate_dot": Form(
        _both(_leaves, _scalar, _in_one_plate),
        lambda v, t, n: f"{v[0].number} @ {tensor(n(*v[0].batch))}",
        broadcasts=False,
    ),
    "plate_cat": Form(
        _both(_leaves, _number, _in_one_plate, lambda v, t: v[0].plates == v[1].plates),
        lambda v, t, n: f"torch.cat([{v[0].name}, {v[1].name}]).mean()",
        broadcasts=False,
        arity=2,
    ),
    # -- events by position in a plate ------------------------------------------------------------
    "event_position": Form(
        _both(_inside, _of(*VECTORS), _in_one_plate),
        lambda v, t, n: f"{v[0].name}[:, 1]",
        broadcasts=False,
    ),
    "event_sum_position": Form(
        _both(_inside, _of(*VECTORS), _in_one_plate),
        lambda v, t, n: f"({v[0].name} * {tensor(n(*KINDS[v[0].kind].event))}).sum(1)",
        broadcasts=False,
    ),
    "event_einsum": Form(
        _both(_inside, _of(*VECTORS), _in_one_plate),
        lambda v, t, n: f'torch.einsum("ij,j->i", {v[0].name}, {tensor(n(*KINDS[v[0].kind].event))})',
        broadcasts=False,
    ),
}


def _left(v: Value, target: Target) -> str:
    """The dims of the plates that a value leaves on its way to the target."""
    dims = tuple(v.dims[name] for name in v.plates if name not in target.plates)
    return str(dims[0]) if len(dims) == 1 else str(dims)
