"""How long the dashboard takes to its first view, in a browser: not a test, as it measures time.

    PYTHONPATH=tests python tests/studies/dashboard/first_view.py [TRIALS] [PICTURES]

The first view is there when the page has drawn all trials in optuna-dashboard's own plots, and our
six figures. The browser's own clock tells the seconds since it was asked for the page. Beside it
stands optuna-dashboard alone on the same study, which draws its own plots only. Browsers are new
each round; in the second visit they know the script, in the third they have it compiled, too.

On a machine that does other work, compare the processor seconds of the page, which vary least.
Writes pictures into a folder if one is named.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from browser import Browser, open_browser
from optuna_dashboard import wsgi
from search_studies import Policies, make_study

from fedhq.studies.dashboard.serve import listen
from fedhq.studies.dashboard.session import address, dashboard

CLIENTS = 100
ROUNDS, VISITS = 4, 3
FIGURES = 6
WATCH = """
const look = () => {
  const plots = [...document.querySelectorAll('.js-plotly-plot')].filter(p => p.querySelector('.trace'));
  const points = p => p.data.reduce((sum, trace) => sum + (trace.x || []).length, 0);
  const ours = document.querySelectorAll('[id^="user-defined-plot:"] .gtitle').length;
  if (!window.seen && ours == %d && plots.some(p => points(p) >= %d)) window.seen = performance.now();
};
new MutationObserver(look).observe(document, {subtree: true, childList: true});
"""  # noqa: E501 as it is JavaScript
PAGES = {"study": "", "note": "/note", "trial": "/trials?numbers=0"}


@dataclass(frozen=True)
class Visit:
    """Seconds to the first view, and of the processor that the page's main thread took."""

    seconds: float
    processor: float


def main(trials: int, pictures: Path | None) -> None:
    """Measures, and takes the pictures."""
    policies = Policies(CLIENTS)
    study = make_study(trials, policies, limits={"round_seconds": 12.0})
    plain = listen(wsgi(study._storage), "127.0.0.1", 0)
    started = time.perf_counter()
    with dashboard(study, policies, "runs/search", Path(), port=0, every=0.1) as ours:
        print(f"{trials} trials: server up after {time.perf_counter() - started:.2f} s")
        for server in (ours, plain):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        time.sleep(5)  # until what is planned again is there, too
        kinds = {"fedhq": (address(ours, study), FIGURES), "plain": (address(plain, study), 0)}
        seen: dict[str, list[list[Visit]]] = {kind: [] for kind in kinds}
        for _ in range(ROUNDS):
            for kind, (url, figures) in kinds.items():
                seen[kind].append(visits(url, WATCH % (figures, trials)))
                print(kind, told(seen[kind][-1]), flush=True)
        for kind, rounds in seen.items():
            least = [min(same, key=lambda v: v.seconds) for same in zip(*rounds, strict=True)]
            print(f"fastest of {ROUNDS}, {kind}: {told(least)}")
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            with open_browser() as browser:
                take(browser, address(ours, study), pictures)
        for server in (ours, plain):
            server.shutdown()
        plain.server_close()


def visits(url: str, watch: str) -> list[Visit]:
    """Of one page again and again, in a browser that has never seen it."""
    with open_browser() as browser:
        browser.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": watch})
        return [visit(browser, url) for _ in range(VISITS)]


def visit(browser: Browser, url: str) -> Visit:
    """One, until the first view."""
    browser.open("about:blank")
    before = processor_seconds(browser)
    browser.open(url)
    while (seen := browser.run("return window.seen")) is None:
        time.sleep(0.1)  # seldom, as asking takes the page's time
    return Visit(float(str(seen)) / 1000, processor_seconds(browser) - before)


def processor_seconds(browser: Browser) -> float:
    """Of the page's main thread so far."""
    told = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(metric["value"] for metric in told if metric["name"] == "ThreadTime"))


def told(found: list[Visit]) -> str:
    """Visits in words."""
    return ", ".join(f"{v.seconds:.2f} s (processor {v.processor:.2f} s)" for v in found)


def take(browser: Browser, url: str, folder: Path) -> None:
    """Pictures of all pages, wide and narrow, light and dark."""
    for width in (1280, 390):
        for dark in (False, True):
            for name, page in PAGES.items():
                browser.open(url + page, width=width, dark=dark)
                time.sleep(4)
                path = folder / f"{name}-{width}-{'dark' if dark else 'light'}.png"
                browser.photograph(path)
    print(f"console: {browser.faults() or 'no errors'}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(int(arguments[0]) if arguments else 2000, Path(arguments[1]) if arguments[1:] else None)
