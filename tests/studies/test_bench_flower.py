"""The benchmark of Flower: what it counts is right, whatever it times."""

import pytest

from fedhq.studies.bench_flower import BARE, DIRECT, OURS, RAY, measure, table


def test_at_4_bits_a_million_parameters_take_a_seventh_of_the_bytes_that_floats_take() -> None:
    bare, ours = (measure(arm, DIRECT, steps=0, rounds=1) for arm in (BARE, OURS))
    assert bare["uplink"] >= 7 * ours["uplink"]
    assert bare["uplink"] > 4 * 1_002_570
    assert len(bare["seconds"]) == len(ours["seconds"]) == 1


@pytest.mark.parametrize("where", [DIRECT, RAY])
def test_overhead_is_of_the_least_times_and_own_work_that_without_training(where: str) -> None:
    sizes = {"uplink": 800, "downlink": 800}
    runs = {
        (where, 0): {
            BARE: [{"seconds": [0.5, 0.2], **sizes}],
            OURS: [{"seconds": [0.4, 0.3], **sizes, "uplink": 100}],
        },
        (where, 500): {
            BARE: [{"seconds": [10.0, 14.0], **sizes}],
            OURS: [{"seconds": [13.0, 10.4], **sizes}],
        },
    }
    text = "".join(table(runs))
    assert f"| {where} | 0 | 0.200 (0.350) | 0.300 (0.350) | 0.100 | 50.0% | 50.0% |" in text
    assert f"| {where} | 500 | 10.000 (12.000) | 10.400 (11.700) | 0.400 | 4.0% | 1.0% |" in text
    assert ("| uplink | 800 | 100 | 8.00 |" in text) == (where == DIRECT)
