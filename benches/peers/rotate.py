#!/usr/bin/env python3
"""Rotates snapshots: for each server makes one, waits until it is completed, deletes the oldest
beyond KEEP. From cron, with API and TOKEN in the environment:

    0 3 * * *  flock -n /run/lock/rotate rotate.py 101 102 103

Needs requests.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

API = os.environ["API"]
KEEP = int(os.environ.get("KEEP", "3"))
CAP = int(os.environ.get("CAP", "5"))
PREFIX = os.environ.get("PREFIX", "nightly")
AT_ONCE = int(os.environ.get("AT_ONCE", "64"))
POLL_SECONDS = float(os.environ.get("POLL", "15"))
PATIENCE_SECONDS = 3600
TIMEOUT_SECONDS = 30

session = requests.Session()
session.headers["Authorization"] = f"Bearer {os.environ['TOKEN']}"
# A create is not tried again: it may have been made all the same.
retry = Retry(
    total=3,
    backoff_factor=1,
    status_forcelist=[429, 500, 502, 503, 504],
    allowed_methods=["GET", "DELETE"],
)
adapter = HTTPAdapter(pool_maxsize=AT_ONCE, max_retries=retry)
session.mount("https://", adapter)
session.mount("http://", adapter)


def call(method, path, **arguments):
    answer = session.request(method, f"{API}/{path}", timeout=TIMEOUT_SECONDS, **arguments)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def snapshots_of(server):
    return call("GET", "snapshots/", params={"server_id": server})["results"]


def create(server):
    if len(snapshots_of(server)) >= CAP:
        raise RuntimeError("there is no free slot")
    name = f"{PREFIX}-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}"
    return call("POST", "snapshots/", json={"server_id": server, "name": name})["id"]


def wait(server, snapshot):
    """Waits until the snapshot is completed; gives the listing that shows it."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < give_up_at:
        time.sleep(POLL_SECONDS)
        rows = snapshots_of(server)
        status = next((row["status"] for row in rows if row["id"] == snapshot), "gone")
        if status == "completed":
            return rows
        if status != "in_progress":
            raise RuntimeError(f"snapshot {snapshot} is {status}")
    raise RuntimeError(f"snapshot {snapshot} is still in progress")


def prune(rows):
    ours = [
        row
        for row in rows
        if row["name"].startswith(f"{PREFIX}-") and row["status"] == "completed"
    ]
    ours.sort(key=lambda row: row["created_at"])
    for row in ours[:-KEEP]:
        call("DELETE", f"snapshots/{row['id']}/")


def rotate(server):
    """Whether it went well."""
    try:
        prune(wait(server, create(server)))
    except (requests.RequestException, RuntimeError) as problem:
        print(f"server {server}: {problem}", file=sys.stderr)
        return False
    return True


def main():
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        went_well = list(pool.map(rotate, map(int, sys.argv[1:])))
    return 0 if all(went_well) else 1


if __name__ == "__main__":
    sys.exit(main())
