"""Who may work in a folder, and what a disk without locks comes to."""

import errno
import threading
from pathlib import Path

import pytest

from fedhq.allocator.errors import CheckpointError
from fedhq.fl_core.records.lock import FolderBusyError, RunLock

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def failing(monkeypatch):
    """Makes the system refuse a lock with an error."""

    def fail(code: int) -> None:
        def flock(file: int, flags: int) -> None:
            raise OSError(code, "as told")

        monkeypatch.setattr(fcntl, "flock", flock)

    return fail


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK])
def test_a_lock_that_another_holds_makes_the_folder_busy(tmp_path, failing, code) -> None:
    failing(code)
    with pytest.raises(FolderBusyError, match="another does"):
        RunLock(tmp_path).__enter__()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("on_wait", [None, lambda: pytest.fail("nobody is waited for")])
def test_a_disk_without_locks_is_told_of_and_nobody_is_waited_for(
    tmp_path, failing, code, on_wait
) -> None:
    failing(code)
    with pytest.raises(CheckpointError, match=r"can be locked.*as told.*folder on another") as told:
        RunLock(tmp_path, on_wait).__enter__()
    assert not isinstance(told.value, FolderBusyError)


def test_who_waits_gets_the_lock_once_it_is_free_and_says_so_only_if_it_is_not(tmp_path) -> None:
    order: list[str] = []
    with RunLock(tmp_path, lambda: order.append("waits")):
        pass
    assert order == []
    waits = threading.Event()

    def other(folder: Path) -> None:
        with RunLock(folder, waits.set):
            order.append("second")

    thread = threading.Thread(target=other, args=(tmp_path,))
    with RunLock(tmp_path):
        thread.start()
        assert waits.wait(30)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    with RunLock(tmp_path):  # both have let go of it
        pass
