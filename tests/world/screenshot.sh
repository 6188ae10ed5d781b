#!/usr/bin/env bash
# Makes the pictures of docs/seen-in-prefect.md anew: a refresh in Prefect's own UI. For developers, not for CI: it needs a headless Chromium
# (Debian: apt-get install chromium) besides what the world needs. It ends the worlds of this checkout.
set -euo pipefail
cd "$(dirname "$0")/../.."
pictures=$PWD/docs/img
work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
    cargo world down --all
    rm -rf "$work"
}
trap finish EXIT

# A refresh after a flow that a real worker ran, as the test of it makes one.
cargo build --bins
cargo world up --detach --without operator --output json > "$work/world.json"
FEEDWATER_WORLD=$work/world.json cargo test --test e2e -- reports::a_refresh_is_a_run_below
world=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["directory"])' "$work/world.json")

# The world's server has no UI: another one shows a copy of its database.
python=$(ls -d "$HOME"/.cache/feedwater/world/prefect-[0-9a-f]*/bin/python | head -n 1)
"$python" - "$world/prefect/prefect.db" "$work/prefect.db" <<'PYTHON'
import sqlite3, sys
sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))
PYTHON
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
url=http://127.0.0.1:$port
export PREFECT_HOME=$work PREFECT_API_URL=$url/api NO_PROXY=127.0.0.1 DO_NOT_TRACK=1
PREFECT_UI_STATIC_DIRECTORY=$work/ui PREFECT_SERVER_ANALYTICS_ENABLED=false \
    "${python%/python}/prefect" server start --host 127.0.0.1 --port "$port" --analytics-off > "$work/server.log" 2>&1 &
server=$!
for _ in $(seq 120); do
    curl --silent --fail --output /dev/null "$url/api/ready" && break
    sleep 1
done

# The first refresh that is shown, and the run that caused it.
read -r cause report < <(python3 - "$url/api" <<'PYTHON'
import json, sys, urllib.request

def ask(path, body):
    request = urllib.request.Request(sys.argv[1] + path, json.dumps(body).encode(), {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))

reports = ask("/flow_runs/filter", {"flows": {"name": {"any_": ["tableau-extract-refresh"]}}, "sort": "START_TIME_ASC"})
tasks = ask("/task_runs/filter", {"task_runs": {"id": {"any_": [reports[0]["parent_task_run_id"]]}}})
print(tasks[0]["flow_run_id"], reports[0]["id"])
PYTHON
)
# run, size, name
picture() {
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size="$2" --virtual-time-budget=25000 \
        --screenshot="$work/$3.png" "$url/runs/flow-run/$1" 2> "$work/chromium.log"
    mv "$work/$3.png" "$pictures/$3.png"
    ls -l "$pictures/$3.png"
}
mkdir -p "$pictures"
picture "$cause" 1280,500 seen-in-prefect
picture "$report" 1280,740 seen-in-prefect-log
