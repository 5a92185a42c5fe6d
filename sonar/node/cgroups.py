"""What the control group of a process says about it: its batch job, and whether it runs in a container.

Control groups are read as text of /proc/PID/cgroup, lines `ID:CONTROLLERS:PATH`, of version 1, version 2 or both.
"""

import re

__all__ = ["names_container", "slurm_job"]

# Slurm names a group job_N on each path that it makes: /slurm/uid_1000/job_77/step_0/task_1 with version 1,
# /system.slice/slurmstepd.scope/job_77/step_0/user/task_1 with version 2; the parts before vary from site to site.
_SLURM_JOB = re.compile(rb"/job_([0-9]{1,18})(?:/|$)", re.MULTILINE)

# What container engines call the groups of their containers. Not those of their daemons, like docker.service.
_CONTAINER = re.compile(
    rb"[/:](?:(?:docker|libpod|crio|cri-containerd|apptainer|singularity)[-/:]|kubepods[-./]|lxc/|lxc\.payload)"
)


def slurm_job(cgroup: bytes) -> int | None:
    """Return the number of the Slurm job that the process belongs to, None for a process outside of Slurm."""
    match = _SLURM_JOB.search(cgroup)
    return int(match[1]) or None if match else None


def names_container(cgroup: bytes) -> bool:
    """Whether a container engine made the control group of the process."""
    return _CONTAINER.search(cgroup) is not None
