"""Drives the tasks and schedules of a Tableau server with tableauserverclient, as a user of it would.

Usage: drive_tasks.py URL SITE TOKEN_NAME TOKEN_SECRET EDITION DATASOURCE WORKBOOK

Prints one JSON object: for each step what the client returned or raised. It judges nothing.
"""

import json
import sys
from datetime import time
from importlib.metadata import version

import tableauserverclient as TSC

EVERY_DAY = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def raised(call):
    """What the call raised, or returned."""
    try:
        return {"returned": call()}
    except Exception as error:
        return {"raised": type(error).__name__, "code": getattr(error, "code", None)}


def interval(item):
    """An interval as the client has parsed it."""
    if item is None:
        return None
    pairs = [list(pair) for pair in item._interval_type_pairs()] if getattr(item, "interval", None) else []
    return [type(item).__name__, str(item.start_time), str(getattr(item, "end_time", None)), sorted(pairs)]


def task(item):
    schedule = item.schedule_item
    return {
        "type": item.task_type,
        "priority": item.priority,
        "failed": item.consecutive_failed_count,
        "target": [item.target.type, item.target.id] if item.target else None,
        "schedule": schedule.name if schedule else None,
        "state": schedule.state if schedule else None,
        "next": schedule.next_run_at is not None if schedule else None,
        "interval": interval(schedule.interval_item) if schedule else None,
        "ran": item.last_run_at is not None,
    }


def tasks(server):
    return [task(item) for item in server.tasks.get()[0]]


def schedule(of):
    return TSC.ScheduleItem(None, None, None, None, of)


def on_cloud(server, out, datasource, workbook):
    def create(kind, target, of):
        item = TSC.TaskItem(None, kind, None, schedule_item=schedule(of), target=TSC.Target(*target))
        return server.tasks.create(item) is not None

    data, work = (datasource, "datasource"), (workbook, "workbook")
    once = TSC.DailyInterval(time(2, 0), 24, *EVERY_DAY)
    once.end_time = time(2, 0)
    out["daily"] = raised(lambda: create("FullRefresh", data, once))
    out["weekly"] = raised(lambda: create("IncrementalRefresh", data, TSC.WeeklyInterval(time(5, 0), "Sunday")))
    out["monthly"] = raised(lambda: create("FullRefresh", work, TSC.MonthlyInterval(time(23, 30), "15")))
    out["hourly"] = raised(lambda: create("FullRefresh", work, TSC.HourlyInterval(time(6, 0), time(20, 0), (1, "Monday"))))
    # What the client builds for a plain day, and what Cloud says to it.
    out["plainDaily"] = raised(lambda: create("FullRefresh", data, TSC.DailyInterval(time(2, 0))))
    out["twoDaysWeekly"] = raised(lambda: create("FullRefresh", data, TSC.WeeklyInterval(time(5, 0), "Sunday", "Monday")))
    out["noSuchTarget"] = raised(lambda: create("FullRefresh", ("00000000-0000-4000-8000-000000000000", "datasource"), once))
    out["tasks"] = tasks(server)
    first = server.tasks.get()[0][0]
    out["one"] = task(server.tasks.get_by_id(first.id))
    out["ran"] = raised(lambda: server.tasks.run(first) is not None)
    out["ranAgain"] = raised(lambda: server.tasks.run(first) is not None)
    out["deleted"] = raised(lambda: server.tasks.delete(first.id))
    out["deletedAgain"] = raised(lambda: server.tasks.delete(first.id))
    out["left"] = len(server.tasks.get()[0])
    out["schedules"] = raised(lambda: server.schedules.get()[0])


def on_server(server, out, datasource, workbook):
    def create(name, of):
        order = TSC.ScheduleItem.ExecutionOrder.Parallel
        made = server.schedules.create(TSC.ScheduleItem(name, 50, TSC.ScheduleItem.Type.Extract, order, of))
        return [made.name, made.state, made.priority, made.schedule_type, made.next_run_at is not None]

    out["daily"] = raised(lambda: create("Nightly", TSC.DailyInterval(time(2, 0))))
    out["hourly"] = raised(lambda: create("Often", TSC.HourlyInterval(time(6, 0), time(20, 0), 0.5)))
    out["weekly"] = raised(lambda: create("Weekdays", TSC.WeeklyInterval(time(5, 0), "Monday", "Friday")))
    out["monthly"] = raised(lambda: create("Monthly", TSC.MonthlyInterval(time(23, 30), "LastDay")))
    out["twice"] = raised(lambda: create("Nightly", TSC.DailyInterval(time(3, 0))))
    listed, _ = server.schedules.get()
    out["schedules"] = [[item.name, item.state, item.schedule_type] for item in listed]
    by_name = {item.name: item for item in listed}
    out["intervals"] = {
        name: interval(server.schedules.get_by_id(item.id).interval_item) for name, item in by_name.items()
    }
    data, work = server.datasources.get_by_id(datasource), server.workbooks.get_by_id(workbook)
    nightly = by_name["Nightly"]
    out["added"] = [
        [len(server.schedules.add_to_schedule(nightly.id, datasource=data))],
        [len(server.schedules.add_to_schedule(by_name["Often"].id, workbook=work))],
    ]
    out["tasks"] = tasks(server)
    out["extracts"] = len(server.schedules.get_extract_refresh_tasks(nightly.id)[0])
    nightly.state = TSC.ScheduleItem.State.Suspended
    out["suspended"] = raised(lambda: server.schedules.update(nightly).state)
    out["suspendedTask"] = tasks(server)[0]
    out["inUse"] = raised(lambda: server.schedules.delete(nightly.id))
    out["deleted"] = raised(lambda: server.tasks.delete(server.tasks.get()[0][0].id))
    out["removed"] = raised(lambda: server.schedules.delete(nightly.id))
    out["left"] = [len(server.tasks.get()[0]), len(server.schedules.get()[0])]


def main(url, site, name, secret, edition, datasource, workbook):
    server = TSC.Server(url, use_server_version=False)
    server.use_server_version()
    out = {"version": version("tableauserverclient")}
    with server.auth.sign_in(TSC.PersonalAccessTokenAuth(name, secret, site_id=site)):
        (on_cloud if edition == "Cloud" else on_server)(server, out, datasource, workbook)
    print(json.dumps(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
