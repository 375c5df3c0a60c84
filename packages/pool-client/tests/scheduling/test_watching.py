"""Which hosts watch time limits."""

from scheduler_model import MS, SECOND, function, single

from pool_client.scheduling.tasks import Host, WatchHost
from pool_client.scheduling.watching import Watching


def make():
    actions = []
    return Watching(actions), actions, Host("box", 2)


def test_tasks_without_a_limit_do_not_count():
    watching, actions, host = make()
    task = single(function())
    watching.sent(host, task)
    watching.over(host, task, MS)
    watching.tick(SECOND)
    assert (actions, host.timed, bool(watching)) == ([], 0, False)


def test_watching_begins_with_the_first_and_lingers_after_the_last():
    watching, actions, host = make()
    tasks = [single(function(), timeout=1.0) for _ in range(3)]
    for task in tasks:
        watching.sent(host, task)
    assert actions == [WatchHost(host, True)]
    assert host.timed == 3
    for task in tasks:
        watching.tick(100 * SECOND)
        watching.over(host, task, 100 * SECOND)
    watching.tick(100 * SECOND + MS)
    assert watching
    assert len(actions) == 1, "more of them may come"
    watching.sent(host, tasks[0])
    watching.over(host, tasks[0], 101 * SECOND)
    watching.tick(200 * SECOND)
    assert actions == [WatchHost(host, True), WatchHost(host, False)]
    assert not watching
    watching.tick(300 * SECOND)
    watching.sent(host, tasks[0])
    assert actions[2:] == [WatchHost(host, True)]


def test_each_host_is_watched_for_itself():
    watching, actions, host = make()
    other = Host("box", 2)
    task = single(function(), timeout=1.0)
    watching.sent(host, task)
    watching.sent(other, task)
    watching.over(host, task, 0)
    watching.tick(100 * SECOND)
    assert [(action.host is host, action.on) for action in actions] == [
        (True, True),
        (False, True),
        (True, False),
    ]
    assert watching
