"""Transformer: rows in patches, a pre-norm encoder per stream, its last token, one head over all streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from gpu_pipeline.core.plugins import Options
from train.models._dropout import KeyedDropout
from train.models._shape import StreamShape


class Config(Options):
    """Sizes of every stream's encoder.

    Attributes:
        patch: rows that form one token (as PatchTST, arXiv 2211.14730); the window is padded with zeros in the past.
        width: width of a token.
        heads: attention heads, a divisor of `width`.
        layers: encoder blocks.
        expansion: hidden width of a block's feed-forward part, in widths.
        pool: what stands for the stream: the `last` token, or the `mean` of all.
        dropout: share of channels dropped in training after attention, feed-forward and pooling.
    """

    patch: int = Field(default=4, gt=0)
    width: int = Field(default=64, gt=0)
    heads: int = Field(default=4, gt=0)
    layers: int = Field(default=2, ge=1)
    expansion: int = Field(default=2, ge=1)
    pool: Literal["last", "mean"] = "last"
    dropout: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _whole_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        return self


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each added to what came in (Xiong et al. 2020, arXiv 2002.04745).

    Every token sees every other: the whole window lies before the decision, so nothing is masked.
    """

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        width, self.heads = config.width, config.heads
        self.norm_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.norm_forward = nn.LayerNorm(width)
        self.widen = nn.Linear(width, config.expansion * width)
        self.narrow = nn.Linear(config.expansion * width, width)
        self.dropouts = nn.ModuleList([KeyedDropout(config.dropout, 2 * layer + part) for part in range(2)])

    def forward(self, x: Tensor, key: Tensor | None) -> Tensor:
        """[N, T, width] -> the same shape."""
        x = x + self.dropouts[0](self.attend(self.norm_attention(x)), key)
        return x + self.dropouts[1](self.narrow(F.gelu(self.widen(self.norm_forward(x)))), key)

    def attend(self, x: Tensor) -> Tensor:
        """Multi-head attention among the tokens of one window."""
        samples, tokens, width = x.shape
        packed = self.queries_keys_values(x).view(samples, tokens, 3, self.heads, width // self.heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.mix(attended.transpose(1, 2).reshape(samples, tokens, width))


class Encoder(nn.Module):
    """One stream: [N, T, F] -> [N, width], with learned positions."""

    def __init__(self, shape: StreamShape, config: Config, layer: int) -> None:
        super().__init__()
        tokens = -(-shape.window // config.patch)
        self.patch, self.pool = config.patch, config.pool
        self.embed = nn.Linear(config.patch * shape.features, config.width)
        self.position = nn.Parameter(torch.randn(tokens, config.width) * 0.02)
        self.blocks = nn.ModuleList([Block(config, layer + depth) for depth in range(config.layers)])

    def forward(self, x: Tensor, key: Tensor | None) -> Tensor:
        """Encodes the window; the last patch ends at the last row."""
        samples, rows, features = x.shape
        x = F.pad(x, (0, 0, -rows % self.patch, 0))
        x = self.embed(x.reshape(samples, -1, self.patch * features)) + self.position
        for block in self.blocks:
            x = block(x, key)
        return x[:, -1] if self.pool == "last" else x.mean(1)


class Transformer(nn.Module):
    """An encoder per stream, their encodings side by side, LayerNorm, a linear head."""

    def __init__(self, config: Config, inputs: Mapping[str, StreamShape], classes: int) -> None:
        super().__init__()
        encoders = {
            name: Encoder(shape, config, stream * config.layers) for stream, (name, shape) in enumerate(inputs.items())
        }
        self.encoders = nn.ModuleDict(encoders)
        self.norm = nn.LayerNorm(config.width * len(inputs))
        self.dropout = KeyedDropout(config.dropout, 2 * config.layers * len(inputs))
        self.head = nn.Linear(config.width * len(inputs), classes)

    def forward(self, inputs: Mapping[str, Tensor], key: Tensor | None) -> Tensor:
        """Logits [N, C] from windows [N, T, F] by stream name; `key` [N] int64 turns dropout on."""
        encoded = [encoder(inputs[name], key) for name, encoder in self.encoders.items()]
        return self.head(self.dropout(self.norm(torch.cat(encoded, dim=-1)), key))


def build(config: Config, inputs: Mapping[str, StreamShape], classes: int) -> nn.Module:
    """A new model; its weights come from torch's generator as it stands."""
    return Transformer(config, inputs, classes)
