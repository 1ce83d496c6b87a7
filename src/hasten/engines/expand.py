"""Write a GGUF file's quantised weights out as half floats: the same model, without the rounding on the way.

    python -m hasten.engines.expand MODEL.gguf MODEL.f16.gguf

Why: where weights are quantised to 4 bits, llama.cpp also rounds what is multiplied with them to 8 bits. A large
model does not notice. A small one does: SmolLM2-135M answers "What is the capital of France?" in French nonsense,
because its first choice leads its second by 0.08 only. With half floats its answers are those of the reference
(docs/measurements.md); prefill is faster, decoding slower, memory 2.7-fold.

The work is done by ggml's own functions inside the ``xllamacpp`` library, so that the values are exactly those
that llama.cpp means. They are called through ctypes: hence a process of its own, whose failure costs nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path
from typing import IO

#: ``enum ggml_type`` in ggml.h.
F32, F16, BF16 = 0, 1, 30
#: Values converted at once.
AT_ONCE = 1 << 20


class _InitParams(ctypes.Structure):
    """``struct gguf_init_params`` in gguf.h; no_alloc: read the header only."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


_SIGNATURES = {
    "gguf_init_from_file": (ctypes.c_void_p, [ctypes.c_char_p, _InitParams]),
    "gguf_free": (None, [ctypes.c_void_p]),
    "gguf_get_alignment": (ctypes.c_size_t, [ctypes.c_void_p]),
    "gguf_get_data_offset": (ctypes.c_size_t, [ctypes.c_void_p]),
    "gguf_get_meta_size": (ctypes.c_size_t, [ctypes.c_void_p]),
    "gguf_get_meta_data": (None, [ctypes.c_void_p, ctypes.c_void_p]),
    "gguf_get_n_tensors": (ctypes.c_int64, [ctypes.c_void_p]),
    "gguf_get_tensor_name": (ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_int64]),
    "gguf_get_tensor_offset": (ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_int64]),
    "gguf_get_tensor_size": (ctypes.c_size_t, [ctypes.c_void_p, ctypes.c_int64]),
    "gguf_get_tensor_type": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_int64]),
    "gguf_set_tensor_type": (None, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]),
    "gguf_set_val_u32": (None, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]),
    "ggml_blck_size": (ctypes.c_int64, [ctypes.c_int]),
    "ggml_type_size": (ctypes.c_size_t, [ctypes.c_int]),
    "ggml_type_name": (ctypes.c_char_p, [ctypes.c_int]),
    "ggml_fp32_to_fp16_row": (None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]),
}


def library() -> ctypes.CDLL:
    """Return the library with ggml in it. Raises ``ImportError``, ``AttributeError`` where it is another."""
    # The package's own import makes the library's dependencies known to the loader.
    from xllamacpp import xllamacpp

    lib = ctypes.CDLL(xllamacpp.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def expand(source: Path, target: Path) -> None:
    """Write ``source`` with its quantised tensors as half floats to ``target``, which appears when complete."""
    lib = library()
    context = lib.gguf_init_from_file(os.fsencode(source), _InitParams(True, None))
    if not context:
        raise ValueError(f"{source} is not a GGUF file")
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        with source.open("rb") as read, part.open("wb") as write:
            _expand(lib, context, read, write)
        part.replace(target)
    finally:
        lib.gguf_free(context)
        with contextlib.suppress(FileNotFoundError):
            part.unlink()


def _expand(lib: ctypes.CDLL, context: int, read: IO[bytes], write: IO[bytes]) -> None:
    alignment, data = lib.gguf_get_alignment(context), lib.gguf_get_data_offset(context)
    tensors = []
    for i in range(lib.gguf_get_n_tensors(context)):
        name, kind = lib.gguf_get_tensor_name(context, i), lib.gguf_get_tensor_type(context, i)
        # Offset and size as they are in the source: changing a type moves all that come after.
        tensors.append(
            (name, kind, data + lib.gguf_get_tensor_offset(context, i), lib.gguf_get_tensor_size(context, i))
        )
    for name, kind, _, _ in tensors:
        if kind not in (F32, F16, BF16):
            lib.gguf_set_tensor_type(context, name, F16)
    # LLAMA_FTYPE_MOSTLY_F16 in llama.h; for show only.
    lib.gguf_set_val_u32(context, b"general.file_type", 1)
    meta = ctypes.create_string_buffer(lib.gguf_get_meta_size(context))
    lib.gguf_get_meta_data(context, meta)
    write.write(meta.raw)
    for _, kind, offset, size in tensors:
        write.write(bytes(-write.tell() % alignment))
        read.seek(offset)
        if kind in (F32, F16, BF16):
            write.write(read.read(size))
        else:
            _halve(lib, kind, size, read, write)
    write.write(bytes(-write.tell() % alignment))


def _halve(lib: ctypes.CDLL, kind: int, size: int, read: IO[bytes], write: IO[bytes]) -> None:
    """Copy one quantised tensor of ``size`` bytes as half floats."""
    convert = getattr(lib, f"dequantize_row_{lib.ggml_type_name(kind).decode()}")
    convert.restype, convert.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    block_bytes, block_values = lib.ggml_type_size(kind), lib.ggml_blck_size(kind)
    step = AT_ONCE // block_values * block_bytes
    floats = (ctypes.c_float * AT_ONCE)()
    halves = (ctypes.c_uint16 * AT_ONCE)()
    while size > 0:
        packed = read.read(min(step, size))
        if not packed:
            raise EOFError("the file is shorter than its header says")
        count = len(packed) // block_bytes * block_values
        convert(packed, floats, count)
        lib.ggml_fp32_to_fp16_row(floats, halves, count)
        write.write(memoryview(halves).cast("B")[: 2 * count])
        size -= step


if __name__ == "__main__":
    expand(Path(sys.argv[1]), Path(sys.argv[2]))
