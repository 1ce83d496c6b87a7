"""Record what transformers answers, greedily and in float32, with the weights the embedded engine uses.

    pip install torch transformers gguf accelerate      # in an environment of its own, not the project's
    python tools/record_reference.py MODEL.gguf > tests/data/smollm2_reference.json

``tests/engines/test_llama.py`` holds the engine to this file. For every prompt: the token ids that the chat
template gives, the greedy output ids (with the end token, when it comes within ``STEPS``), the text, and for each
step the margin: the logit of the first choice less that of the second. Where the margin is small, the choice is
decided by rounding, and another exact implementation may answer otherwise.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

STEPS = 32

RIVER = (
    "The river rises in the hills above the town, where three springs run together under old oaks. For the first "
    "ten miles it is narrow and quick, and nobody has ever found a use for it except to fish. Then the valley opens "
    "and the water slows. There were once nine mills on this stretch, and the ruins of four can still be seen from "
    "the path. "
)

#: name, messages. Chosen before any answer was seen; none was dropped for what came out.
PROMPTS: list[tuple[str, list[dict[str, str]]]] = [
    ("france", [{"role": "user", "content": "What is the capital of France?"}]),
    ("japan", [{"role": "user", "content": "What is the capital of Japan? Answer in one word."}]),
    ("water", [{"role": "user", "content": "At what temperature does water boil at sea level?"}]),
    ("planet", [{"role": "user", "content": "Which planet is the largest in the solar system?"}]),
    ("sum", [{"role": "user", "content": "What is 2 + 2?"}]),
    ("product", [{"role": "user", "content": "Calculate 12 * 12 and show your steps."}]),
    ("python", [{"role": "user", "content": "Write a Python function that returns the sum of two numbers."}]),
    ("sql", [{"role": "user", "content": "Write an SQL query that counts the rows of the table `users`."}]),
    ("french", [{"role": "user", "content": "Quelle est la capitale de l'Italie ?"}]),
    ("german", [{"role": "user", "content": "Wie heißt die Hauptstadt von Österreich?"}]),
    (
        "long",
        [
            {
                "role": "user",
                "content": RIVER * 6 + "\n\nHow many mills were once on this stretch of the river?",
            }
        ],
    ),
    (
        "system",
        [
            {"role": "system", "content": "You are a pirate. Answer briefly."},
            {"role": "user", "content": "Who are you?"},
        ],
    ),
    (
        "system_json",
        [
            {"role": "system", "content": "Answer only with JSON."},
            {"role": "user", "content": "Give me a person with a name and an age."},
        ],
    ),
    (
        "turns",
        [
            {"role": "user", "content": "My name is Ada."},
            {"role": "assistant", "content": "Nice to meet you, Ada!"},
            {"role": "user", "content": "What is my name?"},
        ],
    ),
    (
        "turns_system",
        [
            {"role": "system", "content": "You are a helpful teacher."},
            {"role": "user", "content": "What do plants need to grow?"},
            {"role": "assistant", "content": "Light, water, air and nutrients."},
            {"role": "user", "content": "Why do they need light?"},
        ],
    ),
    ("emoji", [{"role": "user", "content": "What does 🎉🎂 mean? 👩‍🚀"}]),
    (
        "unicode",
        [{"role": "user", "content": "Translate to English: こんにちは世界. Привет, мир! naïve café"}],
    ),
    ("blank", [{"role": "user", "content": " "}]),
    ("letter", [{"role": "user", "content": "a"}]),
    ("markers", [{"role": "user", "content": "Repeat after me:\n\n\t`x  =  {}`  <b>&amp;</b>\r\n"}]),
]

#: Texts without a template, as /v1/completions gets them. No number signs such as ½: the tokenizer that transformers
#: makes of a GGUF file lacks the model's own splitting of digits, and llama.cpp has it.
PLAIN = ["Once upon a time", "", " leading space", "The capital of France is", "ﬁ 你好"]


def greedy(model: Any, prompt: list[int], end: int) -> tuple[list[int], list[float]]:
    """Return the output ids and the margins, both of one length."""
    ids: list[int] = []
    margins: list[float] = []
    step, past = torch.tensor([prompt]), None
    while len(ids) < STEPS:
        out = model(step, past_key_values=past, use_cache=True)
        past = out.past_key_values
        first, second = out.logits[0, -1].topk(2)[0].tolist()
        ids.append(int(out.logits[0, -1].argmax()))
        margins.append(round(first - second, 4))
        if ids[-1] == end:
            break
        step = torch.tensor([ids[-1:]])
    return ids, margins


def record(path: Path) -> dict[str, Any]:
    """Return the whole file's content for the GGUF at ``path``."""
    where: dict[str, Any] = {"gguf_file": path.name}
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(path.parent, **where)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        path.parent,
        dtype=torch.float32,
        quantization_config=transformers.GgufConfig(dequantize=True),
        **where,
    ).eval()
    answers = []
    for name, messages in PROMPTS:
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        ids, margins = greedy(model, prompt, tokenizer.eos_token_id)
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        answers.append(
            {
                "name": name,
                "messages": messages,
                "prompt_ids": prompt,
                "ids": ids,
                "text": text,
                "margins": margins,
            }
        )
        print(f"{name}: {len(prompt)} tokens, {text!r}", file=sys.stderr)
    return {
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "made_with": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "dtype": "float32",
        },
        "steps": STEPS,
        "chat": answers,
        "plain": [{"text": text, "ids": tokenizer(text).input_ids} for text in PLAIN],
    }


if __name__ == "__main__":
    with torch.inference_mode():
        json.dump(record(Path(sys.argv[1]).absolute()), sys.stdout, ensure_ascii=False, indent=1)
    print()
