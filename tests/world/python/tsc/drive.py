"""Drives a Tableau server with tableauserverclient, as a user of it would.

Usage: drive.py URL SITE TOKEN_NAME TOKEN_SECRET

Prints one JSON object: for each step what the client returned or raised. It judges nothing.
"""

import json
import logging
import sys
from datetime import timedelta

import tableauserverclient as TSC

# 0.41 does not give it out at the top, as 0.42 does.
from tableauserverclient.server.endpoint.exceptions import JobFailedException


class Warnings(logging.Handler):
    """Keeps what the client warns of: the only trace that it leaves of a duplicate refresh."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage().strip())


def raised(call):
    """What the call raised, or returned."""
    try:
        return {"returned": describe(call())}
    except JobFailedException as error:
        return {"raised": type(error).__name__, "notes": error.notes, "finishCode": error.job.finish_code}
    except Exception as error:
        return {"raised": type(error).__name__, "code": getattr(error, "code", None)}


def describe(value):
    """A job as JSON; everything else as it is."""
    if not isinstance(value, TSC.JobItem):
        return value
    return {
        "id": value.id,
        "type": value.type,
        "finishCode": value.finish_code,
        "progress": value.progress,
        "notes": value.notes,
        "datasource": value.datasource_id,
        "workbook": value.workbook_id,
        "completed": value.completed_at is not None,
    }


def options(**filters):
    made = TSC.RequestOptions()
    for field, value in filters.items():
        name = getattr(TSC.RequestOptions.Field, field)
        made.filter.add(TSC.Filter(name, TSC.RequestOptions.Operator.Equals, value))
    return made


def find_project(server, path):
    """The id of a project by its path, level by level."""
    parent = None
    for name in path:
        filters = {"Name": name, **({"ParentProjectId": parent} if parent else {})}
        projects, _ = server.projects.get(options(**filters))
        (project,) = [project for project in projects if project.parent_id == parent]
        parent = project.id
    return parent


def find_datasource(server, path, name):
    """The data source of that name in the project of that path: its leaf name alone is not unique."""
    project = find_project(server, path)
    found, _ = server.datasources.get(options(Name=name, ProjectName=path[-1]))
    (datasource,) = [datasource for datasource in found if datasource.project_id == project]
    return datasource


def full_refreshes(server, since):
    """The jobs that were created at or after that moment. Dates are whole seconds, so several may share one."""
    made, field, operator = TSC.RequestOptions(), TSC.RequestOptions.Field, TSC.RequestOptions.Operator
    made.filter.add(TSC.Filter(field.CreatedAt, operator.GreaterThanOrEqual, since))
    made.filter.add(TSC.Filter(field.JobType, operator.In, ["refresh_extracts"]))
    return server.jobs.get(made)[0]


def main(url, site, name, secret):
    warnings = Warnings()
    logging.getLogger().addHandler(warnings)
    out = {}
    server = TSC.Server(url)
    out["signInBeforeDiscovery"] = raised(lambda: server.datasources.get())
    server.use_server_version()
    out["version"] = server.version
    auth = TSC.PersonalAccessTokenAuth(name, secret, site_id=site)
    wrong = TSC.PersonalAccessTokenAuth(name, "wrong", site_id=site)
    out["wrongSecret"] = raised(lambda: server.auth.sign_in(wrong))
    server.auth.sign_in(auth)
    out["user"] = server.users.get_by_id(server.user_id).name

    # Lists: two rows a page.
    pages = TSC.Pager(server.datasources, TSC.RequestOptions(pagesize=2))
    out["datasources"] = [[row.name, row.project_name, row.has_extracts] for row in pages]
    out["workbooks"] = [row.name for row in TSC.Pager(server.workbooks)]
    out["projects"] = [[row.name, row.parent_id is None] for row in TSC.Pager(server.projects)]
    datasources, pagination = server.datasources.get(TSC.RequestOptions(pagenumber=2, pagesize=3))
    out["page"] = [pagination.page_number, pagination.page_size, pagination.total_available, len(datasources)]
    newest = TSC.RequestOptions()
    newest.sort.add(TSC.Sort("name", TSC.RequestOptions.Direction.Desc))
    out["sorted"] = [row.name for row in server.workbooks.get(newest)[0]]

    # Refresh and wait.
    orders = find_datasource(server, ["Finance", "Sales"], "Orders")
    out["orders"] = orders.id
    out["refreshed"] = raised(lambda: server.jobs.wait_for_job(server.datasources.refresh(orders), timeout=30))
    out["incremental"] = raised(
        lambda: server.jobs.wait_for_job(server.datasources.refresh(orders, incremental=True), timeout=30)
    )
    (workbook,) = server.workbooks.get(options(Name="Board"))[0]
    out["workbook"] = raised(lambda: server.jobs.wait_for_job(server.workbooks.refresh(workbook), timeout=30))
    broken = find_datasource(server, ["Finance"], "Broken")
    out["failed"] = raised(lambda: server.jobs.wait_for_job(server.datasources.refresh(broken), timeout=30))
    live = find_datasource(server, ["Finance"], "Live")
    out["noExtract"] = raised(lambda: server.datasources.refresh(live))

    # A second refresh of the same while the first runs; then the first is cancelled.
    slow = find_datasource(server, ["Finance"], "Slow")
    job = server.datasources.refresh(slow)
    out["running"] = raised(lambda: server.jobs.get_by_id(job.id))
    warnings.messages.clear()
    out["duplicate"] = raised(lambda: server.datasources.refresh(slow))
    out["duplicateWarning"] = list(warnings.messages)
    out["waitedTooShort"] = raised(lambda: server.jobs.wait_for_job(job, timeout=0.1))
    server.jobs.cancel(job.id)
    out["cancelled"] = raised(lambda: server.jobs.wait_for_job(job, timeout=30))

    # Jobs as a list.
    rows, _ = server.jobs.get(TSC.RequestOptions())
    out["jobs"] = [[row.type, row.status, row.title] for row in rows]
    first = rows[0].created_at
    out["fullSinceFirst"] = [row.title for row in full_refreshes(server, first)]
    out["fullSinceTomorrow"] = [row.title for row in full_refreshes(server, first + timedelta(days=1))]
    out["tasks"] = server.tasks.get()[0]

    # What is not there.
    nothing = "00000000-0000-4000-8000-000000000000"
    out["unknownJob"] = raised(lambda: server.jobs.get_by_id(nothing))
    out["unknownDatasource"] = raised(lambda: server.datasources.refresh(nothing))
    out["unknownWorkbook"] = raised(lambda: server.workbooks.refresh(nothing))

    # A second sign-in with the same token ends the first.
    second = TSC.Server(url, use_server_version=False)
    second.version = server.version
    second.auth.sign_in(auth)
    out["firstAfterSecond"] = raised(lambda: server.datasources.get())
    out["second"] = len(second.datasources.get()[0])
    second.auth.sign_out()
    print(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
