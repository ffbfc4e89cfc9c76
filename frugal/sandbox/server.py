"""The inside of the sandbox. `frugal.sandbox` runs this file as a script, without site packages; nobody imports it.

Three kinds of processes, each forked from the one before:

- The server, one for each process that uses the sandbox, makes the world of the programs: a user and a mount namespace
  with a root directory in memory, read-only, that holds Python's library, /dev/null and an empty directory /box. It
  stops being root, and waits for programs.
- A keeper, one a program, enters further namespaces (users, mounts, processes, network, IPC), waits for the program
  and kills it at the limit of time, or once nobody waits for the answer.
- The program is process 1 of its namespace, so that nothing in there outlives it. It mounts a directory in memory of
  its own on /box, takes on the limits, gives up all privileges, filters its system calls, and becomes what the model
  wrote. Only the server ever starts an interpreter, so a program costs milliseconds.

Sources: namespaces(7), user_namespaces(7), pivot_root(2), mount_setattr(2), setrlimit(2), capset(2), seccomp(2).
"""

import builtins
import ctypes
import errno
import gc
import os
import resource
import select
import signal
import socket
import struct
import sys
from typing import Any

NOBODY = 65534
PATIENCE = 3  # seconds by the clock for each of processor time: a program that sleeps has to end, too
FILES = 16 << 20  # bytes: all files in /box together, stdout, stderr
LIMITS = {"FSIZE": FILES, "NOFILE": 64, "NPROC": 64, "MEMLOCK": 0, "CORE": 1}  # at 0 a core handler would still run

NONE = 0xFFFFFFFF  # the number of no system call

# What namespaces and limits leave open. New threads are allowed, new processes are not: the memory of one process is
# all there is. No sockets (AF_VSOCK reaches the host from every namespace), no key rings (they know no namespaces), no
# namespaces of its own, no memory that RLIMIT_AS does not count (System V, memfd), none of the calls through which
# kernels are usually broken. Numbers on x86-64 (asm/unistd_64.h) and ARM64 (asm-generic/unistd.h).
DENIED = {
    "fork": (57, NONE),
    "vfork": (58, NONE),
    "socket": (41, 198),
    "ptrace": (101, 117),
    "unshare": (272, 97),
    "setns": (308, 268),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
OTHERS = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "prctl": (157, 167),
    "pivot_root": (155, 41),
    "mount_setattr": (442, 442),
    "pidfd_open": (434, 434),
}
MACHINE = os.uname().machine
COLUMN, AUDIT = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}.get(MACHINE, (0, 0))  # linux/audit.h
NUMBER = {name: numbers[COLUMN] for name, numbers in {**DENIED, **OTHERS}.items()}

