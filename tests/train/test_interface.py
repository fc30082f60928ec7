"""What the trainer hands a method, and what a method that says nothing of itself is."""

from torch import nn

from kinetics_sounds.train.interface import Method, Moment, replicated
from kinetics_sounds.train.models.backbones import tied_copy


def test_a_moments_randomness_is_a_function_of_seed_step_and_name_alone() -> None:
    """So it is the same for every micro-batch and on every rank, and a resume finds it again."""

    def drawn(moment: Moment, name: str = "negatives") -> list[int]:
        found: list[int] = moment.rng(name).integers(1 << 30, size=4).tolist()
        return found

    moment = Moment(seed=1, step=2, epoch=0)

    assert drawn(moment) == drawn(moment) == drawn(moment._replace(micro=3)) == drawn(moment._replace(epoch=5))
    others = [drawn(moment._replace(seed=2)), drawn(moment._replace(step=3)), drawn(moment, "permutation")]
    assert len({tuple(each) for each in (drawn(moment), *others)}) == 4


def test_a_methods_encoders_are_its_two_each_once() -> None:
    method = Method()
    method.video, method.audio = nn.Linear(2, 2), nn.Linear(2, 2)
    assert method.encoders() == [method.video, method.audio]

    method.audio = tied_copy(method.video)  # one set of weights, yet two to be compiled: each has its statistics
    assert method.encoders() == [method.video, method.audio]

    method.audio = method.video
    assert method.encoders() == [method.video]


def test_what_is_no_method_replicates_nothing() -> None:
    class Bank(Method):  # type: ignore[misc]
        REPLICATED = ("bank.",)

    assert replicated(Bank()) == ("bank.",)
    assert replicated(nn.Linear(2, 2)) == replicated(Method()) == ()
