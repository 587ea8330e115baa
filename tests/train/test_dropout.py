"""Keyed dropout against a plain-integer oracle and the statistics it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from train.models._dropout import KeyedDropout, mix, sample_key


def scramble(word: np.uint64) -> np.uint64:
    """The published 32-bit hash [16 21f0aaad 15 735a2d97 15] in numpy's wrapping uint32."""
    with np.errstate(over="ignore"):
        x = np.uint32(word)
        x ^= x >> np.uint32(16)
        x *= np.uint32(0x21F0AAAD)
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x735A2D97)
        x ^= x >> np.uint32(15)
    return x


def test_mix_is_the_published_hash():
    words = [0, 1, 2, 12345, 2**31 - 1, 2**31, 2**32 - 1]
    expected = [int(scramble(np.uint32(word))) for word in words]
    assert [mix(word) for word in words] == expected
    assert mix(torch.tensor(words)).tolist() == expected


def test_keys_tell_seeds_steps_and_samples_apart():
    sample = torch.arange(1000)
    keys = torch.cat([sample_key(seed, step, sample) for seed in (0, 1, 2**40) for step in (0, 1, 50)])
    assert len(keys.unique()) == pytest.approx(len(keys), rel=1e-4)
    assert keys.min() >= 0
    assert keys.max() < 2**32


def test_masks_follow_the_sample_wherever_it_is():
    layer, x = KeyedDropout(0.3, 4), torch.ones(64, 5, 24)
    key = sample_key(7, 11, torch.arange(64))
    whole = layer(x, key)
    order = torch.randperm(64)
    assert torch.equal(layer(x, key[order]), whole[order])
    assert torch.equal(torch.cat([layer(x[:13], key[:13]), layer(x[13:], key[13:])]), whole)
    assert torch.equal(whole, whole[:, :1].expand_as(whole))


def test_masks_differ_between_layers_samples_and_steps():
    x, key = torch.ones(2000, 16), sample_key(7, 11, torch.arange(2000))
    masks = [KeyedDropout(0.5, layer)(x, key) > 0 for layer in range(3)]
    masks.append(KeyedDropout(0.5, 0)(x, sample_key(7, 12, torch.arange(2000))) > 0)
    masks.append(masks[0].roll(1, 0))
    masks.append(masks[0].roll(1, 1))
    for other in masks[1:]:
        agree = int((masks[0] == other).sum())
        assert stats.binomtest(agree, x.numel(), 0.5).pvalue > 1e-4


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_rate_and_scale(rate):
    x, key = torch.ones(4000, 8), sample_key(3, 5, torch.arange(4000))
    y = KeyedDropout(rate, 0)(x, key)
    kept = y > 0
    assert stats.binomtest(int(kept.sum()), x.numel(), 1 - rate).pvalue > 1e-4
    assert torch.allclose(y[kept], torch.tensor(1 / (1 - rate)))
    by_channel = kept.sum(0).numpy()
    assert stats.chisquare(by_channel, np.full(8, by_channel.mean())).pvalue > 1e-4


def test_no_key_or_no_rate_changes_nothing():
    x = torch.randn(3, 4, 5)
    assert KeyedDropout(0.5, 0)(x, None) is x
    assert KeyedDropout(0.0, 0)(x, torch.arange(3)) is x
