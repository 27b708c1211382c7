"""Read YAML that somebody else wrote: plain values only, bounded in size, and an error that a user understands.

PyYAML's safe loader builds no Python objects, but aliases multiply without limit (each line of a few can hold the one
before ten times), what contains itself is accepted, a repeated key hides the first one, and damaged numbers and dates
raise whatever Python raises.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from facesr_plugin.utils.text import plain_line, shown

MAX_CHARACTERS = 2**18
MAX_VALUES = 50_000
MAX_DEPTH = 40


def load_yaml(text: str) -> Any:
    """Return the value of one YAML document.

    Raises:
        ValueError: If it is no YAML, longer than 262,144 characters, has more than 50,000 values (aliases count as
            often as they are used) or 40 levels, contains itself, repeats a key, or has a tag of Python objects.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"it must have at most {MAX_CHARACTERS} characters, got {len(text)}")
    try:
        return yaml.load(text, _Loader)
    except ConstructorError as error:
        tags = ". Tags that build Python objects are refused" if "constructor for the tag" in error.problem else ""
        raise ValueError(f"{plain_line(error.problem)} at line {error.problem_mark.line + 1}{tags}") from error
    except (yaml.YAMLError, OverflowError) as error:  # "\\U99999999" is no character
        raise ValueError(f"it is not valid YAML: {plain_line(str(error))}") from error
    except RecursionError as error:
        raise ValueError(f"it nests more than {MAX_DEPTH} levels deep") from error


class _Loader(yaml.SafeLoader):
    """The safe loader with limits, and with one kind of error."""

    def construct_document(self, node: Node) -> Any:
        """Build the value, after a look at how much it is."""
        _Measure().count(node, MAX_DEPTH)
        return super().construct_document(node)

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """Build one value; PyYAML lets pass what Python raises for damaged numbers, dates and booleans."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
            kind = node.tag.rpartition(":")[2]
            raise _problem(f"{shown(node.value)} is no valid {kind}", node) from error


class _Measure:
    """Counts the values of a graph of nodes as if aliases were written out."""

    def __init__(self) -> None:
        self._sizes: dict[int, tuple[int, int] | None] = {}

    def count(self, node: Node, depth: int) -> tuple[int, int]:
        """Return the number of values, and of levels, of a node that may have ``depth`` levels."""
        if id(node) in self._sizes and self._sizes[id(node)] is None:
            raise _problem("a value contains itself", node)
        known = self._sizes.get(id(node))
        if known is None:
            self._sizes[id(node)] = None
            known = self._sizes[id(node)] = self._count_parts(node, depth)
        if known[0] > MAX_VALUES:
            raise _problem(f"there are more than {MAX_VALUES} values, with all aliases", node)
        if known[1] > depth:
            raise _problem(f"it nests more than {MAX_DEPTH} levels deep", node)
        return known

    def _count_parts(self, node: Node, depth: int) -> tuple[int, int]:
        if depth <= 0:
            raise _problem(f"it nests more than {MAX_DEPTH} levels deep", node)
        parts = [self.count(part, depth - 1) for part in _parts(node)]
        return 1 + sum(values for values, _ in parts), 1 + max((levels for _, levels in parts), default=0)


def _parts(node: Node) -> list[Node]:
    if isinstance(node, SequenceNode):
        return node.value
    if not isinstance(node, MappingNode):
        return []
    counts = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, ScalarNode))
    (key, count), *_ = counts.most_common(1) or [(None, 0)]
    if count > 1:
        raise _problem(f"the key {shown(key[1])} is {count} times in one section", node)
    return [part for pair in node.value for part in pair]


def _problem(text: str, node: Node) -> ConstructorError:
    return ConstructorError(None, None, text, node.start_mark)
