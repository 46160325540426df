#!/usr/bin/python3 -IS
"""How the executable in Python starts: by its code as it was compiled the first time.

Compiling it would take as long as all that it does, so this is short.  ``SOURCE`` is
put in here when it is installed.  The folder is root's alone: the agent's socket and
tombstones are there, too.
"""

import marshal
import posix
import sys

TYPE_CHECKING = False  # importing typing takes as long as the interpreter's start
if TYPE_CHECKING:
    from typing import Any, Dict

PATH = "/run/eniplug/executable.code"
DIGEST = ""  # of the source
SOURCE = r""

names: "Dict[str, Any]" = {"__name__": "eniplug"}
key = ("%s %x " % (DIGEST, sys.hexversion)).encode()
code = None
try:
    descriptor = posix.open(PATH, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW)
    data = posix.read(descriptor, 1 << 20)
    if posix.fstat(descriptor).st_uid == 0 and data.startswith(key):
        code = marshal.loads(data[len(key) :])
    posix.close(descriptor)
except (OSError, EOFError, TypeError, ValueError):
    pass  # there is none yet, or it is not what was written
first = code is None
if code is None:
    code = compile(SOURCE, __file__, "exec", optimize=2)
exec(code, names)
if first:
    names["keep"](PATH, key + marshal.dumps(code))
posix._exit(names["main"]())  # pyright: ignore[reportPrivateUsage]
