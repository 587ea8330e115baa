"""Peers that bars are timed beside: NAME.txt pins an environment, NAME.py is what runs in it and what its bars mean.

`python -m bench peers` makes the environments. All but `_client` and `_check` also runs in those, without torch.
"""

from bench.peers._environments import main

__all__ = ["main"]
