"""Evaluate the formulas in reference files: ``2 * uniform('input', [2, 3, 64, 64], seed) - 1  (some prose)``.

A formula is Python arithmetic over the functions below; nothing else of the language is accepted. Numbers of
the language are float64 literals that take part in float32 arithmetic, as in the program that wrote the references.
"""

import ast
import operator
import re

import numpy as np

from helpers.fill import uniform

_OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_FUNCTIONS = {"floor": np.floor, "float32": np.float32, "sqrt": np.sqrt, "clip": np.clip, "abs": np.abs}


class _Evaluator:
    """Evaluate a syntax tree; sets the name ``same`` to the shape of the latest ``uniform``."""

    def __init__(self, names):
        self.names = names

    def __call__(self, node):
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise ValueError(f"{ast.dump(node)} is not allowed in a formula")
        return method(node)

    def _expression(self, node):
        return self(node.body)

    def _constant(self, node):
        if not isinstance(node.value, int | float | str):
            raise ValueError(f"{node.value!r} is not allowed in a formula")
        return node.value

    def _name(self, node):
        if node.id not in self.names:
            raise ValueError(f"the formula's {node.id!r} is unknown. Known: {', '.join(self.names)}")
        return self.names[node.id]

    def _list(self, node):
        return [self(item) for item in node.elts]

    _tuple = _list

    def _unaryop(self, node):
        if not isinstance(node.op, ast.USub):
            raise ValueError("only the minus sign is allowed in front of a value")
        return -self(node.operand)

    def _binop(self, node):
        if type(node.op) not in _OPERATORS:
            raise ValueError(f"{type(node.op).__name__} is not allowed in a formula")
        return _OPERATORS[type(node.op)](self(node.left), self(node.right))

    def _call(self, node):
        if not isinstance(node.func, ast.Name) or node.keywords:
            raise ValueError("only plain calls are allowed in a formula")
        arguments = [self(argument) for argument in node.args]
        if node.func.id == "uniform":
            name, shape, *seed = arguments
            self.names["same"] = shape
            return uniform(name, tuple(shape), *seed)
        if node.func.id not in _FUNCTIONS:
            raise ValueError(f"the function {node.func.id!r} is unknown. Known: uniform, {', '.join(_FUNCTIONS)}")
        return _FUNCTIONS[node.func.id](*arguments)


def evaluate(text, names):
    """Return the value of the longest beginning of ``text`` that is a formula over ``names``; the rest is prose.

    Raises:
        ValueError: If no beginning of the text is a formula.
    """
    evaluator, reason = _Evaluator(names), "it is empty"
    for end in [len(text), *(match.start() for match in reversed(list(re.finditer(r"\s", text))))]:
        try:
            return evaluator(ast.parse(text[:end].strip(), mode="eval"))
        except (SyntaxError, ValueError) as error:
            reason = error
    raise ValueError(f"no formula at the beginning of {text!r}: {reason}")


def assignments(text, names):
    """Return ``names`` and the values of ``name = formula; name = formula; prose`` by name."""
    values = dict(names)
    for statement in text.split(";"):
        name, equals, formula = statement.partition("=")
        if equals and name.strip().isidentifier():
            values[name.strip()] = evaluate(formula, values)
    return values


def take_slice(array, text):
    """Apply the slice that a text names: after the channel mean if it says so, whole if there is no ``::``."""
    if "mean over channels" in text:
        array = array.mean(axis=1, keepdims=True)
    found = re.search(r"\[([^\[\]]*::[^\[\]]*)\]", text)
    if found is None:
        return array
    return array[numpy_index(found[1])]


def numpy_index(text):
    """Return the index that a text of slices writes: ``:1, ::4``."""
    return tuple(_slice(part.strip()) for part in text.split(","))


def _slice(part):
    return slice(*(int(number) if number.strip() else None for number in part.split(":")))


def count_rounds(text):
    """Return the number of power iterations in ``repeat 3 times`` or ``with 300 rounds``."""
    found = re.search(r"(\d+) (?:times|rounds)", text)
    if found is None:
        raise ValueError(f"no number of rounds in {text!r}")
    return int(found[1])
