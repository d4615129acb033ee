import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aelab.distributed.cluster import Cluster, expand_hosts, find_cluster
from aelab.errors import UsageError

WORKERS = ("a:1", "b:1", "c:1")


def tf_config(jobs, kind="worker", index=0, **more):
    task = {"type": kind, "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": task, **more})}


def slurm(nodes="n1", tasks="2", node=0, local=0, rank=0, **more):
    """The variables that srun (22.05) sets for a task, if they matter here."""
    return {
        "SLURM_JOB_ID": "7",
        "SLURM_LOCALID": str(local),
        "SLURM_NODEID": str(node),
        "SLURM_PROCID": str(rank),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": nodes,
        "SLURM_STEP_TASKS_PER_NODE": tasks,
        **more,
    }


def hosts_and_ports(cluster):
    parts = [address.rpartition(":") for address in cluster.addresses]
    return [host for host, _, _ in parts], [int(port) for _, _, port in parts]


def refusal(environment):
    with pytest.raises(UsageError) as error:
        find_cluster(environment)
    return str(error.value)


@pytest.mark.parametrize("index", [0, 1, 2, "2"])
def test_the_workers_of_tf_config(index):
    cluster = find_cluster(tf_config({"worker": WORKERS}, index=index))
    assert cluster == Cluster(WORKERS, int(index))
    assert cluster.is_chief == (index == 0)


@pytest.mark.parametrize(
    ("kind", "index", "expected"),
    [("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2), ("worker", 2, 3)],
)
@pytest.mark.parametrize("names", [("chief", "worker"), ("worker", "chief")])
def test_the_chief_comes_first(kind, index, expected, names):
    lists = {"chief": ["z:1"], "worker": WORKERS}
    jobs = {name: lists[name] for name in names}
    cluster = find_cluster(tf_config(jobs, kind, index))
    assert cluster == Cluster(("z:1", *WORKERS), expected)
    assert cluster.is_chief == (kind == "chief")


def test_a_cluster_of_only_a_chief():
    assert find_cluster(tf_config({"chief": ["z:1"]}, "chief")).addresses == ("z:1",)


def test_an_empty_chief_list_is_ignored():
    jobs = {"chief": [], "worker": WORKERS}
    assert find_cluster(tf_config(jobs, index=1)) == Cluster(WORKERS, 1)


def test_tf_config_of_a_kubernetes_tfjob():
    text = (
        '{"cluster":{"worker":["run-worker-0.ns.svc:2222","run-worker-1.ns.svc:2222"]},'
        '"task":{"type":"worker","index":1},"environment":"cloud"}'
    )
    expected = ("run-worker-0.ns.svc:2222", "run-worker-1.ns.svc:2222")
    assert find_cluster({"TF_CONFIG": text}) == Cluster(expected, 1)


def test_unknown_keys_are_ignored():
    environment = tf_config({"worker": WORKERS}, job={"region": "x"}, rpc_layer="grpc")
    assert find_cluster(environment) == Cluster(WORKERS, 0)


@pytest.mark.parametrize(
    "address", ["10.0.0.1:2222", "[fd00::1]:2222", "a-b.c.svc.cluster.local:1"]
)
def test_kinds_of_address(address):
    assert find_cluster(tf_config({"worker": [address]})).addresses == (address,)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "host:1", "{", "{'cluster': {}}", "null", "true", "3", "1e999"),
        *('"worker"', "[]", "[1]", "{}", '{"cluster": {"worker": ["a:1"]}}'),
        '{"task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"index": 0}}',
        '{"cluster": {"worker": ["a:1"]}, "task": ["worker", 0]}',
        '{"cluster": ["a:1"], "task": {"type": "worker", "index": 0}}',
        '{"cluster": {"worker": 3}, "task": {"type": "worker", "index": 0}}',
        pytest.param("[" * 100_000, id="deep"),
        pytest.param(
            f'{{"cluster": {{"worker": ["a:1"]}}, "task": {"[" * 100_000}',
            id="deep task",
        ),
    ],
)
def test_a_bad_tf_config_is_refused(text):
    message = refusal({"TF_CONFIG": text})
    for needed in ("TF_CONFIG", "JSON", '"cluster"', '"task"', '"type"', '"index"'):
        assert needed in message


