"""Asks a TensorBoard over its HTTP API."""

import json
import urllib.parse
import urllib.request


def getter(address):
    """`get(path)`: the bytes at a path of a server, asked without a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return lambda path: opener.open(address + path, timeout=60).read()


def get_json(get, path, **query):
    query = f"?{urllib.parse.urlencode(query)}" if query else ""
    return json.loads(get(f"/data/{path}{query}"))


def experiment(get):
    request = json.dumps({"experimentName": ""})
    return get_json(get, "plugin/hparams/experiment", request=request)


def session_groups(get):
    """The rows of the table of runs, each with its metrics by name."""
    request = {
        "experimentName": "",
        "allowedStatuses": ["STATUS_UNKNOWN"],
        "startIndex": 0,
        "sliceSize": 100,
    }
    rows = get_json(get, "plugin/hparams/session_groups", request=json.dumps(request))[
        "sessionGroups"
    ]
    for row in rows:
        row["metrics"] = {
            (m["name"].get("group", ""), m["name"]["tag"]): m["value"]
            for m in row["metricValues"]
        }
    return rows
