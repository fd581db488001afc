"""How long the dashboard takes to its first view, in a browser: not a test, as it measures time.

    PYTHONPATH=tests python tests/studies/dashboard/first_view.py [TRIALS] [PICTURES]

Prints the seconds from opening the page until all our figures are drawn, for a browser that has
never seen the dashboard and for one that has, and writes pictures into a folder if one is named.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from browser import Browser, open_browser
from search_studies import Policies, make_study

from fedhq.studies.dashboard.session import address, dashboard

CLIENTS = 100
DRAWN = (
    "return [...document.querySelectorAll('[id^=\"user-defined-plot:\"]')]"
    ".filter(p => p.querySelector('.gtitle')).length"
)
PAGES = {"study": "", "note": "/note", "trial": "/trials?numbers=0"}


def main(trials: int, pictures: Path | None) -> None:
    """Measures, and takes the pictures."""
    policies = Policies(CLIENTS)
    study = make_study(trials, policies, limits={"round_seconds": 12.0})
    started = time.perf_counter()
    with dashboard(study, policies, "runs/search", Path(), port=0, every=0.1) as server:
        print(f"{trials} trials: server up after {time.perf_counter() - started:.2f} s")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = address(server, study)
        time.sleep(5)  # until what is planned again is there, too
        for _ in range(3):
            with open_browser() as browser:
                print("first view", *(f"{seconds_to(browser, url):.2f} s" for _ in range(3)))
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            with open_browser() as browser:
                take(browser, url, pictures)
        server.shutdown()


def seconds_to(browser: Browser, url: str) -> float:
    """Until all our figures are drawn."""
    browser.open("about:blank")
    started = time.perf_counter()
    browser.open(url)
    while browser.run(DRAWN) != 6:
        time.sleep(0.02)
    return time.perf_counter() - started


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
