"""Where the installation has its things. `make install` rewrites this file for PREFIX and SYSCONFDIR."""

from pathlib import Path
from typing import Final

__all__ = ["CONFIG", "STATE", "VENDOR"]

CONFIG: Final = Path("/etc/sonar")  # the administrator's
VENDOR: Final = Path("/usr/lib/sonar-server")  # the package's
STATE: Final = Path("/var/lib/sonar-server")  # data, reports, what jobs remember
