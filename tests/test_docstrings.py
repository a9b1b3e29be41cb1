"""First sentences of docstrings say what a thing is, to a reader who doesn't know the code."""

import ast
import re
from pathlib import Path

import pytest

import pyro_reparam_ext

SOURCE = Path(pyro_reparam_ext.__file__).parent

BARE = re.compile(r"(Of|What)\b")
"""What begins so leaves out the noun: 'Of each coordinate.' in place of 'The variance of each'."""

TO_DO = {
    "distributions/rules/log_tails.py",
    "distributions/rules/logits.py",
    "elbo.py",
    "estimators/base.py",
    "estimators/baselines.py",
    "estimators/hinted.py",
    "estimators/rebar.py",
    "estimators/relaxed.py",
    "estimators/score_function.py",
    "evaluation/axes.py",
    "evaluation/costs.py",
    "evaluation/crossing.py",
    "evaluation/invisible.py",
    "evaluation/modes.py",
    "evaluation/ordinary.py",
    "evaluation/place.py",
    "evaluation/probe.py",
    "evaluation/program.py",
    "evaluation/soft.py",
    "evaluation/surrogate.py",
    "evaluation/verify.py",
}
"""Modules that still have such sentences; the set may only shrink."""

DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def bare_sentences(text):
    """The docstrings of modules, classes and functions that begin without a noun."""
    nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, DEFINITIONS))
    docstrings = (ast.get_docstring(node) or "" for node in nodes)
    return [docstring.split("\n")[0] for docstring in docstrings if BARE.match(docstring)]


def modules():
    return sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))


@pytest.mark.parametrize("module", modules())
def test_first_sentences_begin_with_a_noun(module):
    found = bare_sentences((SOURCE / module).read_text())
    if module in TO_DO:
        assert found, f"{module} is clean: take it out of TO_DO"
    else:
        assert not found, "\n".join(found)


def test_nothing_is_to_do_in_modules_that_are_gone():
    assert set(modules()) >= TO_DO


def test_a_bare_sentence_is_seen():
    assert bare_sentences('def variance(): "Of each coordinate."') == ["Of each coordinate."]
    assert not bare_sentences('def variance(): "Offset of each coordinate."')
