"""Splicing: statements of ours put into a library's own method, so that counting costs no frame.

A wrapper's frame is most of what counting a hit costs (measured: 1.24 times the bare cache with wrappers, 1.11 with
spliced statements). So a stock look-up is compiled anew from its own source, with one statement before each of its
returns; and a stock set or delete is compiled into the middle of its hook. Line numbers, file name and globals are the
original's, so a traceback reads as if nothing were there. Where the source isn't to be had (a zipped or frozen library,
a C function), or where it is unusual, there is no splice, and a wrapper does.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import warnings
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any

from cachescope.core.closeup import TIMING
from cachescope.core.state import ATTRIBUTE

_COLD = "<cachescope: count while something is up>"
_TIMED = "<cachescope: look up and time>"
_TIMING = "<cachescope: whether look-ups are timed>"
_DEFAULT = "<cachescope: default of {}>"
_GLOBAL = "<cachescope: {}>"


def with_hits_counted(
    original: Any, cold: Callable[[Any, Any], None], timed: Callable[[Any, Any], Any] | None = None
) -> FunctionType | None:
    """The same method, with ``self.<state>.hits += 1`` before each return.

    Args:
        original: A method ``(self, key, …)`` written in Python.
        cold: Called with ``self`` and the key when the state or its slot isn't there.
        timed: Called instead of all the rest while :data:`~cachescope.core.closeup.TIMING` says so.

    Returns:
        The new function; None when *original* can't be spliced.
    """
    try:
        return _spliced(original, cold, timed)
    except (OSError, TypeError, ValueError, SyntaxError, LookupError, AttributeError):
        return None


def _spliced(
    original: Any, cold: Callable[[Any, Any], None], timed: Callable[[Any, Any], Any] | None
) -> FunctionType | None:
    found = _source_of(original)
    if found is None:
        return None
    function, first = found
    names = [argument.arg for argument in function.args.args]
    defaults = original.__defaults__ or ()
    if len(names) != 2 + len(defaults) or function.args.kwonlyargs or function.args.vararg:
        return None
    function = _CountReturns(names[0], names[1]).visit(function)
    constants: dict[str, Any] = {_COLD: cold, _TIMED: timed, _TIMING: TIMING}
    if timed is not None:
        function.body.insert(0, _unless_timed(names[:2], function.body[0]))
    for name, default in zip(reversed(names), reversed(defaults), strict=False):
        # A bound default such as cache_getitem=Cache.__getitem__ becomes a constant: with two parameters and no more,
        # the interpreter enters the method from cache[key] without a C call in between.
        constants[_DEFAULT.format(name)] = default
        function = _Constant(name, _DEFAULT.format(name)).visit(function)
    del function.args.args[2:]
    function.args.defaults = []
    return _made(original, function, first, constants)


def _source_of(original: Any) -> tuple[ast.FunctionDef, int] | None:
    """A method's syntax tree, and the line it begins at; None for what is unusual."""
    code = original.__code__
    if not isinstance(original, FunctionType) or code.co_freevars or hasattr(original, "__wrapped__"):
        return None
    lines, first = inspect.getsourcelines(original)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef) or function.decorator_list or first != code.co_firstlineno:
        return None
    if any(isinstance(node, (ast.Lambda, ast.Yield, ast.YieldFrom)) for node in ast.walk(tree)):
        return None
    indent = len(lines[0]) - len(lines[0].lstrip())
    for node in ast.walk(tree):
        if isinstance(node, (ast.stmt, ast.expr, ast.arg, ast.excepthandler, ast.keyword)):
            node.col_offset += indent
            node.end_col_offset = (node.end_col_offset or 0) + indent
    return function, first


