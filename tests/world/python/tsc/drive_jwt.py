"""Drives a Tableau server with tableauserverclient, signed in with JWTs of a connected app (direct trust).

Usage: drive_jwt.py URL SITE CLIENT_ID SECRET_ID SECRET_VALUE USER

Prints one JSON object: for each step what the client returned or raised. It judges nothing.
"""

import base64
import hashlib
import hmac
import json
import sys
import time
import uuid

import tableauserverclient as TSC
from drive import find_datasource, raised

# What these steps need, and no more.
SCOPES = [
    "tableau:content:read",
    "tableau:tasks:run",
    "tableau:jobs:read",
    "tableau:jobs:update",
    "tableau:users:read",
]


def part(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def token(client_id, secret_id, secret, user, scopes=SCOPES, life=300, **claims):
    """A JWT as Tableau's help has it ("Configure Connected Apps with Direct Trust")."""
    header = {"alg": "HS256", "typ": "JWT", "kid": secret_id, "iss": client_id}
    body = {"iss": client_id, "sub": user, "aud": "tableau", "jti": str(uuid.uuid4())}
    body |= {"exp": int(time.time()) + life, "scp": scopes} | claims
    signed = b".".join(part(json.dumps(piece).encode()) for piece in (header, body))
    return b".".join([signed, part(hmac.digest(secret.encode(), signed, hashlib.sha256))]).decode()


def main(url, site, client_id, secret_id, secret, user):
    out = {}

    def signed_in(**differences):
        # By name: the second positional argument is another thing.
        auth = TSC.JWTAuth(differences.pop("jwt", None) or token(**(good | differences)), site_id=site)
        server = TSC.Server(url, use_server_version=False)
        server.use_server_version()
        server.auth.sign_in(auth)
        return server

    good = {"client_id": client_id, "secret_id": secret_id, "secret": secret, "user": user}
    used = token(**good)
    server = signed_in(jwt=used)
    out["user"] = server.users.get_by_id(server.user_id).name
    out["datasources"] = [row.name for row in TSC.Pager(server.datasources)]

    orders = find_datasource(server, ["Finance", "Sales"], "Orders")
    out["orders"] = orders.id
    out["refreshed"] = raised(lambda: server.jobs.wait_for_job(server.datasources.refresh(orders), timeout=30))
    broken = find_datasource(server, ["Finance"], "Broken")
    out["failed"] = raised(lambda: server.jobs.wait_for_job(server.datasources.refresh(broken), timeout=30))
    slow = find_datasource(server, ["Finance"], "Slow")
    job = server.datasources.refresh(slow)
    out["duplicate"] = raised(lambda: server.datasources.refresh(slow))
    # Another sign-in of the same user does not end the first, as one with the same personal access token would.
    out["besides"] = len(signed_in().datasources.get()[0])
    server.jobs.cancel(job.id)
    out["cancelled"] = raised(lambda: server.jobs.wait_for_job(job, timeout=30))

    # What is not granted looks like a session that has ended.
    reader = signed_in(scopes=["tableau:content:read"])
    out["readerLists"] = len(reader.datasources.get()[0])
    out["readerRefreshes"] = raised(lambda: reader.datasources.refresh(orders))
    out["readerLooksAtJob"] = raised(lambda: reader.jobs.get_by_id(job.id))
    out["readerCancels"] = raised(lambda: reader.jobs.cancel(job.id))

    # What is not taken.
    out["usedTwice"] = raised(lambda: signed_in(jwt=used))
    out["wrongSecret"] = raised(lambda: signed_in(secret="wrong"))
    out["unknownSecret"] = raised(lambda: signed_in(secret_id="unknown"))
    out["unknownApp"] = raised(lambda: signed_in(client_id="unknown"))
    out["unknownUser"] = raised(lambda: signed_in(user="nobody"))
    out["ended"] = raised(lambda: signed_in(life=-1))
    out["endsTooLate"] = raised(lambda: signed_in(life=660))
    out["forAnother"] = raised(lambda: signed_in(aud="other"))
    server.auth.sign_out()
    out["signedOut"] = raised(lambda: server.datasources.get())
    print(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
