"""Programs that try to get out of the sandbox. None does, and after each a harmless one still works."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from frugal import sandbox
from frugal.core.errors import RunFailed

CHECKOUT, MIB = Path(__file__).parents[1], 1 << 20
TRIES = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
succeeded = []

def attempt(what, *arguments):  # a function that raises or, if it is C, returns a negative number when it fails
    try:
        if (found := what(*arguments)) is None or not isinstance(found, int) or found >= 0:
            succeeded.append((getattr(what, "__name__", what), arguments))
    except (OSError, MemoryError, ValueError):
        pass
"""


@pytest.fixture(autouse=True)
def harmless(namespaces):
    yield
    assert sandbox.run("print(6 * int(input()))", "7") == sandbox.Result("ok", "42\n", "")


def tries(attempts: str, **limits) -> None:
    """Nothing of what the program attempts succeeds, and it lives to tell."""
    result = sandbox.run(f"{TRIES}\n{attempts}\nprint(succeeded)", **limits)
    assert (result.status, result.stdout) == ("ok", "[]\n"), result


def named(name: str) -> list[Path]:
    """The processes of the machine that go by a name."""
    found = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().strip() == name:
                found.append(comm)
        except OSError:  # gone meanwhile
            pass
    return found


def eventually(condition) -> bool:
    for _ in range(200):
        if condition():
            return True
        time.sleep(0.05)
    return False


def naming(name: str) -> str:
    return f"import ctypes; ctypes.CDLL(None).prctl(15, b'{name}', 0, 0, 0)\n"


def test_harmless_programs_have_what_they_need():
    result = sandbox.run(
        """
import asyncio, bisect, collections, decimal, fractions, functools, heapq, itertools, json, math, pickle, random, re
import statistics, string, sys, threading, typing, zlib
from dataclasses import dataclass

@dataclass
class Point:
    x: "Number"

Number = int
assert typing.get_type_hints(Point) == {"x": int} and pickle.loads(pickle.dumps(Point(1))) == Point(1)
assert __name__ == "__main__" and sys.argv == ["program.py"]
with open("notes.txt", "w") as file:
    file.write("ä")
assert open("notes.txt", encoding="utf-8").read() == "ä" and open("/dev/null").read() == ""
thread = threading.Thread(target=lambda: print(asyncio.run(asyncio.sleep(0, input()))))
thread.start()
thread.join()
print(sys.stdin.read(), end="")
print("é", file=sys.stderr)
exit()
""",
        "one\ntwo\n",
    )
    assert result == sandbox.Result("ok", "one\ntwo\n", "é\n")


def test_an_error_says_where():
    trace = 'Traceback (most recent call last):\n  File "program.py", line 2, in <module>\n'
    assert sandbox.run("x = 1\n1 / 0").stderr == f"{trace}ZeroDivisionError: division by zero\n"
    assert "SyntaxError" in sandbox.run("def f(:").stderr


@pytest.mark.parametrize(
    "end",
    [
        "raise ValueError",
        "exit(3)",
        "import os; os._exit(1)",
        "import os; os.abort()",
        "import ctypes; ctypes.string_at(0)",
        "f = lambda: f(); f()",
        "import sys; sys.setrecursionlimit(10**9); f = lambda: f(); f()",
        "import signal; signal.raise_signal(signal.SIGSEGV); exit(1)",
        "\0",
    ],
)
def test_a_crash_is_an_error(end):
    assert sandbox.run(f"print('begun', flush=True)\n{end}", memory_mb=32).status == "error"


def test_programs_share_nothing():
    sandbox.run("import builtins, math; builtins.print = math.pi = None; open('left', 'w').write('x')")
    assert sandbox.run("import math, os; print(math.pi > 3, os.listdir())").stdout == "True []\n"


def test_sets_have_the_same_order_in_every_server():
    order = "print({str(i) for i in range(99)})"
    first = sandbox.run(order)
    sandbox._server.cache_clear()
    assert sandbox.run(order) == first and len(first.stdout) > 99


