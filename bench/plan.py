"""How far the planner's memory can be trusted: planned beside measured, of random models.

Every run is a process of its own that takes real training steps on the CPU. Measured is the peak of
its resident memory less what it held when all was imported; planned is what `train plan` says of
the same configuration. "tensors" is the planner's error on the bytes of tensors alone, counted
while one more step is taken: what lies between the two errors is the allocator and the kernels.

    python -m bench.plan --sizes 20M 60M 135M --lengths 512 1024
"""

from __future__ import annotations

from itertools import product
from typing import Any

from bench.compare import OUT, arguments, fresh, job, machine, ours, run
from cameleer.core.console import note, table
from cameleer.core.files import write_json

SIZES = {  # hidden size, layers, heads, vocabulary
    "20M": (384, 6, 6, 16384),
    "60M": (512, 12, 8, 32000),
    "135M": (576, 30, 9, 49152),
    "360M": (960, 32, 15, 49152),
}
GIB = 2**30


def shape(family: str, size: str) -> dict[str, Any]:
    """The configuration of a model of that family and size, as transformers names its fields."""
    hidden, layers, heads, vocabulary = SIZES[size]
    common = {
        "model_type": family,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 2048,
    }
    inner = 64 * round(hidden * 8 / 3 / 64)
    more: dict[str, dict[str, Any]] = {
        "llama": {"intermediate_size": inner, "num_key_value_heads": heads // 3 or heads},
        "gpt_neox": {"intermediate_size": 4 * hidden},
        "opt": {"ffn_dim": 4 * hidden, "word_embed_proj_dim": hidden, "dropout": 0.0},
    }
    if family == "llama" and heads % 3:
        more["llama"]["num_key_value_heads"] = heads
    return common | more[family]


def main() -> None:
    """Run every cell of the grid, one after the other, and set planned beside measured."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--sizes", nargs="*", choices=SIZES, default=["20M", "60M", "135M"])
    parser.add_argument("--families", nargs="*", default=["llama", "gpt_neox", "opt"])
    parser.add_argument("--methods", nargs="*", default=["full", "lora"])
    parser.add_argument("--precisions", nargs="*", default=["bf16", "fp32"])
    parser.add_argument("--checkpointing", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--lengths", nargs="*", type=int, default=[512, 1024])
    parser.add_argument("--steps", type=int, default=4, help="of two micro-batches (%(default)s)")
    given = parser.parse_args()
    work, facts = fresh("plan"), machine(given.threads)
    rows = []
    for family, size, method, precision, again, length in product(
        given.families,
        given.sizes,
        given.methods,
        given.precisions,
        given.checkpointing,
        given.lengths,
    ):
        name = f"{family} {size} {method} {precision} {'checkpointed ' * again}{length}"
        asked = {"shape": shape(family, size), "method": method, "precision": precision}
        asked |= {"checkpointing": bool(again), "length": length, "steps": given.steps}
        said = run(
            name, ours("plan_cameleer", job(work, name, asked)), work=work, threads=given.threads
        ).said
        rows.append({"run": name, **said})
    write_json(OUT / "plan.json", {"machine": facts, "runs": rows})
    show(rows)
    note(f"written: {OUT / 'plan.json'}; logs are in {work}")


def show(rows: list[dict[str, Any]]) -> None:
    """Planned, measured and the errors, and how the errors lie."""
    columns = ["run", "planned GiB", "measured GiB", "error", "tensors"]
    cells = [
        [
            row["run"],
            round(row["planned"] / GIB, 3),
            round(row["measured"] / GIB, 3),
            f"{row['planned'] / row['measured'] - 1:+.1%}",
            f"{row['tensors_planned'] / row['tensors'] - 1:+.1%}",
        ]
        for row in rows
    ]
    table("Peak memory of training steps", columns, cells)
    errors = [abs(row["planned"] / row["measured"] - 1) for row in rows]
    within = sum(error <= 0.1 for error in errors)
    note(f"{within} of {len(rows)} within 10 %; largest error {max(errors):.1%}")


if __name__ == "__main__":
    main()
