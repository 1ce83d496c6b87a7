"""The embedded engine's process: llama.cpp's HTTP server on loopback, until standard input ends.

    python -m hasten.engines.llama_child --model FILE --port N [...]

Two things stand between llama.cpp and the answers of the reference implementation, and were looked for:

- A start token doubled, by the chat template and the tokenizer. llama.cpp takes the template's away where the
  tokenizer adds one (a test holds it to that, with both settings of ``add_bos_token``): nothing to be done.
- Rounding of activations to 8 bits beside quantised weights: see :mod:`hasten.engines.expand`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from hasten.engines.leash import die_with_parent, hold
from hasten.engines.managed import HOPELESS

#: Host memory for prompts that lost their slot, MiB; llama.cpp's own default is 8192.
PROMPT_CACHE_MIB = 512


def parser() -> argparse.ArgumentParser:
    """Return the parser of the child's arguments."""
    arguments = argparse.ArgumentParser(prog="hasten.engines.llama_child")
    arguments.add_argument("--model", required=True, type=Path, help="a GGUF file")
    arguments.add_argument(
        "--expand", type=Path, help="write the weights out as half floats to this file, and use it"
    )
    arguments.add_argument("--alias", default="", help="the model's name in answers")
    arguments.add_argument("--port", required=True, type=int)
    arguments.add_argument("--slots", type=int, default=4, help="requests served at once")
    arguments.add_argument("--context", type=int, default=2048, help="tokens a slot")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--gpu-layers", type=int, default=-1)
    arguments.add_argument("--embeddings", action="store_true")
    return arguments


def parameters(xllamacpp: Any, options: argparse.Namespace, model: Path) -> Any:
    """Return llama.cpp's parameters for ``options``."""
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    if options.alias:
        params.model_alias = {options.alias}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.slots * options.context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.n_gpu_layers = options.gpu_layers
    params.cont_batching = True
    params.cache_prompt = True
    # n_cache_reuse stays 0: it shifts cached keys to new positions, and the answers with them.
    params.cache_ram_mib = PROMPT_CACHE_MIB
    # Tools and JSON schemas go through the model's own template.
    params.use_jinja = True
    # Only the gateway comes here: no page, and nothing that a browser's page may call.
    params.ui = False
    params.cors_origins = ""
    params.endpoint_metrics = True
    params.verbosity = 2
    if options.embeddings:
        _embeddings(xllamacpp, params, options.context)
    return params


def _embeddings(xllamacpp: Any, params: Any, context: int) -> None:
    """Let the server embed, beside chat. A vector is the mean over the text's tokens."""
    params.embedding = True
    # Without a pooling of its own a model gives one vector a token, which OpenAI's format cannot carry.
    params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    # A mean is taken within one physical batch: a text must fit into it whole, and with a memory for each slot
    # texts of different lengths that come together are divided, and all but the last get wrong vectors.
    params.n_batch = params.n_ubatch = max(512, context)
    params.kv_unified = True
    params.kv_unified_per_slot = context


def prepare(model: Path, expanded: Path | None) -> Path:
    """Return the file to load: ``expanded``, made if need be, or ``model`` where that does not work."""
    if expanded is None:
        return model
    if not expanded.exists() or expanded.stat().st_mtime < model.stat().st_mtime:
        command = [sys.executable, "-m", "hasten.engines.expand", str(model), str(expanded)]
        if subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode != 0:
            print(f"{model} is used as it is: it could not be written out as half floats", file=sys.stderr)
            return model
    return expanded


def main() -> int:
    """Serve until standard input ends."""
    options = parser().parse_args()
    die_with_parent()
    hold(lambda: os._exit(0))
    try:
        import xllamacpp
    except ImportError as exc:
        print(f"llama.cpp is not installed ({exc}): pip install 'hasten[llama]'", file=sys.stderr)
        return HOPELESS
    if not options.model.is_file():
        print(f"there is no file {options.model}", file=sys.stderr)
        return HOPELESS
    server = xllamacpp.Server(parameters(xllamacpp, options, prepare(options.model, options.expand)))
    print(f"listening on {server.listening_address}", file=sys.stderr)
    # For ever: the leash ends the process, or a signal.
    threading.Event().wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
