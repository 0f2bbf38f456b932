"""The harness that kills runs and breaks disks: that it does, and that it sees what is wrong."""

from __future__ import annotations

import json
import shlex
import sys

import pytest

from benchmarks.faults import driver as faults
from benchmarks.faults.commands import Command
from benchmarks.faults.disks import ERRORS, failing
from benchmarks.faults.driver import Driver, Fault
from benchmarks.faults.kills import before_operations, within_writes
from benchmarks.faults.snapshots import damaged, differences, snapshot
from benchmarks.faults.trials import Bench, spread

pytestmark = pytest.mark.skipif(faults.unavailable() is not None, reason=str(faults.unavailable()))

WRITER = """
import os
os.mkdir("made")
with open("made/a", "w") as file:
    file.write("0123456789")
with open("../elsewhere", "w") as file:
    file.write("not counted")
open("made/a").read()
directory = os.open("made", os.O_RDONLY)
os.rename("a", "b", src_dir_fd=directory, dst_dir_fd=directory)
os.chmod("made/b", 0o600)
os.truncate("made/b", 9)
os.symlink("b", "made/c")
os.unlink("c", dir_fd=directory)
descriptor = os.open("made/b", os.O_RDWR)
os.fsync(descriptor)
"""
CALLS = ["mkdir", "create", "write", "rename", "chmod", "truncate", "symlink", "unlink", "open"]
CALLS = [*CALLS, "fsync"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with Driver(tmp_path_factory.mktemp("driver")) as driver:
        yield driver


@pytest.fixture
def script(tmp_path):
    """Writes a script, and gives the command that runs it."""

    def write(text, name="script.py"):
        (tmp_path / name).write_text(text)
        return shlex.quote(str(tmp_path / name))

    return write


@pytest.fixture
def place(tmp_path):
    directory = tmp_path / "place"
    directory.mkdir()
    return directory


def test_operations_below_the_directory_are_counted_and_no_others(driver, script, place):
    ending = driver.run(script(WRITER), place)
    assert (ending.code, ending.errors) == (0, "")
    assert [operation.name for operation in ending.operations] == CALLS
    assert {operation.path for operation in ending.operations} == {
        "/made",
        "/made/a",
        "/made/b",
        "/made/c",
    }


@pytest.mark.parametrize("number", range(1, len(CALLS) + 1))
def test_a_run_is_killed_before_the_operation(driver, script, place, number):
    ending = driver.run(script(WRITER), place, Fault("kill", number))
    assert ending.killed
    assert [operation.name for operation in ending.operations] == CALLS[:number]
    made = place / "made"
    assert made.exists() == (number > 1)
    assert (made / "a").exists() == (2 < number <= 4)
    assert (made / "b").exists() == (number > 4)
    if number > 3:
        length = len((made / ("a" if number == 4 else "b")).read_text())
        assert length == (9 if number > 6 else 10)


def test_a_torn_write_leaves_half(driver, script, place):
    assert driver.run(script(WRITER), place, Fault("tear", 3)).killed
    assert (place / "made/a").read_text() == "01234"


def test_one_operation_fails_or_all_that_come_later(driver, script, place):
    script = script("""
for name in "abc":
    try:
        open(name, "w").close()
    except OSError as error:
        print(name, error.errno)
""")
    once = driver.run(script, place, Fault("fail", 2, "ENOSPC"))
    assert (once.code, once.output) == (0, "b 28\n")
    lasting = driver.run(script, place, Fault("fail", 2, "EROFS", lasting=True))
    assert lasting.output == "b 30\nc 30\n"


@pytest.mark.parametrize("error", ERRORS)
def test_a_fault_meets_only_what_it_can(driver, script, place, error):
    """On a full disk files can be removed; where one may not write, open files still can be."""
    met = {
        number
        for number in range(1, len(CALLS) + 1)
        if driver.run(script(WRITER), _emptied(place), Fault("fail", number, error)).code
    }
    wanted = ERRORS[error]
    assert met == {i for i, name in enumerate(CALLS, 1) if wanted is None or name in wanted}


def _emptied(place):
    import shutil

    shutil.rmtree(place)
    place.mkdir()
    return place


def test_what_sqlite_and_safetensors_write_is_seen(driver, script, place):
    ending = driver.run(
        script("""
import sqlite3
with sqlite3.connect("votes.db") as connection:
    connection.execute("CREATE TABLE vote (id INTEGER)")
import numpy
from safetensors.numpy import save_file
save_file({"a": numpy.zeros(9)}, "a.safetensors")
"""),
        place,
    )
    assert ending.code == 0, ending.errors
    written = {path for name, path in ending.operations if name == "write"}
    assert any("votes.db" in path for path in written)
    assert any(path.startswith("/.tmp") for path in written)  # safetensors' own


def test_a_program_that_a_run_calls_is_left_alone(driver, script, place):
    text = f"""
import subprocess
subprocess.run([{sys.executable!r}, "-c", "open('by-another', 'w').write('x')"], check=True)
"""
    ending = driver.run(script(text), place, Fault("kill", 1))
    assert ending.code == 0, ending.errors
    assert (place / "by-another").read_text() == "x"


SAFE = """
import os, sys
os.makedirs("out", exist_ok=True)
for name in os.listdir("out"):
    if name.endswith(".tmp"):
        os.unlink("out/" + name)
with open("out/a.json.tmp", "w") as file:
    file.write('{"figure": 1, "seconds": ' + str(__import__("time").time()) + "}")
os.replace("out/a.json.tmp", "out/a.json")
"""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SAFE, None),
        (
            SAFE.replace('endswith(".tmp")', 'endswith(".x")').replace("a.json.tmp", "%d.tmp"),
            "left",
        ),
        (SAFE.replace('os.makedirs("out", exist_ok=True)', 'os.mkdir("out")'), "cannot go on"),
        ("import os\nif not os.path.exists('a.json'): open('a.json', 'w').write('1234')", "a.json"),
    ],
)
def test_trials_tell_runs_that_survive_from_those_that_do_not(
    driver, script, tmp_path, text, problem
):
    text = text.replace('"out/%d.tmp"', 'f"out/{os.getpid()}.tmp"')
    bench = Bench(driver, Command("a script", script(text)), tmp_path)
    rows = [before_operations(bench), within_writes(bench)]
    failures = [failure for row in rows for failure in row.failures]
    if problem is None:
        assert failures == []
        assert [row.good for row in rows] == [row.tried for row in rows]
        assert rows[0].tried == len(bench.operations) > 3
    else:
        assert any(problem in failure for failure in failures), failures


