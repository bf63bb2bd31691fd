from __future__ import annotations

from pathlib import Path

import pytest

from tests.environment.recorded import plant
from vggbench.environment.cgroup import CgroupLimits, parse_membership, read_limits

V2 = {"proc/self/cgroup": "0::/user.slice/bench.scope\n"}
V1 = {"proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n"}


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    assert read_limits(tmp_path) == CgroupLimits()


def test_v2_own_limits_and_counters(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/user.slice/bench.scope"
    plant(
        tmp_path,
        V2
        | {
            f"{group}/cpu.max": "150000 100000\n",
            f"{group}/memory.max": "8589934592\n",
            f"{group}/cpu.stat": "usage_usec 12\nnr_periods 40\nnr_throttled 7\nthrottled_usec 2500000\n",
        },
    )
    assert read_limits(tmp_path) == CgroupLimits(
        cpu_quota=1.5, memory_bytes=8 << 30, throttled_periods=7, throttled_s=2.5
    )


def test_v2_a_parents_tighter_limit_holds(tmp_path: Path) -> None:
    plant(
        tmp_path,
        V2
        | {
            "sys/fs/cgroup/user.slice/bench.scope/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user.slice/bench.scope/memory.max": "4294967296\n",
            "sys/fs/cgroup/user.slice/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/user.slice/memory.max": "2147483648\n",
        },
    )
    limits = read_limits(tmp_path)
    assert limits.cpu_quota == 4.0
    assert limits.memory_bytes == 2 << 30


def test_v2_no_limit_is_none(tmp_path: Path) -> None:
    plant(
        tmp_path,
        V2
        | {
            "sys/fs/cgroup/user.slice/bench.scope/cpu.max": "max 100000\n",
            "sys/fs/cgroup/user.slice/bench.scope/memory.max": "max\n",
        },
    )
    assert read_limits(tmp_path) == CgroupLimits()


def test_v2_path_out_of_the_namespace_is_not_followed(tmp_path: Path) -> None:
    plant(tmp_path, {"proc/self/cgroup": "0::/../other\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"})
    plant(tmp_path, {"sys/fs/other/cpu.max": "100000 100000\n"})
    assert read_limits(tmp_path).cpu_quota == 2.0


def test_v1_in_a_container_is_read_at_the_mount_point(tmp_path: Path) -> None:
    plant(
        tmp_path,
        V1
        | {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.stat": "nr_periods 9\nnr_throttled 3\nthrottled_time 1500000000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n",
        },
    )
    assert read_limits(tmp_path) == CgroupLimits(
        cpu_quota=0.5, memory_bytes=1 << 30, throttled_periods=3, throttled_s=1.5
    )


def test_v1_without_limits(tmp_path: Path) -> None:
    plant(
        tmp_path,
        V1
        | {
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/docker/abc/cpu.stat": "nr_periods 0\nnr_throttled 0\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert read_limits(tmp_path) == CgroupLimits(throttled_periods=0)


@pytest.mark.parametrize("text", ["", "nonsense\n", "0::\n", "1:cpu\n"])
def test_odd_membership_is_survived(tmp_path: Path, text: str) -> None:
    plant(tmp_path, {"proc/self/cgroup": text, "sys/fs/cgroup/cpu.max": "garbage\n"})
    assert read_limits(tmp_path).cpu_quota is None


def test_membership_splits_joint_controllers() -> None:
    assert parse_membership(V1["proc/self/cgroup"]) == {
        "name=systemd": "/",
        "memory": "/docker/abc",
        "cpu": "/docker/abc",
        "cpuacct": "/docker/abc",
        "": "/",
    }
