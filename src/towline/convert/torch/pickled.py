"""Read what a pickle of PyTorch holds without running it: the classes it names, its dicts, and its tensors' shapes. Pure, without torch."""

from __future__ import annotations

import pickletools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

MAX_BYTES = 256 << 20
_MARK = object()
_IGNORED = {"PROTO", "FRAME", "READONLY_BUFFER"}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_FRESH: dict[str, Any] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_REBUILDS = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"}


class NotAPickle(Exception):
    """The bytes are no pickle, are torn, or use what PyTorch never writes."""


@dataclass(frozen=True)
class Name:
    """A class or function that would be imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Stored:
    """A tensor: its shape, and the class of its storage, such as FloatStorage."""

    shape: tuple[int, ...]
    storage: str = ""


@dataclass
class Made:
    """What calling `what` would have made. Never called."""

    what: Name
    arguments: tuple[Any, ...] = ()
    state: Any = None


@dataclass
class Pickle:
    """`root` is made of dicts, lists, tuples, plain values, Stored and Made; `names` are in order of their first mention."""

    root: Any
    names: tuple[Name, ...]

    def __post_init__(self) -> None:
        self.names = tuple(dict.fromkeys(self.names))


def read_pickle(file: IO[bytes]) -> Pickle:
    """Read one pickle from where `file` stands, which is then behind it. Raises NotAPickle."""
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if opcode.name == "STOP":
                return Pickle(machine.stack.pop(), tuple(machine.names))
            machine.step(opcode.name, argument)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, UnicodeDecodeError) as error:
        raise NotAPickle(str(error)) from error
    raise NotAPickle("it has no end")


@dataclass
class _Machine:
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    names: list[Name] = field(default_factory=list)

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        if opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in _FRESH:
            stack.append(_FRESH[opcode]())
        elif opcode in _TUPLES:
            stack.append(tuple(self._popped(_TUPLES[opcode])))
        elif opcode in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[len(self.memo) if opcode == "MEMOIZE" else int(argument)] = stack[-1]
        elif opcode in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[int(argument)])
        elif found := getattr(self, f"_{opcode.lower()}", None):
            found(argument)
        elif argument is not None:
            # Every other opcode with an argument pushes it: numbers, text and bytes.
            stack.append(argument)
        elif opcode not in _IGNORED:
            raise NotAPickle(f"it has an opcode {opcode}")

    def _popped(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise NotAPickle("it takes more than it put")
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def _marked(self) -> list[Any]:
        taken = []
        while (value := self.stack.pop()) is not _MARK:
            taken.append(value)
        return taken[::-1]

    def _proto(self, _: Any) -> None:
        """The version of the format: nothing to do."""

    _frame = _proto

    def _ext1(self, _: Any) -> None:
        raise NotAPickle("it names a class by a number that only its writer knows")

    _ext2 = _ext4 = _ext1

    def _mark(self, _: Any) -> None:
        self.stack.append(_MARK)

    def _pop(self, _: Any) -> None:
        self.stack.pop()

    def _pop_mark(self, _: Any) -> None:
        self._marked()

    def _dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _list(self, _: Any) -> None:
        self.stack.append(self._marked())

    _frozenset = _list

    def _tuple(self, _: Any) -> None:
        self.stack.append(tuple(self._marked()))

    def _dict(self, _: Any) -> None:
        taken = self._marked()
        self.stack.append(dict(_pairs(taken)))

    def _append(self, _: Any) -> None:
        self._extend([self.stack.pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._marked())

    _additems = _appends

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def _setitem(self, _: Any) -> None:
        self._update(self._popped(2))

    def _setitems(self, _: Any) -> None:
        self._update(self._marked())

    def _update(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(_pairs(values))

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._name(module, name)

    def _stack_global(self, _: Any) -> None:
        module, name = self._popped(2)
        self._name(str(module), str(name))

    def _name(self, module: str, name: str) -> None:
        self.names.append(Name(module, name))
        self.stack.append(self.names[-1])

    def _inst(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.names.append(Name(module, name))
        self.stack.append(_made(self.names[-1], tuple(self._marked())))

    def _obj(self, _: Any) -> None:
        what, *arguments = self._marked()
        self.stack.append(_made(what, tuple(arguments)))

    def _reduce(self, _: Any) -> None:
        what, arguments = self._popped(2)
        self.stack.append(_made(what, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        what, arguments, _ = self._popped(3)
        self.stack.append(_made(what, arguments))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Made):
            self.stack[-1].state = state

    def _persid(self, argument: Any) -> None:
        self.stack.append(argument)

    def _binpersid(self, _: Any) -> None:
        """PyTorch keeps the storage's description there, a tuple: it stays what it is."""


