"""`python -m fedhq.studies.hardware`: measures, predicts what is left out, and writes the page.

`--rates FILE` writes the rates that ship, `--profiles FOLDER` measures the step profiles that ship
anew. Measurements are kept in `--cache` and taken up from there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ...fl_core.runtime import set_up_process
from ..benchmark import machine_line
from ..writing import write_at_once
from .cases import BATCH_SIZES, all_cases
from .devices import DEVICES, measure_on
from .errors import KNOWN_BATCH, calibrated, list_all
from .measuring import measure_into
from .page import Evidence, page
from .shipped import measure_shipped

_tell = partial(print, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures and writes what the options ask for.

    Args:
        arguments: Of the command line; those of the process where None.
    """
    options = _parser().parse_args(arguments)
    set_up_process(1)
    machine = machine_line()
    if options.profiles is not None:
        measure_shipped(options.profiles, options.samples or 30, _tell)
    samples: int | None = options.samples
    if options.measure is not None:
        cases = all_cases((KNOWN_BATCH,), options.quick)
        measure_into(options.measure, cases, options.passes, samples, _tell)
    if options.out is None and options.rates is None:
        return
    sizes = BATCH_SIZES[:2] if options.quick else BATCH_SIZES
    cases = all_cases(sizes, options.quick)
    kept = options.cache / "reference.jsonl"
    measured = measure_into(kept, cases, options.passes, samples, _tell)
    listing = list_all(cases)
    if options.rates is not None:
        origin = f"`python -m fedhq.studies.hardware --rates`: {machine}"
        calibrated(measured, listing, origin).save(options.rates)
    if options.out is not None:
        again = ["--passes", str(options.passes)]
        again += ["--quick"] * options.quick
        again += [] if samples is None else ["--samples", str(samples)]
        played = [c for c in cases if c.batch_size == KNOWN_BATCH]
        asked = DEVICES[-1:] if options.quick else DEVICES
        devices = {d.name: measure_on(d, options.cache, played, again) for d in asked}
        write_at_once(options.out, page(Evidence(machine, measured, devices, listing)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fedhq.studies.hardware", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the page")
    parser.add_argument("--rates", type=Path, metavar="FILE.json", help="write the rates")
    parser.add_argument(
        "--profiles", type=Path, metavar="FOLDER", help="measure the profiles that ship, into it"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=Path("runs/hardware"),
        metavar="FOLDER",
        help="measurements (default: %(default)s)",
    )
    parser.add_argument("--measure", type=Path, metavar="FILE", help="measure only, at batch 32")
    parser.add_argument("--passes", type=int, default=4, help="over all (default: %(default)s)")
    parser.add_argument("--samples", type=int, help="of a pass (default: 1.5 seconds)")
    parser.add_argument("--quick", action="store_true", help="few networks, one device")
    return parser


if __name__ == "__main__":
    main()
