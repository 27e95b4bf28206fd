"""Pages of keys and values: what was put stays whoever comes and leaves, and few pages are free."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from cameleer.model.cache import NOBODY, Cache


@pytest.mark.parametrize("seed", range(20))
def test_sequences_come_grow_double_and_leave(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cameleer.model.cache.PAGE", 4)
    monkeypatch.setattr("cameleer.model.cache.STEP", 2)
    draw = random.Random(seed)
    cache, wanted = Cache(2), list[Tensor]()  # of each sequence, [kv_heads, tokens, head_dim]

    def check() -> None:
        for row, tokens in enumerate(wanted):
            at = cache.places(row, 0, tokens.shape[1])
            for layer in range(2):
                keys, values = cache.keys[layer], cache.values[layer]
                assert keys is not None
                assert values is not None
                assert torch.equal(keys[at.pages, :, at.slots].transpose(0, 1), tokens + layer)
                assert torch.equal(values[at.pages, :, at.slots].transpose(0, 1), -tokens)
        held = sorted(page for pages in cache.pages for page in pages)
        assert sorted(held + cache.free) == list(range(len(cache.owner)))
        assert (cache.owner == NOBODY).sum() == len(cache.free)
        for row, pages in enumerate(cache.pages):
            assert cache.owner[pages].tolist() == [row] * len(pages)
            assert cache.begins[pages].tolist() == [4 * place for place in range(len(pages))]

    for _ in range(30):
        what = draw.choice(["come", "grow", "grow", "grow", "select"])
        if what == "come" or not wanted:
            lengths = [draw.randint(1, 13) for _ in range(draw.randint(1, 3))]
            cache.add(lengths, [None] * len(lengths))
            for row, length in enumerate(lengths, len(wanted)):
                wanted.append(torch.rand(3, length, 5))
                for layer in range(2):
                    own = wanted[row]
                    cache.put(layer, cache.places(row, 0, length), own + layer, -own)
        elif what == "grow":
            at, new = cache.grow(), torch.rand(3, len(wanted), 5)
            for layer in range(2):
                cache.put(layer, at, new + layer, -new)
            cache.lengths += 1
            wanted = [torch.cat([own, new[:, [i]]], 1) for i, own in enumerate(wanted)]
            assert len(cache.free) <= 2 + len(cache.owner) // 4 + 2
        else:
            rows = [draw.randrange(len(wanted)) for _ in range(draw.randint(1, len(wanted) + 1))]
            cache.select(rows)
            wanted = [wanted[row] for row in rows]
        assert cache.lengths.tolist() == [own.shape[1] for own in wanted]
        check()


def test_who_leaves_gives_its_memory_back() -> None:
    cache = Cache(1)
    cache.add([6400] * 4, [None] * 4)
    for row in range(4):
        cache.put(0, cache.places(row, 0, 6400), torch.rand(1, 6400, 2), torch.rand(1, 6400, 2))
    before = cache.keys[0]
    assert before is not None
    assert 400 <= len(before) <= 464
    cache.select([2])
    cache.grow()
    after = cache.keys[0]
    assert after is not None
    assert 100 <= len(after) <= 112
