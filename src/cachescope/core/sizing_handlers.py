"""What a type's objects weigh and refer to: one plan for each type, made when the type is first met.

A plan is decided from the type's MRO alone, never by ``isinstance``, which asks the object's ``__class__`` and so runs
its code. Plans are kept by ``id(type)``, because hashing a type runs its metaclass's ``__hash__``; a weak reference
drops a plan with its type, so that no class (nor what it closes over) lives longer for having been measured.

Shared infrastructure is a *boundary*, neither charged nor entered: types, modules, functions defined in modules,
code, frames and tracebacks, descriptors, loggers, threads and event loops. Dropping a cache frees none of it.
Libraries are recognised through ``sys.modules``; none is imported here.
"""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

# An expansion returns the bytes of the object itself, what it refers to, and whether each of these stands for one
# counted reference (see `Walk.run`). It may add to `seen` the ids of parts it charged itself (an instance's dict).
Expand = Callable[[Any, "set[int]"], "tuple[int, Iterable[Any], bool]"]

_get_referents = gc.get_referents
_object_sizeof = object.__sizeof__

# Read through type's own descriptors: `cls.__mro__` would ask the metaclass first.
_mro_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
_namespace_of: Callable[[type], types.MappingProxyType[str, Any]] = type.__dict__["__dict__"].__get__
_flags_of: Callable[[type], int] = type.__dict__["__flags__"].__get__
_basic_bytes_of: Callable[[type], int] = type.__dict__["__basicsize__"].__get__
_item_bytes_of: Callable[[type], int] = type.__dict__["__itemsize__"].__get__
_dict_offset_of: Callable[[type], int] = type.__dict__["__dictoffset__"].__get__

_MANAGED_DICT = 1 << 4  # Py_TPFLAGS_MANAGED_DICT: attributes in a value array until someone asks for __dict__
_MANAGED_WEAKREF = 1 << 3
HAVE_GC = 1 << 14
_IMMUTABLE_TYPE = 1 << 8
_HEAP_TYPE = 1 << 9


class _Probe:
    """An instance to read layout facts from; they differ between versions and builds."""

    def __init__(self, **attributes: int) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)


# 16 bytes under the GIL, none on a free-threaded build.
GC_HEADER_BYTES = sys.getsizeof([]) - [].__sizeof__()
_MANAGED_HEADER_BYTES = sys.getsizeof(_Probe()) - _object_sizeof(_Probe()) - GC_HEADER_BYTES
_INLINE_VALUES = sys.version_info >= (3, 13)  # the array is part of the object, though not of its __sizeof__


def value_array_bytes(attributes: int) -> int:
    """Bytes of the array in which an instance without a dict keeps its attributes.

    The class's shared keys decide its capacity: what all instances use plus one once some thirty instances exist
    (the first few get up to 30 slots, and nothing tells from outside which those are). On 3.13 the collector shows no
    dict that exists beside a valid array: its 64 bytes and more are missed.
    """
    capacity = attributes + 1
    if _INLINE_VALUES:
        return ((capacity + 7) & -8) + (capacity + 1) * 8
    return ((capacity + 2 + 7) & -8) + capacity * 8


FAULT = 1 << 60
"""Added to a size that is a fallback, because the object's ``__sizeof__`` raised or returned nonsense."""

# No object is larger than the address space; a __sizeof__ that says so is wrong.
_MAX_PLAUSIBLE_BYTES = 1 << 47


def own_bytes(obj: Any) -> int:
    """``sys.getsizeof`` that always answers: with `FAULT` plus a fallback when ``__sizeof__`` is broken."""
    try:
        size = sys.getsizeof(obj)
        if 0 < size < _MAX_PLAUSIBLE_BYTES:
            return size
    except Exception:
        pass
    except BaseException as error:
        # Ctrl-C and exits raised by signal handlers must pass; those that the object's own code raised must not.
        trace = error.__traceback__
        inner = trace.tb_next if trace is not None else None
        if inner is None or inner.tb_frame.f_code.co_name != "__sizeof__":
            raise
    return FAULT + layout_bytes(type(obj))


