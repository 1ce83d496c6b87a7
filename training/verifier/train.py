"""Train the verifier: a cross-encoder that says whether the answer to one question is right for another.

    python training/verifier/train.py --base MINILM_FOLDER --out /tmp/verifier [--epochs 1]

Starts from the weights of all-MiniLM-L6-v2 (6 layers, 384 wide), reads both questions at once and gives one
logit, > 0 for "the same answer". The word embeddings stay as they are, so that words without examples keep
their meaning. About half an hour an epoch on two cores; a GPU is used when there is one.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from pairs import Group, Pair, noisy, read
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertModel

MAX_TOKENS = 160
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class CrossEncoder(nn.Module):
    """BERT over ``[CLS] a [SEP] b [SEP]``; the mean of both questions' last states and [CLS] give one logit."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.bert = BertModel.from_pretrained(base, add_pooling_layer=False, attn_implementation="eager")
        wide = self.bert.config.hidden_size
        self.head = nn.Sequential(nn.Linear(4 * wide, wide), nn.GELU(), nn.Dropout(0.1), nn.Linear(wide, 1))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """Return logits of shape (pairs,) for int64 tensors of shape (pairs, tokens)."""
        states = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        first = (attention_mask * (1 - token_type_ids)).unsqueeze(-1).to(states.dtype)
        second = (attention_mask * token_type_ids).unsqueeze(-1).to(states.dtype)
        a = (states * first).sum(1) / first.sum(1)
        b = (states * second).sum(1) / second.sum(1)
        logits: Tensor = self.head(torch.cat((states[:, 0], a, b, (a - b).abs()), -1)).squeeze(-1)
        return logits


def batches(
    groups: list[Group], size: int, epoch: int, tokenizer: Tokenizer
) -> Iterator[tuple[list[Pair], dict[str, Tensor]]]:
    """Yield batches of pairs of like length, each epoch with other noise; two traps for one true rewording."""
    rng = random.Random(epoch)
    chosen: list[Pair] = []
    for group in groups:
        made = list(group.pairs())
        positives = [p for p in made if p.same]
        negatives = [p for p in made if not p.same]
        rng.shuffle(negatives)
        for pair in positives + negatives[: round(2.0 * len(positives))]:
            a, b = (pair.a, pair.b) if rng.random() < 0.5 else (pair.b, pair.a)
            if rng.random() < 0.25:
                a = noisy(a, rng)
            if rng.random() < 0.25:
                b = noisy(b, rng)
            chosen.append(pair._replace(a=a, b=b))
        if rng.random() < 0.5:  # a near repeat
            text = rng.choice(group.same + group.diff)
            chosen.append(Pair(text, noisy(text, rng), True, group.name, "repeat"))
        if rng.random() < 0.3:  # something else altogether
            other = rng.choice(groups)
            if other is not group:
                chosen.append(Pair(group.same[0], rng.choice(other.same), False, group.name, "other"))
    lengths = {id(p): len(p.a) + len(p.b) + 24 * rng.random() for p in chosen}
    chosen.sort(key=lambda p: lengths[id(p)])
    cut = [chosen[i : i + size] for i in range(0, len(chosen), size)]
    rng.shuffle(cut)
    for part in cut:
        yield part, encode([(p.a, p.b) for p in part], tokenizer)


def encode(texts: list[tuple[str, str]], tokenizer: Tokenizer) -> dict[str, Tensor]:
    """Return padded tensors of shape (pairs, tokens)."""
    encoded = tokenizer.encode_batch(texts)
    return {
        "input_ids": torch.tensor([e.ids for e in encoded], device=DEVICE),
        "attention_mask": torch.tensor([e.attention_mask for e in encoded], device=DEVICE),
        "token_type_ids": torch.tensor([e.type_ids for e in encoded], device=DEVICE),
    }


def make_tokenizer(base: str) -> Tokenizer:
    """Return the base model's tokenizer for pairs, padding to the longest of a batch."""
    tokenizer = Tokenizer.from_file(str(Path(base) / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()
    return tokenizer


@torch.inference_mode()
def scores(
    model: CrossEncoder, tokenizer: Tokenizer, texts: list[tuple[str, str]], size: int = 64
) -> list[float]:
    """Return a logit for each pair, in their order."""
    model.eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i][0]) + len(texts[i][1]))
    found = [0.0] * len(texts)
    for at in range(0, len(order), size):
        part = order[at : at + size]
        for i, score in zip(part, model(**encode([texts[i] for i in part], tokenizer)).tolist(), strict=True):
            found[i] = score
    model.train()
    return found


def recall_at(pairs: list[tuple[float, bool]], wrong: float) -> float:
    """Return the greatest share of positives above a score where at most ``wrong`` of all above it is negative."""
    best, right, false = 0.0, 0, 0
    total = sum(same for _, same in pairs) or 1
    for _, same in sorted(pairs, reverse=True):
        right += same
        false += not same
        if false <= wrong * (right + false):
            best = right / total
    return best


def train(args: argparse.Namespace) -> None:
    """Run the training; write a checkpoint at the end of each epoch and now and then between."""
    torch.manual_seed(args.seed)
    tokenizer = make_tokenizer(args.base)
    model = CrossEncoder(args.base).to(DEVICE)
    if args.resume:
        model.load_state_dict(torch.load(args.resume, weights_only=True, map_location=DEVICE))
    model.bert.embeddings.word_embeddings.requires_grad_(False)
    groups = read(args.data)
    training = [g for g in groups if not g.held_out]
    held = [p for g in groups if g.held_out for p in g.pairs()]
    head = list(model.head.parameters())
    body = [p for p in model.bert.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": body, "lr": args.rate}, {"params": head, "lr": 5 * args.rate}], weight_decay=0.01
    )
    plan = [list(batches(training, args.batch, args.first_epoch + e, tokenizer)) for e in range(args.epochs)]
    steps = sum(len(p) for p in plan)
    print(f"{len(groups)} groups, {len(training)} trained on, {steps} steps", flush=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min((s + 1) / 60, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, s / steps)))),
    )
    args.out.mkdir(parents=True, exist_ok=True)
    since, step, mean = time.monotonic(), 0, 0.7
    for part in plan:
        for pairs, tensors in part:
            labels = torch.tensor([float(p.same) for p in pairs], device=DEVICE)
            loss = nn.functional.binary_cross_entropy_with_logits(model(**tensors), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            mean += 0.02 * (loss.item() - mean)
            if step % 50 == 0:
                pace = (time.monotonic() - since) / step
                print(f"step {step}/{steps} loss {mean:.4f} {pace:.2f} s a step", flush=True)
            if step % 500 == 0 or step == steps:
                torch.save(model.state_dict(), args.out / "verifier.pt")
                sample = held if step == steps else random.Random(1).sample(held, min(len(held), 1500))
                logits = scores(model, tokenizer, [(p.a, p.b) for p in sample])
                found = [(s, p.same) for s, p in zip(logits, sample, strict=True)]
                report = {
                    f"recall at {w:.1%} wrong": round(recall_at(found, w), 3)
                    for w in (0.005, 0.01, 0.02, 0.05)
                }
                print(f"step {step}: held out, {len(found)} pairs: {json.dumps(report)}", flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True, help="a folder with MiniLM's config, weights and tokenizer")
    parser.add_argument("--data", type=Path, default=Path(__file__).parent / "data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", help="a verifier.pt to go on from")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument(
        "--first-epoch", type=int, default=0, help="seed of the first epoch's noise and choice"
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.2e-4)
    parser.add_argument("--seed", type=int, default=1)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
