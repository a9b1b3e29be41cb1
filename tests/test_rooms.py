"""The folders of the package, and which of them may know which."""

import ast
from pathlib import Path

import pytest

import pyro_reparam_ext

SOURCE = Path(pyro_reparam_ext.__file__).parent

HOUSE = [
    {
        "errors",
        "noise",
        "callers",
        "contexts",
        "replay",
        "ignored",
        "parameters",
        "parallel",
        "elbo_module",
    },
    {"numerics"},
    {"schedule"},
    {"temperature"},
    {"distributions"},
    {"particles"},
    {"estimators"},
    {"config", "evaluation"},
    {"diagnosis"},
    {"bound_gradients"},
    {"elbo"},
    {"sub_samples", "snapshot"},
    {"importance_weighted"},
    {"convergence"},
    {"reparam", "nn", "compiled"},
    {"study"},
    {"monitoring", "inspection"},
    {"diagnostics"},
    {"fitting"},
    {"testing"},
]
"""Rooms from the entrance on: each may know those before it, and none after it."""

DISTRIBUTIONS = [{"supports", "rules"}, {"mixins"}, {"classes"}]
"""Rooms within ``distributions/``; the classes lie in the folder itself."""

NN = [{"layers"}, {"guides"}, {"networks"}]
"""Rooms within ``nn/``; what makes networks Bayesian, and noise layers, lie in the folder itself."""


def imports(path):
    """The modules of the package that a module imports, as parts below the package."""
    package = path.relative_to(SOURCE.parent).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[1 : len(package) - node.level + 1]
            module = (*base, *(node.module.split(".") if node.module else ()))
            if node.module:
                yield module
            else:
                yield from ((*module, alias.name) for alias in node.names)


def arrows(folder, room):
    """From room to room: where one imports the other."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        own = path.relative_to(SOURCE).with_suffix("").parts
        for module in imports(path):
            start, end = room(own), room(module)
            if start and end and start != end:
                found.setdefault((start, end), f"{path.relative_to(SOURCE)} imports {'.'.join(module)}")
    return found


def room_of_the_house(parts):
    return parts[0] if parts and parts[0] != "__init__" else None


def room_within(folder, rooms, rest):
    """Of a folder's modules: which of its rooms they are in, or the ``rest``, in the folder itself."""

    def room(parts):
        if parts[:1] != (folder,) or len(parts) < 2:
            return None
        return parts[1] if parts[1] in rooms else rest

    return room


room_of_distributions = room_within("distributions", {"supports", "rules", "mixins"}, "classes")
room_of_nn = room_within("nn", {"layers", "guides"}, "networks")


def assert_no_arrow_back(found, order):
    places = {room: number for number, rooms in enumerate(order) for room in rooms}
    unknown = {room for arrow in found for room in arrow} - set(places)
    assert not unknown, f"rooms without a place in the order: {sorted(unknown)}"
    back = [where for (start, end), where in found.items() if places[end] > places[start]]
    assert not back, "\n".join(back)


def assert_no_loop(found):
    loops = [f"{found[a, b]}, and {found[b, a]}" for a, b in found if a < b and (b, a) in found]
    assert not loops, "\n".join(loops)


@pytest.mark.parametrize(
    "folder, room, order",
    [
        (SOURCE, room_of_the_house, HOUSE),
        (SOURCE / "distributions", room_of_distributions, DISTRIBUTIONS),
        (SOURCE / "nn", room_of_nn, NN),
    ],
    ids=["house", "distributions", "nn"],
)
def test_no_room_knows_one_after_it(folder, room, order):
    found = arrows(folder, room)
    assert len(found) > 1
    assert_no_arrow_back(found, order)
    assert_no_loop(found)


def private(name):
    return name.startswith("_") and not name.startswith("__")


def private_names_across_files(text):
    """Private names that a module takes from others of the package, by import or as attributes."""
    tree, modules = ast.parse(text), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            modules |= {alias.asname or alias.name for alias in node.names}
            yield from (alias.name for alias in node.names if private(alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in modules and private(node.attr):
                yield f"{node.value.id}.{node.attr}"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_private_names_stay_in_their_file(path):
    assert not list(private_names_across_files(path.read_text()))


@pytest.mark.parametrize("text", ["from .x import _y", "from . import x\nx._y()"])
def test_a_private_name_is_seen(text):
    assert list(private_names_across_files(text))


def test_an_arrow_back_is_seen():
    with pytest.raises(AssertionError, match="numerics/x.py"):
        assert_no_arrow_back({("numerics", "study"): "numerics/x.py imports study"}, HOUSE)


def test_files_are_short():
    """A concept of its own has a file of its own: half of them fit a screen or two, none is a book."""
    lengths = sorted(len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py"))
    assert lengths[len(lengths) // 2] <= 120
    assert lengths[-1] <= 350
