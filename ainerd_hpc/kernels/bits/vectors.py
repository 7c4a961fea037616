"""Loads and stores of many bytes at once, and a word of 64 bits taken for 64 pixels, which Numba has no words for.

Each is a few lines of LLVM, which every kind of processor turns into its own widest instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import cgutils, types

_WIDTH = 64
intrinsic: Callable[[Callable[..., Any]], Any] = extending.intrinsic
"""Callers leave out the first argument, which the type of Numba's own does not say."""


@intrinsic
def copy8(typing: Any, target: Any, to: Any, source: Any, start: Any) -> Any:
    """Copy 8 bytes, source[start:] to target[to:], loaded before they are stored; nothing looks at where arrays end."""
    return types.void(target, types.int64, source, types.int64), _copy(8)


@intrinsic
def copy16(typing: Any, target: Any, to: Any, source: Any, start: Any) -> Any:
    """Copy 16 bytes, as `copy8`."""
    return types.void(target, types.int64, source, types.int64), _copy(16)


@intrinsic
def join_planes(typing: Any, values: Any, first: Any, words: Any, word: Any, stride: Any, planes: Any) -> Any:
    """Put values[first:first + 64] together: bit i of words[word + k * stride] is bit k of value i, for k < planes."""
    signature = types.void(values, types.int64, words, types.int64, types.int64, types.int64)
    return signature, _join_planes


def _copy(size: int) -> Callable[..., Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer = ir.VectorType(ir.IntType(8), size).as_pointer()
        target, source = (_place(context, builder, signature, arguments, number, pointer) for number in (0, 2))
        builder.store(builder.load(source, align=1), target, align=1)
        return context.get_dummy_value()

    return generate


def _join_planes(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    value = ir.IntType(signature.args[0].dtype.bitwidth)
    vector = ir.VectorType(value, _WIDTH)
    zeros, words = ir.Constant(vector, [0] * _WIDTH), _data(context, builder, signature, arguments, 2)
    joined = cgutils.alloca_once_value(builder, zeros)  # type: ignore[no-untyped-call]
    with cgutils.for_range(builder, arguments[5], intp=ir.IntType(64)) as loop:
        place = builder.add(arguments[3], builder.mul(loop.index, arguments[4]))
        is_lit = builder.bitcast(builder.load(builder.gep(words, [place])), ir.VectorType(ir.IntType(1), _WIDTH))
        number = loop.index if value.width == _WIDTH else builder.trunc(loop.index, value)
        plane = _repeated(builder, builder.shl(ir.Constant(value, 1), number), vector)
        builder.store(builder.or_(builder.load(joined), builder.select(is_lit, plane, zeros)), joined)
    target = _place(context, builder, signature, arguments, 0, vector.as_pointer())
    builder.store(builder.load(joined), target, align=1)
    return context.get_dummy_value()


def _data(context: Any, builder: Any, signature: Any, arguments: Any, number: int) -> Any:
    return context.make_array(signature.args[number])(context, builder, arguments[number]).data


def _place(context: Any, builder: Any, signature: Any, arguments: Any, number: int, pointer: Any) -> Any:
    """Address of what the argument after the array says, in the array."""
    data = _data(context, builder, signature, arguments, number)
    return builder.bitcast(builder.gep(data, [arguments[number + 1]]), pointer)


def _repeated(builder: Any, value: Any, vector: Any) -> Any:
    undefined, position = ir.Constant(vector, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(undefined, value, ir.Constant(position, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(position, _WIDTH), [0] * _WIDTH))