def layout_bytes(cls: type) -> int:
    """Fixed bytes of an instance of *cls*, headers included, from the type alone."""
    flags = _flags_of(cls)
    size = _basic_bytes_of(cls)
    if flags & HAVE_GC:
        size += GC_HEADER_BYTES
    if flags & (_MANAGED_DICT | _MANAGED_WEAKREF):
        size += _MANAGED_HEADER_BYTES
    return size


def _class_attribute(cls: type, name: str) -> tuple[type, Any] | None:
    """The class in *cls*'s MRO that defines *name* and the raw attribute, or None; runs no code."""
    for base in _mro_of(cls):
        namespace = _namespace_of(base)
        if name in namespace:
            return base, namespace[name]
    return None


def _is_instance_dict(obj: Any, cls: type, candidate: dict[Any, Any]) -> bool:
    """Whether *candidate* is the ``__dict__`` of *obj*, found out without asking for it (that would create it).

    Reads one attribute by ``object.__getattribute__`` that only the instance can supply, so that no descriptor runs.
    """
    for name, value in list(dict.items(candidate))[:8]:
        if type(name) is not str:
            return False
        defined = _class_attribute(cls, name)
        if defined is not None and _class_attribute(type(defined[1]), "__get__") is not None:
            continue
        try:
            return object.__getattribute__(obj, name) is value
        except AttributeError:
            return False
    return False


# ---------------------------------------------------------------------------------------------- expansions
# The functions made here are kept with the plan, so none of them may hold the type it was made for.


def _generic(cls: type, fixed_bytes: int) -> Expand:
    """For types with neither instance dict nor handler: own size, and whatever the collector sees."""
    plain = _is_plain(cls, _slots_of(cls))

    def expand(obj: Any, seen: set[int]) -> tuple[int, Iterable[Any], bool]:
        members = _get_referents(obj)
        if members and members[-1] is type(obj):
            members.pop()
        return (fixed_bytes if fixed_bytes >= 0 else own_bytes(obj)), members, plain

    return expand


def _slots_of(cls: type) -> int:
    return sum(
        type(attribute) is types.MemberDescriptorType
        for base in _mro_of(cls)
        for attribute in _namespace_of(base).values()
    )


def _is_plain(cls: type, slots: int) -> bool:
    """Whether all fields of *cls* are slots or managed attributes of Python classes: one visit for one reference."""
    written_in_python = all(
        _flags_of(base) & (_HEAP_TYPE | _IMMUTABLE_TYPE) == _HEAP_TYPE for base in _mro_of(cls)[:-1]
    )
    weakref_slot = 8 if _class_attribute(cls, "__weakref__") and not _flags_of(cls) & _MANAGED_WEAKREF else 0
    return written_in_python and _basic_bytes_of(cls) == _basic_bytes_of(object) + 8 * slots + weakref_slot


def _instance(cls: type, fixed_bytes: int) -> Expand:
    """For types whose instances can have a dict, whether it exists yet or not."""
    managed = bool(_flags_of(cls) & _MANAGED_DICT)
    slots = _slots_of(cls)
    # From 3.13 on a value may be visited through the object and through its dict.
    plain = managed and not _INLINE_VALUES and _is_plain(cls, slots)

    def expand(obj: Any, seen: set[int]) -> tuple[int, Iterable[Any], bool]:
        size = fixed_bytes if fixed_bytes >= 0 else own_bytes(obj)
        members = _get_referents(obj)
        if members and members[-1] is type(obj):
            members.pop()
        # Up to 3.12 the collector shows either a managed dict or the values, so one of several members is no dict.
        if not managed or _INLINE_VALUES or len(members) <= 1 + slots:
            for member in members:
                if type(member) is dict and _is_instance_dict(obj, type(obj), member):
                    return _with_dict(size, members, member, managed, seen)
        if managed:
            size += value_array_bytes(max(len(members) - slots, 0))
        return size, members, plain

    return expand


