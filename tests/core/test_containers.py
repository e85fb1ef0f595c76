"""Control groups, read from file trees shaped like real ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachescope.core import faults
from cachescope.core.containers import ContainerMemory, container_memory

MIB = 1 << 20
NONE_V1 = "9223372036854771712\n"
MOUNT_V2 = "1187 1186 0:30 {root} /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate"
MOUNT_V1 = "35 31 0:32 {root} /sys/fs/cgroup/memory rw,nosuid master:9 - cgroup cgroup rw,memory"
OTHER_MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
"""


def tree(root: Path, cgroup: str, mounts: str, files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/self/mountinfo").write_text(OTHER_MOUNTS + mounts + "\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def group_v2(at: str, limit: str, used: int, inactive: int = 0, high: str = "max") -> dict[str, str]:
    return {
        f"{at}memory.max": f"{limit}\n",
        f"{at}memory.high": f"{high}\n",
        f"{at}memory.current": f"{used}\n",
        f"{at}memory.stat": f"anon 1\nfile 2\ninactive_anon 77\ninactive_file {inactive}\nactive_file 3\n",
    }


def group_v1(at: str, limit: str, used: int, inactive: int = 0, whole: str = "") -> dict[str, str]:
    return {
        f"memory/{at}memory.limit_in_bytes": limit,
        f"memory/{at}memory.usage_in_bytes": f"{used}\n",
        f"memory/{at}memory.stat": (
            f"cache 9\ninactive_file 5\n"
            f"hierarchical_memory_limit {whole.strip() or limit.strip()}\ntotal_inactive_file {inactive}\n"
        ),
    }


def test_a_container_of_docker_on_v2_shows_its_own_group_as_the_root(tmp_path: Path) -> None:
    """In a cgroup namespace the path is ``/`` and the mounted directory is the container's own."""
    root = tree(tmp_path, "0::/\n", MOUNT_V2.format(root="/"), group_v2("", str(512 * MIB), 300 * MIB, 100 * MIB))
    assert container_memory(root) == ContainerMemory(512 * MIB, 200 * MIB, "cgroup v2", "")


def test_a_container_in_the_namespace_of_its_host_is_found_by_its_path(tmp_path: Path) -> None:
    """With the whole tree mounted, the limit stands at the path that /proc/self/cgroup names."""
    own = "system.slice/docker-4f0c.scope/"
    files = {"cgroup.procs": "", "memory.stat": "inactive_file 1\n", **group_v2("system.slice/", "max", 900 * MIB)}
    root = tree(
        tmp_path,
        f"0::/{own.rstrip('/')}\n",
        MOUNT_V2.format(root="/"),
        {**files, **group_v2(own, str(64 * MIB), 10 * MIB)},
    )
    assert container_memory(root) == ContainerMemory(64 * MIB, 10 * MIB, "cgroup v2", "")


def test_the_tightest_of_nested_slices_counts_with_the_use_of_that_slice(tmp_path: Path) -> None:
    """A slice above that allows less binds all below it together."""
    root = tree(
        tmp_path,
        "0::/user.slice/user-1000.slice/app.scope\n",
        MOUNT_V2.format(root="/"),
        {
            **group_v2("user.slice/", str(4096 * MIB), 900 * MIB),
            **group_v2("user.slice/user-1000.slice/", str(1024 * MIB), 800 * MIB, 300 * MIB),
            **group_v2("user.slice/user-1000.slice/app.scope/", str(2048 * MIB), 100 * MIB),
        },
    )
    assert container_memory(root) == ContainerMemory(1024 * MIB, 500 * MIB, "cgroup v2", "")


def test_a_group_above_with_less_room_is_said(tmp_path: Path) -> None:
    """The pod can be nearly full while the container's own limit is far."""
    root = tree(
        tmp_path,
        "0::/pod/container\n",
        MOUNT_V2.format(root="/"),
        {**group_v2("pod/", "1000", 990), **group_v2("pod/container/", "800", 100)},
    )
    found = container_memory(root)
    assert (found.limit_bytes, found.used_bytes) == (800, 100)
    assert "a group above has less room: 990 of 1,000 bytes are used" in found.note


@pytest.mark.parametrize(
    ("limit", "high", "expected", "said"),
    [("1000", "600", 600, True), ("600", "1000", 600, False), ("600", "600", 600, False), ("max", "700", 700, True)],
)
def test_memory_high_counts_where_it_is_smaller(
    tmp_path: Path, limit: str, high: str, expected: int, said: bool
) -> None:
    """Beyond memory.high the kernel throttles, which is said, for it isn't the end of the process."""
    root = tree(tmp_path, "0::/\n", MOUNT_V2.format(root="/"), group_v2("", limit, 100, high=high))
    found = container_memory(root)
    assert found.limit_bytes == expected
    assert ("memory.high" in found.note) is said


def test_a_machine_without_limits_on_v2_gives_the_use_alone(tmp_path: Path) -> None:
    """``max`` at all levels is no limit."""
    root = tree(tmp_path, "0::/session.scope\n", MOUNT_V2.format(root="/"), group_v2("session.scope/", "max", 500, 100))
    assert container_memory(root) == ContainerMemory(None, 400, "cgroup v2", "control group: none limits the memory")


def test_a_process_in_the_root_group_has_neither_limit_nor_use(tmp_path: Path) -> None:
    """The root group of v2 has no memory.max and no memory.current."""
    root = tree(tmp_path, "0::/\n", MOUNT_V2.format(root="/"), {"cgroup.procs": "1\n"})
    assert container_memory(root) == ContainerMemory(None, None, "cgroup v2", "control group: none limits the memory")


def test_a_group_without_the_memory_controller_has_the_use_of_the_one_above(tmp_path: Path) -> None:
    """A leaf in which the controller is not enabled is accounted for above."""
    files = {**group_v2("a/", "max", 700), "a/b/cgroup.procs": ""}
    root = tree(tmp_path, "0::/a/b\n", MOUNT_V2.format(root="/"), files)
    assert container_memory(root).used_bytes == 700


def test_a_pod_on_v1_sees_its_group_mounted_under_a_path_of_the_host(tmp_path: Path) -> None:
    """Without a cgroup namespace, path and mount root are the host's, and the mount is the container's group."""
    group = "/kubepods/burstable/pod7/ctr"
    root = tree(
        tmp_path,
        f"9:name=systemd:{group}\n4:cpu,memory:{group}\n1:cpuset:{group}\n",
        MOUNT_V1.format(root=group),
        group_v1("", f"{256 * MIB}\n", 200 * MIB, 50 * MIB, str(256 * MIB)),
    )
    assert container_memory(root) == ContainerMemory(256 * MIB, 150 * MIB, "cgroup v1", "")


def test_v1_tells_the_limit_of_a_group_that_is_not_mounted(tmp_path: Path) -> None:
    """The pod's limit shows in hierarchical_memory_limit of its container, though the pod's files don't."""
    root = tree(tmp_path, "4:memory:/pod/c\n", MOUNT_V1.format(root="/pod/c"), group_v1("", NONE_V1, 70, 0, "1000"))
    found = container_memory(root)
    assert (found.limit_bytes, found.used_bytes, found.source) == (1000, 70, "cgroup v1")
    assert "a group that can't be seen" in found.note


def test_a_limit_above_that_does_not_bind_on_v1_is_left_out(tmp_path: Path) -> None:
    """Without memory.use_hierarchy the group above limits only its own processes."""
    root = tree(
        tmp_path,
        "4:memory:/a/b\n",
        MOUNT_V1.format(root="/"),
        {**group_v1("a/", "100", 50), **group_v1("a/b/", "1000", 500, 0, "1000")},
    )
    assert container_memory(root) == ContainerMemory(1000, 500, "cgroup v1", "")


def test_the_limit_of_the_own_group_on_v1_counts_whatever_memory_stat_says(tmp_path: Path) -> None:
    """It may have been set between the two reads."""
    root = tree(tmp_path, "4:memory:/\n", MOUNT_V1.format(root="/"), group_v1("", "1000", 500, 0, NONE_V1))
    assert container_memory(root) == ContainerMemory(1000, 500, "cgroup v1", "")


@pytest.mark.parametrize("huge", [NONE_V1, "9223372036854710272", "18446744073709551615", "9223372036854775807"])
def test_the_huge_numbers_of_v1_are_no_limit(tmp_path: Path, huge: str) -> None:
    """Whole pages of 4 and of 64 KiB, and the largest numbers of 63 and 64 bits."""
    root = tree(tmp_path, "4:memory:/\n", MOUNT_V1.format(root="/"), group_v1("", huge, 100, 40, huge))
    assert container_memory(root) == ContainerMemory(None, 60, "cgroup v1", "control group: none limits the memory")


def test_a_hybrid_system_is_read_where_its_memory_controller_is(tmp_path: Path) -> None:
    """Both hierarchies are mounted; memory is in one of them."""
    unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
    root = tree(
        tmp_path,
        "8:pids:/\n4:memory:/jobs/one\n0::/elsewhere\n",
        f"{MOUNT_V1.format(root='/')}\n{unified}",
        {**group_v1("jobs/one/", "4096", 1024), **group_v2("unified/elsewhere/", "7", 7)},
    )
    assert container_memory(root) == ContainerMemory(4096, 1024, "cgroup v1", "")


def test_a_hybrid_system_with_memory_on_v2_is_read_there(tmp_path: Path) -> None:
    """Named and other v1 hierarchies beside a v2 that has the memory controller."""
    unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
    root = tree(tmp_path, "1:name=systemd:/x\n0::/x\n", unified, group_v2("unified/x/", "4096", 1024))
    assert container_memory(root) == ContainerMemory(4096, 1024, "cgroup v2", "")


@pytest.mark.parametrize("path", ["/../../other", "/gone/since"])
def test_a_group_that_cannot_be_seen_gives_the_mounted_one_and_a_note(tmp_path: Path, path: str) -> None:
    """A process moved out of its namespace sees its path go up, or lead nowhere."""
    files = {**group_v2("", "1000", 10), **group_v2("../../other/", "5", 5)}
    root = tree(tmp_path, f"0::{path}\n", MOUNT_V2.format(root="/"), files)
    found = container_memory(root)
    assert (found.limit_bytes, found.used_bytes) == (1000, 10)
    assert "can't be seen" in found.note


def test_the_mount_is_taken_from_mountinfo_also_with_blanks_in_its_path(tmp_path: Path) -> None:
    """Some systems mount control groups elsewhere; mountinfo writes a blank as \\040."""
    mounts = r"30 1 0:30 / /dev/c\040group rw shared:1 - cgroup2 none rw"
    root = tree(tmp_path, "0::/a\n", mounts, {})
    (tmp_path / "dev/c group/a").mkdir(parents=True)
    (tmp_path / "dev/c group/a/memory.max").write_text("42\n")
    assert container_memory(root).limit_bytes == 42


def test_of_two_mounts_the_one_that_shows_more_levels_is_read(tmp_path: Path) -> None:
    """An agent often has the host's whole tree mounted beside its own group."""
    whole = "99 1 0:30 / /host/cgroup ro - cgroup2 cgroup ro"
    root = tree(tmp_path, "0::/pod/c\n", f"{MOUNT_V2.format(root='/pod/c')}\n{whole}", group_v2("", "1000", 10))
    for group, limit in (("pod", "500"), ("pod/c", "1000")):
        (tmp_path / "host/cgroup" / group).mkdir(parents=True)
        (tmp_path / "host/cgroup" / group / "memory.max").write_text(limit)
    assert container_memory(root).limit_bytes == 500


def test_without_mountinfo_the_usual_place_is_tried(tmp_path: Path) -> None:
    """A sandbox may show /proc/self/cgroup alone."""
    root = tree(tmp_path, "0::/\n", "", group_v2("", "42", 7))
    (root / "proc/self/mountinfo").unlink()
    assert container_memory(root) == ContainerMemory(42, 7, "cgroup v2", "")


def test_a_system_without_control_groups_is_said_to_have_none(tmp_path: Path) -> None:
    """macOS, Windows and sandboxes have no /proc/self/cgroup."""
    assert container_memory(tmp_path) == ContainerMemory(None, None, None, "control group: /proc/self/cgroup is absent")


def test_a_hierarchy_that_is_not_mounted_is_said(tmp_path: Path) -> None:
    """The process is in a memory group, but nothing of it can be read."""
    found = container_memory(tree(tmp_path, "4:memory:/a\n", "", {}))
    assert found == ContainerMemory(
        None, None, None, "control group: the cgroup v1 hierarchy for memory is not mounted here"
    )


def test_files_that_cannot_be_read_are_noted_and_the_others_still_count(tmp_path: Path) -> None:
    """A directory stands in for a file that is refused, since root may read all files."""
    root = tree(tmp_path, "0::/\n", MOUNT_V2.format(root="/"), group_v2("", "1000", 10))
    (root / "sys/fs/cgroup/memory.current").unlink()
    (root / "sys/fs/cgroup/memory.current").mkdir()
    found = container_memory(root)
    assert (found.limit_bytes, found.used_bytes) == (1000, None)
    assert "memory.current can't be read" in found.note


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_denied_file_is_noted(tmp_path: Path) -> None:
    """A limit that may not be read is not taken for none."""
    root = tree(tmp_path, "0::/\n", MOUNT_V2.format(root="/"), group_v2("", "1000", 10))
    (root / "sys/fs/cgroup/memory.max").chmod(0)
    assert "memory.max can't be read (Permission denied)" in container_memory(root).note


@pytest.mark.parametrize("garbage", ["", "-1", "12 34", "1e9", "²", "x" * 5000, "9" * 5000, "0x10", "\0"])
def test_a_limit_that_is_no_number_is_noted(tmp_path: Path, garbage: str) -> None:
    """Nobody should write that; nobody is believed who did."""
    root = tree(tmp_path, "0::/\n", MOUNT_V2.format(root="/"), group_v2("", garbage, 10))
    found = container_memory(root)
    assert (found.limit_bytes, found.used_bytes) == (None, 10)
    assert found.note == "control group: memory.max holds no number"


def test_a_use_below_the_file_cache_is_not_negative(tmp_path: Path) -> None:
    """The two files are read one after the other, so they may disagree."""
    root = tree(tmp_path, "0::/\n", MOUNT_V2.format(root="/"), group_v2("", "1000", 10, 50))
    assert container_memory(root).used_bytes == 0


@settings(max_examples=200)
@given(cgroup=st.binary(max_size=80), mounts=st.binary(max_size=120), limit=st.binary(max_size=30))
def test_garbage_in_any_file_never_raises(
    tmp_path_factory: pytest.TempPathFactory, cgroup: bytes, mounts: bytes, limit: bytes
) -> None:
    """Whatever the files hold, an answer comes, and it is no fault of ours."""
    root = tree(tmp_path_factory.mktemp("tree"), "", "", group_v2("", "1", 1))
    (root / "proc/self/cgroup").write_bytes(b"0::/" + cgroup + b"\n4:memory:/" + cgroup)
    (root / "proc/self/mountinfo").write_bytes(mounts + b"\n" + MOUNT_V2.format(root="/").encode() + mounts)
    (root / "sys/fs/cgroup/memory.max").write_bytes(limit)
    before = dict(faults.counts)
    assert isinstance(container_memory(root).note, str)
    assert before == faults.counts


def test_this_machine_is_read_without_a_fault() -> None:
    """Whatever it runs in."""
    before = dict(faults.counts)
    found = container_memory()
    assert before == faults.counts
    if found.source is None:
        assert found.note
    if found.used_bytes is not None and found.limit_bytes is not None:
        assert 0 <= found.used_bytes <= 2 * found.limit_bytes