def test_a_failing_disk_must_be_told_in_one_sentence(driver, script, tmp_path):
    def trial(ending):
        text = f"""
import sys
try:
    open("a", "w").close()
except OSError as error:
    {ending}
"""
        return Bench(driver, Command("a script", script(text)), tmp_path).failed(
            Fault("fail", 1, "ENOSPC")
        )

    assert trial('sys.exit(f"error: {error}")') == []
    assert trial("raise")[0].startswith("traceback")
    assert trial("sys.exit(3)")[0].startswith("0 sentences")
    assert trial('print("error: full", file=sys.stderr); sys.exit(2)')[0].startswith("exit code 2")


def test_snapshots_leave_times_out_and_tell_what_differs(tmp_path):
    for name, seconds in (("one", 1.0), ("two", 2.0)):
        directory = tmp_path / name
        directory.mkdir()
        row = json.dumps({"step": 1, "time/fps": seconds})
        (directory / "metrics.jsonl").write_text(row + "\n")
        (directory / "metrics.json").write_text(json.dumps({"seconds": seconds}))
        (directory / "model.safetensors").write_bytes(b"weights")
    one, two = snapshot(tmp_path / "one"), snapshot(tmp_path / "two")
    assert differences(one, two) == []
    (tmp_path / "one/model.safetensors").write_bytes(b"others")
    (tmp_path / "one/.x.tmp").mkdir()
    (tmp_path / "one/.x.tmp/file").touch()
    (tmp_path / "one/metrics.jsonl").write_text(row.replace("1", "2") + "\n")
    (tmp_path / "one/metrics.json").unlink()
    assert differences(snapshot(tmp_path / "one"), two) == [
        "left over: .x.tmp",
        "missing: metrics.json",
        "other metrics.jsonl",
        "other weights",
    ]


def test_what_says_that_it_is_whole_and_is_not_is_told(tmp_path):
    step = tmp_path / "step-000000000007"
    step.mkdir()
    assert damaged(tmp_path) == ["half a checkpoint: step-000000000007"]
    (step / "a").write_text("content")
    listed = {"a": {"bytes": 7, "sha256": "0" * 64}}
    (step / "checkpoint.json").write_text(json.dumps({"files": listed}))
    assert damaged(tmp_path) == ["damaged: step-000000000007/a"]
    step.rename(tmp_path / ".step-000000000007.tmp")
    assert damaged(tmp_path) == []


def test_a_sample_of_points_has_the_first_and_the_last():
    assert spread(range(1, 101), 4) == [1, 34, 67, 100]
    assert spread([3, 5], 4) == [3, 5]


@pytest.fixture(scope="module")
def benches(driver, tmp_path_factory):
    """Real commands, ready to be put under faults."""
    from benchmarks.faults.commands import COMMANDS, write_inputs

    directory = tmp_path_factory.mktemp("commands")
    write_inputs(directory)
    return lambda name: Bench(driver, COMMANDS[name], directory)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "points"), [("train", 3), ("sft over an older model", 1)])
def test_runs_survive_kills_and_failing_disks(benches, name, points):
    """A few of the points that `benchmarks/faults/run.py` tries, which tries all."""
    bench = benches(name)
    for row in (
        before_operations(bench, points),
        within_writes(bench, points),
        failing(bench, "ENOSPC", points),
    ):
        assert row.failures == []
        assert row.good == row.tried == points
