"""A pickle interpreter that builds plain containers and calls nothing but the functions it is given.

Python's own unpicklers are no boundary: their memo and frame opcodes allocate what the file declares, BUILD sets
attributes of any object, REDUCE calls any callable on the stack. This one executes the few opcodes that ``torch.save``
writes, decoding their arguments with ``pickletools``. Every other opcode, global and persistent id is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

from facesr_plugin.checkpoints.errors import UnsupportedCheckpointError

MAX_OPCODES = 2_000_000
_MARK = object()
_MAX_INT_KEY = 2**60


class Global(NamedTuple):
    """A name that a pickle may refer to, and what calling it gives; inert until the pickle calls it."""

    name: str
    call: Callable[..., Any]


class Unpickler:
    """Interpret one pickle.

    Args:
        globals_: The closed list: ``"module.name"`` to the function that stands in for it.
        persistent_load: Called with each persistent id.
        max_opcodes: Longer pickles are refused; by default those longer than weights need.

    Raises:
        UnsupportedCheckpointError: From ``load``: opcode, global or structure outside what weights need.
    """

    def __init__(
        self,
        globals_: Mapping[str, Callable[..., Any]],
        persistent_load: Callable[[Any], Any] | None = None,
        *,
        max_opcodes: int | None = None,
    ) -> None:
        self._globals = globals_
        self._persistent_load = persistent_load
        self._max_opcodes = MAX_OPCODES if max_opcodes is None else max_opcodes
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def load(self, file: BinaryIO) -> Any:
        """Read one pickle from ``file``, which is left after its STOP opcode.

        Raises:
            UnsupportedCheckpointError: See the class.
        """
        try:
            return self._run(file)
        except UnsupportedCheckpointError:
            raise
        except (ValueError, TypeError, IndexError, KeyError, OverflowError, ArithmeticError, AttributeError) as error:
            raise UnsupportedCheckpointError(f"the pickle is damaged: {_short(error)}") from error

    def _run(self, file: BinaryIO) -> Any:
        for _ in range(self._max_opcodes):
            opcode = pickletools.code2op.get(file.read(1).decode("latin-1"))
            if opcode is None:
                raise ValueError("truncated, or not a pickle")
            if opcode.name == "STOP":
                break
            handler = _HANDLERS.get(opcode.name)
            if handler is None:
                raise UnsupportedCheckpointError(f"the pickle uses the opcode {opcode.name}, which weights never need")
            handler(self, opcode.arg.reader(file) if opcode.arg else None)
        else:
            raise UnsupportedCheckpointError(f"the pickle has more than {self._max_opcodes} opcodes")
        (result,) = self._stack
        if result is _MARK or isinstance(result, Global):
            raise UnsupportedCheckpointError("the pickle holds no object")
        return result

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("mark where a value was expected")
        return value

    def _pop_to_mark(self) -> list[Any]:
        position = len(self._stack) - 1
        while self._stack[position] is not _MARK:
            position -= 1
            if position < 0:
                raise ValueError("no mark on the stack")
        items = self._stack[position + 1 :]
        del self._stack[position:]
        return items

    def _mark(self, _: Any) -> None:
        self._push(_MARK)

    def _tuple_of(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(items)))

    def _append(self, _: Any) -> None:
        value = self._pop()
        _exactly(list, self._stack[-1]).append(value)

    def _appends(self, _: Any) -> None:
        items = self._pop_to_mark()
        _exactly(list, self._stack[-1]).extend(items)

    def _set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        set_items(self._stack[-1], [(key, value)])

    def _set_items(self, _: Any) -> None:
        items = self._pop_to_mark()
        set_items(self._stack[-1], list(zip(items[::2], items[1::2], strict=True)))

    def _put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        self._push(self._memo[index])

    def _global(self, argument: str) -> None:
        self._push(self._find(*argument.split(" ", 1)))

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        self._push(self._find(_exactly(str, module), _exactly(str, name)))

    def _find(self, module: str, name: str) -> Global:
        full = f"{module}.{name}"
        if full not in self._globals:
            raise UnsupportedCheckpointError(
                f"the pickle refers to {full[:200]!r}, which is not part of a plain state dict. "
                "Load the file in the program that wrote it, where you trust it, and save model.state_dict() alone"
            )
        return Global(full, self._globals[full])

    def _reduce(self, _: Any) -> None:
        arguments, function = _exactly(tuple, self._pop()), self._pop()
        self._push(_exactly(Global, function).call(*arguments))

    def _build(self, _: Any) -> None:
        state = self._pop()
        build = getattr(type(self._stack[-1]), "build_from_pickle", None)
        if build is not None:
            build(self._stack[-1], state)
        elif type(self._stack[-1]) is not dict:
            raise UnsupportedCheckpointError(f"the pickle sets the state of a {type(self._stack[-1]).__name__}")
        # A state dict's own attribute is _metadata (module versions); nothing here depends on it.

    def _persistent_id(self, _: Any) -> None:
        if self._persistent_load is None:
            raise UnsupportedCheckpointError("the pickle has a persistent id where none belongs")
        self._push(self._persistent_load(self._pop()))


def set_items(target: Any, items: list[tuple[Any, Any]]) -> None:
    """Put pairs into a plain dict, refusing keys other than text, small integers, booleans and None."""
    mapping = _exactly(dict, target)
    for key, value in items:
        if type(key) not in (str, int, bool, type(None)) or (type(key) is int and abs(key) > _MAX_INT_KEY):
            raise UnsupportedCheckpointError(f"the pickle uses a {type(key).__name__} as a dictionary key")
        mapping[key] = value


def _exactly(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise UnsupportedCheckpointError(
            f"the pickle is damaged: {kind.__name__} expected, found {type(value).__name__}"
        )
    return value


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:160]}"


def _constants() -> dict[str, Callable[[Unpickler, Any], None]]:
    values = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
    return {name: (lambda machine, _, value=value: machine._push(value)) for name, value in values.items()}


def _literals() -> dict[str, Callable[[Unpickler, Any], None]]:
    names = (
        "BININT BININT1 BININT2 LONG1 BINFLOAT BINSTRING SHORT_BINSTRING BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
        "BINBYTES SHORT_BINBYTES"
    )
    return {name: (lambda machine, argument: machine._push(argument)) for name in names.split()}


_HANDLERS: dict[str, Callable[[Unpickler, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "MARK": Unpickler._mark,
    "POP": lambda machine, _: machine._stack.pop(),
    "POP_MARK": lambda machine, _: machine._pop_to_mark(),
    **_constants(),
    **_literals(),
    "EMPTY_LIST": lambda machine, _: machine._push([]),
    "EMPTY_DICT": lambda machine, _: machine._push({}),
    "TUPLE": lambda machine, _: machine._push(tuple(machine._pop_to_mark())),
    "TUPLE1": lambda machine, _: machine._tuple_of(1),
    "TUPLE2": lambda machine, _: machine._tuple_of(2),
    "TUPLE3": lambda machine, _: machine._tuple_of(3),
    "APPEND": Unpickler._append,
    "APPENDS": Unpickler._appends,
    "SETITEM": Unpickler._set_item,
    "SETITEMS": Unpickler._set_items,
    "BINPUT": Unpickler._put,
    "LONG_BINPUT": Unpickler._put,
    "MEMOIZE": lambda machine, _: machine._put(len(machine._memo)),
    "BINGET": Unpickler._get,
    "LONG_BINGET": Unpickler._get,
    "GLOBAL": Unpickler._global,
    "STACK_GLOBAL": Unpickler._stack_global,
    "REDUCE": Unpickler._reduce,
    "NEWOBJ": Unpickler._reduce,
    "BUILD": Unpickler._build,
    "BINPERSID": Unpickler._persistent_id,
}
