"""Write a trained verifier as int8 ONNX.

    python training/verifier/export.py --base MINILM_FOLDER --checkpoint OUT/verifier.pt --out FILE.onnx

Weights become 8-bit, a scale a channel; activations are quantised as they come. Prints how far the scores of
the held-out pairs move.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from pairs import read
from train import CrossEncoder, encode, make_tokenizer, scores


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    tokenizer = make_tokenizer(args.base)
    model = CrossEncoder(args.base)
    model.load_state_dict(torch.load(args.checkpoint, weights_only=True))
    model.eval()
    example = encode([("How do I cancel?", "how to stop it"), ("a b c", "d")], tokenizer)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        torch.onnx.export(
            model,
            tuple(example[name] for name in names),
            whole,
            input_names=names,
            output_names=["logit"],
            dynamic_axes={**{name: {0: "pairs", 1: "tokens"} for name in names}, "logit": {0: "pairs"}},
            opset_version=17,
            dynamo=False,
        )
        quantize_dynamic(whole, args.out, weight_type=QuantType.QInt8, per_channel=True)
    session = onnxruntime.InferenceSession(str(args.out))
    held = [p for g in read(args.data) if g.held_out for p in g.pairs()]
    texts = [(p.a, p.b) for p in random.Random(2).sample(held, min(500, len(held)))]
    before = np.array(scores(model, tokenizer, texts))
    after = []
    for pair in texts:
        inputs = {k: v.numpy() for k, v in encode([pair], tokenizer).items()}
        after.append(float(session.run(None, inputs)[0].reshape(-1)[0]))
    moved = np.abs(before - np.array(after))
    size = args.out.stat().st_size / 1e6
    print(
        f"{size:.1f} MB; scores moved by {moved.mean():.3f} on average, {np.quantile(moved, 0.99):.3f} at p99"
    )


if __name__ == "__main__":
    main()