def _with_dict(
    size: int, members: list[Any], own: dict[Any, Any], managed: bool, seen: set[int]
) -> tuple[int, Iterable[Any], bool]:
    """An instance whose dict exists: the names in it belong to the class and the code, so only values count."""
    values = list(dict.values(own))
    others = [member for member in members if member is not own]
    if id(own) not in seen:
        seen.add(id(own))
        size += dict.__sizeof__(own) + GC_HEADER_BYTES
        if managed and _INLINE_VALUES and len(others) >= len(values) > 0:
            size -= 8 * len(values)  # the dict reports the array that is still inside the object
    if managed and _INLINE_VALUES:
        size += value_array_bytes(len(values))
    return size, others + values, False


def _dict_subclass(cls: type, fixed_bytes: int) -> Expand:
    def expand(obj: Any, seen: set[int]) -> tuple[int, Iterable[Any], bool]:
        # The collector does not visit the keys of a dict that has only str keys.
        return own_bytes(obj), [*_get_referents(obj), *dict.keys(obj)], False

    return expand


def _function(cls: type, fixed_bytes: int) -> Expand:
    def expand(obj: Any, seen: set[int]) -> tuple[int, Iterable[Any], bool]:
        if obj.__closure__ is None and "<locals>" not in obj.__qualname__:
            return 0, (), False
        return own_bytes(obj), (obj.__closure__, obj.__defaults__, obj.__kwdefaults__), False

    return expand


def _method(cls: type, fixed_bytes: int) -> Expand:
    def expand(obj: Any, seen: set[int]) -> tuple[int, Iterable[Any], bool]:
        return own_bytes(obj), (obj.__self__,), False  # its function is the class's

    return expand


def _builtin(cls: type, fixed_bytes: int) -> Expand:
    def expand(obj: Any, seen: set[int]) -> tuple[int, Iterable[Any], bool]:
        owner = obj.__self__
        if owner is None or type(owner) is types.ModuleType:
            return 0, (), False
        return own_bytes(obj), (owner,), False

    return expand


def _ndarray(ndarray: type, cls: type) -> Expand:
    """Arrays of numpy: the buffer if owned, the base otherwise, the elements of an object array.

    A base is walked as an object of its own, so that any number of views charge it once. Getters come from ndarray
    itself, as subclasses may override them.
    """
    namespace = _namespace_of(ndarray)
    base_of = namespace["base"].__get__
    dtype_of = namespace["dtype"].__get__
    flat_of = namespace["flat"].__get__
    nbytes_of = namespace["nbytes"].__get__
    item_of = namespace["__getitem__"]
    sizeof = namespace["__sizeof__"]
    header_bytes = layout_bytes(cls) - _basic_bytes_of(cls)
    subclass = cls is not ndarray

    def elements(array: Any, dtype: Any) -> list[Any]:
        if dtype.names is None:
            # A field that is itself an array of objects comes out of __getitem__ with dtype object.
            return list(flat_of(array)) if dtype.kind == "O" else []
        found: list[Any] = []
        for name in dtype.names:
            if dtype[name].hasobject:
                field = item_of(array, name)
                found += elements(field, dtype_of(field))
        return found

    def expand(obj: Any, seen: set[int]) -> tuple[int, Iterable[Any], bool]:
        size = sizeof(obj) + header_bytes
        base = base_of(obj)
        members: list[Any] = _get_referents(obj) if subclass else []
        if base is not None:
            if type(base).__name__ == "PyCapsule" and id(base) not in seen:
                size += nbytes_of(obj)  # memory of a C library, which only the array knows the size of
            members.append(base)
        else:
            dtype = dtype_of(obj)
            if dtype.hasobject and dtype.kind != "T":
                members += elements(obj, dtype)
            elif dtype.kind == "T":  # variable-width strings: up to 15 bytes live in the array, longer ones outside
                size += sum(map(len, (text for text in flat_of(obj) if type(text) is str and len(text) > 15)))
        return size, members, False

    return expand


_ndarray_base_of: Callable[[Any], Any] | None = None


def ndarray_base(array: Any) -> Any:
    """The object that owns an array's buffer, None if the array itself does."""
    global _ndarray_base_of
    if _ndarray_base_of is None:
        _ndarray_base_of = _namespace_of(_named("numpy", "ndarray"))["base"].__get__
    return _ndarray_base_of(array)


