"""A kept file is what was written, or an error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sdscm_jax as sd
from sdscm_jax.durable import locked, make_directory, put, put_sealed, put_text, read_sealed

DATA = bytes(range(256)) * 3


def test_a_sealed_file_is_what_was_written(tmp_path: Path) -> None:
    put_sealed(tmp_path / "kept", DATA)
    put_sealed(tmp_path / "kept", DATA[:-1])
    assert read_sealed(tmp_path / "kept") == DATA[:-1]


def test_no_bit_and_no_cut_goes_unnoticed(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    put_sealed(path, DATA)
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(0, len(whole), 7)]
    damaged += [whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :] for i in range(len(whole))]
    for data in (*damaged, b"", whole + b"\n"):
        path.write_bytes(data)
        with pytest.raises(sd.ResumeError, match="damaged"):
            read_sealed(path)


def test_what_was_there_stays_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kept"
    put(path, b"before")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with pytest.raises(sd.SDSCMError, match="No space left"):
            put(path, b"after")
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
    assert path.read_bytes() == b"before"


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"), pytest.raises(sd.ResumeError, match="is writing to"):
        locked(tmp_path / "lock")
    locked(tmp_path / "lock").close()


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".kept.tmp").write_bytes(DATA)
    put(tmp_path / "kept", b"short")
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept").read_bytes() == b"short"


def test_writers_of_one_file_wait_for_each_other(tmp_path: Path) -> None:
    """Whoever is last, it is one of the texts as a whole."""
    texts = [letter.encode() * 200_000 for letter in "abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        for written in [pool.submit(put, tmp_path / "kept", text) for text in texts * 4]:
            written.result()
    assert (tmp_path / "kept").read_bytes() in texts
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_text_is_utf8_or_an_error(tmp_path: Path) -> None:
    put_text(tmp_path / "kept", "café\n")
    assert (tmp_path / "kept").read_bytes() == b"caf\xc3\xa9\n"
    with pytest.raises(sd.SDSCMError, match=r"kept: '\\ud800' in 'half \\ud800' is half a character"):
        put_text(tmp_path / "kept", "half \ud800")
    assert (tmp_path / "kept").read_bytes() == b"caf\xc3\xa9\n"


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(sd.ResumeError, match="is a file, not a directory"):
            make_directory(place)
    with pytest.raises(sd.SDSCMError, match="cannot make"):
        make_directory(Path("/proc/here"))
