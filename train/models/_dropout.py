"""Dropout whose masks belong to the sample, so that any spread of samples over processes drops the same units."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

_WORD = 0xFFFFFFFF
Word = TypeVar("Word", int, Tensor)


def mix(word: Word) -> Word:
    """Scrambles a 32-bit word held in an int or an int64 tensor (multipliers from Wellons' hash prospector).

    Both multipliers lie below 2^31, so that no product leaves int64.
    """
    word = word ^ (word >> 16)
    word = (word * 0x21F0AAAD) & _WORD
    word = word ^ (word >> 15)
    word = (word * 0x735A2D97) & _WORD
    return word ^ (word >> 15)


def sample_key(seed: int, step: int, sample: Tensor) -> Tensor:
    """Keys of a batch: [N] int64 from [N] int64 sample positions, different at every step and seed."""
    start = 0
    for word in (seed & _WORD, seed >> 32 & _WORD, step & _WORD):
        start = mix((start ^ word) + 0x9E3779B9 & _WORD)
    return mix((sample & _WORD) ^ start)


class KeyedDropout(nn.Module):
    """Drops whole channels of a sample, the same ones at every time step (Gal & Ghahramani 2016, arXiv 1512.05287).

    Args:
        rate: share of channels dropped.
        layer: number that tells this layer's masks from another's within one model.
    """

    def __init__(self, rate: float, layer: int) -> None:
        super().__init__()
        self.rate, self.layer = rate, layer

    def forward(self, x: Tensor, key: Tensor | None) -> Tensor:
        """`x` [N, ..., C] with its channels dropped by `key` [N] int64; unchanged where `key` is None."""
        if key is None or self.rate == 0:
            return x
        channel = mix_range(x.shape[-1], self.layer, key)
        word = mix((key[:, None] ^ channel) & _WORD)  # [N, C]
        kept = (word >= int(self.rate * (_WORD + 1))).to(x.dtype) / (1 - self.rate)
        return x * kept.reshape(len(key), *[1] * (x.dim() - 2), x.shape[-1])


def mix_range(channels: int, layer: int, like: Tensor) -> Tensor:
    """One word per channel of a layer: [1, C] int64 beside `like`."""
    position = like.new_ones(channels).cumsum(0)
    return mix((position + (layer + 1) * 0x10001) & _WORD)[None]
