"""The walls of an isolated session: what a process does to itself so that code in it cannot do harm. Linux only.

Loaded only where isolation is asked for. `namespaces` makes a world of its own for a template (the *base*) and for
each session, of `mounts` and `places`, with `init` as its pid 1; `lockdown` takes the rights away: capabilities,
Landlock (`landlock`), limits, and system calls (`seccomp`, by the lists of `policy`) last of all. `probe` tries the
whole in a throwaway process and says what this host allows. `libc` is the one way to the kernel, `syscalls` the
numbers.
"""
