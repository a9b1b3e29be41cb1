"""First sentences of docstrings say what a thing is, to a reader who doesn't know the code."""

import ast
import re
from pathlib import Path

import pytest

import pyro_reparam_ext

SOURCE = Path(pyro_reparam_ext.__file__).parent

BARE = re.compile(r"(Of|What)\b")
"""What begins so leaves out the noun: 'Of each coordinate.' in place of 'The variance of each'."""

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
    assert not found, "\n".join(found)


def test_a_bare_sentence_is_seen():
    assert bare_sentences('def variance(): "Of each coordinate."') == ["Of each coordinate."]
    assert not bare_sentences('def variance(): "Offset of each coordinate."')
