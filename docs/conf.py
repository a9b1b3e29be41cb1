"""Sphinx configuration."""

import inspect
import sys
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

import torch
from arviz import InferenceData
from pandas import DataFrame

import pyro_reparam_ext as package
from pyro_reparam_ext.diagnostics import calibration, guide_check, marginals
from pyro_reparam_ext.study import result

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.distributions.entry import tensors  # noqa: E402
from tests.distributions.registry import BY_CLASS  # noqa: E402

project = "pyro_reparam_ext"
author = "The pyro_reparam_ext authors"
release = version = package.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_generated", "relaxations_measured.md", "examples/*/*.md"]
html_theme = "furo"

# MathJax in one file, of an installed package: the pages need no network.
mathjax = distribution("sphinx-mathjax-offline")
html_static_path = [str(mathjax.locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg-full.js"))]
mathjax_path = "tex-svg-full.js"

myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"

# Types that the package imports for mypy alone; autodoc resolves annotations by the module's names.
result.InferenceData = InferenceData
for module in (calibration, guide_check, marginals, result):
    module.DataFrame = DataFrame


def api_page() -> str:
    """List every public name of the package, by kind."""
    groups: dict[str, list[str]] = {"Classes": [], "Functions": [], "Modules": [], "Data": []}
    public = {name: getattr(package, name) for name in package.__all__}
    described = {id(value) for value in public.values()}
    for name, value in public.items():
        if inspect.isclass(value):
            kind, group, options = "class", "Classes", []
        elif isinstance(value, ModuleType):
            repeated = [n for n, v in vars(value).items() if id(v) in described]
            kind, group = "module", "Modules"
            options = [f":exclude-members: {', '.join(repeated)}"] if repeated else []
        elif callable(value):
            kind, group, options = "function", "Functions", []
        else:
            kind, group, options = "data", "Data", [":no-value:"]
        lines = [f".. auto{kind}:: {package.__name__}.{name}", *(f"   {o}" for o in options)]
        groups[group].append("\n".join(["```{eval-rst}", *lines, "```"]))
    groups["Parts of estimators"] = [
        "\n".join(["```{eval-rst}", f".. autoclass:: {package.__name__}.estimators.{name}", "```"])
        for name in ("Estimator", "Site", "Draw", "Branch", "Evaluations", "Paper")
    ]
    return "\n\n".join(
        "\n\n".join([f"## {title}", *entries]) for title, entries in groups.items() if entries
    )


def distributions_table() -> str:
    """Every distribution of the tests' registry: sampler, gradients, and where others stand."""
    head = ("distribution", "sampler", "pathwise in", "torch", "Pyro", "TFP", "NumPyro")
    rows = [head, ("---",) * len(head)]
    for name, entry in sorted(BY_CLASS.items()):
        leaves = {k: x.requires_grad_() for k, x in tensors(entry.points[entry.typical]).items()}
        with torch.random.fork_rng(devices=[]):
            value = entry.make(**leaves).rsample((3,))
        gradients = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True)
        reached = [k for k, g in zip(leaves, gradients, strict=True) if g is not None]
        other = entry.elsewhere
        elsewhere = (other.torch, other.pyro, other.tfp, other.numpyro)
        rows.append((f"`{name}`", entry.sampler, ", ".join(reached), *elsewhere))
    lines = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return "\n".join(f"| {line} |" for line in lines)


def setup(app):
    generated = Path(app.srcdir) / "_generated"
    generated.mkdir(exist_ok=True)
    (generated / "api.md").write_text(api_page() + "\n", encoding="utf-8")
    (generated / "distributions.md").write_text(distributions_table() + "\n", encoding="utf-8")
