"""Headless Chromium in a process of its own: the content of a page, and what it requests."""

import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-features=AutofillServerCommunication",
    "--disable-sync", "--no-first-run", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip
"""No request leaves the machine."""


def visit(address: str, folder: Path, wait: float = 0) -> tuple[str, set[str]]:
    """Open a page.

    Args:
        address: a file:// or http:// address.
        folder: folder for the browser's profile and log.
        wait: seconds of the page's clock before it is read, which stops during requests; 0: until
            all that the page names is loaded.

    Returns:
        The page's HTML once its scripts have run, and the addresses that it requested.
    """
    assert CHROMIUM is not None
    log = folder / "net.json"
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}",
         *([f"--virtual-time-budget={1000 * wait:.0f}"] if wait else []), "--dump-dom", address],
        check=True, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    # Requests of the browser itself, such as updates, have no such page as origin.
    page = r'"network_isolation_key":"(?:file|http)://'
    requests = re.findall(
        page + r'.{0,500}?"url":"((?:https?|wss?)://[^"]+)"', log.read_text(errors="replace")
    )
    return done.stdout, set(requests)