def _made(original: Any, function: ast.FunctionDef, first: int, constants: Mapping[str, Any]) -> FunctionType | None:
    """Compile *function* as a method of the same class, with objects for its placeholders."""
    code = original.__code__
    owner = code.co_qualname.rpartition(".")[0].rpartition(".")[2]
    # A class around it: private names are mangled.
    shell = ast.ClassDef(name=owner, bases=[], keywords=[], body=[function], decorator_list=[])
    if "type_params" in ast.ClassDef._fields:  # from Python 3.12 on
        setattr(shell, "type_params", [])  # noqa: B010  # typeshed has it from 3.12 on
    module = ast.increment_lineno(ast.fix_missing_locations(ast.Module(body=[shell], type_ignores=[])), first - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # the constants that are called are not the str that they seem
        compiled = compile(module, code.co_filename, "exec", dont_inherit=True)
    made = _code_in(_code_in(compiled, owner), code.co_name)
    if made.co_freevars:
        return None
    consts = tuple(constants.get(const, const) if type(const) is str else const for const in made.co_consts)
    made = made.replace(co_consts=consts, co_qualname=code.co_qualname)
    return FunctionType(made, original.__globals__, original.__name__)


def around(
    original: Any, template: Any, given: Mapping[str, Any], timed: Callable[..., Any] | None = None
) -> FunctionType | None:
    """The same method inside another function's statements, so that neither has a frame of its own.

    Args:
        original: A method written in Python that returns nothing.
        template: A function with the same parameters, which calls ``original(…)`` once, as a statement: there the method's
            own statements go. What it refers to of its module, and of *given*, becomes constants.
        given: Values of names that the template refers to.
        timed: Called instead of all the rest while :data:`~cachescope.core.closeup.TIMING` says so.

    Returns:
        The new function; None when *original* can't be spliced.
    """
    try:
        return _around(original, template, given, timed)
    except (OSError, TypeError, ValueError, SyntaxError, LookupError, AttributeError):
        return None


def _around(
    original: Any, template: Any, given: Mapping[str, Any], timed: Callable[..., Any] | None
) -> FunctionType | None:
    found = _source_of(original)
    if found is None:
        return None
    inner, first = found
    outer = ast.parse(textwrap.dedent(inspect.getsource(template))).body[0]
    if not isinstance(outer, ast.FunctionDef) or inner.args.kwonlyargs or inner.args.vararg:
        return None
    names = [argument.arg for argument in inner.args.args]
    wanted = [argument.arg for argument in outer.args.args]
    constants: dict[str, Any] = {}
    for name, default in zip(reversed(names), reversed(original.__defaults__ or ()), strict=False):
        constants[_DEFAULT.format(name)] = default
        inner = _Constant(name, _DEFAULT.format(name)).visit(inner)
    body = inner.body[1:] if ast.get_docstring(inner) is not None else inner.body
    if names[: len(wanted)] != wanted or len(names) != len(wanted) + len(original.__defaults__ or ()):
        return None
    if any(
        isinstance(node, (ast.Return, ast.FunctionDef, ast.Global, ast.Nonlocal))
        for part in body
        for node in ast.walk(part)
    ):
        return None
    locals_ = set(template.__code__.co_varnames) - set(wanted)
    for node in ast.walk(outer):
        if isinstance(node, ast.Name) and node.id in locals_:
            node.id = f"_cachescope_{node.id}"
        elif isinstance(node, ast.ExceptHandler) and node.name is not None:
            node.name = f"_cachescope_{node.name}"
    values = {**template.__globals__, **given}
    for name in template.__code__.co_names:
        if name in values and name != "original":
            constants[_GLOBAL.format(name)] = values[name]
            outer = _Constant(name, _GLOBAL.format(name)).visit(outer)
    outer = _Inline(body, original=constants.setdefault(_GLOBAL.format("original"), given["original"])).visit(outer)
    if timed is not None:
        constants |= {_TIMED: timed, _TIMING: TIMING}
        outer.body.insert(0, _unless_timed(wanted, outer.body[0]))
    outer.name, outer.returns = inner.name, None
    for argument in outer.args.args:
        argument.annotation = None
    for node in ast.walk(outer):  # the hook's own statements stand at the method's first line
        if isinstance(node, (ast.stmt, ast.expr, ast.arg, ast.excepthandler)) and not hasattr(
            node, "_from_the_library"
        ):
            node.lineno = node.end_lineno = 1
            node.col_offset = node.end_col_offset = 0
    return _made(original, outer, first, constants)


def _unless_timed(names: list[str], place: ast.stmt) -> ast.stmt:
    """The statement that hands a call over to the timed hook while operations are timed."""
    statement = ast.parse(f"if ({_TIMING!r}).up:\n    return ({_TIMED!r})({', '.join(names)})\n").body[0]
    for node in ast.walk(statement):
        if hasattr(node, "lineno"):
            ast.copy_location(node, place)
    return statement


class _Inline(ast.NodeTransformer):
    """Puts statements where ``original(…)`` is called, and the original itself where it is only named."""

    def __init__(self, body: list[ast.stmt], original: object) -> None:
        del original
        self.body = body
        for statement in body:
            for node in ast.walk(statement):
                node._from_the_library = True  # type: ignore[attr-defined]  # our own mark on the tree

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:  # ast's spelling
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "original":
            return self.body
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.expr:  # ast's spelling
        return ast.Constant(_GLOBAL.format("original")) if node.id == "original" else node


class _CountReturns(ast.NodeTransformer):
    """Puts the counting statement before each return of the method itself."""

    def __init__(self, self_name: str, key_name: str) -> None:
        self.self_name, self.key_name = self_name, key_name
        self.counting = ast.parse(
            f"try:\n    {self_name}.{ATTRIBUTE}.hits += 1\nexcept AttributeError:\n    ({_COLD!r})({self_name}, {key_name})\n"
        ).body[0]

    def visit_Return(self, node: ast.Return) -> list[ast.stmt]:  # ast's spelling
        value = node.value or ast.Constant(None)
        if isinstance(value, ast.Name):  # already in a variable
            return [self._at(node), node]
        keep = ast.Assign(targets=[ast.Name("_cachescope_value", ast.Store())], value=value)
        give = ast.Return(ast.Name("_cachescope_value", ast.Load()))
        return [ast.copy_location(keep, node), self._at(node), ast.copy_location(give, node)]

    def _at(self, node: ast.AST) -> ast.stmt:
        statement = ast.parse(ast.unparse(self.counting)).body[0]
        for part in ast.walk(statement):
            if hasattr(part, "lineno"):
                ast.copy_location(part, node)
        return statement


class _Constant(ast.NodeTransformer):
    """Puts a constant where a parameter was read; refuses a method that changes the parameter."""

    def __init__(self, name: str, stands_for: str) -> None:
        self.name, self.stands_for = name, stands_for

    def visit_Name(self, node: ast.Name) -> ast.expr:  # ast's spelling
        if node.id != self.name:
            return node
        if not isinstance(node.ctx, ast.Load):
            raise ValueError(f"the method changes its parameter {self.name}")
        return ast.copy_location(ast.Constant(self.stands_for), node)


def _code_in(outer: CodeType, name: str) -> CodeType:
    return next(const for const in outer.co_consts if isinstance(const, CodeType) and const.co_name == name)


__all__ = ["around", "with_hits_counted"]
