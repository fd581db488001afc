"""The benchmark of Flower: what it counts is right, whatever it times."""

import pytest

from fedhq.studies.bench_flower import BARE, DIRECT, OURS, RAY, measure, table


def test_at_4_bits_a_million_parameters_take_a_seventh_of_the_bytes_that_floats_take() -> None:
    bare, ours = (measure(arm, DIRECT, steps=0, rounds=1) for arm in (BARE, OURS))
    assert bare["uplink"] >= 7 * ours["uplink"]
    assert bare["uplink"] > 4 * 1_002_570
    assert len(bare["seconds"]) == len(ours["seconds"]) == 1


@pytest.mark.parametrize("where", [DIRECT, RAY])
def test_overhead_is_of_the_least_times(where: str) -> None:
    runs = {
        BARE: [{"seconds": [10.0, 14.0], "uplink": 800, "downlink": 800}],
        OURS: [{"seconds": [13.0, 10.4], "uplink": 100, "downlink": 800}],
    }
    text = "".join(table({(where, 500): runs}))
    assert f"| {where} | 500 | 10.000 (12.000) | 10.400 (11.700) | 0.400 | 4.0% |" in text
    assert ("| uplink | 800 | 100 | 8.00 |" in text) == (where == DIRECT)