@pytest.mark.parametrize("job", ["ps", "evaluator", "master", ""])
def test_jobs_of_other_strategies_are_refused(job):
    message = refusal(tf_config({"worker": WORKERS, job: ["d:1"]}))
    assert f"the job {job}" in message
    assert "only chief and worker" in message


def test_two_chiefs_are_refused():
    jobs = {"chief": ["x:1", "y:1"], "worker": WORKERS}
    assert "more than one chief" in refusal(tf_config(jobs))


@pytest.mark.parametrize(
    ("kind", "index"),
    [
        *(("worker", 3), ("worker", -1), ("worker", 10**30), ("worker", "3")),
        *(("chief", 0), ("evaluator", 0), ("ps", 0), ("Worker", 0), ("", 0)),
    ],
)
def test_a_task_without_an_address_is_refused(kind, index):
    message = refusal(tf_config({"worker": WORKERS}, kind, index))
    assert "no address for its own task" in message
    assert f"{kind} {index}" in message


@pytest.mark.parametrize("kind", [None, 1, True, ["worker"], {"worker": 0}])
def test_a_task_type_must_be_a_string(kind):
    assert "TF_CONFIG" in refusal(tf_config({"worker": WORKERS}, kind))


@pytest.mark.parametrize(
    "index",
    [
        *(None, "", "one", "0x1", "1.0", [], [0], {}, True, False),
        *(0.5, 1.5, float("nan"), float("inf"), float("-inf")),
    ],
)
def test_an_index_must_be_an_integer(index):
    message = refusal(tf_config({"worker": WORKERS}, index=index))
    assert "TF_CONFIG" in message
    assert "index" in message


@pytest.mark.parametrize("worker", [[], {}, "", [[]], [{}], [None], [1], "a:1"])
def test_a_list_without_addresses_is_refused(worker):
    assert "TF_CONFIG" in refusal(tf_config({"worker": worker}))


@pytest.mark.parametrize(
    "address", ["a", "", ":1", "a:", "a:b", "a:-1", "a:1 ", "a:1\n", "a:1/x"]
)
def test_an_address_needs_host_and_port(address):
    message = refusal(tf_config({"worker": ["b:1", address]}))
    assert f"{address!r} is not an address; expected host:port" in message


@pytest.mark.parametrize(
    "jobs",
    [{"worker": ["a:1", "b:1", "a:1"]}, {"chief": ["a:1"], "worker": ["b:1", "a:1"]}],
)
def test_two_workers_must_have_different_addresses(jobs):
    assert "gives a:1 to two workers" in refusal(tf_config(jobs))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["worker", "chief", "a:1", "b:2", 0, 1]),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cluster", "task", "type", "index", "worker", "chief"])
            | st.text(),
            children,
            max_size=3,
        )
    ),
    max_leaves=8,
)
# Values that are almost valid reach more of the checks.
NEAR = st.fixed_dictionaries(
    {
        "cluster": JSON | st.fixed_dictionaries({"worker": JSON}),
        "task": JSON | st.fixed_dictionaries({"type": JSON, "index": JSON}),
    }
)


def is_consistent_or_refused(environment):
    """Whether the result is a consistent cluster or a `UsageError` with a message."""
    try:
        cluster = find_cluster(environment)
    except UsageError as error:
        return bool(str(error))
    are_distinct = len(set(cluster.addresses)) == len(cluster.addresses)
    return are_distinct and 0 <= cluster.index < len(cluster.addresses)


@settings(max_examples=300, deadline=None)
@given(JSON | NEAR)
def test_any_json_is_accepted_or_refused(value):
    assert is_consistent_or_refused({"TF_CONFIG": json.dumps(value)})


@settings(deadline=None)
@given(st.text())
def test_any_text_is_accepted_or_refused(text):
    assert is_consistent_or_refused({"TF_CONFIG": text})


