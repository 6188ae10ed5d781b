"""One object of each telling shape, from what `kubectl get <kind> --all-namespaces --watch --output json` printed while that build ran the
end-to-end tests: `distill.py < watched.json > <plural>.jsonl`. See README.md."""

import json
import sys


def shape(obj):
    """What makes a status telling: which fields it has, and the words in them that decide."""
    status = obj.get("status", {})
    attempt, owed = status.get("attempt") or {}, status.get("owed") or {}
    return json.dumps([
        sorted(status),
        [[c["type"], c["reason"]] for c in status.get("conditions", []) if c["type"] in ("Ready", "Refreshing", "Drifted")],
        sorted(attempt), attempt.get("phase"), attempt.get("origin"),
        sorted(owed), owed.get("stopped"), owed.get("refused"), [d["kind"] for d in owed.get("demands", [])],
    ])


def main():
    text, place, decoder, kept = sys.stdin.read(), 0, json.JSONDecoder(), {}
    while text[place:].strip():
        place += len(text[place:]) - len(text[place:].lstrip())
        try:
            obj, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError:
            break  # The watch was cut off within an object.
        obj["metadata"].pop("managedFields", None)
        kept.setdefault(shape(obj), obj)
    for obj in kept.values():
        print(json.dumps(obj, sort_keys=True, separators=(",", ":")))


main()
