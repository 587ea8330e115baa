"""The fold over trades: every resolution of a bar type at once, in any chunking (DESIGN 4.3).

State is a flat mapping of names (`short.sum`, `medium.count`, `1min.open_sums`) to int64 tensors; an empty mapping is
the beginning. It can be kept as safetensors, or as JSON by `state_to_json` and `state_from_json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gpu_pipeline.core import plugins
from gpu_pipeline.core.config import BarsSection, Resolution, check_values
from gpu_pipeline.core.errors import InputError
from gpu_pipeline.core.plugins import Options, Plugin
from gpu_pipeline.core.schema import Tensor, Trades
from kernels import bar_sums

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Chain:
    """One resolution: the rule that closes its bars, or the chain whose every n-th end closes them.

    Attributes:
        resolution: short, medium, long, or the step of a time bar.
        name: its folder, for example dollar_50k_medium.
        title: how its files call it, for example dollar_bars_50k.
        plugin: the bar type.
        options: the bar type's `Config`.
        of: resolution whose bars are counted; None where the chain has a rule of its own.
        bars: how many of them make a bar.
    """

    resolution: str
    name: str
    title: str
    plugin: Plugin
    options: Options
    of: str | None = None
    bars: int = 1


def plan(section: BarsSection) -> tuple[Chain, ...]:
    """The chains of a run's `bars` section, parents first.

    Raises:
        InputError: two resolutions of one name; a resolution by threshold of a bar type that has none.
    """
    base = _own_chain("short", section.plugin, section.options, suffix="")
    chains = [base, *_resolutions(base, section.resolutions)]
    time = plugins.load("bars", "time")
    anchor = {"anchor": section.options.anchor} if section.plugin.module is time.module else {}
    for step in section.time:
        chains.append(_own_chain(step, time, time.config.model_validate({"step": step, **anchor}), suffix=""))
    names = [chain.resolution for chain in chains]
    twice = sorted({name for name in names if names.count(name) > 1})
    odd = [name for name in names if not re.fullmatch(r"[A-Za-z0-9_-]+", name)]
    if odd:
        raise InputError(f"bars.resolutions: a name is made of letters, digits, _ and - (value '{odd[0]}'); rename it")
    if twice:
        raise InputError(f"bars: two resolutions are called '{twice[0]}' (short is the bar type itself); rename one")
    if any(chain.name == base.name and chain.options != base.options for chain in chains):
        raise InputError(f"bars.time: {base.name} is the bar type itself with other keys; leave that step out")
    return tuple(chains)


def _own_chain(resolution: str, plugin: Plugin, options: Options, suffix: str) -> Chain:
    kind, label = plugin.name.rsplit(".", 1)[-1], plugin.module.label(options)
    return Chain(resolution, f"{kind}_{label}{suffix}", f"{kind}_bars_{label}", plugin, options)


def _resolutions(base: Chain, wanted: Mapping[str, Resolution]) -> Iterator[Chain]:
    for name, resolution in wanted.items():
        if resolution.bars is not None:
            yield Chain(
                name,
                f"{base.name}_{name}",
                base.title,
                base.plugin,
                base.options,
                resolution.of,
                resolution.bars,
            )
        elif "threshold" not in base.plugin.config.model_fields:
            raise InputError(
                f"bars.resolutions.{name}: bar type '{base.plugin.name}' has no threshold; give 'of' and 'bars'"
            )
        else:
            values = {**base.options.model_dump(), "threshold": resolution.threshold}
            options = check_values(base.plugin.config, values, f"bars.resolutions.{name}")
            yield _own_chain(name, base.plugin, options, suffix=f"_{name}")


@dataclass(frozen=True)
class Closed:
    """Bars as the op sums them, before their type's `finish`.

    Attributes:
        sums: [K, B] int64.
        next_ns: [B] int64, time of the first trade after each bar; None for bars that are groups of others.
    """

    sums: Tensor
    next_ns: Tensor | None

    def finished(self, chain: Chain) -> Tensor:
        """The sums with the stamps and empty bars of the chain's type."""
        finish = getattr(chain.plugin.module, "finish", None)
        return self.sums if finish is None else finish(self.sums, self.next_ns, chain.options)


