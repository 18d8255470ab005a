"""Which errors are those of the machine that the user can fix. No heavy imports."""

import os
import re
from errno import EACCES, EDQUOT, EFBIG, EIO, ELOOP, ENAMETOOLONG, ENOSPC, EPERM, EROFS

DISK = (ENOSPC, EDQUOT, EFBIG, EROFS, EACCES, EPERM, EIO, ENAMETOOLONG, ELOOP)
"""Errors of disks, permissions and names."""
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")


def disk_fault(error: BaseException) -> str | None:
    """Reason and path of a failed access to a disk; None for any other error."""
    if isinstance(error, OSError):
        number, name = error.errno, error.filename
    else:  # safetensors has no error numbers
        found = _RUST_ERROR.search(str(error))
        number, name = int(found[1]) if found else None, None
    if number not in DISK:
        return None
    return f"{os.strerror(number)}: {name}" if name else os.strerror(number)