def test_a_caller_with_narrow_rights_and_limits():
    """A umask that hides new files from others, limits that lie below the sandbox's own."""
    narrow = "import os, resource; os.umask(0o077); resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)); "
    asks = "from frugal import sandbox; print(sandbox.run('import json, os; print(json.dumps(os.listdir()))').stdout)"
    done = subprocess.run([sys.executable, "-c", narrow + asks], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.stdout == "[]\n\n", done.stderr


def test_endless_programs_end():
    name = secrets.token_hex(6)
    endless = [
        "while True: pass",
        "import signal\nfor s in set(signal.Signals) - {9, 19}: signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        "import os\nos.closerange(0, 3)\nwhile True: pass",
        "import time; time.sleep(1000)",
        "import threading\nfor _ in range(9): threading.Thread(target=lambda: threading.Event().wait()).start()",
    ]
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda code: sandbox.run(naming(name) + code, seconds=1), endless)
        assert [result.status for result in results] == ["timeout"] * len(endless)
    assert not named(name)


def test_processes_cannot_be_started():
    tries(
        """
import multiprocessing, subprocess
for function in (os.fork, os.forkpty, libc.fork, libc.vfork):
    attempt(function)
attempt(subprocess.run, ["/lib64/ld-linux-x86-64.so.2"])
attempt(os.posix_spawn, "/lib64/ld-linux-x86-64.so.2", ["x"], {})
attempt(multiprocessing.get_context("fork").Process(target=print).start)
numbers = {"x86_64": (56, 57, 58, 435, 0x40000000 + 57), "aarch64": (220, 435)}
for number in numbers[os.uname().machine]:  # clone, fork, vfork, clone3, fork of x32
    attempt(libc.syscall, number, 17, None, None, None, None)
"""
    )
    name = secrets.token_hex(6)
    daemon = "import os\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\nwhile True: pass"
    assert sandbox.run(naming(name) + daemon).status == "error"
    assert sandbox.run("import os\nwhile True: os.fork()").status == "error"
    assert not named(name)


def test_threads_are_limited():
    result = sandbox.run(
        """
import os, threading
try:
    for n in range(10_000):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
except RuntimeError:
    print(n, flush=True)
    os._exit(0)
""",
        memory_mb=4096,
    )
    assert 30 < int(result.stdout) < 64


def test_memory_is_limited():
    tries(
        """
import mmap
attempt(bytearray, 1 << 30)
attempt(lambda: [0] * (1 << 28))
attempt(mmap.mmap, -1, 1 << 30)
attempt(libc.shmget, 0, 1 << 20, 0o1600)
attempt(os.memfd_create, "x")
def grow():
    kept = []
    while True:
        kept.append(bytearray(1 << 20))
attempt(grow)
""",
        memory_mb=128,
    )
    assert sandbox.run("x = bytearray(100 << 20)").status == "ok"
    assert sandbox.run("x = bytearray(100 << 20)", memory_mb=100).status == "error"


def test_nothing_is_written_outside(tmp_path):
    tmp_path.chmod(0o777)
    target = tmp_path / "target"
    target.write_text("kept")
    target.chmod(0o666)
    folders = [
        tmp_path,
        CHECKOUT,
        Path.home(),
        tempfile.gettempdir(),
        "/",
        "/dev",
        "/dev/shm",
        "/etc",
        "/lib",
        "/usr/lib",
    ]
    tries(
        f"""
assert all(os.statvfs(path).f_flag & os.ST_RDONLY for path in ("/", "/usr/lib", os.__file__))
for folder in {[*map(str, folders)]} + ["..", "../proc", "/proc/1/cwd", "/proc/1/root", os.path.dirname(os.__file__)]:
    attempt(open, folder + "/escaped", "w")
    attempt(os.mkdir, folder + "/escaped")
    attempt(os.symlink, "/", folder + "/escaped")
for path in ({str(target)!r}, os.__file__, "/etc/ld.so.cache"):
    attempt(open, path, "a")
    attempt(os.truncate, path, 0)
    attempt(os.remove, path)
    attempt(os.chmod, path, 0o777)
attempt(libc.mount, None, b"/", None, 32, None)  # MS_REMOUNT
attempt(os.chroot, "/")
os.symlink({str(target)!r}, "link")
attempt(open, "link", "a")
"""
    )
    assert target.read_text() == "kept" and not any(Path(folder, "escaped").exists() for folder in folders)