# ---------------------------------------------------------------------------------------------- plans


class Plan(NamedTuple):
    """What to do with the objects of one type; `expand` None means boundary, `fixed_bytes` -1 ask each object."""

    expand: Expand | None
    fixed_bytes: int
    base: type | None
    """The built-in container the type derives from, if any."""
    is_array: bool
    type_ref: weakref.ref[type]


_BOUNDARY_TYPES: tuple[type, ...] = (
    type, types.ModuleType, types.CodeType, types.FrameType, types.TracebackType,
    types.WrapperDescriptorType, types.MethodDescriptorType, types.ClassMethodDescriptorType,
    types.GetSetDescriptorType, types.MemberDescriptorType, type(None), bool, type(Ellipsis), type(NotImplemented),
)  # fmt: skip
_BOUNDARY_IDS = frozenset(map(id, _BOUNDARY_TYPES))

# (module, class): each leads to the whole application, and lives on without the cache.
_BOUNDARY_NAMES = (
    ("threading", "Thread"),
    ("logging", "Logger"),
    ("logging", "Manager"),
    ("logging", "Handler"),
    ("asyncio.events", "AbstractEventLoop"),
    ("contextvars", "ContextVar"),
    ("concurrent.futures._base", "Executor"),
    ("enum", "Enum"),
    ("multiprocessing.process", "BaseProcess"),
)

_CONTAINERS = (dict, list, tuple, set, frozenset)

_plans: dict[int, Plan] = {}


def _named(module: str, name: str) -> Any:
    """A module's attribute if the module is loaded, without waking lazy modules; else None."""
    loaded = sys.modules.get(module)
    return loaded.__dict__.get(name) if type(loaded) is types.ModuleType else None


def plan_for(cls: type) -> Plan:
    """The plan for *cls*, made at the first call. Callers with a hot path look into `plans` by id themselves."""
    plan = _plans.get(id(cls))
    if plan is None:
        key = id(cls)

        def forget(_: object, key: int = key, pop: Callable[[int, None], object] = _plans.pop) -> None:
            pop(key, None)

        plan = _plans[key] = _make_plan(cls, weakref.ref(cls, forget))
    return plan


def _make_plan(cls: type, ref: weakref.ref[type]) -> Plan:
    mro = _mro_of(cls)
    base = next((container for container in _CONTAINERS if any(entry is container for entry in mro)), None)
    named = [found for module, name in _BOUNDARY_NAMES if (found := _named(module, name)) is not None]
    if any(id(entry) in _BOUNDARY_IDS or any(entry is boundary for boundary in named) for entry in mro):
        return Plan(None, 0, base, False, ref)
    ndarray = _named("numpy", "ndarray")
    if type(ndarray) is type and any(entry is ndarray for entry in mro):
        return Plan(_ndarray(ndarray, cls), -1, None, True, ref)

    fixed_bytes = -1
    defined = _class_attribute(cls, "__sizeof__")
    if defined is not None:
        owner, sizeof = defined
        module = _namespace_of(owner).get("__module__")
        if sizeof is object.__dict__["__sizeof__"]:
            if _item_bytes_of(cls) == 0:
                fixed_bytes = layout_bytes(cls)
        elif type(module) is str and module.partition(".")[0] == "pandas":
            # pandas answers the deep size, fills its caches on the way, and its parts are reached by walking.
            fixed_bytes = layout_bytes(cls)

    make: Callable[[type, int], Expand]
    if base is dict:
        make = _dict_subclass
    elif cls is types.FunctionType:
        make = _function
    elif cls is types.MethodType:
        make = _method
    elif cls is types.BuiltinFunctionType:
        make = _builtin
    elif _dict_offset_of(cls) or _flags_of(cls) & _MANAGED_DICT:
        make = _instance
    else:
        make = _generic
    return Plan(make(cls, fixed_bytes), fixed_bytes, base, False, ref)


plans = _plans
"""Plans by id of type; read-only for others."""
