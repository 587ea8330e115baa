"""Loops that share their work among threads, made to do so on small inputs."""

from __future__ import annotations

import pytest
import torch

from kernels import _stretches, bar_sums


@pytest.fixture
def many_parts(monkeypatch):
    """Five threads, each for a piece of amounts (4,096 rows) or for seven rows of a bar's sums."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(_stretches, "ROWS_PER_THREAD", _stretches.PIECE)
    monkeypatch.setattr(bar_sums, "ROWS_PER_THREAD", 7)
