"""The legacy API where floats come as they are: secure aggregation, and clients without the mod."""

import re
import time

import numpy as np
import pytest
from flower_legacy import MODEL, NAMES, Fleet, Spy, records, run
from flwr.app import ConfigRecord, Context, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD

from fedhq.allocator import HybridAllocator
from fedhq.fl_core.flower.client.mod import quant_mod
from fedhq.fl_core.flower.legacy.strategy import LegacyAllocatorStrategy

# --- Secure aggregation ---


@pytest.fixture
def outcomes(monkeypatch):
    """All that the allocator is told of."""
    told = []
    monkeypatch.setattr(
        HybridAllocator, "observe", lambda self, several, accuracy: told.extend(several)
    )
    return told


def secure_round(menu, mods=(secaggplus_mod, quant_mod), **odd):
    fleet = Fleet(mods=mods, **odd)
    allocator = HybridAllocator.open(menu, "qat-w2a2", learn=False)
    strategy = LegacyAllocatorStrategy(Spy(), allocator, tensor_names=NAMES, profile_seconds=5.0)
    ctxt = LegacyContext(
        Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={}),
        strategy=strategy,
        client_manager=fleet.manager,
    )
    ctxt.state[MAIN_CONFIGS_RECORD] = ConfigRecord({"current_round": 1})
    start = strategy.initialize_parameters(fleet.manager)
    from flwr.compat.common.recorddict_compat import parameters_to_arrayrecord

    ctxt.state[MAIN_PARAMS_RECORD] = parameters_to_arrayrecord(start, keep_input=True)
    SecAggPlusWorkflow(num_shares=3, reconstruction_threshold=2, timeout=5.0)(fleet, ctxt)
    after = [array.numpy() for array in ctxt.state[MAIN_PARAMS_RECORD].values()]
    return after, fleet, strategy


def test_secure_aggregation_with_rounded_updates_is_refused_by_every_client():
    after, fleet, _ = secure_round(["ptq-w2a2"])
    assert not fleet.told
    assert all((a == b).all() for a, b in zip(after, MODEL, strict=True))


def asleep(parameters):
    time.sleep(0.05)
    return [v + v.dtype.type(1) for v in parameters], 10, {}


@pytest.mark.parametrize(
    "mods", [(secaggplus_mod, quant_mod), (quant_mod, secaggplus_mod)], ids=["behind", "before"]
)
@pytest.mark.parametrize("menu", ["fp32", "qat-w2a2-u32"])
def test_secure_aggregation_of_floats_works_and_tells_the_clients_seconds(menu, mods, outcomes):
    after, fleet, strategy = secure_round([menu], mods, site_1={"spoil": asleep})
    assert {d.strategy.wire_bits for _, d, *_ in fleet.told} == {32}
    mean = (10 * 1 + 20 * 2 + 30 * 3) / 60
    np.testing.assert_allclose(after[0], MODEL[0] + mean, atol=0.01)
    assert {r.status for r in records(strategy).values()} == {"ok"}
    assert all(o.succeeded and o.seconds < 2 for o in outcomes)
    assert outcomes[0].seconds >= 0.05


# --- Clients that were told what to do, but have no mod ---


def test_who_has_no_mod_and_trained_in_float_counts_and_its_seconds_are_not_known(outcomes):
    _, strategy = run(Fleet(2, mods=()), menu=["ptq-w2a2-u32"])
    assert {r.status for r in records(strategy).values()} == {"ok"}
    assert [(o.seconds, o.succeeded) for o in outcomes] == [(None, True)] * 2


def test_who_has_no_mod_did_no_qat(outcomes):
    trained, strategy = run(Fleet(2, mods=()), menu=["qat-w2a2-u32"])
    assert {r.status for r in records(strategy).values()} == {"refused"}
    assert "quant_mod" in records(strategy)[0].reason
    assert not any(o.succeeded for o in outcomes)
    assert all((a == b).all() for a, b in zip(trained, MODEL, strict=True))


@pytest.mark.parametrize(
    ("count", "status"), [(-1, "failed"), (0, "refused"), (2**32, "failed"), (2**40, "failed")]
)
def test_a_number_of_examples_that_cannot_be_does_not_count(count, status):
    def claim(parameters):
        return parameters, count, {}

    fleet = Fleet(2, mods=(), site_1={"spoil": claim})
    _, strategy = run(fleet, menu=["fp32"])
    found = records(strategy)
    assert [found[client].status for client in (0, 1)] == [status, "ok"]
    assert re.search(f"num.examples.*but got {count}", found[0].reason)


@pytest.mark.parametrize("menu", ["ptq-w2a2-u32", "ptq-w2a2"])
@pytest.mark.parametrize("said", ["nonsense", '{"version": 1, "packed": "no"}', b"1", 3.0])
def test_a_report_that_is_none_does_not_count(menu, said):
    def claim(parameters):
        return parameters, 10, {"fedhq": said}

    found = records(run(Fleet(2, mods=(), site_1={"spoil": claim}), menu=[menu])[1])
    assert found[0].status == "failed"
    assert "a report" in found[0].reason
