"""Whole builds: stages, the cache, failures, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from layerstore import Store
from layerstore.operations.check import check
from layerstore.operations.rootfs import import_image
from tests.helpers.builds import Builds, cached
from tests.helpers.containers import Containers
from tests.helpers.mounts import DEADLINE, require_fuse, require_root, wait_until
from tests.helpers.small_disks import small_disk


def is_whole(builds: Builds) -> None:
    """The store is consistent, nothing is mounted, and no container is left."""
    with Store.open(builds.containers.store, sync=False) as store:
        assert check(store, content=True) == []
        assert store.containers.list() == []
    table = Path("/proc/self/mountinfo").read_text().splitlines()
    ours = str(builds.context.parent)
    assert [line for line in table if ours in line and "fuse.pyunion" in line] == []


def test_the_steps_of_a_stage_build_on_each_other(builds: Builds) -> None:
    builds.write(
        """FROM busy:1
ENV WHO=world
RUN echo hello $WHO > /greeting
WORKDIR /srv/app
COPY file.txt other.txt ./
RUN cat file.txt >> /greeting && chmod 600 other.txt
USER bob
CMD ["cat", "/greeting"]
""",
        **{"file.txt": "from file\n", "other.txt": "x"},
    )
    lines = builds.ok()
    assert lines[0] == "Step 1/8 : FROM busy:1"
    assert lines[-1] == "Successfully tagged made:latest"
    assert cached(lines) == 0
    assert builds.containers.ok("run", "--rm", "made") == "hello world\nfrom file"
    config = builds.config()
    assert config["config"]["WorkingDir"] == "/srv/app"
    assert config["config"]["User"] == "bob"
    history = [entry["created_by"] for entry in config["history"][1:]]
    assert history[0] == "/bin/sh -c #(nop)  ENV WHO=world"
    assert history[1] == "/bin/sh -c echo hello $WHO > /greeting"
    assert history[3].startswith("/bin/sh -c #(nop) COPY multi:")
    assert [bool(entry.get("empty_layer")) for entry in config["history"]][1:] == [
        True, False, False, False, False, True, True,
    ]  # fmt: skip
    is_whole(builds)


def test_all_is_cached_the_second_time_and_the_image_is_the_same(builds: Builds) -> None:
    text = 'FROM busy:1\nENV A=b\nRUN echo x > /x\nRUN true\nCOPY f /f\nCMD ["x"]\n'
    builds.write(text, f="content")
    builds.ok()
    first = builds.config()
    lines = builds.ok()
    assert cached(lines) == 5
    assert builds.config() == first
    lines = builds.ok(None, "--no-cache")
    assert cached(lines) == 0
    is_whole(builds)


BASIS = """FROM busy:1
SHELL ["/bin/sh", "-c"]
ENV A=1
USER 0
WORKDIR /w
RUN echo a
"""
CHANGES = {
    "echo a": "echo aa",
    "A=1": "A=2",
    "USER 0": "USER 1000",
    "WORKDIR /w": "WORKDIR /v",
    '"/bin/sh", "-c"': '"/bin/sh", "-ec"',
    "RUN echo": "RUN --network=none echo",
}


def test_a_run_is_done_again_if_something_of_it_changes(builds: Builds) -> None:
    builds.ok(BASIS)
    # A stage for each change, all of them needed.
    stages = [BASIS.replace("RUN ", "RUN --mount=type=tmpfs,target=/t ")]
    stages += [BASIS.replace(old, new) for old, new in CHANGES.items()]
    assert BASIS not in stages
    text = "".join(one.replace("busy:1", f"busy:1 AS s{n}") for n, one in enumerate(stages))
    copies = "".join(f"COPY --from=s{n} /file /{n}\n" for n in range(len(stages)))
    lines = builds.ok(f"{text}FROM scratch\n{copies}")
    runs = [n for n, line in enumerate(lines) if " : RUN " in line]
    assert len(runs) == len(stages)
    assert [lines[n] for n in runs if lines[n + 1] == " ---> Using cache"] == []
    assert cached(builds.ok(BASIS)) == 5


def test_a_copy_goes_by_content_and_not_by_time(builds: Builds) -> None:
    text = "FROM busy:1\nCOPY f /f\nRUN cat /f > /g\n"
    builds.write(text, f="one")
    builds.ok()
    os.utime(builds.context / "f", ns=(5, 5))
    assert cached(builds.ok()) == 2
    (builds.context / "f").chmod(0o600)
    assert cached(builds.ok()) == 0
    builds.write(text, f="two")
    assert cached(builds.ok()) == 0
    assert builds.content("/g") == "two"
    os.rename(builds.context / "f", builds.context / "g")
    builds.write("FROM busy:1\nCOPY g /f\nRUN cat /f > /g\n")
    assert cached(builds.ok()) == 0


def test_a_bound_file_of_the_context_is_part_of_the_key(builds: Builds) -> None:
    text = "FROM busy:1\nRUN --mount=type=bind,source=f,target=/f cat /f > /g\n"
    builds.write(text, f="one")
    builds.ok()
    assert cached(builds.ok()) == 1
    builds.write(text, f="two")
    assert cached(builds.ok()) == 0
    assert builds.content("/g") == "two"


def test_another_base_is_another_key(builds: Builds) -> None:
    builds.ok("FROM busy:1\nRUN echo base > /b\n", "-t", "base")
    builds.ok("FROM base\nRUN cat /b > /c\n")
    builds.ok("FROM busy:1\nRUN echo newer > /b\n", "-t", "base")
    assert cached(builds.ok("FROM base\nRUN cat /b > /c\n")) == 0
    assert builds.content("/c") == "newer"


STAGES = """FROM busy:1 AS left
RUN echo left > /l; echo LEFT
FROM busy:1 AS right
RUN echo right > /r; echo RIGHT
FROM busy:1 AS unused
RUN exit 1
FROM busy:1
COPY --from=left /l /
COPY --from=1 /r /
RUN --mount=type=bind,from=left,source=/l,target=/m cat /m /l /r > /all
"""


def test_stages_side_by_side_and_what_nobody_needs(builds: Builds) -> None:
    lines = builds.ok(STAGES)
    assert lines.index("LEFT") < lines.index("RIGHT")
    assert not any("exit 1" in line for line in lines)
    assert builds.content("/all") == "left\nleft\nright"
    assert cached(builds.ok(STAGES)) == 5
    # The stages are in no image, and cached all the same.
    lines = builds.ok(STAGES.replace("> /all", "> /ALL"))
    assert cached(lines) == 4
    is_whole(builds)


def test_a_copy_from_a_stage_that_was_done_again_goes_by_content(builds: Builds) -> None:
    text = (
        "FROM busy:1 AS a\nARG N\nRUN echo $N > /n; echo same > /s; touch -d 2001-01-01 /s\n"
        "FROM busy:1\nCOPY --from=a /s /s\nRUN cat /s > /t\n"
    )
    builds.write(text)
    builds.ok(None, "--build-arg", "N=1")
    assert cached(builds.ok(None, "--build-arg", "N=2")) == 3


def test_copy_from_an_image_and_a_base_that_is_a_stage(builds: Builds) -> None:
    builds.ok("FROM busy:1 AS a\nRUN echo a > /a\nFROM a AS b\nRUN cat /a > /b\nFROM b\n")
    assert builds.content("/b") == "a"
    builds.ok("FROM busy:1 AS a\nRUN echo a > /a1\nFROM a\nCOPY --from=a /a* /to/\n")
    assert builds.content("/to/a1") == "a"
    builds.ok('FROM scratch\nCOPY --from=busy:1 /bin/busybox /bin/sh\nCMD ["/bin/sh"]\n')
    assert builds.sh("echo /*") == "/bin /dev /etc /proc /sys"
    assert [sorted(os.listdir(layer)) for layer in builds.layers()] == [["bin"]]


def test_the_target_and_its_labels(builds: Builds) -> None:
    lines = builds.ok(STAGES, "--target", "right", "--label", "k=v", "--label", "a=b")
    steps = [line for line in lines if line.startswith("Step ")]
    assert [line.partition(" : ")[2] for line in steps[-2:]] == ["LABEL a=b", "LABEL k=v"]
    count = len(steps)
    assert steps[-1].startswith(f"Step {count}/{count} : ")
    assert [entry["created_by"] for entry in builds.config()["history"][-2:]] == [
        "/bin/sh -c #(nop)  LABEL a=b",
        "/bin/sh -c #(nop)  LABEL k=v",
    ]
    assert builds.config()["config"]["Labels"] == {"k": "v", "a": "b"}
    said = builds.fails(STAGES, "--target", "nowhere")
    assert "the stages with a name are left, right, unused" in said


def test_onbuild_triggers_run_in_the_next_build(builds: Builds) -> None:
    builds.ok("FROM busy:1\nONBUILD COPY f /got\nONBUILD RUN cat /got > /twice\n", "-t", "parent")
    builds.write("FROM parent\nRUN cat /twice >> /got\n", f="x")
    lines = builds.ok()
    assert "# Executing 2 build triggers" in lines
    assert builds.content("/got") == "xx"
    assert "OnBuild" not in builds.config()["config"]


def test_a_failed_step_leaves_its_container(builds: Builds) -> None:
    text = "FROM busy:1\nRUN echo a > /a\nRUN echo partly > /p; exit 9\n"
    said = builds.fails(text, status=9)
    assert "step 3/3 failed: its command ended with status 9" in said
    name = builds.containers.ok("ps", "-a", "--format", "{{.Names}}")
    assert f"pyunion start -ai {name}" in said
    assert builds.containers.ok("diff", name).splitlines() == ["A /a", "A /p"]
    assert builds.containers.ok("ps", "-a", "--format", "{{.Status}}").startswith("Exited (9)")
    lines = builds.ok(text.replace("exit 9", "exit 0"))
    assert cached(lines) == 1
    builds.containers.ok("rm", name)
    is_whole(builds)


def test_what_cannot_be_run_is_said(builds: Builds) -> None:
    said = builds.fails('FROM busy:1\nRUN ["/no/such"]\n')
    assert 'exec: "/no/such": executable file not found' in said or "No such file" in said
    said = builds.fails("FROM scratch\nRUN true\n")
    assert "/bin/sh" in said
    assert "no matching entries in passwd file" in builds.fails(
        "FROM busy:1\nUSER nobody-here\nRUN true\n"
    )
    builds.fails("FROM busy:1\nRUN no-such-command\n", status=127)


def test_mistakes_are_shown_with_their_line(builds: Builds) -> None:
    said = builds.fails("FROM busy:1\nRUN true\nFROB x\n")
    assert "Containerfile:3" in said and "FROB" in said
    said = builds.fails("FROM busy:1\nCOPY missing /\n")
    assert "missing" in said and "Containerfile:2" in said
    assert "invalid reference" in builds.fails("FROM NO:t:x\n").lower()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_build_that_is_ended_leaves_nothing_running(builds: Builds, number: int) -> None:
    text = "FROM busy:1\nRUN echo a > /a\nRUN echo begun; sleep 1000 & sleep 1000\n"
    builds.write(text)
    process = builds.containers.start("--no-sync", "build", str(builds.context))
    assert process.stdout is not None
    while process.stdout.readline() != "begun\n":
        pass
    process.send_signal(number)
    process.wait(DEADLINE)
    if number != signal.SIGKILL:  # after which its packer still records
        wait_until(lambda: not builds.containers.mine(), "all of its processes to end", 10)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    lines = builds.ok(text.replace("sleep 1000 & sleep 1000", "true"))
    assert cached(lines) == 1
    is_whole(builds)


def test_two_builds_at_once(builds: Builds) -> None:
    builds.write("FROM busy:1\nRUN echo a > /a; sleep 1\nRUN echo b > /b\n")
    both = [builds.containers.start("build", str(builds.context)) for _ in range(2)]
    assert [process.wait(DEADLINE) for process in both] == [0, 0]
    assert cached(builds.ok()) == 2
    is_whole(builds)


@pytest.mark.slow
def test_the_cache_goes_with_prune(builds: Builds) -> None:
    builds.ok(STAGES)
    assert cached(builds.ok(STAGES)) == 5
    builds.containers.ok("prune", "-f")
    lines = builds.ok(STAGES)
    assert cached(lines) >= 3, "what the image needs stays known"
    builds.containers.ok("rmi", "made")
    builds.containers.ok("prune", "-f")
    assert cached(builds.ok(STAGES)) == 0


def test_with_a_given_time_the_image_is_the_same_everywhere(
    builds: Builds, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds.write("FROM busy:1\nCOPY f /f\nRUN mkdir /d; echo x > /d/x\nENV a=b\n", f="f")
    builds.ok()  # these steps have other times, so they are not taken from the cache
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    builds.ok()
    first = builds.config()
    builds.ok(None, "--no-cache")
    assert builds.config() == first
    assert first["created"] == "2001-09-09T01:46:40Z"


@pytest.mark.parametrize("instruction", ["COPY big /big", "RUN cat /dev/zero > /z"])
def test_a_full_disk_is_said_and_nothing_is_left(
    tmp_path: Path, rootfs: Path, instruction: str
) -> None:
    require_root()
    require_fuse()
    with ExitStack() as stack:
        top = stack.enter_context(small_disk(tmp_path, "tmpfs", 40 << 20, 4096))
        with Store.open(top / "store", sync=False) as store:
            import_image(store, rootfs, "busy:1")
        containers = Containers(top / "store", stack)
        stack.callback(containers.end)
        builds = Builds(containers, tmp_path / "context")
        with (builds.context / "big").open("wb") as file:
            file.write(b"x" * (48 << 20))
        said = builds.fails(f"FROM busy:1\nRUN echo > /a\n{instruction}\n")
        assert "no space left" in said.lower(), said
        for name in containers.ok("ps", "-aq").split():
            containers.ok("rm", name)
        is_whole(builds)
        builds.ok("FROM busy:1\nRUN echo > /a\n")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("PYUNION_TEST_BUILD_KILLS", "1"))))
def test_a_build_that_is_killed_at_any_moment_goes_on(builds: Builds, seed: int) -> None:
    builds.write(
        "FROM busy:1 AS a\nRUN echo a > /a\nRUN echo b > /b\n"
        "FROM busy:1\nCOPY f /f\nCOPY --from=a /b /b\nRUN cat /b > /c\n",
        f="content",
    )
    chance = random.Random(seed)
    for _ in range(4):
        process = builds.containers.start("build", "-t", "made", str(builds.context))
        with suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.1, 1.5))
        process.kill()
        process.wait()
        wait_until(lambda: not builds.containers.mine(), "its processes to end", 20)
        with Store.open(builds.containers.store, sync=False) as store:
            assert check(store, content=True) == []
    builds.ok()
    assert builds.content("/c") == "b"
    assert cached(builds.ok()) == 5
    is_whole(builds)


def test_a_copy_of_a_whole_stage_has_no_mount_points(builds: Builds) -> None:
    text = "FROM busy:1 AS a\nRUN echo x > /x\nFROM scratch\nCOPY --from=a / /\n"
    builds.ok(text)
    fresh = sorted(os.listdir(builds.layers()[0]))
    assert fresh == ["bin", "etc", "file", "tmp", "x"]
    assert "resolv.conf" not in os.listdir(builds.layers()[0] / "etc")
    builds.ok(text.replace("/ /", "/ /./"))
    assert sorted(os.listdir(builds.layers()[0])) == fresh


def test_an_image_of_another_platform_is_not_taken(builds: Builds) -> None:
    text = "FROM --platform=linux/s390x busy:1\nRUN true\n"
    said = builds.fails(text)
    assert "Containerfile:1: the image busy:1 is here for linux/" in said
    assert "but the build is for linux/s390x" in said
    assert "linux/s390x" in builds.fails("FROM busy:1\n", "--platform", "linux/s390x")
    builds.ok("FROM scratch\nLABEL a=b\n", "--platform", "linux/s390x")
    assert builds.config()["architecture"] == "s390x"


def test_a_faulty_image_name_is_shown_with_its_line(builds: Builds) -> None:
    said = builds.fails("FROM busy:1\nCOPY --from=x:y:z / /\n")
    assert "Containerfile:2: invalid reference format" in said
    said = builds.fails("ARG A=X:y\nFROM $A\n")
    assert "Containerfile:2: invalid reference format" in said


def test_a_step_that_fails_is_shown_once(builds: Builds) -> None:
    said = builds.fails("FROM busy:1\nCOPY --chown=nobody9 Containerfile /x\n")
    assert said.count("Containerfile:2") == 1
    assert said.count("COPY --chown") == 1


def test_build_args_that_no_arg_takes_are_named(builds: Builds) -> None:
    said = builds.ok("FROM busy:1\nARG A\n", "--build-arg", "A=1", "--build-arg", "B=2")
    assert "[Warning] One or more build-args [B] were not consumed" in said


def test_what_a_cache_mount_begins_with_is_part_of_the_key(builds: Builds) -> None:
    text = (
        "FROM busy:1 AS a\nRUN echo 1 > /n\nFROM busy:1\n"
        "RUN --mount=type=cache,target=/c,from=a cat /c/n\n"
    )
    builds.ok(text)
    assert cached(builds.ok(text)) == 2
    assert cached(builds.ok(text.replace("echo 1", "echo 2"))) == 0


def test_squash_makes_one_layer_and_the_cache_keeps_the_others(builds: Builds) -> None:
    text = (
        "FROM busy:1 AS a\nRUN echo 1 > /a; rm /file\nFROM a\nRUN echo 2 > /a\nCOPY f /f\nENV x=y\n"
    )
    builds.write(text, f="content")
    builds.ok(None, "--squash")
    assert [len(os.listdir(layer)) for layer in builds.layers()] == [2, 2, 4]
    history = builds.config()["history"]
    assert [bool(entry.get("empty_layer")) for entry in history] == [
        False, False, True, True, True, False,
    ]  # fmt: skip
    assert history[-1]["comment"].startswith("merge sha256:")
    assert builds.sh("cat /a /f; echo; ls -d /fil*; true") == "2\ncontent"
    assert cached(builds.ok(None, "--squash")) == 4
    assert cached(builds.ok()) == 4
    is_whole(builds)


def test_the_author_is_that_of_the_maintainer_above(builds: Builds) -> None:
    text = "FROM busy:1\nENV A=1\nRUN echo > /a\nMAINTAINER Me <x>\nENV B=1\nRUN echo > /b\n"
    for _ in range(2):  # the second time from the cache
        builds.ok(text)
        config = builds.config()
        assert config["author"] == "Me <x>"
        authors = [entry.get("author") for entry in config["history"][-5:]]
        assert authors == [None, None, "Me <x>", "Me <x>", "Me <x>"]


def test_containers_can_be_kept(builds: Builds) -> None:
    builds.ok("FROM busy:1\nRUN echo x > /x\n", "--rm=false")
    name = builds.containers.ok("ps", "-a", "--format", "{{.Names}}")
    assert builds.containers.ok("ps", "-a", "--format", "{{.Status}}").startswith("Exited (0)")
    builds.containers.ok("rm", name)
    is_whole(builds)


def test_what_a_full_disk_stopped_is_named(tmp_path: Path, rootfs: Path) -> None:
    require_root()
    require_fuse()
    with ExitStack() as stack:
        top = stack.enter_context(small_disk(tmp_path, "tmpfs", 40 << 20, 4096))
        with Store.open(top / "store", sync=False) as store:
            import_image(store, rootfs, "busy:1")
        containers = Containers(top / "store", stack)
        stack.callback(containers.end)
        builds = Builds(containers, tmp_path / "context")
        (builds.context / "many").mkdir()
        (builds.context / "many/big").write_bytes(b"x" * (48 << 20))
        said = builds.fails("FROM busy:1\nCOPY many /many\n")
        assert "Containerfile:2" in said and "COPY many /many" in said, said
        assert "/many in the image cannot be written: many/big: No space left on device" in said
        assert "pyunion prune" in said and containers.ok("ps", "-aq") == ""
        said = builds.fails("FROM busy:1\nRUN echo > /a\nRUN cat /dev/zero > /z\n")
        # The disk may be full before the step in front is recorded.
        assert re.search(r"Containerfile:([23]): step \1/3 failed", said), said
        assert "pyunion prune" in said


def test_the_container_of_a_failed_step_has_nothing_of_the_host(
    builds: Builds, rootfs: Path, tmp_path: Path
) -> None:
    """The image below is a stranger's, and the user is told to start that container."""
    (tmp_path / "host").mkdir()
    host = {"Binds": [f"{tmp_path}/host:/h"], "Privileged": True, "CapAdd": ["ALL"]}
    config = {"Cmd": ["sh"], "Env": ["A=b"], "HostConfig": host, "StopTimeout": 1}
    with Store.open(builds.containers.store, sync=False) as store:
        import_image(store, rootfs, "evil:1", config=config)  # type: ignore[arg-type]
    said = builds.fails("FROM evil:1\nRUN exit 3\n", status=3)
    (name,) = re.findall(r"pyunion start -ai (\S+)", said)
    (found,) = json.loads(builds.containers.ok("inspect", name))
    assert found["HostConfig"]["AutoRemove"] is False
    assert not any(found["HostConfig"][name] for name in ("Binds", "Privileged", "CapAdd"))
    assert found["Mounts"] == [] and "StopTimeout" not in found["Config"]
    assert found["Config"]["Env"][0] == "A=b"
