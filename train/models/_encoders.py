"""What models of one encoder per stream share: the encodings side by side, and the head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from train.models._dropout import KeyedDropout


class SideBySide(nn.Module):
    """An encoder per stream, their encodings side by side, LayerNorm, a linear head.

    Args:
        encoders: stream -> module from (window [N, T, F], key) to [N, width]; made before the head draws its weights.
        width: of one encoding.
        dropout: share of the joined encoding that is dropped before the head.
        classes: outputs.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], width: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(encoders)
        self.norm = nn.LayerNorm(width * len(encoders))
        self.dropout = KeyedDropout(dropout, len(encoders))
        self.head = nn.Linear(width * len(encoders), classes)

    def forward(self, inputs: Mapping[str, Tensor], key: Tensor | None) -> Tensor:
        """Logits [N, C] from windows [N, T, F] by stream name; `key` [N] int64 turns dropout on."""
        encoded = [encoder(inputs[name], key) for name, encoder in self.encoders.items()]
        return self.head(self.dropout(self.norm(torch.cat(encoded, dim=-1)), key))
