"""Loads a day's orders. Quick on purpose: the point is that a worker really ran it."""

import json
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from prefect import flow, get_run_logger

ROWS = [
    {"order": 1001, "region": "eu", "amount": 120},
    {"order": 1002, "region": "us", "amount": 80},
    {"order": 1003, "region": "eu", "amount": 45},
]


@flow(name="orders")
def orders(region: str = "eu") -> int:
    """Writes the orders of one region to a file and returns how many there are."""
    rows = [row for row in ROWS if row["region"] == region]
    loaded = {"at": datetime.now(timezone.utc).isoformat(), "rows": rows}
    file = Path(tempfile.gettempdir()) / f"orders-{region}.json"
    file.write_text(json.dumps(loaded))
    get_run_logger().info("%d orders of region %s", len(rows), region)
    return len(rows)
