"""Records of made-up rounds, for what reads them."""

from fedhq.fl_core.records.records import ClientRecord, RoundRecord, WallRecord


def round_record(number: int, **changes: object) -> RoundRecord:
    values = {
        "round": number,
        "simulated_seconds": 2.0 * number,
        "round_seconds": 2.0,
        "waiting_seconds": 0.0,
        "deployed_accuracy": number / 10,
        "float_accuracy": None,
        "client_accuracy": None,
        "worst_accuracy": 0.25,
        "uplink_bytes": 1000,
        "downlink_bytes": 3000,
        "energy_joules": 1.5,
        "planned_loss": 0.125,
        "bottleneck": None,
        "learning_rate": 0.1,
        "selected": 3,
        "used": 2,
    }
    return RoundRecord(**(values | changes))


def client_records(number: int, strategies=("qat-w2a2", "ptq-w2a2", "skip")) -> list[ClientRecord]:
    return [
        ClientRecord(
            round=number,
            client=client,
            strategy=strategy,
            status="skipped" if strategy == "skip" else "ok",
            reason=None,
            num_examples=10,
            seconds=0.0 if strategy == "skip" else 1.0 + client,
            uplink_bytes=100,
            downlink_bytes=200,
            energy_joules=0.0,
            train_loss=0.25,
            share=0.5,
            staleness=0,
        )
        for client, strategy in enumerate(strategies)
    ]


def wall_record(number: int, train_seconds: float = 1.5) -> WallRecord:
    return WallRecord(
        round=number,
        plan_seconds=0.25,
        train_seconds=train_seconds,
        server_seconds=0.125,
        evaluate_seconds=0.125,
        save_seconds=0.0625,
        client_seconds=(0.5, 0.25, 0.0),
    )


def whole_round(
    number: int, **changes: object
) -> tuple[RoundRecord, list[ClientRecord], WallRecord]:
    return round_record(number, **changes), client_records(number), wall_record(number)
