"""What a Flower run leaves behind: the records of `fl_core.records`, in memory and in a folder.

The clock is the machine's: `seconds` of a client pass from sending its message until its reply is
here, and `round_seconds` from the first message to the last reply. Bytes are those of the arrays
that carry model and update; Flower's own frame (some 130 bytes an array, and a few hundred a
message) and rounds of evaluation are not counted. What the server does not know is 0 (learning
rate) or None (accuracies). Clients have the allocator's numbers, plain ones those from
`roster.PLAIN_CLIENTS` on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from ....allocator.errors import CheckpointError
from ...records.lock import RunLock
from ...records.recorder import ROUNDS_FILE, RunRecorder
from ...records.records import ClientRecord, RoundRecord, WallRecord

_CONFIG_FILE = "config.json"


class Ledger:
    """Keeps the records of a run.

    Args:
        folder: Where they go as files, which `fedhq watch` follows; only in memory where None.

    Raises:
        CheckpointError: If the folder holds records already: a run in Flower begins at round 1.
    """

    def __init__(self, folder: Path | None) -> None:
        self.rounds: list[RoundRecord] = []
        self.clients: list[ClientRecord] = []
        self._folder = folder
        self._recorder = None if folder is None else RunRecorder(folder)
        if folder is not None and (folder / ROUNDS_FILE).exists():
            raise CheckpointError(
                f"`{folder} holds no records` must hold, but it does: a run in Flower is not "
                "resumed. Take another folder."
            )

    def lock(self) -> AbstractContextManager[object]:
        """Held while a run writes its folder."""
        return nullcontext() if self._folder is None else RunLock(self._folder)

    def announce(self, num_rounds: int) -> None:
        """Says how many rounds there will be, to those who watch."""
        if self._folder is not None:
            text = json.dumps({"training": {"rounds": num_rounds}}) + "\n"
            (self._folder / _CONFIG_FILE).write_text(text, encoding="utf-8")

    def append(
        self, record: RoundRecord, clients: Sequence[ClientRecord], wall: WallRecord
    ) -> None:
        """Keeps a round."""
        self.rounds.append(record)
        self.clients += clients
        if self._recorder is not None:
            self._recorder.append(record, clients, wall)

    @property
    def seconds(self) -> float:
        """From the start to the end of the last round."""
        return self.rounds[-1].simulated_seconds if self.rounds else 0.0