@pytest.mark.parametrize(
    ("nodes", "tasks", "hosts"),
    [
        ("n1", "1", ["n1"]),
        ("n1", "3", ["n1"] * 3),
        ("a[01-02]", "1(x2)", ["a01", "a02"]),
        ("a[01-02]", "2(x2)", ["a01", "a01", "a02", "a02"]),
        ("a[01-02]", "2,1", ["a01", "a01", "a02"]),
        ("runsc,vm", "1(x2)", ["runsc", "vm"]),
        (
            "node[08-10],login",
            "2(x3),1",
            ["node08", "node08", "node09", "node09", "node10", "node10", "login"],
        ),
    ],
)
def test_the_tasks_of_slurm(nodes, tasks, hosts):
    """Slurm's default order, `--distribution=block`: node by node."""
    clusters = []
    for rank, host in enumerate(hosts):
        node, local = len(set(hosts[: rank + 1])) - 1, hosts[:rank].count(host)
        clusters.append(find_cluster(slurm(nodes, tasks, node, local, rank)))
        actual, ports = hosts_and_ports(clusters[-1])
        assert (actual, clusters[-1].index) == (hosts, rank)
        assert ports[rank] == ports[0] + local
    assert len({cluster.addresses for cluster in clusters}) == 1
    assert [cluster.is_chief for cluster in clusters].count(True) == 1


@pytest.mark.parametrize(
    ("tasks", "where"),
    [
        ("2(x2)", [(0, 0), (1, 0), (0, 1), (1, 1)]),  # --distribution=cyclic, plane=1
        ("2,1", [(0, 0), (1, 0), (0, 1)]),  # cyclic
        ("1,2", [(1, 0), (0, 0), (1, 1)]),  # arbitrary; SLURM_HOSTFILE of a02, a01, a02
    ],
)
def test_each_task_of_slurm_has_an_address_on_its_own_node(tasks, where):
    """For any rank: `where` is (node, local) of each rank, as set by srun 22.05."""
    clusters = [
        find_cluster(slurm("a[01-02]", tasks, node, local, rank))
        for rank, (node, local) in enumerate(where)
    ]
    for (node, _), cluster in zip(where, clusters, strict=True):
        assert hosts_and_ports(cluster)[0][cluster.index] == f"a0{node + 1}"
    assert len({cluster.addresses for cluster in clusters}) == 1
    assert sorted(cluster.index for cluster in clusters) == list(range(len(where)))


@pytest.mark.parametrize("job", [1, 188, 10**6, 4_294_901_760])
@pytest.mark.parametrize("step", [0, 1, 63, 500])
def test_ports_of_slurm_are_below_client_ports(job, step):
    environment = slurm(
        "n[1-2]", "8(x2)", SLURM_JOB_ID=str(job), SLURM_STEP_ID=str(step)
    )
    ports = hosts_and_ports(find_cluster(environment))[1]
    assert min(ports) > 1024
    assert max(ports) < 32768  # /proc/sys/net/ipv4/ip_local_port_range


def test_slurm_jobs_and_steps_do_not_share_ports():
    """For adjacent job numbers and up to eight tasks."""

    def ports(**numbers):
        return hosts_and_ports(find_cluster(slurm(tasks="8", **numbers)))[1]

    jobs = [p for job in range(100, 110) for p in ports(SLURM_JOB_ID=str(job))]
    steps = [p for step in range(64) for p in ports(SLURM_STEP_ID=str(step))]
    for used in (jobs, steps):
        assert len(set(used)) == len(used)


@pytest.mark.parametrize(
    "name",
    [
        *("SLURM_JOB_ID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID"),
        *("SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE"),
    ],
)
def test_a_missing_slurm_variable_is_named(name):
    environment = slurm()
    del environment[name]
    message = refusal(environment)
    assert "srun" in message
    assert name in message


def test_an_sbatch_script_without_srun_is_refused():
    """The script itself has a rank, but it is not a task of a step."""
    environment = {"SLURM_JOB_ID": "16", "SLURM_PROCID": "0", "SLURM_NODEID": "0"}
    message = refusal(environment | {"SLURM_LOCALID": "0", "SLURM_NTASKS": "2"})
    assert "srun" in message


def test_salloc_without_srun_is_refused():
    environment = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "2", "SLURM_NODELIST": "n1"}
    assert "srun" in refusal(environment)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("SLURM_JOB_ID", ""), ("SLURM_JOB_ID", "x"), ("SLURM_STEP_ID", "batch")),
        ("SLURM_STEP_NODELIST", ""),
        ("SLURM_STEP_NODELIST", "n[1-x]"),
        ("SLURM_STEP_NODELIST", "n[x-2]"),
        ("SLURM_STEP_NODELIST", "n[2-1]"),
        *(("SLURM_STEP_TASKS_PER_NODE", text) for text in ("", "x", "2,", "-1", "1.5")),
        *(
            ("SLURM_STEP_TASKS_PER_NODE", text)
            for text in ("2(3)", "2(x)", "2(x1", "0")
        ),
    ],
)
def test_bad_values_of_slurm_are_refused(variable, value):
    message = refusal(slurm(**{variable: value}))
    assert "Slurm" in message