def test_the_environment_is_not_there(monkeypatch):
    secret = secrets.token_hex()
    monkeypatch.setenv("API_KEY", secret)
    sandbox._server.cache_clear()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    result = sandbox.run(
        f"""
import glob, os, sys
print(dict(os.environ), sys.argv, sys.orig_argv, os.path.exists("/proc/self"))
for path in glob.glob("/proc/*/*") + ["/proc/{os.getpid()}/environ", "/proc/{child.pid}/environ"]:
    try:
        print(open(path).read())
    except OSError:
        pass
"""
    )
    child.communicate(b"\n")
    assert result.status == "ok" and "PYTHONHASHSEED" in result.stdout
    assert secret not in result.stdout and "False" in result.stdout


def test_only_the_library_can_be_read(tmp_path):
    secret = tmp_path / "id_ed25519"
    secret.write_text("secret")
    for folder in (secret, *secret.parents[:2]):
        folder.chmod(0o755)
    result = sandbox.run(
        f"""
import os, sys
library = {{"/lib", "/lib64", "/usr/lib", "/usr/lib64", sys.prefix + "/lib", sys.prefix + "/lib64"}}
for folder, folders, files in os.walk("/"):
    paths = {{os.path.join(folder, name) for name in folders + files}}
    print(*sorted(path for path in paths - library if not os.path.isdir(path) or not os.listdir(path)), sep="\\n")
    folders[:] = [name for name in folders if os.path.join(folder, name) not in library]
secrets = {str(secret)!r}, {__file__!r}, "/etc/passwd", "../etc/passwd", "/../etc/passwd", "/proc/cpuinfo"
for path in secrets:
    try:
        print(open(path).read())
    except OSError:
        pass
for number in range(3, 1024):
    try:
        print(number, os.fstat(number))
    except OSError:
        pass
"""
    )
    assert result.status == "ok", result
    assert set(result.stdout.split()) <= {"/box", "/dev/null", "/etc/ld.so.cache"}


def test_the_network_is_not_there(tmp_path):
    name = secrets.token_hex(8)
    addresses = [
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_UNIX, f"\0{name}"),
        (socket.AF_UNIX, f"/tmp/{name}"),
    ]
    listeners = [socket.socket(family) for family, _ in addresses]
    for listener, (_, address) in zip(listeners, addresses, strict=True):
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)
        with socket.socket(listener.family) as friend:
            friend.connect(listener.getsockname())
        listener.accept()[0].close()
    os.chmod(f"/tmp/{name}", 0o777)
    doors = [(int(listener.family), listener.getsockname()) for listener in listeners]
    tries(
        f"""
import socket
def connect(family, address):
    socket.socket(family).connect(address if isinstance(address, (str, tuple)) else bytes(address))
for family, address in {doors}:
    attempt(connect, family, address)
for family in range(50):
    for kind in (1, 2, 3):
        attempt(socket.socket, family, kind)
        attempt(libc.socket, family, kind, 0)
attempt(socket.getaddrinfo, "example.org", 80)
ring = ctypes.create_string_buffer(120)
attempt(libc.syscall, 425, 1, ring)  # io_uring_setup: rings open sockets, too
"""
    )
    os.remove(f"/tmp/{name}")
    for listener in listeners:
        with listener, pytest.raises(BlockingIOError):
            listener.accept()


def test_other_processes_are_out_of_reach():
    victim = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    tries(
        f"""
assert os.getpid() == 1 and os.getppid() == 0
vector = (ctypes.c_size_t * 2)(id(os), 8)
for pid in ({os.getpid()}, {victim.pid}, -1, *range(2, 300)):
    attempt(os.kill, pid, 9)
    attempt(os.killpg, abs(pid), 9) if pid > 1 else None
    attempt(os.pidfd_open, pid)
for pid in ({os.getpid()}, {victim.pid}):
    attempt(libc.ptrace, 16, pid, None, None)  # PTRACE_ATTACH
    attempt(libc.process_vm_readv, pid, vector, 1, vector, 1, 0)
    attempt(os.setpriority, os.PRIO_PROCESS, pid, 19)
"""
    )
    assert victim.poll() is None
    victim.communicate(b"\n")