def _pairs(values: list[Any]) -> Iterator[tuple[Any, Any]]:
    for key, value in zip(values[::2], values[1::2], strict=True):
        yield (key if isinstance(key, str | int | bytes | float | bool) else str(id(key))), value


def _made(what: Any, arguments: Any) -> Any:
    if not isinstance(what, Name) or not isinstance(arguments, tuple):
        return Made(what if isinstance(what, Name) else Name("", str(type(what).__name__)))
    if what.module == "collections" and what.name in ("OrderedDict", "defaultdict"):
        return {}
    if what.module.startswith("torch"):
        if what.name in _REBUILDS and len(arguments) > 2:
            return Stored(_shape(arguments[2]), _storage(arguments[0]))
        if what.name.startswith(("_rebuild_parameter", "Parameter")) and arguments:
            return arguments[0]
        if what.name == "Size" and arguments:
            return arguments[0]
    return Made(what, arguments)


def _shape(sizes: Any) -> tuple[int, ...]:
    return tuple(size for size in sizes if isinstance(size, int)) if isinstance(sizes, tuple | list) else ()


def _storage(described: Any) -> str:
    if isinstance(described, tuple) and len(described) > 1 and isinstance(described[1], Name):
        return described[1].name
    return ""


_BUILTINS = ("builtins", "__builtin__")
_HARMLESS = {"set", "frozenset", "slice", "complex", "range", "bytearray", "int", "float", "str", "list", "dict", "tuple", "bool", "bytes"}
# What the unpickler of weights alone (torch.load with weights_only=True) makes by itself, or what only numbers are made of.
_NUMBER_MODULES = {"_codecs", "numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.dtypes"}
_PLAIN = {
    "torch": ("Storage", "Size", "device", "Tensor"),
    "torch.nn.parameter": ("Parameter", "Buffer"),
    "torch.serialization": ("_get_layout",),
    "torch.torch_version": ("TorchVersion",),
    "torch._tensor": ("_rebuild_from_type_v2",),
    "torch.storage": ("UntypedStorage", "TypedStorage"),
}


def is_plain(name: Name) -> bool:
    """Whether this is a name of weights: a tensor, its storage, a dict, a number."""
    if "." in name.name:
        return False
    if name.module in _BUILTINS:
        return name.name in _HARMLESS
    if name.module == "torch" and name.name.islower():
        # torch.float32 and its like.
        return name.name[-1:].isdecimal() or name.name in ("device", "bool", "strided", "half", "double", "long")
    if name.module == "torch._utils":
        return name.name.startswith("_rebuild_")
    return name.module == "collections" or is_number(name) or name.name.endswith(_PLAIN.get(name.module, ("\0",)))


def is_number(name: Name) -> bool:
    """Whether this is what a number of numpy is made of, such as the loss of the best epoch, or a plain value of Python."""
    return name.module in (*_NUMBER_MODULES, *_BUILTINS)


def is_layer(name: Name) -> bool:
    """Whether this is one of PyTorch's own layers, whose code the framework brings along."""
    return name.module.startswith("torch.nn.modules.") and name.name.isidentifier()


def code_names(names: Iterable[Name]) -> tuple[Name, ...]:
    """Those that are neither weights nor layers of PyTorch's own: somebody's code."""
    return tuple(name for name in names if not is_plain(name) and not is_layer(name))