@pytest.mark.parametrize("number", [-1, -2, 2, 99, "", "x", "0.5"])
def test_a_slurm_rank_without_a_task_is_refused(number):
    assert "Slurm" in refusal(slurm(tasks="2", local=number, rank=number))


@pytest.mark.parametrize("node", [-1, 2, "", "x"])
def test_an_unknown_slurm_node_is_refused(node):
    rank = 4 if isinstance(node, int) else node
    assert "Slurm" in refusal(slurm("n[1-2]", "2(x2)", node=node, rank=rank))


@pytest.mark.parametrize(
    ("nodes", "tasks"),
    [("n1", "1(x2)"), ("n[1-3]", "1(x2)"), ("n[1-2]", "2"), ("n1", "1,1")],
)
def test_slurm_needs_one_task_count_per_node(nodes, tasks):
    message = refusal(slurm(nodes, tasks))
    assert "nodes" in message
    assert "task counts" in message


def test_a_repeated_slurm_node_is_refused():
    assert "two workers" in refusal(slurm("n1,n1", "1(x2)"))


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(slurm())), st.text(max_size=4), max_size=3)
)
def test_any_values_of_slurm_are_accepted_or_refused(values):
    assert is_consistent_or_refused(slurm(**values))


@pytest.mark.parametrize(
    ("nodelist", "hosts"),
    [
        ("", ""),
        ("login", "login"),
        ("a1,a2", "a1 a2"),
        ("a[01-02]", "a01 a02"),
        ("node[08-11,13],login", "node08 node09 node10 node11 node13 login"),
        ("tux[0-3,7]", "tux0 tux1 tux2 tux3 tux7"),
        ("n[098-101]", "n098 n099 n100 n101"),
        ("n[9-11]", "n9 n10 n11"),
        ("n[1-1]", "n1"),
        ("a[1]", "a1"),
        ("a[1-2,09],b", "a1 a2 a09 b"),
        ("n[001-003,010]", "n001 n002 n003 n010"),
        ("n[1-3,2]", "n1 n2 n3 n2"),
        ("n[99999-100001]", "n99999 n100000 n100001"),
        ("x[1-2],y[3,5-6],z", "x1 x2 y3 y5 y6 z"),
        ("r[1-2]n[1-2]", "r1n1 r1n2 r2n1 r2n2"),
        ("n[1-2]-[3-4]", "n1-3 n1-4 n2-3 n2-4"),
        ("r[0-1]n[08-09,11],z", "r0n08 r0n09 r0n11 r1n08 r1n09 r1n11 z"),
    ],
)
def test_hosts_expand_like_scontrol(nodelist, hosts):
    """The expected hosts were printed by `scontrol show hostnames`, Slurm 22.05.8."""
    assert expand_hosts(nodelist) == hosts.split()


@pytest.mark.parametrize("nodelist", ["n[5-3]", "n[a-b]", "n[-1]", "n[1-2-3]"])
def test_bad_ranges_are_refused(nodelist):
    """scontrol refuses them too."""
    with pytest.raises(ValueError):
        expand_hosts(nodelist)


def test_tf_config_overrides_slurm():
    environment = slurm() | tf_config({"worker": WORKERS}, index=2)
    assert find_cluster(environment) == Cluster(WORKERS, 2)
    assert "TF_CONFIG" in refusal(slurm() | {"TF_CONFIG": "{}"})


@pytest.mark.parametrize("environment", [{}, {"PATH": "/bin", "SLURM_JOB_ID": "7"}])
def test_the_message_without_a_cluster_has_a_valid_example(environment):
    message = refusal(environment)
    for needed in ("--strategy=multi_worker", "TF_CONFIG", "srun"):
        assert needed in message
    example = message[message.index("{") : message.rindex("}") + 1]
    assert find_cluster({"TF_CONFIG": example}).is_chief


def test_the_environment_of_the_process_is_the_default(monkeypatch):
    monkeypatch.setenv(
        "TF_CONFIG", tf_config({"worker": WORKERS}, index=1)["TF_CONFIG"]
    )
    assert find_cluster() == Cluster(WORKERS, 1)
