"""When a run ends because nobody can train: broken fleets soon, all others never."""

import random

import pytest
from run_records import client_records

from fedhq.allocator.errors import DivergedError, FedHQError
from fedhq.fl_core.rounds.hope import Hope
from fedhq.fl_core.rounds.round import RoundResult


def result(statuses: dict[int, str], usable: int = 0, diverged: int = 0) -> RoundResult:
    """Of a round in which these clients fared so."""
    (whole,) = client_records(1, ["fp32"])
    clients = []
    for client, status in statuses.items():
        sent = 100 if status in ("ok", "refused") else 0
        changes = {"client": client, "status": status, "uplink_bytes": sent, "reason": "It broke."}
        clients.append(type(whole)(**(vars(whole) | changes)))
    return RoundResult(
        waiting_seconds=0.0,
        seconds=1.0,
        clients=tuple(clients),
        outcomes=(),
        planned_loss=0.0,
        bottleneck=None,
        usable=usable,
        diverged=diverged,
        wall=(0.0, 0.0, 0.0),
        client_wall_seconds=(0.0,) * len(clients),
    )


def rounds_until_the_end(hope: Hope, rounds) -> int | None:
    for number, one in enumerate(rounds, start=1):
        try:
            hope.check(number, one, 0.1)
        except FedHQError:
            return number
    return None


def failing(*clients: int) -> RoundResult:
    return result(dict.fromkeys(clients, "failed"))


def test_three_rounds_in_which_everybody_fails_are_the_end_and_the_reason_is_told() -> None:
    hope = Hope(3)
    hope.check(7, failing(0, 1, 2), 0.1)
    hope.check(8, failing(0, 1, 2), 0.1)
    message = r"in 3 rounds, the last of them round 9; .*: It broke. Lower .*\(0.05 in"
    with pytest.raises(FedHQError, match=message):
        hope.check(9, failing(0, 1, 2), 0.05)


@pytest.mark.parametrize(
    ("diverged", "kind"), [(0, FedHQError), (1, FedHQError), (2, DivergedError)]
)
def test_a_run_has_diverged_if_most_of_those_who_failed_in_the_end_did(diverged, kind) -> None:
    hope = Hope(3)
    for number in (1, 2):
        hope.check(number, failing(0, 1, 2), 0.1)
    with pytest.raises(FedHQError) as told:
        hope.check(3, result(dict.fromkeys((0, 1, 2), "failed"), diverged=diverged), 0.1)
    assert type(told.value) is kind


@pytest.mark.parametrize("cohort", [1, 2, 10])
def test_fewer_broken_clients_than_half_of_the_fleet_end_no_run_however_they_are_drawn(
    cohort,
) -> None:
    rng = random.Random(0)
    broken = range(9)
    rounds = [failing(*rng.sample(broken, min(cohort, 9))) for _ in range(500)]
    assert rounds_until_the_end(Hope(20), rounds) is None
    assert rounds_until_the_end(Hope(18), rounds) is not None


def test_of_a_large_fleet_thirty_in_a_row_suffice() -> None:
    rounds = [failing(number) for number in range(100)]
    assert rounds_until_the_end(Hope(5000), rounds) == 30


def test_who_is_told_to_skip_is_not_waited_for() -> None:
    one = result({0: "failed", **dict.fromkeys(range(1, 20), "skipped")})
    assert rounds_until_the_end(Hope(20), [one] * 5) == 3


def test_refused_updates_are_no_sign_that_training_fails() -> None:
    hostile = result({0: "refused", 1: "refused"})
    mixed = result({0: "failed", 1: "refused"})
    assert rounds_until_the_end(Hope(2), [hostile, mixed] * 10) is None


@pytest.mark.parametrize(
    "better", [result({0: "ok", 1: "failed"}, usable=1), result({0: "failed"}, usable=1)]
)
def test_an_update_gives_new_hope_also_a_stale_one(better) -> None:
    bad = failing(0, 1)
    assert rounds_until_the_end(Hope(2), [bad, bad, better, bad, bad, better] * 3) is None
    assert rounds_until_the_end(Hope(2), [bad, bad, better, bad, bad, bad]) == 6


def test_lost_connections_tell_nothing() -> None:
    bad, lost = failing(0, 1), result({0: "dropped", 1: "dropped"})
    assert rounds_until_the_end(Hope(2), [lost] * 10) is None
    assert rounds_until_the_end(Hope(2), [bad, lost, bad, lost, bad]) == 5


def test_it_goes_on_from_its_state() -> None:
    hope, other = Hope(6), Hope(6)
    for client in (4, 2):
        hope.check(1, failing(client), 0.1)
    other.load_state_dict(hope.state_dict())
    assert other.state_dict() == {"barren_rounds": 2, "failed_clients": [2, 4]}
    assert rounds_until_the_end(other, [failing(4), failing(0)]) == 2