def test_privileges_are_gone():
    tries(
        """
import resource, struct
held = ctypes.create_string_buffer(24)
assert libc.capget(struct.pack("Ii", 0x20080522, 0), held) == 0 and held.raw == bytes(24)
assert libc.prctl(39, 0, 0, 0, 0) == 1 and libc.prctl(21, 0, 0, 0, 0) == 2  # no new privileges; filtered
assert 0 not in (*os.getresuid(), *os.getresgid(), *os.getgroups())
attempt(os.setuid, 0)
attempt(os.setgid, 0)
attempt(os.setgroups, [0])
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0):
    attempt(libc.unshare, flag)
attempt(libc.mount, b"proc", b"/box", b"proc", 0, None)
attempt(libc.umount2, b"/box", 2)
attempt(os.mknod, "device", 0o20666, os.makedev(1, 1))
attempt(libc.prctl, 1, 0, 0, 0, 0)  # outliving its keeper
numbers = {"x86_64": (248, 249, 250, 298, 321, 323), "aarch64": (217, 218, 219, 241, 280, 282)}
for number in numbers[os.uname().machine]:  # key rings, perf, bpf, userfaultfd
    attempt(libc.syscall, number, 0, 0, 0, 0, 0)
for name in ("CPU", "AS", "FSIZE", "NPROC", "NOFILE"):
    attempt(resource.setrlimit, getattr(resource, "RLIMIT_" + name), (1 << 40, 1 << 40))
"""
    )


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86-64")
def test_calls_by_the_numbers_of_another_machine_are_refused():
    code = b"\xb8\x02\x00\x00\x00\xcd\x80\xc3"  # mov eax, 2 (fork on i386); int 0x80; ret
    result = sandbox.run(
        f"""
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write({code})
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
"""
    )
    assert (result.status, result.stdout) == ("error", "")


def test_files_are_limited():
    result = sandbox.run(
        """
written = 0
for i in range(99):
    try:
        with open(str(i), "wb", buffering=0) as file:
            while True:
                written += file.write(bytes(1 << 20))
    except OSError:
        pass
print(written)
""",
    )
    assert (result.status, result.stdout) == ("ok", f"{16 * MIB}\n")
    result = sandbox.run(
        """
import os
try:
    for i in range(10_000):
        os.mkdir(str(i))
except OSError:
    print(i)
"""
    )
    assert 1000 < int(result.stdout) < 1024
    tries("with open('sparse', 'wb') as file: attempt(file.truncate, 1 << 30)")


@pytest.mark.parametrize("file", ["stdout", "stderr"])
def test_output_is_limited(file):
    result = sandbox.run(f"import sys\nwhile True: sys.{file}.write('x' * (1 << 20))")
    assert result.status == "error" and 15 * MIB < len(getattr(result, file)) <= 16 * MIB
    tries("for number in (0, 1, 2): attempt(os.truncate, number, 1 << 30)")


def test_many_at_once():
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda i: sandbox.run("print(input())", str(i)), range(48)))
    assert [result.stdout for result in results] == [f"{i}\n" for i in range(48)]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_programs_end_with_whoever_asked(how):
    name = secrets.token_hex(6)
    sleeper = naming(name) + "import time; time.sleep(1000)"
    asking = subprocess.Popen(
        [sys.executable, "-c", f"from frugal import sandbox; sandbox.run({sleeper!r}, seconds=300)"],
        cwd=CHECKOUT,
        stderr=subprocess.DEVNULL,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert eventually(lambda: named(name))
    asking.send_signal(how)
    asking.wait()
    assert eventually(lambda: not named(name))


def test_a_program_ends_with_its_keeper():
    name = secrets.token_hex(6)
    with ThreadPoolExecutor() as pool:
        result = pool.submit(sandbox.run, naming(name) + "import time; time.sleep(1000)", seconds=300)
        assert eventually(lambda: named(name))
        keeper = re.search(r"PPid:\s+(\d+)", named(name)[0].with_name("status").read_text())[1]
        os.kill(int(keeper), signal.SIGKILL)
        with pytest.raises(RunFailed, match="killed from outside"):
            result.result()
    assert eventually(lambda: not named(name))