# linux/sched.h, linux/mount.h, linux/prctl.h
NEWNS, NEWIPC, NEWUSER, NEWPID, NEWNET, THREAD = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x10000
RDONLY, NOSUID, NODEV, BIND, DETACH, REC, PRIVATE, AT_RECURSIVE = 1, 2, 4, 0x1000, 2, 0x4000, 0x40000, 0x8000
PDEATHSIG, DUMPABLE, SECCOMP, NO_NEW_PRIVS = 1, 4, 22, 38

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> int:
    """A function of the C library, or a system call that it does not wrap. Raises `OSError`."""
    wrapped = getattr(libc, name, None)
    result: int = wrapped(*arguments) if wrapped else libc.syscall(NUMBER[name], *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def serve(requests: socket.socket) -> bytes:
    """Answer requests until nobody is left to send one. Returns only in the process of a program, with its text.

    A request is (seconds, bytes of memory) with five files: program, stdin, stdout, stderr, and a pipe for the answer,
    which is "ok", "error", "timeout", or what failed before the program began.
    """
    failure = ""
    try:
        proc = enter()
    except OSError as error:
        failure = str(error)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries the keepers
    gc.freeze()  # no collection in a program copies the pages that it shares with the server
    while True:
        message, files, *_ = socket.recv_fds(requests, 64, 5)
        if not message:
            os._exit(0)
        if failure:
            os.write(files[4], failure.encode())
        elif os.fork() == 0:
            return keep(proc, *struct.unpack("2q", message), *files)
        for file in files:
            os.close(file)


def enter() -> int:
    """Leave the machine for a root directory of one's own, and root for nobody. Returns the machine's /proc.

    Root has to be someone else inside: limits on processes do not bind root.
    """
    if not AUDIT:
        raise OSError(f"the numbers of the system calls of {MACHINE} are not known")
    proc, user, group = os.open("/proc", os.O_PATH), os.getuid(), os.getgid()
    ready, go = os.pipe()
    if (child := os.fork()) == 0:  # only from outside can root map two users: itself, to reach Python, and nobody
        status = 1
        try:
            os.read(ready, 1)
            both = f"0 0 1\n{NOBODY} {NOBODY} 1"
            lines = (both, both) if user == 0 else (f"{NOBODY} {user} 1", f"{NOBODY} {group} 1")
            map_users(proc, str(os.getppid()), *lines, setgroups="allow" if user == 0 else "deny")
            status = 0
        finally:
            os._exit(status)
    try:
        call("unshare", NEWUSER | NEWNS)
    finally:
        os.write(go, b".")
        status = os.waitpid(child, 0)[1]
    if status:
        raise OSError("the users of its namespace cannot be mapped")
    build_root()
    if user == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        call("prctl", DUMPABLE, 1, 0, 0, 0)  # or /proc/self would belong to root, and keepers could map no users
    return proc


def map_users(proc: int, process: str, users: str, groups: str, setgroups: str = "deny") -> None:
    """Give a new user namespace its users and groups: lines of (number inside, number outside, how many)."""
    for name, text in {"setgroups": setgroups, "uid_map": users, "gid_map": groups}.items():
        file = os.open(f"{process}/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(file, text.encode())
        os.close(file)


def build_root() -> None:
    """Change to a root directory in memory, read-only, with nothing of the machine but what Python needs."""
    root = "/proc"  # is everywhere, and holds nothing that goes into the new root
    os.umask(0o022)
    call("mount", None, b"/", None, REC | PRIVATE, None)
    call("mount", b"tmpfs", root.encode(), b"tmpfs", 0, b"mode=755")
    libraries = [f"{place}/{lib}" for place in ("", "/usr", sys.prefix) for lib in ("lib", "lib64")]
    for path in dict.fromkeys([*libraries, "/etc/ld.so.cache", "/dev/null"]):
        here = root + path
        os.makedirs(os.path.dirname(here), exist_ok=True)
        if os.path.islink(path):  # /lib, to usr/lib
            os.symlink(os.readlink(path), here)
        elif os.path.exists(path):
            if os.path.isdir(path):
                os.makedirs(here, exist_ok=True)
            else:
                os.close(os.open(here, os.O_CREAT))
            call("mount", path.encode(), here.encode(), None, BIND | REC, None)
    os.mkdir(f"{root}/box")
    os.chdir(root)
    call("pivot_root", b".", b".")
    call("umount2", b".", DETACH)
    call("mount_setattr", -1, b"/", AT_RECURSIVE, struct.pack("4Q", RDONLY | NOSUID, 0, 0, 0), 32)


def keep(
    proc: int, seconds: int, memory: int, program: int, stdin: int, stdout: int, stderr: int, answer: int
) -> bytes:
    """Start a program, wait for its end, answer. Returns only in the process of the program, and confined."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        call("unshare", NEWUSER | NEWNS | NEWPID | NEWNET | NEWIPC)
        map_users(proc, "self", f"{NOBODY} {NOBODY} 1", f"{NOBODY} {NOBODY} 1")
        if (child := os.fork()) == 0:
            with open(program, "rb") as file:
                text = file.read()
            confine(seconds, memory, stdin, stdout, stderr)
            return text
        waiting = select.poll()
        waiting.register(call("pidfd_open", child, 0), select.POLLIN)
        waiting.register(answer, 0)  # reports an error once nobody reads
        waiting.poll(PATIENCE * seconds * 1000)
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        outcome = {0: "ok", signal.SIGKILL: "timeout"}.get(status, "error")
    except BaseException as error:
        outcome = str(error) or repr(error)
    os.write(answer, outcome.encode())
    os._exit(0)


def confine(seconds: int, memory: int, *standard: int) -> None:
    """Leave this process nothing but its box, its limits and the standard files."""
    call("mount", b"tmpfs", b"/box", b"tmpfs", NOSUID | NODEV, f"size={FILES},nr_inodes=1024,mode=700".encode())
    os.chdir("/box")
    for i, file in enumerate(standard):
        os.dup2(file, i)
    for name, limit in {**LIMITS, "CPU": seconds, "AS": memory}.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (limit, limit))
    call("prctl", PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # it ends with its keeper
    call("capset", struct.pack("Ii", 0x20080522, 0), bytes(24))
    call("prctl", NO_NEW_PRIVS, 1, 0, 0, 0)
    rules = b"".join(struct.pack("HBBI", *rule) for rule in system_calls())
    text = ctypes.create_string_buffer(rules)
    call("prctl", SECCOMP, 2, struct.pack("HxxxxxxQ", len(rules) // 8, ctypes.addressof(text)), 0, 0)
    os.closerange(3, 256)


def system_calls() -> list[tuple[int, int, int, int]]:
    """The filter, in classic BPF (linux/filter.h): (instruction, lines to skip if it holds, if not, operand)."""
    load, equal, at_least, has, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, fail = 0x7FFF0000, 0x80000000, 0x50000
    refuse = (answer, 0, 0, fail | errno.EPERM)
    rules = [(load, 0, 0, 4), (equal, 1, 0, AUDIT), (answer, 0, 0, kill)]  # i386, whose numbers are others
    rules += [(load, 0, 0, 0), (at_least, 0, 1, 1 << 30), refuse]  # x32, likewise
    for name in DENIED:
        rules += [(equal, 0, 1, NUMBER[name]), refuse]
    rules += [(equal, 0, 1, NUMBER["clone3"]), (answer, 0, 0, fail | errno.ENOSYS)]  # C libraries then take clone
    rules += [(equal, 0, 4, NUMBER["clone"]), (load, 0, 0, 16), (has, 0, 1, THREAD), (answer, 0, 0, allow), refuse]
    rules += [(equal, 0, 3, NUMBER["prctl"]), (load, 0, 0, 16), (equal, 0, 1, PDEATHSIG), refuse]
    return [*rules, (answer, 0, 0, allow)]


if __name__ == "__main__":
    listening = socket.socket(fileno=int(sys.argv[1]))
    if os.fork():
        os._exit(0)  # nobody has to wait for the server's end
    program = serve(listening)
    sys.argv = ["program.py"]
    sys.excepthook = lambda kind, error, trace: sys.__excepthook__(
        kind, error.with_traceback(trace and trace.tb_next), None
    )
    vars(builtins).update(exit=sys.exit, quit=sys.exit)  # programs expect them; the site module is not there to do it
    main = sys.modules["__main__"] = type(sys)("__main__")
    exec(compile(program, "program.py", "exec", dont_inherit=True), vars(main))
