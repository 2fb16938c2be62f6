"""Reads the cases of a list, one after another, and writes down what became of each.

A script of its own: a case may hang, kill its process or fill the memory, and then the next child goes on after it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def what_became(work: Any, path: str) -> str:
    from sdscm_jax.errors import SDSCMError

    try:
        work(path)
    except SDSCMError as error:
        return f"{type(error).__name__}: {error}"
    except BaseException as error:
        return f"RAW {type(error).__module__}.{type(error).__name__}: {str(error)[:300]}"
    return "accepted"


def checkpoint(path: str) -> None:
    from sdscm_jax import load_lm

    lm = load_lm(path, chat=Path(path).name.startswith("chat"))
    lm.tokenizer.decode(lm.tokenizer.encode("It is low."))


def family(path: str) -> None:
    import sdscm_jax.families as families

    families.family(path).member(0)


def audit(path: str) -> None:
    from sdscm_jax.audit import audit_spec

    audit_spec(path)


if __name__ == "__main__":
    work = globals()[sys.argv[1]]
    with open(sys.argv[3], "a", encoding="utf-8") as found:
        for line in Path(sys.argv[2]).read_text(encoding="utf-8").splitlines():
            said = what_became(work, line)
            # (Not getrusage: what it says begins with the memory of the process that this one was forked from.)
            status = Path("/proc/self/status").read_text(encoding="ascii")
            most = int(status.split("VmHWM:")[1].split()[0]) // 1024
            found.write(json.dumps([line, said, most]) + "\n")
            found.flush()
