"""Leaks and planted edges on simulated markets, through the project's own code (DESIGN 4.9)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from bench import gates, networks


@pytest.fixture(scope="module")
def market():
    return gates.gate_market(1, bars=6000, features=gates.STANDARD)


def test_null_markets_teach_nothing():
    found = [gates.null(seed, 10_000) for seed in range(6)]
    mean, error = gates.mean_and_error(each.auc for each in found)
    assert abs(mean - 0.5) <= 3 * error and error < 0.01
    assert abs(np.mean([each.up for each in found]) - 0.5) < 0.01


def test_features_from_the_future_are_caught(market):
    features, labels, oracle = market
    leaked = gates.judge(gates.gate_dataset(gates.from_the_future(features), labels), oracle)
    assert gates.shifted_caught([leaked])
    assert leaked.log_loss < leaked.frequency_log_loss


def test_bounce_is_why_the_null_label_enters_at_the_next_open():
    assert gates.bounce(0, 10_000).auc > 0.53


def test_planted_edge_is_found():
    assert gates.edge_recovered(gates.planted(0))


def test_a_bar_ahead_is_really_a_bar_ahead(market):
    features, _, _ = market
    shifted = gates.from_the_future(features).values
    torch.testing.assert_close(shifted[:-1], features.values[1:], equal_nan=True, rtol=0, atol=0)
    assert bool(shifted[-1].isnan().all())


def test_judging_agrees_with_scikit_learn(market):
    features, labels, oracle = market
    dataset = gates.gate_dataset(features, labels)
    judged = gates.judge(dataset, oracle)
    train, test = dataset.parts["train"], dataset.parts["test"]
    target = dataset.target.numpy()
    known = oracle[dataset.index[:, 0]][test].numpy()
    assert judged.oracle_auc == pytest.approx(roc_auc_score(target[test], known))
    share = np.full(len(test), target[train].mean())
    assert judged.frequency_log_loss == pytest.approx(log_loss(target[test], share))
    assert judged.samples == len(test)


def test_oracle_is_the_score_at_the_close_of_each_bar():
    features, labels, oracle = gates.gate_market(3, 0.5, 1000)
    assert len(features) == len(labels) == len(oracle) == 1000
    imbalance = features.values[:, features.names.index("trade_imbalance_db_s")]
    assert np.corrcoef(oracle.numpy(), imbalance.numpy())[0, 1] > 0.5


@pytest.mark.slow
def test_full_gate():
    assert gates.main([]) == 0


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_a_network_finds_nothing_in_a_null_market(network):
    assert networks.score(network, 0.0, networks.NULL_CONFIDENCE).finds_nothing()


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_a_network_finds_the_planted_edge(network):
    assert networks.score(network, gates.EDGE, networks.EDGE_CONFIDENCE).finds_the_edge()
