"""Queues, banks and momentum copies, by hand."""

import pytest
import torch
from torch import nn

from kinetics_sounds.train.models.memory import MemoryBank, Queue
from kinetics_sounds.train.models.momentum import momentum_copy, momentum_update


def keys(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


class TestQueue:
    def test_it_begins_with_random_unit_vectors(self) -> None:
        queue = Queue(50, 8)

        torch.testing.assert_close(queue.rows_KD.norm(dim=1), torch.ones(50))
        assert queue.rows_KD.unique(dim=0).shape == (50, 8)

    def test_the_oldest_go_first_also_over_its_end(self) -> None:
        queue = Queue(5, 1)
        queue.push(keys(1, 2, 3))
        queue.push(keys(4, 5, 6))

        assert queue.rows_KD.flatten().tolist() == [6, 2, 3, 4, 5]
        queue.push(keys(7))
        assert queue.rows_KD.flatten().tolist() == [6, 7, 3, 4, 5]

    def test_of_more_keys_than_it_holds_the_last_stay(self) -> None:
        queue = Queue(3, 1)
        queue.push(keys(1, 2, 3, 4, 5, 6, 7))

        assert queue.rows_KD.flatten().tolist() == [7, 5, 6]
        queue.push(keys(8))
        assert sorted(queue.rows_KD.flatten().tolist()) == [6, 7, 8]

    def test_it_is_state(self) -> None:
        queue, other = Queue(3, 1), Queue(3, 1)
        queue.push(keys(1, 2))
        other.load_state_dict(queue.state_dict())
        for each in (queue, other):
            each.push(keys(3, 4))

        assert torch.equal(queue.rows_KD, other.rows_KD)


class TestBank:
    def test_a_row_moves_towards_its_feature_and_stays_a_unit_vector(self) -> None:
        """Half of (1, 0) and half of (0, 1) is (0.7071, 0.7071) once it has length 1."""
        bank = MemoryBank(3, 2)
        bank.rows_SD.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        bank.update(torch.tensor([1]), torch.tensor([[0.0, 1.0]]), momentum=0.5)

        half = 0.5**0.5
        torch.testing.assert_close(bank.rows_SD, torch.tensor([[1.0, 0.0], [half, half], [0.0, 1.0]]))

    def test_of_a_row_that_is_there_twice_the_last_counts(self) -> None:
        bank = MemoryBank(2, 2)
        bank.update(torch.tensor([1, 0, 1]), torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), momentum=0.0)

        assert bank.rows_SD.tolist() == [[0.0, 1.0], [0.0, -1.0]]


class TestMomentum:
    def test_the_gap_shrinks_with_each_update(self) -> None:
        """With an online network that stays as it is, the gap is momentum^n of what it was."""
        online = nn.Linear(3, 2)
        follower = momentum_copy(online)
        assert all(torch.equal(*pair) for pair in zip(online.parameters(), follower.parameters(), strict=True))
        with torch.no_grad():
            online.weight += 1
        for _ in range(5):
            momentum_update(online, follower, momentum=0.9)

        torch.testing.assert_close(online.weight - follower.weight, torch.full((2, 3), 0.9**5))

    def test_it_learns_from_no_gradient_and_keeps_its_own_statistics(self) -> None:
        norm = nn.BatchNorm1d(2)
        online = nn.Sequential(nn.Linear(2, 2), norm)
        follower = momentum_copy(online)
        online(torch.randn(4, 2))
        momentum_update(online, follower, momentum=0.5)
        statistics = dict(follower.named_buffers())

        assert not any(parameter.requires_grad for parameter in follower.parameters())
        assert all(parameter.requires_grad for parameter in online.parameters())
        assert statistics["1.running_mean"].tolist() == [0.0, 0.0]
        assert norm.running_mean is not None
        assert norm.running_mean.tolist() != [0.0, 0.0]


@pytest.mark.parametrize("momentum", [0.0, 1.0])
def test_a_follower_takes_all_or_nothing(momentum: float) -> None:
    online, follower = nn.Linear(1, 1), nn.Linear(1, 1)
    before, wanted = follower.weight.item(), online.weight.item()
    momentum_update(online, follower, momentum=momentum)

    assert follower.weight.item() == (before if momentum else wanted)
