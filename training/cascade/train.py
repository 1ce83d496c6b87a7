"""Train the learned check of the cascade; see README.md beside this.

python training/cascade/train.py --data ROWS.jsonl.gz [--out src/hasten/route/model/check.json]
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
from fit import Data, apgr, choose, cross_validated, interval, mean_apgr, read


def main() -> None:
    """Print the cross-validated worth, and write the model trained on all rows."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("src/hasten/route/model/check.json"))
    args = parser.parse_args()
    data = Data(read(args.data))
    for name, scores in zip(("as they are", "bare"), cross_validated(data), strict=True):
        each = [apgr(s, data.gap) for s in scores]
        low, high = interval(partial(mean_apgr, scores, data.gap), len(data.gap))
        shown = ", ".join(f"{a:.3f}" for a in each)
        print(f"answers {name}: APGR {np.mean(each):.3f} ({shown}), 95% [{low:.3f}, {high:.3f}]")
    everyone = np.arange(len(data.gap))
    penalty = choose(data, everyone, 0)
    model = data.train(everyone, penalty)
    kept = [i for i in np.argsort(-np.abs(model.weights * data.x.std(0))) if model.weights[i]]
    for i in kept:
        print(f"{model.weights[i] * data.x[:, i].std():+.3f}  {data.names[i]}")
    weights = {
        data.names[i]: [round(float(v), 5) for v in (model.weights[i], model.low[i], model.high[i])]
        for i in kept
    }
    tree = {"bias": round(model.bias, 5), "penalty": penalty, "answers": len(data.gap), "weights": weights}
    args.out.write_text(json.dumps(tree, indent=1) + "\n")
    print(f"penalty {penalty}, {len(kept)} features, written to {args.out}")


if __name__ == "__main__":
    main()