def step(trades: Trades, chains: Sequence[Chain], state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Folds one chunk of trades; chunks follow each other in trade order.

    Returns:
        (sums, state): per resolution the integer sums [K, B] of the bars that closed, and the state after the chunk.
    """
    closed, after = fold(trades, chains, state)
    return {chain.resolution: closed[chain.resolution].finished(chain) for chain in chains}, after


def fold(trades: Trades, chains: Sequence[Chain], state: State) -> tuple[dict[str, Closed], dict[str, Tensor]]:
    """`step` without the types' `finish`."""
    ends, after = rules(trades, chains, state)
    closed: dict[str, Closed] = {}
    for chain in chains:
        name = chain.resolution
        before = state.get(f"{name}.open_sums")
        if before is None:
            before = torch.zeros(bar_sums.K, dtype=torch.int64, device=trades.device)
        sums, after[f"{name}.open_sums"] = bar_sums.bar_sums(
            trades.time_ns,
            trades.price_ticks,
            trades.quantity_lots,
            trades.notional,
            trades.is_buyer_maker,
            ends[name],
            trades.first_row,
            before,
        )
        closed[name] = Closed(sums, _next_ns(trades, ends[name], chain))
    return closed, after


def rules(trades: Trades, chains: Sequence[Chain], state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Where the bars of each resolution end in a chunk, and the state of the rules after it."""
    ends: dict[str, Tensor] = {}
    after: dict[str, Tensor] = {}
    for chain in chains:
        name = chain.resolution
        ends[name], rule_state = _ends(trades, chain, ends, _under(state, name))
        after |= {f"{name}.{key}": value for key, value in rule_state.items()}
    return ends, after


def open_rest(chains: Sequence[Chain], state: State) -> dict[str, Tensor]:
    """The integer sums [K, 0 or 1] of each resolution's open bar."""
    rest = {}
    for chain in chains:
        opened = state.get(f"{chain.resolution}.open_sums")
        column = torch.zeros(bar_sums.K, 0, dtype=torch.int64) if opened is None else opened[:, None]
        rest[chain.resolution] = Closed(column[:, column[bar_sums.COUNT] > 0], None).finished(chain)
    return rest


def state_to_json(state: State) -> dict[str, list[int]]:
    """The state as plain integers."""
    return {name: value.tolist() for name, value in state.items()}


def state_from_json(values: Mapping[str, Sequence[int]], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """The inverse of `state_to_json`."""
    return {name: torch.tensor(value, dtype=torch.int64, device=device) for name, value in values.items()}


def section_of(type: str, options: Mapping[str, Any], where: str) -> BarsSection:
    """A checked `bars` section from keyword arguments.

    Raises:
        ConfigError: every wrong argument, a line each.
    """
    return check_values(BarsSection, {"type": type, **options}, where)


def _ends(
    trades: Trades, chain: Chain, ends: Mapping[str, Tensor], state: dict[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    if chain.of is None:
        found: tuple[Tensor, dict[str, Tensor]] = chain.plugin.function(trades, chain.options, state or None)
        return found
    parent = ends[chain.of]
    count = int(state["count"][0]) if state else 0
    after = torch.full((1,), (count + len(parent)) % chain.bars, dtype=torch.int64, device=trades.device)
    return parent[chain.bars - 1 - count :: chain.bars], {"count": after}


def _under(state: State, resolution: str) -> dict[str, Tensor]:
    prefix = f"{resolution}."
    own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    own.pop("open_sums", None)
    return own


def _next_ns(trades: Trades, ends: Tensor, chain: Chain) -> Tensor | None:
    if chain.of is not None or not len(trades):
        return None
    return trades.time_ns[ends.clamp(max=len(trades) - 1)]
